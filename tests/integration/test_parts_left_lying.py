"""Parts of downloads and uploads that were cut: none outlives what is erased, and none lies for ever."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import RelaisError
from protocol.model.entry import Kind
from protocol.model.structure import Erasure
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.kept.left_parts import BeingWritten
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.upkeep.eraser import Eraser
from protocol.replica.upkeep.pace import Pace
from sync_agent.hand_ins.handing_in import give_feedback
from tests.harness.classroom import WORK, Classroom, Device, Given, assignment, classroom, faulty
from tests.harness.passing_days import pass_days
from tests.harness.wire import Faults

HOUR_MS = 3_600_000
NEW_YEAR_2016_MS = 1_451_606_400_000
REMARK = Random(7).randbytes(600_000)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path, faulty) as made:
        yield made


def parts_in(folder: Path) -> list[Path]:
    return sorted((folder / "parts").glob("*.part"))


def lay(replica: Replica) -> None:
    """Nobody is adding to the parts any more: another program has begun."""
    assert isinstance(replica.content, PackFolder)
    replica.content._being_written = BeingWritten(time.monotonic)


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
    lay(pc.agent.replica)
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
    lay(territory.replica)
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
    lay(room.territory.replica)
    await pass_days(room.territory, 6)
    assert parts_in(server)
    await pass_days(room.territory, 1)
    assert not parts_in(server)

    await teacher.session.sync()
    await cut(pc, Faults(in_bytes=260_000))
    lay(pc.agent.replica)
    await pass_days(room.territory, 7, pc)
    assert not parts_in(pc.agent.folder)
    await pc.session.sync()
    assert not await pc.agent.missing()


async def test_a_part_that_has_grown_since_lies_a_week_from_then_on(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    await room.publish(teacher, {"film.mp4": REMARK})
    await teacher.session.sync()
    await cut(pc, Faults(in_bytes=160_000))
    lay(pc.agent.replica)
    await pass_days(room.territory, 6, pc)
    await cut(pc, Faults(in_bytes=160_000))
    lay(pc.agent.replica)
    await pass_days(room.territory, 6, pc)
    assert parts_in(pc.agent.folder)
    await pass_days(room.territory, 1, pc)
    assert not parts_in(pc.agent.folder)


async def test_on_a_computer_whose_clock_begins_each_morning_in_another_year_a_part_lies_a_week_of_its_watched_time(
    room: Classroom,
) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    await room.publish(teacher, {"film.mp4": REMARK})
    await teacher.session.sync()
    await cut(pc, Faults(in_bytes=260_000))
    (part,) = parts_in(pc.agent.folder)
    eraser = Eraser(pc.agent.replica, pc.agent.holdings)
    monday_ms, steady_ms = room.territory.clock(), 0
    for day in range(30):
        lay(pc.agent.replica)
        # each morning a program starts at a clock of 2016, which somebody sets right a minute later
        wall_ms = NEW_YEAR_2016_MS
        pace = Pace(eraser, lambda: (wall_ms, steady_ms))  # noqa: B023  (called within the day)
        await pace.look()
        steady_ms += 60_000
        wall_ms = monday_ms + day * DAY_MS
        for _hour in range(9):
            os.utime(part, (wall_ms / 1000, wall_ms / 1000))
            await pace.look()
            if not part.exists():
                assert day == 20  # eight hours of watched time on each of 21 days
                return
            steady_ms += HOUR_MS
            wall_ms += HOUR_MS
    pytest.fail("it lies there for good")
