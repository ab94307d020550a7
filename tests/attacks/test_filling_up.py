"""One signed-in pupils' PC fills, poisons or tires out what all of a class share (docs/threat-model.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from protocol.messages import Offer, SyncRequest
from protocol.replica.interfaces import PackInfo
from sync_agent.sealed_calls import SealedCalls
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, assignment, classroom


@pytest_asyncio.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as made:
        yield made


async def begin_with_junk(room: Classroom, device: Device, pack: PackInfo) -> None:
    """Send all bytes of a pack but the last, all of them wrong."""
    answer = await SealedCalls(device.agent, device.way).sync(
        SyncRequest(offers=(Offer(room.space, pack.hash, pack.size),))
    )

    async def junk(length: int) -> AsyncIterator[bytes]:
        yield Random(7).randbytes(length)

    for upload in answer.uploads:
        length = pack.size - 1 - upload.offset
        await device.way.send(upload.capability, upload.offset, length, junk(length))


@attack(
    "somebody else's bytes under a pack's name",
    off={"protocol.replica.packs._part_name": lambda pack, _sender=b"": f"parts/{pack.hex()}.part"},
)
async def test_junk_under_the_name_of_a_pupils_work_does_not_keep_the_work_from_arriving(room: Classroom) -> None:
    teacher, lea, thief = await room.teacher(), await room.machine(), await room.machine()
    task = await assignment(room, teacher, lea, thief)
    work = await room.hand_in(lea, task, {"a.odt": Random(1).randbytes(90_000)})
    said = await lea.agent.replica.store.unsent(1 << 20)
    await room.territory.replica.admit(said, source=lea.agent.device, now_ms=room.territory.clock())
    (pack,) = await lea.agent.replica.content.unsent_packs()
    await begin_with_junk(room, thief, pack)
    try:
        await lea.session.sync()
    except Exception as failure:  # noqa: BLE001  (any failure is the attacker's success)
        pytest.fail(str(failure))
    assert (await room.territory.replica.view(room.space)).coursework.hand_ins[work].at_server
