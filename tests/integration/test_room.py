"""Room on the disk: what makes way, what never does, what comes back when somebody opens it."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Code, LocalFailure, NoAnswer
from protocol.folds.coursework import HandInState
from protocol.limits import ACQUAINTANCE_MS
from protocol.model.register import Health, stored_register
from protocol.replica.content.holdings import Need
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent, RoomLimits
from sync_agent.machine.enrolled import READING_KEYS_FILE
from sync_agent.machine.eviction import Worth
from sync_agent.sync.room import UNSEEN_BYTES, Room
from sync_agent.sync.session import Session
from sync_agent.sync.worth import Worths
from tests.harness.bad_disk import failing_to_open
from tests.harness.classroom import SMALL, Classroom, Device, Files, assignment, keeps_key_of, work_of
from tests.harness.commands import Desk
from tests.harness.passing_days import pass_days

MB = 1_000_000


def lesson(seed: int) -> Files:
    return {"film.mp4": Random(seed).randbytes(MB)}


async def published(room: Classroom, teacher: Device, *seeds: int, item: bytes | None = None) -> list[bytes]:
    items = []
    for seed in seeds:
        items.append((await room.publish(teacher, lesson(seed), item=item)).item)
        room.territory.clock.advance(60_000)
        await teacher.session.sync()
    return items


def limited(device: Device, budget: int | None = None, reserve: int | None = None) -> Desk:
    """The device's commands; it syncs on demand by its own session."""
    device.agent.room_limits = RoomLimits(budget, reserve)
    device.agent.fetch_now = device.session.sync
    return Desk(device.agent)


async def complete(desk: Desk, items: list[bytes]) -> list[bool]:
    rows = {row["item"]: row["complete"] for row in await desk.ask("items")}
    return [rows[item.hex()] for item in items]


async def taken(device: Device) -> int:
    return (await device.agent.replica.content.totals())[2]


