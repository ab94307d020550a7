"""Who has the server, or a head teacher's laptop, names teachers by the dozen who do not exist (docs/attacks.md).

They neither crowd the real one out of what pupils hand in, nor does one of their receipts make a machine let go of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.folds.coursework import Work
from protocol.folds.hand_in_keys import teachers_keys
from protocol.limits import ACQUAINTANCE_MS
from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.model.work import Wraps
from protocol.replica.content.holdings import Need
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device as Pair
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent, RoomLimits
from sync_agent.keys.acquaintances import in_turn
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, assignment, classroom, keeps_key_of, work_of
from tests.harness.commands import Desk
from tests.harness.passing_days import pass_days

ROW = "teachers who do not exist crowd out the real one"
WORK = {"redaction.odt": Random(4).randbytes(300_000)}


@dataclass
class Here:
    """A class whose pupils' PC has met its teacher."""

    room: Classroom
    teacher: Device
    machine: Device
    item: bytes

    async def name(self, count: int) -> list[Device]:
        """So many teachers who do not exist; ids are the thief's to choose, and theirs are the least."""
        named = [await self.room.device(Role.TEACHER, person=bytes(15) + bytes([each])) for each in range(count)]
        await self.sync(*named, self.machine)
        return named

    async def sync(self, *devices: Device) -> None:
        for device in devices:
            await device.session.sync()

    async def hand_in(self) -> bytes:
        return await self.room.hand_in(self.machine, self.item, WORK)

    async def says_opened(self, teacher: Device, work: bytes) -> None:
        """A teacher opens work, which it is sealed to, and says so; the pupils' PC hears of it."""
        await self.sync(self.machine, teacher)
        assert await Desk(teacher.agent).files("open-hand-in", id=work.hex()) == WORK
        await Desk(teacher.agent).ask("confirm-opened", id=work.hex())
        await self.sync(teacher, self.machine)
        assert (await work_of(self.machine, self.room, work)).opened, "it is a teacher's word, as far as anybody sees"

    async def keeps_key(self, work: bytes) -> bool:
        return await keeps_key_of(self.machine, work)

    async def keeps_content(self, work: bytes) -> bool:
        """Whether the PC still has all of a work once its disk has become narrow."""
        record = (await work_of(self.machine, self.room, work)).record
        _, _, taken = await self.machine.agent.replica.content.totals()
        self.machine.agent.room_limits = RoomLimits(taken + 50_000, 0)
        await self.room.publish(self.teacher, {"film.bin": Random(9).randbytes(250_000)})
        await self.sync(self.teacher, self.machine)
        return await self.machine.agent.holdings.is_complete(Need(self.room.space, record.content.stream, sealed=True))


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with classroom(tmp_path) as room:
        teacher, machine = await room.teacher(), await room.machine()
        item = await assignment(room, teacher, machine)
        made = Here(room, teacher, machine, item)
        await made.sync(teacher, machine)
        yield made


def _by_their_ids(_agent: Agent, _roster: Roster) -> Callable[[bytes], int]:
    """The order in which the fold lists persons."""
    return lambda _key: 0


