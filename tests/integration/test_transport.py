"""HTTP to a server on loopback, and to what is no server: what comes back, what is counted, what a person is told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest
from aiohttp import web

from protocol.errors import BadInput, Code, NoAnswer, PeerFault, TooLarge
from protocol.limits import MAX_ANSWER_BYTES
from protocol.messages.wire import CONTENT_TYPE, ENROLL_PATH, SYNC_PATH
from sync_agent.network.early import Early
from sync_agent.network.proxies import wish_of
from sync_agent.network.settings import Network
from sync_agent.network.trouble import Seen, Trouble, seen_in
from sync_agent.pacing import yielding
from sync_agent.pacing.yielding import Line
from sync_agent.transport.interface import normal_url
from sync_agent.transport.over_http import HttpTransport
from sync_agent.transport.paced import PacedTransport
from tests.harness.classroom import classroom
from tests.harness.patience import until
from tests.harness.weather import CLEAR, Weather, impairing_relay
from tests.harness.wire import serve, served

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[HttpTransport]:
    """A transport to a server that answers everything with `handler`."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    async with served(application) as url:
        transport = HttpTransport(url)
        try:
            yield transport
        finally:
            await transport.close()


def always(response: Callable[[], web.Response]) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        return response()

    return handler


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("localhost:8080/", "http://localhost:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("relais.example.org", "https://relais.example.org"),
        ("relais.example.org:8443/ecole/", "https://relais.example.org:8443/ecole"),
        (" http://Relais.example.org ", "http://relais.example.org"),
    ],
)
def test_an_address_is_kept_in_one_form(typed: str, kept: str) -> None:
    assert normal_url(typed) == kept
    assert normal_url(kept) == kept


