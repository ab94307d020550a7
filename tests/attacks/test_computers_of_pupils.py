"""In summer Léa is put on next year's list, and a copied key calls a computer hers (docs/attacks.md).

Who is known already comes by `grant --person`, a pupil like a teacher; with a teacher come her computers
(docs/adr/0438).
"""

from __future__ import annotations

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.roles import PersonRole, Role
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import granted
from tests.harness.next_year import NextYear

ROW = "a thief's device comes along into the next class with a pupil"


async def _nobody(*_: object) -> bool:
    return False


OFF: dict[str, object] = {"protocol.replica.office.grants._has_no_computers": _nobody}


async def _calls_it_hers(year: NextYear, role: Role) -> None:
    await year.thief_says(year.here.space, Kind.GRANT, granted(year.spy, role, year.pupil))


async def _lists_as_a_teacher(year: NextYear, name: str) -> None:
    record = PersonRecord(name, PersonRole.TEACHER).encode()
    await year.thief_says(year.here.space, Kind.PERSON, record, subject=year.pupil)


async def _is_in(year: NextYear, space: bytes) -> bool:
    return (await year.server.view(space)).roster.may_read(year.spy.signing.public)


async def _next_class(year: NextYear) -> bytes:
    space = await year.class_without_the_pc()
    await year.sync()
    return space


@pytest.mark.parametrize("role", [Role.TEACHER, Role.HEAD])
@attack(ROW, off=OFF)
async def test_no_computer_comes_along_with_a_pupil(year: NextYear, role: Role) -> None:
    await _calls_it_hers(year, role)
    assert not await _is_in(year, await _next_class(year))
    assert any("as a pupil" in line and "stays out" in line for line in year.here.office.said.lines)


@attack(ROW, off=OFF)
async def test_nor_where_the_key_lists_her_as_a_teacher_as_well(year: NextYear) -> None:
    await _lists_as_a_teacher(year, "Léa")
    await _calls_it_hers(year, Role.TEACHER)
    assert not await _is_in(year, await _next_class(year))


@attack(ROW, off=OFF)
async def test_nor_where_the_server_heard_that_before_who_added_the_pupil_had_a_line_to_it(year: NextYear) -> None:
    head: Device = await year.here.head_of_the_school()
    desk = Desk(head.agent)
    year.pupil = (await desk.ask("person add", name="Tom", role="pupil", space=[year.here.space.hex()]))["person"]
    await _lists_as_a_teacher(year, "Tom")
    await _calls_it_hers(year, Role.TEACHER)
    await year.sync(head)
    assert not await _is_in(year, await _next_class(year))


@attack(ROW, off=OFF)
async def test_nor_by_a_head_teachers_computer_whichever_of_both_it_heard_first(year: NextYear) -> None:
    await _lists_as_a_teacher(year, "Léa")
    await _calls_it_hers(year, Role.TEACHER)
    head: Device = await year.here.head_of_the_school()
    await year.sync()
    desk = Desk(head.agent)
    space = (await desk.ask("space add", name="CM2", school="0180001D"))["space"]
    await desk.ask("grant", person=year.pupil, space=[space], called="Léa")
    assert not (await head.agent.replica.view(bytes.fromhex(space))).roster.may_read(year.spy.signing.public)
