"""Who is slow, silent or too many keeps nobody else out (docs/attacks.md)."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from protocol.errors import Code, RelaisError
from protocol.limits import MAX_REQUEST_BYTES
from protocol.messages.wire import ENROLL_PATH, LIVE_PATH, SYNC_PATH
from protocol.replica.http.connections import HEADERS_TIMEOUT_S, UNREAD_TIMEOUT_S, Bounds, listening
from sync_agent.lan.exchange.peer_sync import exchange_once
from sync_server.web import addresses
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, Classroom
from tests.harness.connections import Many
from tests.harness.fleet import pages_over
from tests.harness.http_room import http_room
from tests.harness.lan import listening_device
from tests.harness.raw_device import Answer, http_call
from tests.harness.server_in_process import office

ROW = "slow or silent clients"
THIEF = "127.0.0.66"
HEARD = "Expect: 100-continue\r\n"
"""Who says so is told that its head has been read."""
STALLED = f"POST {SYNC_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nxx".encode()
STALLED_HEARD = STALLED.replace(b"Content", HEARD.encode() + b"Content")
OWED = {"protocol.replica.http.bodies.awaiting": lambda _request: nullcontext()}


async def good_call(url: str) -> Answer:
    """A call of somebody who means well, from this machine's usual address."""
    return await asyncio.to_thread(http_call, url, "POST", ENROLL_PATH, b"")


@contextmanager
def connections(url: str, count: int, data: bytes = b"", *, by: str = THIEF) -> Iterator[list[socket.socket]]:
    """Connections of another address, on each of which this was said."""
    parts = urlsplit(url)
    with ExitStack() as stack:
        made = []
        for _ in range(count):
            place = (parts.hostname or "", parts.port or 0)
            made.append(stack.enter_context(socket.create_connection(place, source_address=(by, 0))))
            made[-1].setblocking(False)
            made[-1].sendall(data)
        yield made


async def is_answered(url: str) -> bool:
    """Whether somebody who means well gets in, and is answered."""
    try:
        return (await good_call(url)).status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False


async def first_said(made: Sequence[socket.socket]) -> set[socket.socket]:
    """On which of these connections the server says something first: that it has no room."""
    loop = asyncio.get_running_loop()
    asked = {asyncio.create_task(loop.sock_recv(connection, 12)): connection for connection in made}
    done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert {task.result() for task in done} == {b"HTTP/1.1 503"}
    return {asked[task] for task in done}