@pytest.mark.parametrize(
    "typed",
    ["", "ftp://x.example", "http://", "https://a b", "http://x:99999", "http://x/?a=1", "http://u:p@x", "[", "x:0"],
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(BadInput) as raised:
        normal_url(typed)
    assert raised.value.exit_status == 2


async def test_a_call_sends_few_headers_and_counts_every_byte() -> None:
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        assert await request.read() == b"sealed"
        return web.Response(body=b"answer", content_type=CONTENT_TYPE)

    async with answering(handler) as transport:
        response = await transport.post(SYNC_PATH, b"sealed")
        assert (response.status, response.body, response.is_ours) == (200, b"answer", True)
        assert {name.lower() for name in seen[0].headers} == {"host", "content-type", "content-length"}
        head = sum(len(name) + len(value) + 4 for name, value in seen[0].headers.items())
        assert transport.traffic.bytes_out == head + len("POST /v1/sync HTTP/1.1\r\n\r\n") + len(b"sealed")
        assert 100 < transport.traffic.bytes_in < 300
        assert transport.traffic.round_trips == 1


async def test_calls_share_one_connection() -> None:
    peers: set[object] = set()

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(body=b"", content_type=CONTENT_TYPE)

    async with answering(handler) as transport:
        for _ in range(3):
            await transport.post(SYNC_PATH, b"")
    assert len(peers) == 1


async def test_a_path_in_front_of_the_server_is_kept() -> None:
    async with answering(always(lambda: web.Response(body=b"", content_type=CONTENT_TYPE))) as transport:
        behind = HttpTransport(transport.url + "/relais")
        try:
            assert (await behind.post(SYNC_PATH, b"")).status == 200
        finally:
            await behind.close()


async def test_a_connection_that_an_idle_server_closed_is_no_failure(tmp_path: Path) -> None:
    asked = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 2:
            assert request.transport is not None
            request.transport.close()
        return web.Response(body=b"", content_type=CONTENT_TYPE)

    async with answering(handler) as transport:
        for _ in range(2):
            assert (await transport.post(SYNC_PATH, b"")).status == 200


@pytest.mark.parametrize(
    ("response", "word"),
    [
        (lambda: web.Response(text="<html>Wi-Fi gratuit</html>", content_type="text/html"), "Wi-Fi"),
        (lambda: web.Response(status=302, headers={"Location": "/login"}), "Wi-Fi"),
        (lambda: web.Response(status=404, text="not found"), "another program"),
        (lambda: web.Response(status=502, text="bad gateway"), "another program"),
        (lambda: web.Response(body=b"x" * 1_000_000, content_type="text/html"), "Wi-Fi"),
    ],
)
async def test_what_is_no_relais_server_is_named(response: Callable[[], web.Response], word: str) -> None:
    async with answering(always(response)) as transport:
        with pytest.raises(NoAnswer) as raised:
            await transport.post(SYNC_PATH, b"sealed")
    assert raised.value.code is Code.UNREACHABLE
    assert word in raised.value.message


async def test_a_busy_server_says_when_to_come_back() -> None:
    busy = always(lambda: web.Response(status=503, headers={"Retry-After": "12"}, text="later"))
    async with answering(busy) as transport:
        with pytest.raises(NoAnswer) as raised:
            await transport.post(SYNC_PATH, b"sealed")
    assert raised.value.code is Code.BUSY
    assert raised.value.facts["retry_after_s"] == 12


async def test_an_answer_is_read_up_to_its_bound_and_not_a_byte_further() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
        await response.prepare(request)
        for _ in range(MAX_ANSWER_BYTES // 65_536 + 1):
            await response.write(bytes(65_536))
        return response

    async with answering(handler) as transport:
        with pytest.raises(TooLarge):
            await transport.post(SYNC_PATH, b"sealed")


async def test_a_server_that_is_not_there_is_named_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        transport = HttpTransport(f"http://127.0.0.1:{taken.getsockname()[1]}")
        try:
            with pytest.raises(NoAnswer) as raised:
                await transport.post(SYNC_PATH, b"sealed")
        finally:
            await transport.close()
    assert raised.value.exit_status == 3
    assert "no server answers" in raised.value.message


@pytest.mark.parametrize(("leads_out", "trouble"), [(True, Trouble.NO_WAY_OUT), (False, Trouble.OFFLINE)])
async def test_a_router_that_knows_no_way_is_told_from_a_machine_that_is_on_no_network(
    leads_out: bool, trouble: Trouble
) -> None:
    # nothing is connected to everybody's address: the system gives the number that a router's word brings too
    transport = HttpTransport("http://255.255.255.255:9", Network(leads_out=lambda: leads_out))
    try:
        with pytest.raises(NoAnswer) as raised:
            await transport.post(SYNC_PATH, b"sealed")
    finally:
        await transport.close()
    assert seen_in(raised.value) == Seen(trouble)


async def test_content_may_come_from_a_cache_that_ignores_ranges() -> None:
    whole = Random(3).randbytes(300_000)
    async with answering(always(lambda: web.Response(body=whole))) as transport:
        assert b"".join([piece async for piece in transport.fetch("cap", 200_001)]) == whole[200_001:]


@pytest.mark.parametrize("knows_ranges", [False, True])
async def test_where_ranges_are_ignored_content_in_parts_is_not_read_anew_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, knows_ranges: bool
) -> None:
    monkeypatch.setattr(yielding, "TARGET_S", 0.00005)  # parts of 50 kB
    whole = Random(4).randbytes(1_000_000)
    asked: list[str | None] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Range"))
        if not knows_ranges or asked[-1] is None:
            return web.Response(body=whole)
        start, stop = request.http_range.start, request.http_range.stop or len(whole)
        said = {"Content-Range": f"bytes {start}-{min(stop, len(whole)) - 1}/{len(whole)}"}
        return web.Response(status=206, body=whole[start:stop], headers=said)

    async with classroom(tmp_path) as room, answering(handler) as way:
        budget = (await room.machine()).agent.budget
        budget.line = Line(pace_bytes_s=1e9)
        paced = PacedTransport(way, budget, None, way.takes_parts)
        for _ in range(2):
            assert b"".join([piece async for piece in paced.fetch("cap", 10)]) == whole[10:]
        if knows_ranges:
            assert len(asked) > 10
            return
        assert len(asked) == 3, "one part, then the rest, and the next content as one at once"
        await way.renew()
        assert way.takes_parts()


@pytest.mark.parametrize("ends", ["renew", "close"])
async def test_content_that_stands_still_ends_when_the_connections_are_given_up(ends: str) -> None:
    # a line that falls silent, a laptop that wakes, a drill: what was read over the old network never comes to its end
    over = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "200000"})
        await answer.prepare(request)
        await answer.write(bytes(100_000))
        await over.wait()
        return answer

    async with answering(handler) as transport:
        came = 0

        async def fetch() -> None:
            nonlocal came
            async for piece in transport.fetch("cap", 0):
                came += len(piece)

        fetching = asyncio.create_task(fetch())
        await until(lambda: came == 100_000)
        await getattr(transport, ends)()
        with pytest.raises(NoAnswer):
            await asyncio.wait_for(fetching, 10)
        over.set()


