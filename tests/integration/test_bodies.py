"""A body that comes fast is passed on in large pieces, one that comes slowly as it comes (docs/protocol.md, "HTTP")."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from random import Random

import aiohttp
import pytest
from aiohttp import web

from protocol.limits import FILE_PIECE_BYTES
from protocol.replica.http import bodies
from protocol.replica.http.bodies import SLOWEST_PIECE_BYTES, pieces
from protocol.replica.http.connections import listening
from tests.harness.patience import PATIENCE_S

BODY = Random(1).randbytes(20 * FILE_PIECE_BYTES + 7)


class Reading:
    """A server that reads bodies; the pieces in which they came, each told to who waits for it."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.came = asyncio.Event()
        self.app = web.Application(client_max_size=0)
        self.app.router.add_post("/", self._read)

    async def _read(self, request: web.Request) -> web.Response:
        async for piece in pieces(request, len(BODY)):
            self.pieces.append(piece)
            self.came.set()
        return web.Response()


async def test_what_comes_fast_is_passed_on_in_large_pieces_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "GATHER_S", PATIENCE_S)  # fast, however busy this machine is
    reading = Reading()
    async with (
        listening(reading.app, "127.0.0.1", 0, grace_s=1) as url,
        aiohttp.ClientSession() as session,
        session.post(url, data=io.BytesIO(BODY)) as answer,
    ):
        assert answer.status == 200
    assert b"".join(reading.pieces) == BODY
    assert {len(piece) for piece in reading.pieces[:-1]} == {FILE_PIECE_BYTES}


async def test_what_is_worth_passing_on_does_not_wait_for_more_that_does_not_come() -> None:
    reading, first = Reading(), BODY[: SLOWEST_PIECE_BYTES + 1]

    async def sent() -> AsyncIterator[bytes]:
        yield first
        async with asyncio.timeout(PATIENCE_S):
            await reading.came.wait()
        yield BODY[len(first) :]

    async with (
        listening(reading.app, "127.0.0.1", 0, grace_s=1) as url,
        aiohttp.ClientSession() as session,
        session.post(url, data=sent()) as answer,
    ):
        assert answer.status == 200
    assert b"".join(reading.pieces) == BODY
    assert reading.pieces[0] == first
