"""A teacher asks for what there is about her while a copy of the server's key writes in her name, or hides her words.

docs/adr/0419.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from protocol.errors import Refused
from protocol.folds.coursework import Coursework
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Revocation
from protocol.replica.access.written import Writings
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.views import SpaceView
from protocol.replica.office.not_shown import NotShown
from protocol.rights.roster import Roster
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, assignment
from tests.harness.commands import Desk
from tests.harness.next_year import NextYear
from tests.harness.portal import said_in

ROW = "a teacher's archive is written while somebody writes in her name, or hides what she wrote"


def _whoever_was_let_in_as_her(roster: Roster, person: bytes) -> Iterator[bytes]:
    return (given.grant for given in roster.granted.values() if given.person == person)


def _wherever_it_speaks(_self: Writings, ever: Iterable[bytes], _classes: Mapping[bytes, object]) -> Iterable[bytes]:
    return ever


async def _what_is_shown(_replica: Replica, view: SpaceView, _gone: Collection[bytes]) -> NotShown:
    shown = view.coursework
    return NotShown(Coursework(shown.items, shown.hand_ins), (), (), {}, view.roster)


def _all(_entry: Entry, _roster: Roster) -> bool:
    return True


@dataclass(frozen=True)
class Class:
    """Mme Petit has published a lesson and an assignment, and answered Léa's work."""

    room: Classroom
    teacher: Device
    item: bytes
    work: bytes

    async def say(self, kind: Kind, payload: bytes) -> None:
        await self.room.territory.say(self.room.space, kind, payload)
        await self.sync()

    async def sync(self) -> None:
        for _ in range(2):
            for device in self.room.devices:
                with suppress(Refused):  # who was cut off is told so
                    await device.session.sync()

    async def archive(self, by: Device | None = None) -> tuple[dict[str, bytes], dict[str, Any], list[str]]:
        desk = Desk((by or self.teacher).agent)
        files = await desk.files("export-person", person=self.room.teacher_person.hex())
        return files, json.loads(files["donnees.json"])["written"], desk.told


@pytest.fixture
async def answered(room: Classroom) -> Class:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    work = await room.hand_in(machine, task, {"texte.odt": b"il pleut" * 100})
    made = Class(room, teacher, task, work)
    await made.sync()
    await Desk(teacher.agent).ask("feedback", id=work.hex(), text="Bien raconté.", mark="18/20", redo=False)
    await made.sync()
    return made


@attack(ROW, off={"protocol.replica.access.written.speaking_as": _whoever_was_let_in_as_her})
async def test_a_teachers_archive_has_nothing_that_a_strangers_computer_wrote_in_her_name(answered: Class) -> None:
    room = answered.room
    stranger = await room.teacher()
    await stranger.session.sync()
    await room.publish(stranger, {"tract.txt": b"Votez"})
    await Desk(stranger.agent).ask("feedback", id=answered.work.hex(), text="Nul.", mark="0/20", redo=False)
    await answered.sync()
    files, written, told = await answered.archive()
    assert {each["text"] for each in written["remarks"]} == {"Bien raconté."}
    assert len(written["lessons"]) == 1
    assert not any(path.endswith("tract.txt") for path in files)
    assert written["unconfirmed"] > 0
    assert any("of computers that none of theirs confirms" in line for line in told)
    states = {row["device"]: row["confirmed"] for row in written["devices"]}
    assert states == {answered.teacher.agent.device.hex(): True, stranger.agent.device.hex(): False}


@attack(ROW, off={"protocol.replica.access.written.Writings._undisputed": _wherever_it_speaks})
async def test_nor_what_a_strangers_computer_decided_that_is_a_heads_in_her_name_and_alone_in_a_class(
    answered: Class,
) -> None:
    room = answered.room
    await room.territory.classroom("CM2 du voleur")
    stranger = await room.device(Role.HEAD, room.school, person=room.teacher_person)
    await answered.sync()
    await Desk(stranger.agent).ask("space add", name="CE2")
    head = await room.head(await room.territory.person("M. Roux", PersonRole.TEACHER, room.space))
    await answered.sync()
    _, written, told = await answered.archive(head)
    assert "space" not in {entry["kind"] for entry in written["entries"]}
    assert any("of computers that none of theirs confirms" in line for line in told)


