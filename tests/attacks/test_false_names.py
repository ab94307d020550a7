"""Somebody on the way answers once, falsely, where the server's name leads (docs/attacks.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from protocol.errors import NoAnswer, RelaisError
from protocol.limits import MAX_ANSWER_BYTES, MAX_PACK_BYTES
from protocol.messages.wire import CONTENT_TYPE, ENROLL_PATH
from sync_agent.network.names import DOUBT_S, SteadyResolver
from sync_agent.network.settings import Network
from sync_agent.transport import over_http
from sync_agent.transport.http_parts import crawls
from sync_agent.transport.over_http import READ_IDLE_S, HttpTransport
from tests.harness.attack import attack
from tests.harness.ports import free_port
from tests.integration.test_networks import Names, page_at

ROW = "one false answer for the server's name binds a machine to a place that is no more"
HELD = "who holds the place of a server that moved holds its machines by their connections"
NAME = "relais.example"
OLD, STRANGER, NEW = "127.0.0.1", "127.0.0.2", "127.0.0.3"


def never(_names: SteadyResolver) -> None:
    """What is remembered is called for good."""


@attack(ROW, off={"sync_agent.network.names.SteadyResolver.ask_anew": never})
@pytest.mark.parametrize("sleeps", [False, True])
async def test_a_server_that_moved_is_found_again_by_who_was_once_told_a_false_place(sleeps: bool) -> None:
    port = free_port()
    names = Names({NAME: OLD})
    way = HttpTransport(f"http://{NAME}:{port}", Network(environment={}), resolver=lambda: names)
    async with AsyncExitStack() as old:
        await old.enter_async_context(page_at(OLD, port, CONTENT_TYPE, b"old"))
        assert (await way.post(ENROLL_PATH, b"")).body == b"old"
        async with page_at(STRANGER, port, "text/html", b"<title>Portail</title>"):
            names.places[NAME] = STRANGER
            with suppress(RelaisError):
                await way.post(ENROLL_PATH, b"")
            assert (await way.post(ENROLL_PATH, b"")).body == b"old"
        if not sleeps:
            await old.aclose()
        async with page_at(NEW, port, CONTENT_TYPE, b"new"):
            names.places[NAME] = NEW
            if sleeps:
                await way.renew()
            else:
                with suppress(RelaisError):
                    await way.post(ENROLL_PATH, b"")
            said = None
            with suppress(RelaisError):
                said = (await way.post(ENROLL_PATH, b"")).body
            await way.close()
    assert said == b"new"


@attack(ROW, off={"sync_agent.network.names.DOUBT_S": float("inf")})
async def test_who_kept_the_place_of_a_server_that_moved_keeps_no_machine_for_longer_than_an_hour() -> None:
    now_s = 0.0
    names = Names({NAME: OLD})
    steady = SteadyResolver(lambda: names, lambda: now_s)

    async def place() -> str:
        return (await steady.resolve(NAME, 80))[0]["host"]

    assert await place() == OLD
    steady.trust()
    names.places[NAME] = STRANGER
    assert await place() == STRANGER
    steady.doubt()
    names.places[NAME] = NEW
    assert await place() == OLD
    now_s = DOUBT_S
    steady.trust()
    assert await place() == NEW


@asynccontextmanager
async def going_on_at(host: str, port: int, body: bytes) -> AsyncIterator[None]:
    """What answers every call with the same, and closes no connection."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with suppress(EOFError, OSError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(head + body)
        writer.transport.abort()

    async with await asyncio.start_server(answer, host, port):
        yield


@attack(HELD, off={"sync_agent.transport.connections.LASTS_S": float("inf")})
async def test_who_goes_on_answering_at_the_place_of_a_server_that_moved_keeps_no_machine_for_longer_than_an_hour() -> (
    None
):
    port, now_s = free_port(), 0.0
    names = Names({NAME: OLD})
    way = HttpTransport(
        f"http://{NAME}:{port}", Network(environment={}), resolver=lambda: names, monotonic=lambda: now_s
    )

    async def who() -> bytes:
        return (await way.post(ENROLL_PATH, b"")).body

    async with going_on_at(OLD, port, b"old"), going_on_at(NEW, port, b"new"):
        assert await who() == b"old"
        names.places[NAME] = NEW
        while now_s < 3540:
            now_s += 60
            assert await who() == b"old", "a connection is opened anew once an hour, and no more often"
        now_s += 60
        said = await who()
        await way.close()
    assert said == b"new"


WITHOUT_END = {
    "answers before the answer": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "a header": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"a"),
    "the head of a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a"),
}
WORDS = 200


@attack(HELD, off={f"sync_agent.transport.over_http.{name}": float("inf") for name in ("HEAD_S", "READ_IDLE_S")})
@pytest.mark.parametrize("what", WITHOUT_END)
async def test_bytes_that_lead_to_no_answer_keep_no_machine_waiting(what: str) -> None:
    begins, goes_on = WITHOUT_END[what]
    has_said_all = asyncio.Event()
    answering: list[asyncio.Task[None] | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.append(asyncio.current_task())
        with suppress(EOFError, OSError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(begins)
            for _ in range(WORDS):
                writer.write(goes_on)
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await reader.read()
                        break
            else:
                has_said_all.set()
                listening.close()
        writer.transport.abort()

    port = free_port()
    with pytest.MonkeyPatch.context() as patched:
        for name in ("HEAD_S", "READ_IDLE_S"):
            patched.setattr(over_http, name, getattr(over_http, name) / 200)
        way = HttpTransport(f"http://{OLD}:{port}", Network(environment={}))
        async with await asyncio.start_server(answer, OLD, port) as listening:
            with pytest.raises(NoAnswer):
                _ = [piece async for piece in way.fetch("capability", 0)]
            await way.close()
    await asyncio.gather(*filter(None, answering))
    assert not has_said_all.is_set()


@attack(HELD, off={"sync_agent.transport.http_parts.SLOWEST_FOR_LONG_BYTES_PER_S": 100})
async def test_an_answer_that_comes_drop_by_drop_keeps_no_machine_for_longer_than_a_day() -> None:
    hour_s = 3600.0
    assert crawls(4 * hour_s, MAX_ANSWER_BYTES, READ_IDLE_S)
    assert crawls(24 * hour_s, MAX_PACK_BYTES, READ_IDLE_S)
    # the thinnest lines: a mobile network of 1997, a telephone, a film of an hour over 1 Mbit/s
    for bytes_per_s in (1_000, 2_000, 7_000, 125_000):
        lasts_s = MAX_PACK_BYTES // bytes_per_s
        assert not any(crawls(at_s, at_s * bytes_per_s, READ_IDLE_S) for at_s in range(0, lasts_s, 60))
