"""Whoever has the server's key takes a pupil off the list before the end of the year: what she handed in is not missed.

docs/adr/0295.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.limits import SALT_BYTES
from protocol.model.entry import PERSON_BYTES, Kind, compose
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.off_the_list import OffTheList
from protocol.roles import PersonRole
from tests.attacks.test_exchanged_names import Town, at_server
from tests.harness.attack import attack
from tests.harness.classroom import WORK
from tests.harness.commands import Desk

__all__ = ["at_server"]

ROW = "somebody is taken off a class's list before families get its work, and the class is closed"
LEA = PersonRecord("Léa", PersonRole.PUPIL, left=True)
_TEACHER = "the id of her teacher"


async def _as_the_list_says(_replica: Replica, _space: bytes) -> OffTheList:
    return OffTheList((), 0, 0)


async def _taken_off(at_server: Town, said: PersonRecord) -> None:
    """One word by the server's key, the day before."""
    year = at_server.year
    lea, here = bytes.fromhex(year.pupil), year.here
    here.office.clock.advance(60_000)
    shown = (await here.office.server.replica.view(here.space)).roster.persons[lea].entry
    await at_server.hears(at_server.entry(0, Kind.PERSON, said.encode(), here.space, subject=lea, parents=(shown,)))
    await here.sync()


@pytest.mark.parametrize(
    ("said", "is_somebody_else"),
    [(LEA, False), (PersonRecord("Léa", PersonRole.TEACHER), False), (LEA, True)],
    ids=["has left", "is a teacher", "is a teacher of the list"],
)
@attack(ROW, off={"sync_agent.hand_ins.year_end.off_the_list": _as_the_list_says})
async def test_who_ever_was_a_pupil_of_the_list_has_a_folder_that_says_so(
    at_server: Town, said: PersonRecord, *, is_somebody_else: bool
) -> None:
    year = at_server.year
    await _taken_off(at_server, replace(said, same_as=bytes.fromhex(year.person)) if is_somebody_else else said)
    desk, space = Desk(year.teacher.agent), year.here.office.space
    files = await desk.files("portfolio", space=space)
    assert {path.partition("/")[0] for path in files} == {f"Léa (plus sur la liste) ({year.pupil[:8]})"}
    assert WORK["reponse.odt"] in files.values()
    assert any(line.startswith("in it all the same: “Léa”") and year.pupil in line for line in desk.told)
    assert await desk.files("portfolio", space=space, person=year.pupil) == files


@attack(ROW, off={"sync_agent.hand_ins.year_end.off_the_list": _as_the_list_says})
async def test_nor_is_she_handed_out_under_the_name_of_another_who_is_taken_off_with_it(at_server: Town) -> None:
    year = at_server.year
    await _taken_off(at_server, replace(LEA, name="Tom"))
    desk = Desk(year.teacher.agent)
    assert await desk.files("portfolio", space=year.here.office.space) == {}
    assert any(line.startswith("not written: ") and f"--person {year.pupil}" in line for line in desk.told)


@pytest.mark.parametrize("by_kit", [True, False])
@attack(ROW, off={"sync_server.operations.lifecycle.off_the_list": _as_the_list_says})
async def test_who_closes_a_class_is_told_whose_work_goes_that_is_no_pupils_of_its_list(
    at_server: Town, *, by_kit: bool
) -> None:
    year = at_server.year
    await _taken_off(at_server, LEA)
    told = await (year.with_kit if by_kit else year.do)("space close", space=year.here.office.space)
    assert told["off_the_list"] == [{"person": year.pupil, "name": "Léa", "hand_ins": 1}]
    (line,) = (line for line in year.here.office.said.lines if line.startswith("goes with it: "))
    assert "“Léa”" in line
    assert year.pupil in line


@attack(ROW, off={"sync_agent.hand_ins.year_end.off_the_list": _as_the_list_says})
async def test_of_work_of_ids_that_never_were_pupils_it_is_said_how_much_there_is(at_server: Town) -> None:
    year, agent = at_server.year, at_server.year.machine.agent
    (work,) = (one.entry for one in await agent.replica.store.of_kinds(year.here.space, [Kind.HAND_IN]))
    again = compose(
        author=agent.keys.signing, space=year.here.space, kind=Kind.HAND_IN, grant=work.header.grant,
        at=work.header.at + 1, payload=work.payload or b"", salt=bytes(SALT_BYTES), subject=bytes(PERSON_BYTES),
        target=work.header.target,
    )  # fmt: skip
    await at_server.hears(again)
    await year.here.sync()
    desk = Desk(year.teacher.agent)
    files = await desk.files("portfolio", space=year.here.office.space)
    assert {path.partition("/")[0] for path in files} == {f"Léa ({year.pupil[:8]})"}
    assert "not in it: 1 hand-in of 1 id that never were pupils of this list" in desk.told