@pytest.mark.parametrize("how", ["lesson erased", "computer cut off", "she is erased"])
@attack(ROW, off={"protocol.replica.access.written.not_shown": _what_is_shown})
async def test_nor_does_it_lack_what_she_wrote_that_is_hidden_for_an_hour(answered: Class, how: str) -> None:
    head = await answered.room.head(
        await answered.room.territory.person("M. Roux", PersonRole.TEACHER, answered.room.space)
    )
    await answered.sync()
    said = {
        "lesson erased": (Kind.ERASE, Erasure(answered.item).encode()),
        "computer cut off": (Kind.REVOKE, Revocation(answered.teacher.agent.device, ()).encode()),
        "she is erased": (Kind.ERASE, Erasure(answered.room.teacher_person).encode()),
    }
    await answered.say(*said[how])
    files, written, _ = await answered.archive(head)
    assert [each["text"] for each in written["remarks"]] == ["Bien raconté."]
    given = [file["path"] for lesson in written["lessons"] for file in lesson["versions"][0]["files"]]
    assert given
    assert given == sorted(path for path in files if path.startswith("cours/"))


@attack(ROW, off={"protocol.replica.access.written._is_theirs_to_read": _all})
async def test_nor_does_a_pupil_who_is_to_be_forgotten_live_on_in_a_teachers_archive(answered: Class) -> None:
    await answered.say(Kind.ERASE, Erasure(answered.room.pupil_person).encode())
    files, written, told = await answered.archive()
    assert (written["remarks"], written["opened"]) == ([], [])
    assert "Bien raconté" not in files["donnees.json"].decode()
    assert "Léa" not in said_in(files["index.html"])
    assert any("about pupils who are to be forgotten" in line for line in told)


async def _heard_for_an_hour_before_her(year: NextYear) -> dict[str, dict[str, Any]]:
    """A head's computer has known her laptop, and heard a device of the key's in the new class before it: her archive
    and a family's, that computer writes in the week in which both are shown."""
    head = await year.here.head_of_the_school()
    await year.sync()
    space = await year.new_class()
    await year.spy_comes(space, dated_days_ago=0)
    await year.sync(year.machine, head)
    await year.lets_her_in(space)
    await year.sync()
    work = await year.hand_in(space)
    await year.answers(work)
    await year.spy_answers(space, work)
    await year.sync()
    assert await year.who_speaks(head.agent.replica, space) == {own_device(year.teacher.agent)}
    desk = Desk(head.agent)
    asked = {one: desk.files("export-person", person=one, renamed_too=True) for one in (year.person, year.pupil)}
    archives = {one: await files for one, files in asked.items()}
    return {one: json.loads(files["donnees.json"]) for one, files in archives.items()}


def _whoever_is_shown_as_her(roster: Roster, person: bytes) -> Iterator[bytes]:
    return (given.grant for given in roster.granted.values() if roster.shown_as(given) == person)


@attack(ROW, off={"protocol.replica.access.written.speaking_as": _whoever_is_shown_as_her})
async def test_who_is_heard_beside_her_for_a_week_wrote_nothing_that_is_hers(year: NextYear) -> None:
    written = (await _heard_for_an_hour_before_her(year))[year.person]["written"]
    assert [one["mark"] for one in written["remarks"]] == ["18/20"]
    confirmed = {one["device"]: one["confirmed"] for one in written["devices"]}
    assert confirmed[year.teacher.agent.device.hex()]
    assert not confirmed[year.spy.signing.public.hex()]


@attack(ROW, off={"protocol.replica.office.whose_words._NOT_CONFIRMED": ""})
async def test_a_familys_archive_says_of_such_words_that_nobody_has_confirmed_that_computer(year: NextYear) -> None:
    (work,) = (await _heard_for_an_hour_before_her(year))[year.pupil]["works"]
    said = {one["mark"]: one["by"] for one in (work["feedback"], *work["said_besides"])}
    assert said == {"18/20": "Mme Petit", "0/20": "Mme Petit (sur un ordinateur pas encore confirmé)"}
