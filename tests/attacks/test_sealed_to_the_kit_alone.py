"""Whoever has the server keeps a teacher's key from a PC: what pupils hand in there is sealed to the kit alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from protocol.errors import BadInput
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Draft
from protocol.rights.door import Door
from protocol.rights.vouching import Device as VouchedDevice
from tests.attacks.test_the_wrap_that_came_with_the_work import Thief
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.kept_from import told_without
from tests.harness.office_devices import town
from tests.harness.year_at_work import Year

ROW = "work that nobody has opened is counted as opened"


@pytest.fixture
async def year(tmp_path: Path) -> AsyncIterator[Year]:
    """A class whose PC has heard of no teacher's key, which everybody else has."""
    async with town(tmp_path) as here:
        machine = await here.device("machine")
        person = await here.office.add_person("Mme Petit", "teacher")
        pupil = await here.office.add_person("Léa", "pupil")
        teacher = await here.device("teacher", person)
        item = await here.assignment(teacher)
        await told_without(machine, here.office.server.replica, Kind.PERSON_KEY)
        yield Year(here, teacher, machine, person, pupil, item, tmp_path)


async def _handed_in_without_her(year: Year) -> bytes:
    """What is sealed to the kit alone; the PC hears of her key afterwards."""
    work = await year.here.work(year.machine, year.item, year.pupil)
    replica = year.here.office.server.replica
    await told_without(year.machine, replica, Kind.PERSON_KEY)
    assert len((await replica.view(year.here.space)).coursework.hand_ins[work].meant_for) == 1
    year.here.office.clock.advance(60_000)
    for _ in range(2):
        await year.here.sync(year.teacher, year.machine)
    assert len((await replica.view(year.here.space)).coursework.hand_ins[work].readers) == 2
    return work


def _anybody(_said: Iterable[Entry], door: Door) -> frozenset[VouchedDevice]:
    return frozenset(each.pair for each in door.authorities())


@pytest.mark.parametrize("hides_her", [False, True])
@attack(ROW, off={"protocol.replica.office.opened.first_here": _anybody})
async def test_a_class_is_not_closed_with_work_of_which_its_pc_was_kept_from_the_teachers_key(
    year: Year, *, hides_her: bool
) -> None:
    work, thief, server = await _handed_in_without_her(year), Thief(year), year.here.office.server
    await thief.name_x()
    await year.here.sync(year.machine, year.teacher, year.machine)
    await thief.says_opened(work)
    if hides_her:
        cut = Revocation(year.teacher.agent.device, ()).encode()
        await server.write([Draft(year.here.space, Kind.REVOKE, server.grant, cut)])
    assert (await year.do("space close", space=year.here.office.space))["unopened"] == 1
    with pytest.raises(BadInput, match="nobody who teaches this class has opened 1 of the hand-ins"):
        await year.with_kit("space close", space=year.here.office.space)


async def test_what_she_has_opened_of_that_is_counted(year: Year) -> None:
    work = await _handed_in_without_her(year)
    await Desk(year.teacher.agent).ask("confirm-opened", id=work.hex())
    await year.here.sync(year.teacher)
    assert (await year.do("space close", space=year.here.office.space))["unopened"] == 0
