"""A copied key calls a school's PC, or a colleague's laptop, Mme Petit's in next year's class, before she is let in.

Her laptop has been known there for two months (docs/adr/0435).
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from protocol.errors import Refused
from protocol.model.entry import Kind
from protocol.rights.vouching import device_id
from protocol.roles import Role
from sync_agent.keys.confirming import own_device
from sync_agent.keys.seen_readers import space_mark
from sync_agent.machine.acquainted import Acquainted
from sync_agent.machine.marks import FIRST_MARKS, HEARD_MARKS, MET_MARKS
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import AS_WHOEVER_IT_IS_CALLED, granted
from tests.harness.next_year import NextYear

ROW = "a server grants a pupils' PC a teacher's right, as hers"
BY_THIS_CLASS_ALONE = {"sync_agent.keys.first_met._is_doubted": lambda *_: False, **AS_WHOEVER_IT_IS_CALLED}
ITS_OWNERS = {
    **{f"sync_agent.keys.{module}.nobodys_keys": lambda _: frozenset() for module in ("first_met", "acquaintances")},
    **AS_WHOEVER_IT_IS_CALLED,
}
"""As if whoever sits at a shared PC were its owner."""


async def _is_called_hers(year: NextYear, machine: Device, role: Role = Role.TEACHER) -> bytes:
    space = await year.new_class()
    await year.thief_says(space, Kind.GRANT, granted(machine.agent.keys, role, year.person))
    await year.sync(machine)
    return space


async def _is_called_hers_before_she_comes(year: NextYear, machine: Device, role: Role = Role.TEACHER) -> bytes:
    space = await _is_called_hers(year, machine, role)
    await year.lets_her_in(space)
    await year.sync()
    return space


@pytest.mark.parametrize("role", [Role.TEACHER, Role.HEAD])
@attack(ROW, off=BY_THIS_CLASS_ALONE | ITS_OWNERS)
async def test_a_pc_that_is_called_hers_in_a_new_class_before_she_comes_is_not_she_to_itself(
    year: NextYear, role: Role
) -> None:
    pc = year.machine
    space = await _is_called_hers_before_she_comes(year, pc, role)
    await year.here.days_pass(9)
    assert await year.who_speaks(pc.agent.replica, space) == {own_device(year.teacher.agent)}
    work = await year.hand_in(space)
    assert await Desk(year.teacher.agent).files("open-hand-in", id=work.hex())
    with suppress(Refused):
        await Desk(pc.agent).ask("feedback", id=work.hex(), text="Nul", mark="0/20", redo=False)
    await year.answers(work)
    shown = (await pc.agent.replica.view(space)).coursework.hand_ins[work]
    assert [note.record.mark for note in shown.remarks] == ["18/20"]


@attack(ROW, off=BY_THIS_CLASS_ALONE)
async def test_nor_is_a_colleagues_laptop(year: NextYear) -> None:
    person = await year.here.office.add_person("M. Roy", "teacher")
    colleague = await year.here.device("teacher", person)
    await year.sync()
    space = await _is_called_hers_before_she_comes(year, colleague)
    assert await year.who_speaks(colleague.agent.replica, space) == {own_device(year.teacher.agent)}


@attack(ROW, off=ITS_OWNERS)
async def test_nor_is_a_pc_if_she_does_not_come_for_a_week(year: NextYear) -> None:
    pc = year.machine
    space = await _is_called_hers(year, pc)
    await year.here.days_pass(9, pc)
    await year.lets_her_in(space)
    await year.sync()
    assert await year.who_speaks(pc.agent.replica, space) == {own_device(year.teacher.agent)}


@attack(ROW, off={"sync_agent.keys.first_met._forget_itself": lambda _: {}})
async def test_nor_where_a_pc_of_an_earlier_version_has_noted_that_it_is(year: NextYear) -> None:
    agent, person = year.machine.agent, bytes.fromhex(year.person)
    space, itself = await _is_called_hers_before_she_comes(year, year.machine), own_device(agent)
    since = agent.watched.now_ms().to_bytes(8, "big")
    await agent.replica.store.set_marks(
        {
            space_mark(FIRST_MARKS, space, person): b"".join(itself),
            space_mark(HEARD_MARKS, space, person): since + b"".join(itself),
            space_mark(MET_MARKS, space, device_id(itself)): since,
        }
    )
    agent.acquainted = await Acquainted.of(agent.replica.store)
    agent.bear_in_mind()
    await year.hand_in(space)
    assert await year.who_speaks(agent.replica, space) == {own_device(year.teacher.agent)}
    assert not any(itself[0] in value for value in (await agent.replica.store.marks(FIRST_MARKS)).values())
