"""Who has the server and no kit says lessons, of any size; or has them sent, byte by byte (docs/attacks.md)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Refused
from protocol.folds.coursework import Item, Work
from protocol.limits import GiB, MiB
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.model.work import ContentRef, ItemKind, Revision
from protocol.replica.content.holdings import Need
from protocol.roles import PersonRole, Role
from sync_agent.app import RoomLimits
from sync_agent.hand_ins.handing_in import give_feedback
from sync_agent.machine.eviction import Worth
from sync_agent.sync.room import Room
from sync_agent.sync.worth import Worths
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, Given, assignment, work_of
from tests.harness.commands import Desk
from tests.harness.one_for_all import ONE_FOR_ALL

ROW = "a stolen server says, or sends, lessons without measure"
FREE = 200 * GiB


@dataclass(frozen=True)
class Held:
    """A class of which three devices hold an opened work, a remark's file, and a lesson of a laptop that is gone."""

    room: Classroom
    teacher: Device
    pupils: Device
    other: Device
    hand_in: bytes
    work: Need
    remark: Need
    lesson: Need

    @property
    def devices(self) -> tuple[Device, Device, Device]:
        return self.teacher, self.pupils, self.other

    async def sync(self, *devices: Device) -> None:
        for device in devices or self.devices:
            await device.session.sync(routine=True)

    async def are_here(self, device: Device, *needs: Need) -> bool:
        return all([await device.agent.holdings.is_complete(need) for need in needs])

    async def say(self, sizes: Iterable[int]) -> None:
        """The server says lessons of these sizes, the last one as the newest."""
        for number, size in enumerate(sizes):
            self.room.territory.clock.advance(1_000)
            content = ContentRef(Random(number).randbytes(32), size, 1)
            lesson = Revision(ItemKind.LESSON, f"L{number}", None, None, content)
            await self.room.territory.say(self.room.space, Kind.REVISION, lesson.encode())

    async def narrow(self, *devices: Device) -> None:
        """On these, content has a budget that leaves little."""
        for device in devices:
            _, _, taken = await device.agent.replica.content.totals()
            device.agent.room_limits = RoomLimits(taken + 50_000, 0)

    async def send(self, count: int) -> None:
        """A laptop that only the server names publishes lessons, and they are there."""
        person = await self.room.territory.person("M. Personne", PersonRole.TEACHER, self.room.space)
        spy = await self.room.device(Role.TEACHER, person=person)
        await self.sync(spy)
        for number in range(count):
            self.room.territory.clock.advance(60_000)
            await self.room.publish(spy, {"film.bin": Random(100 + number).randbytes(250_000)})
            await self.sync(spy)


async def held(room: Classroom) -> Held:
    teacher, pupils, other = await room.teacher(), await room.machine(), await room.machine()
    task = await assignment(room, teacher, pupils, other)
    hand_in = await room.hand_in(pupils, task, {"redaction.odt": Random(3).randbytes(300_000)})
    gone = await room.teacher()
    await gone.session.sync()
    item = (await room.publish(gone, {"film.mp4": Random(4).randbytes(400_000)})).item
    for device in (pupils, gone, teacher, pupils, other):
        await device.session.sync()
    await Desk(teacher.agent).files("open-hand-in", id=hand_in.hex())
    await Desk(teacher.agent).ask("confirm-opened", id=hand_in.hex())
    remark = Given({"remarque.bin": Random(9).randbytes(200_000)})
    await give_feedback(teacher.agent, hand_in, "voir le fichier", None, redo=False, incoming=remark)
    for device in (teacher, pupils, other):
        await device.session.sync()
    work = await work_of(pupils, room, hand_in)
    assert work.opened
    assert work.feedback is not None
    assert work.feedback.record.content is not None
    lesson = (await teacher.agent.replica.view(room.space)).coursework.items[item].shown
    found = Held(
        room,
        teacher,
        pupils,
        other,
        hand_in,
        Need(room.space, work.record.content.stream, sealed=True),
        Need(room.space, work.feedback.record.content.stream, sealed=False),
        Need(room.space, lesson.record.content.stream, sealed=False),
    )
    assert await found.are_here(teacher, found.work, found.remark, found.lesson)
    assert await found.are_here(pupils, found.work, found.remark, found.lesson)
    assert await found.are_here(other, found.remark, found.lesson)
    return found


async def _so_much_is_free() -> int:
    return FREE


async def _as_it_is_said(self: Any, wishes: Any, left: int) -> tuple[set[Need], list[Need]]:
    """Room is made for what is said, before any of it has come."""
    for wish in sorted(wishes, key=lambda wish: wish.rank, reverse=True):
        if wish.size > left:
            left += await self._make_way(wish.size - left, wish.rank)
        left -= min(left, wish.size)
    return {wish.need for wish in wishes}, []


