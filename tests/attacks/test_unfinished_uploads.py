"""One pupils' PC begins uploads that it never ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

from protocol.limits import KiB, MiB
from protocol.messages.calls import SyncRequest
from protocol.messages.parts import Offer
from protocol.roles import Role
from sync_agent.transport.answers import Response
from tests.harness.attack import attack
from tests.harness.caller import Caller, caller
from tests.harness.classroom import Classroom
from tests.harness.wire import Frontage

ROW = "a machine begins uploads that it never ends"
TURNS = 6
SIZE_BYTES = 4 * MiB
MOST_BYTES = 8 * MiB  # nothing is declared in the class: what may come before entries name it


async def nothing(*_: Any) -> None:
    """Parts are weighed when they are whole."""


OFF = {"protocol.replica.content.kept.open_parts.OpenParts._make_way": nothing}


def parts_bytes(folder: Path) -> int:
    return sum(part.stat().st_size for part in folder.rglob("parts/*.part"))


async def body(size: int) -> AsyncIterator[bytes]:
    for at in range(0, size, 256 * KiB):
        yield bytes(min(256 * KiB, size - at))


async def lingering(size: int, sent: asyncio.Event, end: asyncio.Event) -> AsyncIterator[bytes]:
    async for piece in body(size):
        yield piece
    sent.set()
    await end.wait()


async def capability(pc: Caller, room: Classroom, noise: Random) -> str:
    (upload,) = (await pc.sync(SyncRequest(offers=(Offer(room.space, noise.randbytes(32), SIZE_BYTES),)))).uploads
    return upload.capability


@attack(ROW, off=OFF)
async def test_what_one_machine_leaves_unfinished_stays_within_what_it_may_bring(
    room: Classroom, tmp_path: Path
) -> None:
    responder = room.territory.responder()
    pc = await caller(room.territory, responder, Role.MACHINE, room.space, seed=5)
    frontage, noise = Frontage(responder), Random(1)
    for _ in range(TURNS):
        await frontage.part(await capability(pc, room, noise), 0, body(SIZE_BYTES - 1))
    assert parts_bytes(tmp_path) <= MOST_BYTES


@attack(ROW, off=OFF)
async def test_uploads_at_the_same_time_are_weighed_together(room: Classroom, tmp_path: Path) -> None:
    responder = room.territory.responder()
    pc = await caller(room.territory, responder, Role.MACHINE, room.space, seed=5)
    frontage, noise, end = Frontage(responder), Random(2), asyncio.Event()
    may = [await capability(pc, room, noise) for _ in range(TURNS)]
    async with asyncio.TaskGroup() as group:

        async def send(each: str) -> asyncio.Task[Response]:
            sent = asyncio.Event()
            sending = group.create_task(frontage.part(each, 0, lingering(SIZE_BYTES - 1, sent, end)))
            arrived = group.create_task(sent.wait())
            await asyncio.wait([sending, arrived], return_when=asyncio.FIRST_COMPLETED)
            arrived.cancel()
            return sending

        sendings = [await send(each) for each in may]
        end.set()
    assert parts_bytes(tmp_path) <= MOST_BYTES
    assert sorted(one.result().status for one in sendings) == [204] * 2 + [413] * (TURNS - 2)