@pytest.mark.parametrize("passed", [0, 10, 150, 400, 20_000, 50_000, 85_000, 140_000])
async def test_cut_connections_are_gone_on_with_over_real_http(tmp_path: Path, passed: int) -> None:
    film = {"film.mp4": Random(4).randbytes(150_000)}
    async with classroom(tmp_path) as room, serve(room.frontage) as url:
        with impairing_relay(url, tmp_path / "relay") as relay:
            way = relay.url
            room.way = lambda _: HttpTransport(way)
            teacher, machine = await room.teacher(), await room.machine()
            item = (await room.publish(teacher, film)).item
            for device, weather in ((teacher, Weather(cut_up=passed)), (machine, Weather(cut_down=passed))):
                relay.weather = weather
                with pytest.raises(NoAnswer):
                    await device.session.sync()
                relay.weather = CLEAR
                await device.session.sync()
            for device in (teacher, machine):
                await device.way.close()
        assert await machine.files(item) == film
        assert await room.agree([machine])


async def test_an_expired_link_is_told_from_a_server_that_is_gone(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room, serve(room.frontage) as url:
        transport = HttpTransport(url)
        try:
            with pytest.raises(PeerFault) as raised:
                async for _ in transport.fetch("AAAA", 0):
                    pass
            assert raised.value.code is Code.BAD_CAPABILITY
            assert (await transport.post(ENROLL_PATH, b"")).is_ours
        finally:
            await transport.close()


# --- a way that was begun early ---------------------------------------------------------------------------------------


@asynccontextmanager
async def counting(port: int = 0) -> AsyncIterator[tuple[str, list[asyncio.StreamWriter]]]:
    """A server that answers every call, and the connections that it has been given."""
    taken: list[asyncio.StreamWriter] = []

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(writer)
        with suppress(OSError, EOFError):
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(1)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: 2\r\n\r\nok" % CONTENT_TYPE.encode()
                )
        writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", port)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", taken
    finally:
        server.close()
        for writer in taken:
            writer.close()


async def test_a_connection_that_was_begun_early_is_the_one_that_is_used() -> None:
    async with counting() as (url, taken):
        early = Early(url, Network())
        await early.begin()
        await until(lambda: len(taken) == 1)
        transport = HttpTransport(url, early=early)
        for _ in range(3):
            assert (await transport.post(SYNC_PATH, b"x")).body == b"ok"
        assert len(taken) == 1
        await transport.close()


async def test_a_connection_that_was_begun_and_has_failed_is_asked_for_once_more() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    early = Early(f"http://127.0.0.1:{port}", Network())
    await early.begin()
    async with counting(port) as (url, connections):
        transport = HttpTransport(url, early=early)
        assert (await transport.post(SYNC_PATH, b"x")).body == b"ok"
        assert len(connections) == 1
        await transport.close()


async def test_no_way_is_begun_past_a_proxy_that_was_given() -> None:
    async with counting() as (url, taken):
        early = Early(url, Network(wish_of("http://127.0.0.1:9")))
        await early.begin()
        transport = HttpTransport(url, Network(wish_of("direct")))
        await transport.post(SYNC_PATH, b"x")
        await transport.close()
        await early.close()
        assert len(taken) == 1


async def test_a_way_that_nobody_takes_is_let_go_of() -> None:
    async with counting() as (url, taken):
        early = Early(url, Network())
        await early.begin()
        await until(lambda: len(taken) == 1)
        await early.close()
        await until(taken[0].is_closing)
