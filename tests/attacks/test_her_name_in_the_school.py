"""A copied key says a right in the whole school, as Mme Petit's, of a computer of its own (docs/adr/0527).

In her class her laptop is who speaks; in the school above it she has never said a word.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Code, Refused
from protocol.model.entry import Kind
from protocol.model.structure import PersonKey, PersonRecord, Revocation
from protocol.model.work import ItemKind
from protocol.replica.console.frame import Notices
from protocol.replica.storage import database
from protocol.rights.vouching import Device as Pair
from protocol.roles import PersonRole, Role
from sync_agent.coursework.publisher import Wish, publish
from sync_agent.keys.confirming import YOURS, confirm, list_readers, own_device, rows
from tests.harness.attack import attack
from tests.harness.classroom import Device, Given
from tests.harness.in_this_thread import ConnectionInThisThread
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, own_keys, spied_class

ROW = "a copied key's device speaks as a teacher in the school above her class"
WORDS = "Pas de classe demain, restez chez vous."
NOBODY_BELOW: dict[str, object] = {"protocol.rights.speaking.Remembered.knows_below": lambda *_: False}
HERS_ALONE: dict[str, object] = {"sync_agent.keys.confirming._has_more": lambda *_: False}


@dataclass(frozen=True, slots=True)
class School:
    """A class a month after it began, a colleague and a head, all of whom know her laptop."""

    here: SpiedClass
    roy: Device
    head: Device

    @property
    def everybody(self) -> dict[str, Device]:
        return {"a PC": self.here.machine, "her laptop": self.here.teacher, "M. Roy": self.roy, "the head": self.head}

    async def sync(self, *first: Device) -> None:
        await self.here.sync(*first, *self.everybody.values())
        await self.here.sync(*self.everybody.values())

    async def comes(self, *spaces: bytes) -> Device:
        """Another computer as hers, which the server lets into these."""
        device = await self.here.room.device(Role.TEACHER, *spaces, person=self.here.room.teacher_person)
        await self.here.sync(device)
        return device

    async def lists_her(self) -> None:
        room = self.here.room
        listed = PersonRecord("Mme Petit", PersonRole.TEACHER).encode()
        await room.territory.say(room.school, Kind.PERSON, listed, subject=room.teacher_person)

    async def announces(self, device: Device) -> None:
        wish = Wish(self.here.room.school, None, ItemKind.ANNOUNCEMENT, "Demain", text=WORDS)
        await publish(device.agent, wish, Given({}), Notices())
        await self.sync(device)

    async def signed(self) -> dict[str, bool]:
        """On whose first page the announcement stands in her name."""
        found = {}
        for who, device in self.everybody.items():
            async with portal(device.agent) as surfer:
                page = unescape(await surfer.page("/"))
                assert WORDS in page, who
                head, _, _ = page.partition(WORDS)
                found[who] = "Mme Petit" in head[head.rindex("Demain") :]
        return found

    async def speaks(self, device: Device) -> frozenset[Pair]:
        """Who speaks as her in the school, on a machine."""
        roster = (await device.agent.replica.view(self.here.room.school)).roster
        return roster.speaking.get(self.here.room.teacher_person, frozenset())


@pytest.fixture
async def school(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[School]:
    monkeypatch.setattr(database, "_Connection", ConnectionInThisThread)
    async with spied_class(tmp_path, kept_for=__name__) as here:
        room = here.room
        roy = await room.territory.person("M. Roy", PersonRole.TEACHER, room.space)
        made = School(here, await room.device(Role.TEACHER, person=roy), await room.head())
        await made.sync()
        room.territory.clock.advance(30 * DAY_MS)
        await made.sync()
        await made.lists_her()
        yield made


NOWHERE = dict.fromkeys(("a PC", "her laptop", "M. Roy", "the head"), False)


@attack(ROW, off=NOBODY_BELOW)
async def test_what_a_copied_keys_computer_says_to_the_school_bears_a_teachers_name_on_no_machine_that_knows_hers(
    school: School,
) -> None:
    await school.announces(await school.comes(school.here.room.school))
    assert await school.signed() == NOWHERE
    school.here.room.territory.clock.advance(30 * DAY_MS)
    await school.sync()
    assert await school.signed() == NOWHERE, "however long nobody looks"


@attack(ROW, off=HERS_ALONE)
async def test_and_her_page_asks_whether_it_is_hers(school: School) -> None:
    room = school.here.room
    spy = await school.comes(room.school)
    await school.sync(spy)
    school_alone = [
        each for each in await list_readers(school.here.teacher.agent) if each.pair == own_device(spy.agent)
    ]
    assert room.school in [each.space for each in school_alone if each.state == YOURS and each.is_news]


async def test_hers_speaks_there_once_she_is_let_in(school: School) -> None:
    teacher, room = school.here.teacher, school.here.room
    await room.territory.let_in(teacher.agent.keys, Role.TEACHER, room.school, person=room.teacher_person)
    await school.sync()
    await school.announces(teacher)
    assert await school.signed() == dict.fromkeys(NOWHERE, True)


async def test_so_does_a_second_one_of_hers_that_she_has_confirmed_in_her_class(school: School) -> None:
    teacher, room = school.here.teacher, school.here.room
    second = await school.comes(room.school)
    await school.sync(second)
    await school.announces(second)
    (row,) = {each.id for each in await list_readers(teacher.agent) if each.pair == own_device(second.agent)}
    await confirm(teacher.agent, row, shown_as="own")
    await school.sync(second)
    assert await school.signed() == dict.fromkeys(NOWHERE, True)
    assert room.school not in [each.space for each in await list_readers(teacher.agent)], "she is asked no more"


async def test_so_does_one_that_has_said_its_key_there_alone_once_she_says_on_her_page_that_it_is_hers(
    school: School,
) -> None:
    teacher, room, here = school.here.teacher, school.here.room, school.here
    await here.name_the_spy(room.teacher_person, space=room.school, back_ms=0)  # an honest one, of which this has come
    await school.sync()
    (asked,) = [row for row, theirs in rows(await list_readers(teacher.agent)).items() if theirs[0].state == YOURS]
    async with portal(teacher.agent) as surfer:
        done = await surfer.send("/readers", "/readers/confirm", {"reader": asked.hex(), "shown_as": "own"})
        assert done.status == 303
        assert YOURS not in {each.state for each in await list_readers(teacher.agent)}, "she is asked no more"
    await here.say(Kind.PERSON_KEY, PersonKey(here.spy.agreement.public).encode(), room.teacher_person)
    await school.sync()
    assert own_keys(here.spy) in await school.speaks(here.machine), "once the rest has come"


async def test_somebody_elses_up_there_she_looks_at_and_confirms_nowhere(school: School) -> None:
    teacher, room, here = school.here.teacher, school.here.room, school.here
    person = await room.territory.person("M. X", PersonRole.TEACHER, room.school)
    await here.name_the_spy(person, space=room.school, back_ms=0)
    await school.comes(room.school)  # as hers, so that her page tells of the school
    await school.sync()
    (his,) = [
        row for row, theirs in rows(await list_readers(teacher.agent)).items() if theirs[0].pair == own_keys(here.spy)
    ]
    with pytest.raises(Refused, match="above your classes") as refused:
        await confirm(teacher.agent, his)
    assert refused.value.code is Code.NO_RIGHT
    async with portal(teacher.agent) as surfer:
        _, _, row = unescape(await surfer.page("/readers")).partition("<h3>M. X</h3>")
        row, _, _ = row.partition("</li>")
    assert f'name="rows" value="{his.hex()}"' in row
    assert 'action="/readers/confirm"' not in row


async def test_so_does_her_next_one_once_the_one_that_they_knew_is_reported(school: School) -> None:
    teacher, room = school.here.teacher, school.here.room
    await room.territory.say(room.space, Kind.REVOKE, Revocation(teacher.agent.device, ()).encode())
    second = await school.comes(room.school)
    await school.here.sync(school.here.machine, second, school.here.machine)
    assert await school.speaks(school.here.machine) == {own_device(second.agent)}


async def test_a_head_who_taught_the_class_speaks_in_the_school_on_machines_that_met_both_at_once(
    school: School,
) -> None:
    room = school.here.room
    head = await room.head(room.teacher_person)
    await school.sync(head)
    machine = await room.machine()
    await school.sync(machine)
    await school.sync(machine)
    assert own_device(head.agent) in await school.speaks(machine)