@attack(ROW, off={"protocol.replica.http.connections.Guards._least_missed": lambda _: None})
async def test_connections_that_say_nothing_keep_nobody_out() -> None:
    async def here(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/", here)
    bounds = Bounds(connections=8, asking=100, per_address=None)
    async with listening(app, "127.0.0.1", 0, grace_s=1.0, bounds=bounds) as url:
        with connections(url, 30):
            try:
                answer = await asyncio.to_thread(http_call, url, "GET", "/")
            except (OSError, HTTPException) as reason:
                pytest.fail(f"a good client was kept out: {reason}")
            assert answer.status == 200


@attack(ROW, off={"protocol.replica.http.connections.HEADERS_TIMEOUT_S": math.inf})
async def test_a_head_that_never_ends_is_cut_however_often_a_byte_comes() -> None:
    many = Many()
    guarded, wire = many.from_(THIEF)
    for second in range(int(HEADERS_TIMEOUT_S) + 2):
        guarded.data_received(b"a")
        guarded.look(float(second))
    assert wire.cut


@attack(ROW, off={"protocol.replica.http.connections.LEAST_READ_BYTES": 1})
async def test_an_answer_that_is_sipped_is_given_up() -> None:
    guarded, wire = Many().from_(THIEF)
    guarded.begin()
    for moment in range(8):
        wire.unread = 300_000 - moment
        guarded.look(moment * UNREAD_TIMEOUT_S / 4)
    assert wire.cut


@attack(ROW, off={"protocol.replica.http.calls.Calls._end_lingering": lambda _: False})
async def test_bodies_that_stop_half_way_make_room_for_who_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.http.calls.MAX_READ_CALLS", 4)
    monkeypatch.setattr("protocol.replica.http.calls.LINGERING_S", -1.0)
    async with office(tmp_path / "server") as made, pages_over(made) as (url, _):
        with connections(url, 8, STALLED) as stalled:
            first = await first_said(stalled)
            assert not first & set(stalled[4:]), "those who came first make room for those who came last"
            assert (await good_call(url)).status == 200


@attack(ROW, off=OWED)
async def test_forms_that_do_not_come_keep_nobody_out(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as made, pages_over(made, bounds=Bounds(8, 8, 8)) as (url, _):
        origin = f"Host: {urlsplit(url).netloc}\r\nOrigin: {url}"
        form = f"POST {addresses.SIGN_IN} HTTP/1.1\r\n{origin}\r\n{HEARD}Content-Length: 100\r\n\r\n".encode()
        with connections(url, 8, form) as held:
            for each in held:
                assert await asyncio.get_running_loop().sock_recv(each, 12) == b"HTTP/1.1 100"
            assert await is_answered(url)


@attack(ROW, off=OWED)
async def test_a_stranger_on_the_schools_network_keeps_no_neighbour_from_a_pc_by_bodies_that_do_not_come(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.lan.exchange.listener.BOUNDS", Bounds(8, 8, 8))
    teacher, machine = await room.teacher(), await room.machine()
    await room.publish(teacher, SMALL)
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    async with listening_device(teacher.agent) as address:
        held = []
        for _ in range(8):
            place = (address.host, address.port)
            reader, writer = await asyncio.open_connection(*place, ssl=anybody, local_addr=(THIEF, 0))
            held.append(writer)
            writer.write(STALLED_HEARD)
            assert await reader.readexactly(12) == b"HTTP/1.1 100"
        try:
            assert (await exchange_once(machine.agent, address)).received
        except RelaisError as reason:
            pytest.fail(f"a neighbour was kept out: {reason}")
        finally:
            for writer in held:
                writer.transport.abort()


@pytest.mark.parametrize("by_proxy", [False, True], ids=["one router", "one proxy"])
@attack(ROW, off=OWED)
async def test_one_pc_that_holds_bodies_back_keeps_no_school_behind_its_address_out(
    tmp_path: Path, by_proxy: bool
) -> None:
    pcs, held_back = 200, 100
    bounds = Bounds.within(pcs + held_back, are_of_one_proxy=by_proxy)
    async with (
        http_room(tmp_path, bounds=bounds) as here,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        lines = [
            await session.ws_connect(here.url + LIVE_PATH, headers=here.listening(pc.to_bytes(32))) for pc in range(pcs)
        ]
        with connections(here.url, held_back, STALLED_HEARD, by="127.0.0.1") as stalled:
            for each in stalled:
                assert await asyncio.get_running_loop().sock_recv(each, 12) == b"HTTP/1.1 100"
            assert await is_answered(here.url)
            assert await is_answered(here.url)
            for line in lines:
                await line.ping()
            assert not any(line.closed for line in lines)


@attack(ROW, off={"protocol.replica.http.calls.Calls._end_lingering": lambda *_: False})
async def test_bodies_that_stop_half_way_keep_no_other_pc_behind_the_same_address_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.http.calls.MAX_WAITING_CALLS_PER_ADDRESS", 3)
    monkeypatch.setattr("protocol.replica.http.calls.LINGERING_S", -1.0)
    async with office(tmp_path / "server") as made, pages_over(made) as (url, _):
        with connections(url, 4, STALLED, by="127.0.0.1") as stalled:
            await first_said(stalled)
            assert await is_answered(url)


@attack(ROW, off={"sync_server.api.asker.whose": lambda _: "everybody"})
async def test_one_address_takes_not_all_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.replica.http.calls.MAX_WAITING_CALLS_PER_ADDRESS", 3)
    async with office(tmp_path / "server") as made, pages_over(made) as (url, _):
        with connections(url, 4, STALLED) as stalled:
            assert len(await first_said(stalled)) == 1
            assert (await good_call(url)).status == 200


@attack("decompression bomb", off={"protocol.replica.http.bodies._check_plain": lambda _: None})
async def test_a_body_that_says_it_is_compressed_is_not_even_read(tmp_path: Path) -> None:
    bomb = zlib.compress(bytes(4 * MAX_REQUEST_BYTES))
    async with office(tmp_path / "server") as made, pages_over(made) as (url, _):
        for encoding in ("gzip", "deflate", "br", "zstd", "identity, gzip"):
            headers = {"Content-Encoding": encoding}
            answer = await asyncio.to_thread(http_call, url, "POST", SYNC_PATH, bomb, headers)
            assert answer.status == 415
            assert Code.ENCODED_BODY.encode() in answer.body