@attack(ROW, off={"sync_agent.sync.room.Room._placed": _as_it_is_said})
async def test_nothing_makes_way_for_lessons_of_which_only_the_size_is_said(room: Classroom) -> None:
    here = await held(room)
    for device in here.devices:
        device.agent.replica.content.free_bytes = _so_much_is_free  # type: ignore[method-assign]
    await here.say([*[MiB] * 12, *[1 << power for power in range(20, 39)]])
    for _ in range(3):
        await here.sync()
        room.territory.clock.advance(120_000)
    for device in here.devices:
        assert await here.are_here(device, here.remark, here.lesson)
    for device in (here.teacher, here.pupils):
        assert await here.are_here(device, here.work)


@attack(ROW, off={"sync_agent.sync.room.FAIR_SHARE_BYTES": 1 << 60})
async def test_lessons_of_invented_size_keep_no_place_from_a_lesson_that_a_teacher_published(room: Classroom) -> None:
    here = await held(room)
    real = await room.publish(here.teacher, {"film.mp4": Random(5).randbytes(400_000)})
    await here.sync(here.teacher)
    here.other.agent.replica.content.free_bytes = _so_much_is_free  # type: ignore[method-assign]
    await here.say([*[MiB] * 12, *[1 << power for power in range(20, 38)], FREE - (1 << 37)])
    said = [stored.entry for stored in await room.territory.replica.store.scan(room.space)]
    await here.other.agent.replica.admit(said, source=b"server", now_ms=room.territory.clock())
    shown = (await here.other.agent.replica.view(room.space)).coursework.items[real.item].shown
    fitting = await Room(here.other.agent).fitting(await here.other.agent.missing())
    assert Need(room.space, shown.record.content.stream, sealed=False) in fitting


def _only_beside_all_others(*_: object) -> bool:
    return False


@attack(ROW, off={"sync_agent.sync.room._finds_room": _only_beside_all_others})
async def test_for_lessons_that_never_come_no_lesson_of_a_teachers_is_put_away(room: Classroom) -> None:
    here = await held(room)
    room.territory.clock.advance(60_000)
    real = await room.publish(here.teacher, {"film.mp4": Random(5).randbytes(250_000)})
    await here.sync(here.teacher)
    await here.say([350_000, 350_000])
    await here.narrow(here.other)
    await here.sync(here.other)
    shown = (await here.other.agent.replica.view(room.space)).coursework.items[real.item].shown
    assert (room.space, shown.record.content.stream) not in here.other.agent.evicted


async def _shown(_self: object, _need: Need, _at_ms: int, *, past: bool, held_ms: int | None) -> Worth:
    return Worth.PAST_YEAR if past or held_ms is None else Worth.SHOWN


@attack(ROW, off={"sync_agent.sync.worth.Worths._rare": _shown})
async def test_what_is_really_sent_takes_no_opened_work_and_no_remark_of_this_year(room: Classroom) -> None:
    here = await held(room)
    room.frontage.responder.backup_ms = room.territory.clock()
    await here.narrow(*here.devices)
    await here.send(6)
    for _ in range(4):
        await here.sync()
        room.territory.clock.advance(120_000)
    assert await here.are_here(here.teacher, here.work, here.remark)
    assert await here.are_here(here.pupils, here.remark)
    assert await here.are_here(here.other, here.remark)


def _its_own_date(_worths: Worths, work: Work, _item: Item | None) -> int:
    return work.at_ms


def _by_its_clock(worths: Worths) -> dt.date:
    return dt.datetime.fromtimestamp(worths._agent.now_ms() / 1000, dt.UTC).date()


@attack(ROW, off={"sync_agent.sync.worth.Worths._today": _by_its_clock})
async def test_nor_while_the_network_has_all_clocks_say_that_it_is_next_year(room: Classroom) -> None:
    here, clock = await held(room), room.territory.clock
    await here.narrow(*here.devices)
    await here.send(6)
    for device in here.devices:
        device.agent.now_ms, device.agent.steady_ms = (lambda: clock() + 320 * DAY_MS), clock
    for _ in range(4):
        await here.sync()
        clock.advance(120_000)
    assert await here.are_here(here.teacher, here.work, here.remark)
    assert await here.are_here(here.pupils, here.remark)
    assert await here.are_here(here.other, here.remark)


