"""A classmate's PC gives drop by drop what it was asked for: the server has it, too (docs/attacks.md)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random

import pytest
from aiohttp import web

from protocol.messages.wire import PACK_TYPE
from protocol.replica.http.content import Packs
from sync_agent.lan.exchange.peer_sync import exchange_once
from sync_agent.machine import fetching
from tests.harness.attack import attack
from tests.harness.classroom import Classroom
from tests.harness.lan import listening_device
from tests.harness.patience import PATIENCE_S

FILM = {"film.bin": Random(7).randbytes(3_000_000)}
SYNCS = 10


@attack("a neighbour gives a lesson drop by drop", off={"sync_agent.machine.fetching.HELD_S": float("inf")})
async def test_a_lesson_that_a_neighbour_gives_drop_by_drop_comes_from_the_server(room: Classroom) -> None:
    teacher, victim, hostile = await room.teacher(), await room.machine(), await room.machine()
    item = (await room.publish(teacher, FILM)).item
    for device in (teacher, hostile):
        await device.session.sync()
    asked, ends = asyncio.Event(), asyncio.Event()
    given = Packs.fetch

    async def drop_by_drop(self: Packs, request: web.Request) -> web.StreamResponse:
        if self._responder.replica is not hostile.agent.replica:
            return await given(self, request)
        response = web.StreamResponse(headers={"Content-Type": PACK_TYPE})
        response.content_length = len(FILM["film.bin"])
        await response.prepare(request)
        asked.set()
        while not ends.is_set():
            await response.write(bytes(400))
            with suppress(TimeoutError):
                await asyncio.wait_for(ends.wait(), 0.05)
        return response

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Packs, "fetch", drop_by_drop)
        patched.setattr(fetching, "HELD_S", fetching.HELD_S / 100)
        async with listening_device(hostile.agent) as address:
            exchange = asyncio.create_task(exchange_once(victim.agent, address))
            await asyncio.wait_for(asked.wait(), PATIENCE_S)
            for _ in range(SYNCS):
                await victim.session.sync()
                await asyncio.wait({exchange}, timeout=0.05)
            is_stalled, missing = not exchange.done(), await victim.agent.missing()
            ends.set()
            exchange.cancel()
            await asyncio.wait({exchange})
    assert is_stalled
    assert not missing
    assert await victim.files(item) == FILM
