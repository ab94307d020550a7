"""Parts of downloads and uploads that were cut: none outlives what is erased, and none lies for ever."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from protocol.errors import RelaisError
from protocol.model.entry import Kind
from protocol.model.structure import Erasure
from protocol.replica.eraser import Eraser
from sync_agent.hand_ins.handing_in import give_feedback
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.classroom import WORK, Classroom, Device, Given, assignment, classroom, faulty
from tests.harness.passing_days import pass_days
from tests.harness.wire import Faults

HOUR_S = 3_600
REMARK = Random(7).randbytes(600_000)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path, faulty) as made:
        yield made


def parts_in(folder: Path) -> list[Path]:
    return sorted((folder / "parts").glob("*.part"))


def lay(folder: Path, for_s: float) -> None:
    """Nobody has added to the parts for so long."""
    at_s = time.time() - for_s
    for part in parts_in(folder):
        os.utime(part, (at_s, at_s))


async def cut(device: Device, faults: Faults) -> None:
    """A sync whose line breaks."""
    device.faulty.faults = faults
    with pytest.raises(RelaisError):
        await device.session.sync()
    device.faulty.faults = Faults()


async def remark_for(room: Classroom, teacher: Device, pc: Device) -> None:
    """A teacher has given a pupil a remark with a file, and has not sent it."""
    task = await assignment(room, teacher, pc)
    work = await room.hand_in(pc, task, WORK)
    for device in (pc, teacher):
        await device.session.sync()
    remark = Given({"remarque.bin": REMARK})
    await give_feedback(teacher.agent, work, "voir le fichier", None, redo=False, incoming=remark)


async def test_what_a_machine_has_fetched_a_part_of_goes_with_whom_it_is_about(room: Classroom) -> None:
    territory, teacher, pc = room.territory, await room.teacher(), await room.machine()
    await remark_for(room, teacher, pc)
    await teacher.session.sync()
    await cut(pc, Faults(in_bytes=260_000))
    assert parts_in(pc.agent.folder)
    lay(pc.agent.folder, HOUR_S)
    await territory.say(territory.id, Kind.ERASE, Erasure(room.pupil_person).encode())
    for device in (pc, teacher):
        await device.session.sync()
    await pass_days(territory, 9, pc, teacher)
    assert not parts_in(pc.agent.folder)


async def test_what_a_server_was_sent_a_part_of_goes_with_whom_it_is_about(room: Classroom) -> None:
    territory, teacher, pc = room.territory, await room.teacher(), await room.machine()
    await remark_for(room, teacher, pc)
    await cut(teacher, Faults(out_bytes=260_000))
    server = room.folder / "server"
    assert parts_in(server)
    lay(server, HOUR_S)
    await territory.say(territory.id, Kind.ERASE, Erasure(room.pupil_person).encode())
    await pass_days(territory, 9, pc)
    assert not parts_in(server)


async def test_what_is_being_fetched_goes_on_though_something_is_destroyed_meanwhile(room: Classroom) -> None:
    territory, teacher, pc = room.territory, await room.teacher(), await room.machine()
    await remark_for(room, teacher, pc)
    await territory.say(territory.id, Kind.ERASE, Erasure(room.pupil_person).encode())
    for device in (teacher, pc):
        await device.session.sync()
    await pass_days(territory, 6, pc)
    await room.publish(teacher, {"film.mp4": Random(8).randbytes(600_000)})
    await teacher.session.sync()
    await cut(pc, Faults(in_bytes=260_000))
    (part,) = parts_in(pc.agent.folder)
    held = part.stat().st_size
    await pass_days(territory, 3, pc)
    assert part.stat().st_size == held
    await pc.session.sync()
    assert not parts_in(pc.agent.folder)


async def test_a_part_that_nobody_has_gone_on_with_for_a_week_goes_at_the_hourly_look(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    await room.publish(teacher, {"film.mp4": REMARK})
    await cut(teacher, Faults(out_bytes=260_000))
    server = room.folder / "server"
    lay(server, 6 * 24 * HOUR_S)
    eraser = Eraser(room.territory.replica, room.territory.holdings)
    await eraser.sweep(room.territory.clock())
    assert parts_in(server)
    lay(server, 8 * 24 * HOUR_S)
    await eraser.sweep(room.territory.clock())
    assert not parts_in(server)

    await teacher.session.sync()
    await cut(pc, Faults(in_bytes=260_000))
    lay(pc.agent.folder, 8 * 24 * HOUR_S)
    await destroy_erased(pc.agent)
    assert not parts_in(pc.agent.folder)
    await pc.session.sync()
    assert not await pc.agent.missing()


@pytest.mark.parametrize("years", [-10, 10])
async def test_a_part_that_a_wrong_clock_has_dated_lies_a_week_from_the_next_look_on(
    room: Classroom, years: int
) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    await assignment(room, teacher, pc)
    await room.publish(teacher, {"film.bin": REMARK})
    await teacher.session.sync()
    await cut(pc, Faults(in_bytes=260_000))
    lay(pc.agent.folder, -years * 365 * 24 * HOUR_S)
    await destroy_erased(pc.agent)
    assert parts_in(pc.agent.folder)
    lay(pc.agent.folder, 8 * 24 * HOUR_S)
    await destroy_erased(pc.agent)
    assert not parts_in(pc.agent.folder)