@attack(ROW, off={"sync_agent.sync.worth.Worths._last_said_ms": _its_own_date})
async def test_work_that_is_dated_years_back_is_of_this_year_though_a_server_ends_who_reads_it(
    room: Classroom,
) -> None:
    clock, teacher, pupils = room.territory.clock, await room.teacher(), await room.machine()
    colleague = await room.teacher()
    task = await assignment(room, teacher, pupils, colleague)
    pupils.agent.now_ms = lambda: clock() - 17 * 365 * DAY_MS
    pupils.agent.replica._last_at = 0  # as if no word of this year had reached it
    hand_in = await room.hand_in(pupils, task, {"redaction.odt": Random(3).randbytes(300_000)})
    for device in (pupils, teacher, colleague):
        await device.session.sync()
    await Desk(teacher.agent).files("open-hand-in", id=hand_in.hex())
    stream = (await work_of(teacher, room, hand_in)).record.content.stream
    assert await teacher.agent.opened_ms(stream), "as of a lesson, it is noted when it was used"
    await Desk(teacher.agent).ask("confirm-opened", id=hand_in.hex())
    for device in (teacher, colleague):
        await device.session.sync()
    (right,) = await colleague.agent.own_rights()
    end = Revocation(colleague.agent.device, ()).encode()
    await room.territory.say(room.space, Kind.REVOKE, end, target=right.grant)
    with pytest.raises(Refused):
        await colleague.session.sync()
    assert room.space in await colleague.agent.ended_classes()
    assert (await work_of(colleague, room, hand_in)).at_ms < clock() - 16 * 365 * DAY_MS
    (work,) = [piece for piece in await Worths(colleague.agent).pieces() if piece.need.sealed]
    assert work.worth is Worth.KEPT


async def _nothing(*_: object) -> list[object]:
    return []


@attack(
    ROW,
    off={"sync_agent.sync.worth.Worths.passed_over": _nothing, **ONE_FOR_ALL},
)
async def test_a_remark_that_an_invented_teachers_names_as_replaced_makes_no_way(room: Classroom) -> None:
    here = await held(room)
    person = await room.territory.person("M. Personne", PersonRole.TEACHER, room.space)
    spy = await room.device(Role.TEACHER, person=person)
    await here.sync(spy)
    room.territory.clock.advance(60_000)
    await give_feedback(spy.agent, here.hand_in, "", "0/20", redo=False, incoming=Given({}))
    await here.sync(spy, *here.devices)
    work = await work_of(here.pupils, room, here.hand_in)
    assert work.feedback is not None
    assert work.feedback.author == spy.agent.device
    await here.narrow(here.pupils)
    await here.send(3)
    for _ in range(3):
        await here.sync(here.pupils)
        room.territory.clock.advance(120_000)
    assert await here.are_here(here.pupils, here.remark)


def _any_number(_gone_bytes: int, _held_bytes: int, *, is_opened: bool) -> int:
    return 1 << 61 if is_opened else 1 << 60


async def _lessons_left(here: Held, monkeypatch: Any, *, sent: int, days_ahead: Sequence[int]) -> int:
    """How many of six lessons are left on a narrow disk after so much was really sent, as its clock is set in turn."""
    monkeypatch.setattr("sync_agent.machine.eviction.MOST_A_DAY_BYTES", 300_000)
    room, agent, own = here.room, here.other.agent, []
    for number in range(6):
        room.territory.clock.advance(60_000)
        own.append((await room.publish(here.teacher, {"film.bin": Random(number).randbytes(250_000)})).item)
        await here.sync(here.teacher, here.other)
    await here.narrow(here.other)
    await here.send(sent)
    ahead_ms = 0
    agent.now_ms, agent.steady_ms = (lambda: room.territory.clock() + ahead_ms), room.territory.clock
    for days in days_ahead:
        ahead_ms = days * DAY_MS
        await here.sync(here.other)
        room.territory.clock.advance(120_000)
    rows = {row["item"]: row["complete"] for row in await Desk(agent).ask("items")}
    return sum(rows[item.hex()] for item in own)


@attack(ROW, off={"sync_agent.sync.room.left_today": _any_number})
async def test_of_lessons_that_are_here_few_make_way_in_a_day_for_others_that_are_really_sent(
    room: Classroom, monkeypatch: Any
) -> None:
    here = await held(room)
    assert await _lessons_left(here, monkeypatch, sent=9, days_ahead=[0] * 4) >= 4
    assert here.other.agent.is_disk_full


def _by_the_clock(self: Room) -> bytes:
    return (self._agent.now_ms() // DAY_MS).to_bytes(8, "big")


@attack(ROW, off={"sync_agent.sync.room.Room._day": _by_the_clock})
async def test_nor_do_more_while_a_network_sets_the_clock_to_and_fro_between_two_days(
    room: Classroom, monkeypatch: Any
) -> None:
    assert await _lessons_left(await held(room), monkeypatch, sent=16, days_ahead=[0, 1] * 9) >= 4
