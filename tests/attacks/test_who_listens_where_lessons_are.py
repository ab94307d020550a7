"""Another account of the machine listens where browsers look for lessons (docs/adr/0584)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sync_agent.portal.site import LESSONS_PORT_MARK, _open
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device
from tests.harness.portal import LESSON, portal

ROW = "another account answers in the place of lessons"
FALSE = b"<h1>Mme Petit : tapez ici vos trois images</h1>"


def _has_both() -> bool:
    with socket.socket(socket.AF_INET6) as tried:
        try:
            tried.bind(("::1", 0))
        except OSError:
            return False
    return True


pytestmark = pytest.mark.skipif(not _has_both(), reason="this machine has one loopback address")


async def _whoever_it_is(*_: object) -> bool:
    """As it was: a second address that cannot be had is left to whoever has it."""
    return True


@asynccontextmanager
async def _another_account(port: int) -> AsyncIterator[None]:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + FALSE)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answers, "::1", port):
        yield


async def _port(device: Device) -> int:
    return int.from_bytes(await device.agent.replica.store.mark(LESSONS_PORT_MARK) or b"", "big")


async def _asked(host: str, port: int, path: str, name: str) -> bytes:
    """What a browser is answered that goes to this one of the addresses to which `localhost` leads."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


@attack(ROW, off={"sync_agent.portal.site._open_other": _whoever_it_is})
async def test_lessons_are_at_a_port_that_is_ours_at_each_address_to_which_a_browser_takes_their_name(
    room: Classroom,
) -> None:
    teacher = await room.teacher()
    item = (await room.publish(teacher, LESSON)).item.hex()
    async with portal(teacher.agent):
        before = await _port(teacher)
    async with _another_account(before), portal(teacher.agent) as surfer:
        framed = await surfer.page(f"/item/{item}")
        port = await _port(teacher)
        assert f"http://{item[:32]}.localhost:{port}/" in framed
        assert port != before
        for host in ("127.0.0.1", "::1"):
            answer = await _asked(host, port, "/index.html", f"{item[:32]}.localhost")
            assert b"Eau" in answer
            assert b"Content-Security-Policy" in answer
    async with portal(teacher.agent):
        assert await _port(teacher) == port, "what lessons keep in a browser is tied to it"


@attack(ROW, off={"sync_agent.portal.site._open_other": _whoever_it_is})
async def test_who_asks_for_the_portal_by_name_is_led_to_it_at_either_address(room: Classroom) -> None:
    pc = await room.machine()
    async with portal(pc.agent) as surfer:
        port = surfer.url.port
        assert port is not None
        try:
            answer = await _asked("::1", port, "/", "localhost")
        except ConnectionError:
            answer = b""
        assert answer.startswith(b"HTTP/1.1 307")
        assert f"Location: {surfer.origin}/".encode() in answer


async def test_where_somebody_else_has_that_address_the_portals_log_says_so(
    room: Classroom, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pc = await room.machine()
    taken: list[asyncio.Server] = []

    async def opened(*given: object) -> int:
        port: int = await _open(*given)  # type: ignore[arg-type]
        if not taken:
            taken.append(await asyncio.start_server(lambda _r, w: w.close(), "::1", port))
        return port

    monkeypatch.setattr("sync_agent.portal.site._open", opened)
    async with portal(pc.agent) as surfer:
        assert "may lead to another program" in caplog.text
        assert (await surfer.get("/")).status == 200
    taken[0].close()
    await taken[0].wait_closed()
