"""What was taken back while a machine was off is heard before anything is destroyed there: `run`, and a stick."""

from __future__ import annotations

import asyncio
from pathlib import Path

from protocol.clock import DAY_MS
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, PersonRecord, Ruling
from protocol.replica.at_work.replica import Draft
from protocol.roles import PersonRole
from sync_agent.upkeep.erasing import destroy_erased, destroying
from tests.harness.classroom import Classroom, Device
from tests.harness.couriers import bring, export, know_keys


async def _waits_for_a_week(room: Classroom, pc: Device) -> Entry:
    """A pupil is erased on Monday; the PC is switched off on Friday, and on again a week after that Monday."""
    erasure = await room.territory.say(room.territory.id, Kind.ERASE, Erasure(room.pupil_person).encode())
    await pc.session.sync()
    for _ in range(5):
        await destroy_erased(pc.agent)
        room.territory.clock.advance(DAY_MS)
    await destroy_erased(pc.agent)
    room.territory.clock.advance(2 * DAY_MS)
    await pc.starts_again()
    return erasure


async def _payloads(room: Classroom, pc: Device) -> int:
    arrived = await pc.agent.replica.store.scan(room.space)
    return sum(one.entry.header.subject == room.pupil_person and one.entry.payload is not None for one in arrived)


async def test_a_program_that_starts_asks_the_server_before_it_destroys_anything(room: Classroom) -> None:
    pc = await room.machine()
    await pc.session.sync()
    before = await _payloads(room, pc)
    erasure = await _waits_for_a_week(room, pc)
    await room.territory.say(room.territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
    asked = asyncio.Event()
    async with destroying(pc.agent, asked):
        await pc.session.sync()
        asked.set()
        await destroy_erased(pc.agent)
    assert await _payloads(room, pc) == before > 0


async def test_one_that_reaches_nobody_destroys_what_is_due(room: Classroom) -> None:
    pc = await room.machine()
    await pc.session.sync()
    await _waits_for_a_week(room, pc)
    await destroy_erased(pc.agent)
    assert await _payloads(room, pc) == 0


async def test_a_stick_is_read_before_anything_is_destroyed(room: Classroom, tmp_path: Path) -> None:
    pc, other = await room.machine(), await room.machine()
    await know_keys(room, pc, other)
    before = await _payloads(room, pc)
    erasure = await _waits_for_a_week(room, pc)
    await room.territory.say(room.territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
    await other.session.sync()
    await export(other, tmp_path / "stick")
    await bring(pc, tmp_path / "stick")
    assert await _payloads(room, pc) == before > 0


async def test_who_writes_a_stick_unheard_destroys_nothing_that_is_not_on_it(room: Classroom, tmp_path: Path) -> None:
    pc, other = await room.machine(), await room.machine()
    await know_keys(room, pc, other)
    erasure = await _waits_for_a_week(room, pc)
    listed = PersonRecord("Léa", PersonRole.PUPIL).encode()
    (word,) = await pc.agent.replica.write(
        [Draft(room.space, Kind.PERSON, None, listed, subject=room.pupil_person)],
        author=room.territory.keys.root,
        now_ms=room.territory.clock(),
        entropy=room.territory.entropy,
    )
    await export(pc, tmp_path / "stick")
    assert await _payloads(room, pc) == 0
    await room.territory.say(room.territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
    await other.session.sync()
    await bring(other, tmp_path / "stick")
    brought = await other.agent.replica.store.get([word.id])
    assert brought[word.id].payload == listed