@attack(ROW, off={"sync_agent.hand_ins.wraps.turns": _by_their_ids})
async def test_however_many_teachers_are_named_work_is_sealed_to_the_one_who_was_there(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.hand_ins.wraps.MAX_READERS_OF_ONE_WORK", 4)
    await here.name(5)
    work = await here.hand_in()
    await here.sync(here.machine, here.teacher)
    key = here.teacher.agent.reading_keys.newest_of(here.room.space)
    assert key is not None
    assert key.public in (await work_of(here.machine, here.room, work)).readers


@attack(ROW, off={"sync_agent.keys.acquaintances.known_devices": lambda *_: frozenset()})
async def test_a_colleague_whom_the_teacher_has_confirmed_comes_before_all_whom_nobody_has(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.hand_ins.wraps.MAX_READERS_OF_ONE_WORK", 4)
    await here.name(5)
    person = await here.room.territory.person("M. Durand", PersonRole.TEACHER, here.room.space)
    colleague = await here.room.device(Role.TEACHER, person=person)
    await here.sync(colleague, here.teacher)
    await Desk(here.teacher.agent).ask("key-confirm", reader=device_id(own_device(colleague.agent)).hex())
    await here.sync(here.teacher, here.machine)
    work = await here.hand_in()
    key = colleague.agent.reading_keys.newest_of(here.room.space)
    assert key is not None
    assert key.public in (await work_of(here.machine, here.room, work)).readers


def _of_who_is_listed_as_one(roster: Roster, **which: Any) -> dict[bytes, list[bytes]]:
    listed = roster.persons
    return {
        person: keys
        for person, keys in teachers_keys(roster, **which).items()
        if person not in listed or listed[person].role is PersonRole.TEACHER
    }


@attack(ROW, off={"sync_agent.hand_ins.wraps.teachers_keys": _of_who_is_listed_as_one})
@pytest.mark.parametrize("role", [PersonRole.PUPIL, PersonRole.GUARDIAN])
async def test_a_teacher_whom_whoever_writes_the_list_calls_something_else_reads_as_before(
    here: Here, role: PersonRole
) -> None:
    room, territory = here.room, here.room.territory
    record = PersonRecord("Mme Petit", role).encode()
    await territory.say(room.space, Kind.PERSON, record, subject=room.teacher_person)
    await here.name(1)
    await here.sync(here.teacher, here.machine)
    listed = (await here.machine.agent.replica.view(room.space)).roster.persons
    assert listed[room.teacher_person].role is role
    work = await here.hand_in()
    key = here.teacher.agent.reading_keys.newest_of(here.room.space)
    assert key is not None
    assert key.public in (await work_of(here.machine, room, work)).readers
    await here.says_opened(here.teacher, work)
    await here.room.publish(here.teacher, {"suite.txt": b"suite"})
    await here.sync(here.machine)
    assert not await here.keeps_key(work), "she has opened it: it is hers"


@attack(ROW, off={"sync_agent.hand_ins.wraps.MAX_READERS_OF_ONE_WORK": 3})
async def test_whoever_finds_no_place_in_the_first_wrap_is_sealed_to_by_another_before_any_receipt(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.hand_ins.wraps.MAX_READERS_PER_HAND_IN", 3)
    await here.name(5)
    person = await here.room.territory.person("Mme Roux", PersonRole.TEACHER, here.room.space)
    substitute = await here.room.device(Role.TEACHER, person=person)
    await here.sync(substitute, here.machine)
    work = await here.hand_in()
    key, recovery = substitute.agent.reading_keys.newest_of(here.room.space), here.room.territory.keys.recovery.public
    assert key is not None
    readers = (await work_of(here.machine, here.room, work)).readers
    assert key.public in readers
    assert len(readers.keys() - {recovery}) == 7
    said = await here.machine.agent.replica.store.scan_kinds([Kind.WRAP])
    sizes = [len(Wraps.parse(entry.payload or b"").wraps) for entry in said if entry.header.target == work]
    assert max(sizes) <= 3 + 1


async def _whoever_says_so(_agent: Agent, _hand_in: bytes, work: Work | None, _roster: Roster) -> bool:
    return work is not None and work.opened


OPENED_BY_ANYBODY: dict[str, object] = {
    "sync_agent.hand_ins.wraps.has_heard_opened": _whoever_says_so,
    "sync_agent.sync.worth.is_opened_for_good": lambda work, *_: work.opened,
}


@attack(ROW, off=OPENED_BY_ANYBODY)
async def test_what_somebody_new_says_was_opened_stays_on_the_pcs_disk_and_can_be_sealed_anew(here: Here) -> None:
    work = await here.hand_in()
    named = await here.name(2)
    await here.says_opened(named[0], work)
    assert await here.keeps_key(work)
    assert await here.keeps_content(work)
    await here.says_opened(here.teacher, work)
    assert not await here.keeps_key(work), "a word of who was there when the class was met frees it"


async def _waits_for_nothing(*_: object) -> bool:
    return True


AT_ONCE: dict[str, object] = {"sync_agent.sync.worth.Worths._has_waited": _waits_for_nothing}
"""As it was before the month of docs/adr/0445."""


@attack(ROW, off={**AT_ONCE, "sync_agent.sync.worth.is_opened_for_good": lambda work, *_: work.opened})
async def test_the_content_of_what_somebody_new_says_was_opened_makes_no_room(here: Here) -> None:
    named = await here.name(1)
    work = await here.hand_in()
    await here.says_opened(named[0], work)
    assert await here.keeps_content(work)


@attack(ROW, off={**AT_ONCE, "protocol.folds.hand_in_keys.Known.without_newcomers": lambda known: known})
async def test_the_content_of_a_work_waits_for_who_was_there_first_whoever_has_been_listed_for_a_week(
    here: Here,
) -> None:
    named = await here.name(1)
    await pass_days(here.room.territory, ACQUAINTANCE_MS // DAY_MS + 1, here.machine)
    work = await here.hand_in()
    await here.says_opened(named[0], work)
    assert not await here.keeps_key(work), "a week has made the thief known"
    assert await here.keeps_content(work)
    assert await Desk(here.teacher.agent).files("open-hand-in", id=work.hex()) == WORK


def _by_the_own_clock(wall_ms: int, _steady_ms: int | None) -> int:
    return wall_ms


@attack(ROW, off={"sync_agent.machine.watched.watched_ms": _by_the_own_clock})
async def test_a_clock_that_was_wrong_when_somebody_came_makes_them_no_old_acquaintance(here: Here) -> None:
    clock, agent = here.room.territory.clock, here.machine.agent
    clock.advance(60 * DAY_MS)
    await here.sync(here.teacher, here.machine)
    work = await here.hand_in()
    agent.now_ms = lambda: clock() - 17 * 365 * DAY_MS
    named = await here.name(1)
    agent.now_ms = clock
    clock.advance(3_600_000)
    await here.says_opened(named[0], work)
    assert await here.keeps_key(work)
    assert await here.keeps_content(work)


@attack(ROW, off={"sync_agent.machine.watched.watched_ms": _by_the_own_clock})
async def test_a_clock_that_is_set_ahead_for_a_while_makes_nobody_an_old_acquaintance(here: Here) -> None:
    clock, agent = here.room.territory.clock, here.machine.agent
    work = await here.hand_in()
    named = await here.name(1)
    agent.now_ms = lambda: clock() + 30 * DAY_MS
    await here.says_opened(named[0], work)
    assert await here.keeps_key(work)


def _whoever_is_there(agent: Agent, space: bytes) -> frozenset[Pair]:
    return frozenset(each.device for each in in_turn(agent, space))


@attack(ROW, off={"sync_agent.hand_ins.heard_opened.known_devices": _whoever_is_there})
async def test_whom_the_server_lists_as_the_same_as_the_teacher_has_not_been_known_for_longer_by_that(
    here: Here,
) -> None:
    room, territory = here.room, here.room.territory
    work = await here.hand_in()
    stranger = await room.device(Role.TEACHER, person=bytes(16))
    await here.sync(stranger, here.machine)
    same = PersonRecord("Mme Petit", PersonRole.TEACHER, same_as=room.teacher_person)
    await territory.say(room.space, Kind.PERSON, same.encode(), subject=bytes(16))
    await here.sync(here.machine, stranger)
    await here.says_opened(stranger, work)
    assert await here.keeps_key(work)