async def test_within_a_budget_the_newest_lessons_are_here_and_the_oldest_come_when_they_are_opened(
    room: Classroom,
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    desk = limited(machine, 3_500_000)
    items = await published(room, teacher, 1, 2, 3, 4, 5)
    await machine.session.sync(routine=True)
    assert await taken(machine) <= 3_500_000
    assert await complete(desk, items) == [False, False, True, True, True]
    assert not machine.agent.is_disk_full
    # quiet again: nothing is fetched and thrown away in turns
    assert (await machine.session.sync(routine=True)).round_trips == 1

    assert await desk.files("cat", item=items[0].hex(), path="film.mp4") == lesson(1)
    assert await taken(machine) <= 3_500_000
    assert await complete(desk, items) == [True, False, False, True, True]
    room.territory.clock.advance(60_000)
    (newest,) = await published(room, teacher, 6)
    await machine.session.sync(routine=True)
    assert await complete(desk, [*items, newest]) == [True, False, False, False, True, True]


async def test_what_made_way_stays_away_over_a_restart_and_says_so_when_nobody_answers(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    limited(machine, 1_500_000)
    items = await published(room, teacher, 1, 2)
    await machine.session.sync(routine=True)
    await machine.agent.close()
    machine.agent = await Agent.open(machine.agent.folder, now_ms=room.territory.clock, entropy=Random(1).randbytes)
    machine.session = Session(machine.agent, machine.way)
    desk = limited(machine, 1_500_000)
    assert (await machine.session.sync(routine=True)).round_trips == 1
    assert await complete(desk, items) == [False, True]

    async def nobody() -> None:
        raise NoAnswer(Code.UNREACHABLE, "nobody")

    machine.agent.fetch_now = nobody
    with pytest.raises(LocalFailure, match="cannot be fetched now") as caught:
        await desk.files("cat", item=items[0].hex(), path="film.mp4")
    assert caught.value.code is Code.INCOMPLETE
    machine.agent.fetch_now = machine.session.sync
    assert await desk.files("checkout", item=items[0].hex()) == lesson(1)


async def test_superseded_versions_go_before_anything_that_is_shown_and_come_back_on_demand(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    desk = limited(machine)
    (first,) = await published(room, teacher, 1)
    await machine.session.sync(routine=True)
    (second,) = await published(room, teacher, 2)
    old = (await desk.item(first.hex()))["revision"]
    await published(room, teacher, 3, item=first)
    await machine.session.sync(routine=True)
    assert await taken(machine) > 2_900_000
    machine.agent.room_limits = RoomLimits(2_500_000)
    (third,) = await published(room, teacher, 4)
    await machine.session.sync(routine=True)
    assert await complete(desk, [first, second, third]) == [True, False, True]
    machine.agent.room_limits = RoomLimits(9 * MB)
    assert await desk.files("checkout", item=first.hex(), revision=old) == lesson(1)


async def test_a_hand_in_that_awaits_receipts_and_a_teachers_own_lessons_never_make_way(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    hand_in = await room.hand_in(machine, task, lesson(9))
    await machine.session.sync(routine=True)
    assert (await work_of(machine, room, hand_in)).state is HandInState.SERVER
    limited(machine, 200_000)
    (item,) = await published(room, teacher, 1)
    await machine.session.sync(routine=True)
    desk = Desk(machine.agent)
    assert await complete(desk, [item]) == [False]
    assert await taken(machine) > MB
    teachers = limited(teacher, 200_000)
    await teacher.session.sync(routine=True)
    assert await complete(teachers, [item]) == [True]
    # its teacher has opened it: now it may go
    teacher.agent.room_limits = RoomLimits()
    await teacher.session.sync()
    await teachers.files("open-hand-in", id=hand_in.hex())
    await teachers.ask("confirm-opened", id=hand_in.hex())
    await teacher.session.sync()
    await machine.session.sync(routine=True)
    await published(room, teacher, 2)
    machine.agent.room_limits = RoomLimits(1_500_000)
    room.territory.clock.advance(120_000)
    await machine.session.sync(routine=True)
    assert (await work_of(machine, room, hand_in)).opened
    assert await taken(machine) <= 1_500_000


async def test_a_teachers_own_lesson_stays_where_the_disk_does_not_give_its_list_back_just_then(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.transfer.pack_writer.PACK_TARGET_BYTES", MB // 4)
    teacher = await room.teacher()
    (item,) = await published(room, teacher, 1)
    await teacher.session.sync()
    await teacher.agent.close()  # nothing is remembered then
    teacher.agent = await Agent.open(teacher.agent.folder, now_ms=room.territory.clock, entropy=Random(1).randbytes)
    desk = limited(teacher, MB // 2)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", failing_to_open(errno.EMFILE, ".pack"))
        await Room(teacher.agent).fitting([])
    assert await complete(desk, [item]) == [True]
    assert teacher.agent.is_disk_full
    # and once it does, nothing is left of that
    await Room(teacher.agent).fitting([])
    assert await complete(desk, [item]) == [True]
    assert not teacher.agent.is_disk_full


async def test_a_hand_in_that_nobody_opened_makes_way_once_the_server_and_a_later_backup_have_held_it_for_a_month(
    room: Classroom,
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    hand_in = await room.hand_in(machine, task, lesson(9))
    await machine.session.sync(routine=True)
    limited(machine, 200_000)

    async def a_month_later(backup_ms: int | None) -> int:
        """What content takes here when there is more to fetch than there is room for."""
        room.frontage.responder.backup_ms = backup_ms
        await machine.session.sync(routine=True)
        await pass_days(room.territory, 31, machine)
        await published(room, teacher, 1)
        await machine.session.sync(routine=True)
        room.territory.clock.advance(120_000)
        await machine.session.sync(routine=True)
        return await taken(machine)

    received_ms = room.territory.clock()
    assert await a_month_later(None) > MB, "the server has it, and nothing else"
    assert await a_month_later(received_ms - DAY_MS) > MB, "the backup is older than the receipt"
    assert await a_month_later(received_ms + 1) < MB
    assert not (await work_of(machine, room, hand_in)).opened
    # a restart forgets nothing of what the server said
    await machine.agent.close()
    machine.agent = await Agent.open(machine.agent.folder, now_ms=room.territory.clock, entropy=Random(1).randbytes)
    assert machine.agent.backups[-1].begun_ms == received_ms + 1


async def test_work_that_only_a_colleague_opened_who_came_since_makes_way_after_the_month_without_its_key(
    room: Classroom,
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    person = await room.territory.person("M. Durand", PersonRole.TEACHER, room.space)
    colleague = await room.device(Role.TEACHER, person=person)
    for device in (colleague, machine):
        await device.session.sync()
    await pass_days(room.territory, ACQUAINTANCE_MS // DAY_MS + 1, machine)
    hand_in = await room.hand_in(machine, task, lesson(9))
    for device in (machine, colleague):
        await device.session.sync()
    await Desk(colleague.agent).ask("confirm-opened", id=hand_in.hex())
    for device in (colleague, machine):
        await device.session.sync()
    assert not await keeps_key_of(machine, hand_in)

    async def worth() -> Worth:
        (work,) = [piece for piece in await Worths(machine.agent).pieces() if piece.need.sealed]
        return work.worth

    assert await worth() is Worth.KEPT
    room.frontage.responder.backup_ms = room.territory.clock()
    await machine.session.sync()
    await pass_days(room.territory, 31, machine)
    await machine.session.sync()
    assert await worth() is Worth.RECEIVED


async def test_work_that_a_teacher_opened_stays_on_her_laptop_until_a_backup_has_held_it_for_a_month(
    room: Classroom,
) -> None:
    teacher, machine, colleague = await room.teacher(), await room.machine(), await room.teacher()
    task = await assignment(room, teacher, machine)
    hand_in = await room.hand_in(machine, task, lesson(9))
    for device in (machine, teacher):
        await device.session.sync()
    teachers = limited(teacher)
    await teachers.files("open-hand-in", id=hand_in.hex())
    await teachers.ask("confirm-opened", id=hand_in.hex())
    work = Need(room.space, (await work_of(teacher, room, hand_in)).record.content.stream, sealed=True)
    limited(teacher, 1_500_000)

    async def a_month_later(backup_ms: int | None, *seeds: int) -> bool:
        """Whether the work is on her laptop still when lessons have come, for which there is no room beside it."""
        room.frontage.responder.backup_ms = backup_ms
        await teacher.session.sync(routine=True)
        await pass_days(room.territory, 31, teacher)
        await published(room, colleague, *seeds)
        for _ in range(2):
            await teacher.session.sync(routine=True)
            room.territory.clock.advance(120_000)
        return await teacher.agent.holdings.is_complete(work)

    before_ms = room.territory.clock()
    assert await a_month_later(None, 1, 2), "nothing but the server has it"
    assert await a_month_later(before_ms, 3, 4), "the backup is older than what this laptop has seen"
    assert not await a_month_later(room.territory.clock(), 5, 6)
    assert await teachers.files("open-hand-in", id=hand_in.hex()) == lesson(9)


async def test_opened_work_stays_on_a_teachers_laptop_while_its_keys_cannot_be_read(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    hand_in = await room.hand_in(machine, task, lesson(9))
    for device in (machine, teacher):
        await device.session.sync()
    desk = Desk(teacher.agent)
    await desk.files("open-hand-in", id=hand_in.hex())
    await desk.ask("confirm-opened", id=hand_in.hex())
    folder = teacher.agent.folder
    teacher.agent.secrets.keep(READING_KEYS_FILE, b"")
    await teacher.agent.close()
    teacher.agent = await Agent.open(folder, now_ms=room.territory.clock, entropy=Random(1).randbytes)
    (work,) = [piece for piece in await Worths(teacher.agent).pieces() if piece.need.sealed]
    assert work.worth is Worth.KEPT


async def test_what_comes_stops_at_the_reserve_whatever_its_size_was_said_to_be(room: Classroom) -> None:
    machine = await room.machine()
    limited(machine)
    place = Room(machine.agent)
    await place.come(500_000)
    machine.agent.room_limits = RoomLimits(None, 1 << 60)
    await place.come(500_000)
    with pytest.raises(LocalFailure) as caught:
        await place.come(UNSEEN_BYTES)
    assert caught.value.code is Code.DISK_FULL
    assert place.refused(caught.value)


async def test_below_the_reserve_entries_and_hand_ins_go_on_content_waits_and_all_comes_when_there_is_room(
    room: Classroom,
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    desk = limited(machine, reserve=1 << 60)
    items = await published(room, teacher, 1)
    hand_in = await room.hand_in(machine, task, SMALL)
    await machine.session.sync(routine=True)
    assert (await work_of(machine, room, hand_in)).state is HandInState.SERVER
    assert await complete(desk, items) == [False]
    assert "disk-full" in await troubles(room)
    assert (await desk.ask("status"))["disk"]["full"] is True
    with pytest.raises(LocalFailure, match="this disk has no room for them"):
        await desk.files("checkout", item=items[0].hex())
    with pytest.raises(LocalFailure) as caught:
        await machine.session.sync()
    assert caught.value.code is Code.DISK_FULL

    limited(machine)
    room.territory.clock.advance(120_000)
    await machine.session.sync(routine=True)
    assert await complete(desk, items) == [True]
    room.territory.clock.advance(1_000)
    await machine.session.sync(routine=True)
    assert "disk-full" not in await troubles(room)


async def test_a_process_that_comes_after_a_sync_for_which_there_was_no_room_says_so_too(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    limited(machine, reserve=1 << 60)
    await published(room, teacher, 1)
    for reserve, full in ((1 << 60, True), (0, False)):
        limited(machine, reserve=reserve)
        with contextlib.suppress(LocalFailure):
            await machine.session.sync()
        await machine.agent.close()
        machine.agent = await Agent.open(
            machine.agent.folder, now_ms=room.territory.clock, entropy=machine.agent.entropy
        )
        machine.session = Session(machine.agent, machine.way)
        assert (await Desk(machine.agent).ask("status"))["disk"]["full"] is full


async def test_what_can_never_fit_pushes_nothing_out_and_does_not_keep_others_from_coming(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    desk = limited(machine, 2_500_000)
    items = await published(room, teacher, 1, 2)
    await machine.session.sync(routine=True)
    huge = (await room.publish(teacher, {"film.mp4": Random(5).randbytes(6 * MB)})).item
    await teacher.session.sync()
    await machine.session.sync(routine=True)
    assert await complete(desk, [*items, huge]) == [True, True, False]
    room.territory.clock.advance(60_000)
    (later,) = await published(room, teacher, 3)
    await machine.session.sync(routine=True)
    assert await complete(desk, [*items, huge, later]) == [False, True, False, True]


async def troubles(room: Classroom) -> list[str | None]:
    rows = await room.territory.replica.store.registers()
    return [Health.parse(stored_register(row.data).body).trouble for row in rows]
