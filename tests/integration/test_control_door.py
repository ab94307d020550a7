"""Who may knock at the control channel, and with what."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from protocol.errors import LocalFailure, PeerFault, Refused
from protocol.limits import FILE_PIECE_BYTES, MAX_FILE_BYTES
from protocol.replica.console.control_frames import Frame, event_bytes, frame_bytes
from protocol.replica.console.operation import Complete, FileData, FileEnd, FileStart
from protocol.replica.console.ownership import Control, acquire, publish_control
from tests.harness.control_owners import ask, served


async def post(control: Control, body: bytes = b"", path: str = "/command/who", **headers: str) -> tuple[int, bytes]:
    given = {"Authorization": f"Bearer {control.token}", **headers}
    async with (
        ClientSession() as session,
        session.post(f"http://127.0.0.1:{control.port}{path}", data=body, headers=given) as response,
    ):
        return response.status, await response.read()


WHO = frame_bytes(Frame.PARAMS, b"{}") + frame_bytes(Frame.COMPLETE)


async def test_the_right_token_at_the_right_address_opens(tmp_path: Path) -> None:
    async with served(tmp_path) as control:
        status, body = await post(control, WHO)
    assert (status, body[0]) == (200, Frame.RESULT)


@pytest.mark.parametrize(
    "token", ["", "Bearer ", "Bearer x", "Basic {token}", "{token}", "Bearer {token}x", "Bearer é"]
)
async def test_a_wrong_token_is_refused(tmp_path: Path, token: str) -> None:
    async with served(tmp_path) as control:
        status, body = await post(control, WHO, Authorization=token.format(token=control.token))
    assert (status, body) == (401, b"token\n")


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\r\n\r\n", b"POST /command/who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]
)
async def test_who_knocks_without_the_token_hears_of_no_library(tmp_path: Path, sent: bytes) -> None:
    async with served(tmp_path) as control:
        reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
        writer.write(sent)
        answer = await reader.read()
        writer.close()
    assert answer.split()[1] in (b"400", b"403")
    assert b"aiohttp" not in answer


@pytest.mark.parametrize("host", ["localhost:{port}", "evil.example", "127.0.0.1", "evil.example:{port}"])
async def test_a_foreign_host_is_refused_even_with_the_token(tmp_path: Path, host: str) -> None:
    async with served(tmp_path) as control:
        status, _ = await post(control, WHO, Host=host.format(port=control.port))
    assert status == 403


async def test_a_web_page_is_refused_even_with_the_token(tmp_path: Path) -> None:
    async with served(tmp_path) as control:
        assert (await post(control, WHO, Origin=f"http://127.0.0.1:{control.port}"))[0] == 403
        assert (await post(control, WHO, path="/elsewhere"))[0] == 404
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{control.port}/command/who") as response:
            assert response.status == 401


def _params(body: bytes = b"{}") -> bytes:
    return frame_bytes(Frame.PARAMS, body)


def _start(size: int | None) -> bytes:
    return event_bytes(FileStart("a", size))


_MALFORMED: dict[str, bytes] = {
    "no parameters first": frame_bytes(Frame.COMPLETE),
    "parameters that are no JSON": _params(b"{"),
    "parameters that are no object": _params(b"[]"),
    "parameters that are no text": _params(b"\xff"),
    "parameters nested without end": _params(b"[" * 200_000),
    "an unknown frame": _params() + b"\x63\0\0\0\0",
    "a frame of the other direction": _params() + frame_bytes(Frame.RESULT, b"{}"),
    "parameters twice": _params() + _params(),
    "a piece too large": _params() + _start(None) + struct.pack(">BI", Frame.FILE_DATA, FILE_PIECE_BYTES + 1),
    "an end with a body": _params() + _start(0) + struct.pack(">BI", Frame.FILE_END, 1) + b"x",
    "an empty piece": _params() + _start(None) + struct.pack(">BI", Frame.FILE_DATA, 0),
    "parameters too large": struct.pack(">BI", Frame.PARAMS, 1 << 30),
    "data outside a file": _params() + event_bytes(FileData(b"x")),
    "an end outside a file": _params() + event_bytes(FileEnd()),
    "a file inside a file": _params() + _start(1) + _start(1),
    "a file longer than announced": _params() + _start(1) + event_bytes(FileData(b"xx")),
    "a file shorter than announced": _params() + _start(1) + event_bytes(FileEnd()),
    "a size below zero": _params() + _start(-1),
    "a file too large": _params() + _start(MAX_FILE_BYTES + 1),
    "a path too long": _params() + event_bytes(FileStart("a" * 2000, 0)),
    "an end in the middle of a file": _params() + _start(1) + event_bytes(Complete()),
    "a start without a path": _params() + frame_bytes(Frame.FILE_START, b'{"size":1}'),
    "a start with a size that is no number": _params() + frame_bytes(Frame.FILE_START, b'{"path":"a","size":true}'),
}


@pytest.mark.parametrize("body", _MALFORMED.values(), ids=_MALFORMED)
async def test_what_breaks_the_order_is_refused_and_the_owner_goes_on(tmp_path: Path, body: bytes) -> None:
    async with served(tmp_path) as control:
        status, answer = await post(control, body, path="/command/absorb")
        assert (status, answer[0]) == (200, Frame.FAILURE)
        assert json.loads(answer[5:])["code"] in ("malformed", "too-large")
        assert await ask(tmp_path, "who")


@pytest.mark.parametrize(
    "body", [b"", b"\x01", _params()[:-1], _params(), _params() + _start(5) + b"\x03\0\0\0\x05abc"]
)
async def test_what_ends_too_early_is_dropped_and_the_owner_goes_on(tmp_path: Path, body: bytes) -> None:
    async with served(tmp_path) as control:
        status, answer = await post(control, body, path="/command/absorb")
        assert (status, answer) == (200, b"")
        assert await ask(tmp_path, "who")


async def test_bytes_that_are_no_http_do_not_stop_the_owner(tmp_path: Path) -> None:
    async with served(tmp_path) as control:
        for noise in (b"\0" * 100, b"POST /command/who HTTP/1.1\r\n", b"\x16\x03\x01", b"A" * 100_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
            writer.write(noise)
            writer.write_eof()
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        assert await ask(tmp_path, "who")


async def test_an_owner_that_answers_nonsense_is_a_fault_and_no_crash(tmp_path: Path) -> None:
    async def answer(body: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
            writer.close()

        return serve

    owner = acquire(tmp_path)
    assert owner is not None
    for body, expected in (
        (b"", LocalFailure),
        (b"\x63\0\0\0\0", PeerFault),
        (frame_bytes(Frame.COMPLETE), PeerFault),
        (frame_bytes(Frame.PARAMS, b"{}"), PeerFault),
        (frame_bytes(Frame.FAILURE, b"[]"), PeerFault),
        (frame_bytes(Frame.FAILURE, b'{"code":"new","message":"m","exit_status":5}'), Refused),
    ):
        async with await asyncio.start_server(await answer(body), "127.0.0.1", 0) as server:
            publish_control(owner, "127.0.0.1", server.sockets[0].getsockname()[1], "t")
            with pytest.raises(expected):
                await ask(tmp_path, "who")
    owner.release()
