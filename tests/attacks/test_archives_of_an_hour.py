"""A copy of the server's key hides a pupil's work while a family's archive is written; then the pupil is forgotten.

docs/adr/0361.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from protocol.errors import BadInput, RelaisError
from protocol.folds.coursework import Coursework, Work
from protocol.folds.remarks import FeedbackNote, Remarks
from protocol.model.ancestry import in_order_of_showing
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Revocation
from protocol.replica.access.markup import Say
from protocol.replica.access.page import _remark
from protocol.replica.access.works import Works
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.views import SpaceView
from protocol.replica.console.operation import JSON
from protocol.replica.office.not_shown import NotShown
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from protocol.trust.sealing import wrap_key
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, Given, assignment
from tests.harness.commands import Desk
from tests.harness.portal import said_in, words_in
from tests.harness.portfolios import remarks_in
from tests.integration.test_access import exported

ROW = "work is hidden for the hour in which a family's archive is written"


async def _what_is_shown(_replica: Replica, view: SpaceView, _gone: Collection[bytes]) -> NotShown:
    shown = view.coursework
    return NotShown(Coursework(shown.items, shown.hand_ins), (), (), {}, view.roster)


OFF = {"protocol.replica.access.gathering.not_shown": _what_is_shown}


@dataclass(frozen=True)
class Archived:
    """A pupil's two works, one of which was answered, the teacher of the class, and the PC on which they were made."""

    room: Classroom
    teacher: Device
    machine: Device
    item: bytes
    works: list[bytes]

    async def say(self, kind: Kind, payload: bytes) -> None:
        """By the copied key, in the class; the teacher's laptop hears of it."""
        await self.room.territory.say(self.room.space, kind, payload)
        await self.teacher.session.sync()
        await self.teacher.session.sync()

    async def hide(self, how: str) -> None:
        names = {"works erased": self.works, "pupil erased": [self.room.pupil_person]}
        for name in names.get(how, ()):
            await self.say(Kind.ERASE, Erasure(name).encode())
        if how == "computer cut off":
            await self.say(Kind.REVOKE, Revocation(self.machine.agent.device, ()).encode())

    async def archive(self) -> tuple[dict[str, bytes], dict[str, Any], list[str]]:
        """By the teacher's laptop: its files, its data, and what she is told."""
        desk = Desk(self.teacher.agent)
        files = await desk.files("export-person", person=self.room.pupil_person.hex())
        return files, json.loads(files["donnees.json"]), desk.told


@pytest.fixture
async def archived(room: Classroom) -> Archived:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    works = [await room.hand_in(machine, task, {f"texte-{number}.odt": b"%d" % number * 300}) for number in range(2)]
    for device in (machine, teacher):
        await device.session.sync()
    await Desk(teacher.agent).ask("feedback", id=works[0].hex(), text="Bien raconté.", mark="18/20", redo=False)
    for _ in range(2):
        for device in (teacher, machine):
            await device.session.sync()
    return Archived(room, teacher, machine, task, works)


def _texts(files: dict[str, bytes]) -> set[bytes]:
    return {data for path, data in files.items() if path.startswith("travaux/")}


@pytest.mark.parametrize("how", ["works erased", "pupil erased", "computer cut off"])
@attack(ROW, off=OFF)
async def test_a_familys_archive_has_what_somebody_has_hidden_and_says_whose_word_hides_it(
    archived: Archived, how: str
) -> None:
    before, _, told = await archived.archive()
    assert (len(_texts(before)), told[2:]) == (2, [])
    await archived.hide(how)
    files, data, told = await archived.archive()
    assert _texts(files) == _texts(before)
    assert all("(masqué)" in path.split("/")[1] for path in files if path.startswith("travaux/"))
    page = said_in(files["index.html"])
    assert page.count("Ce travail n'est plus montré dans la classe") == 2
    assert "Bien raconté." in page
    assert [work["hidden"] for work in data["works"]] == [True, True]
    (line,) = (each for each in told if each.startswith("in it, and not shown in the class: 2 hand-ins"))
    assert "by the server, " in line
    at_server, counted = await exported(archived.room, archived.room.territory.keys.recovery)
    assert (counted["hand_ins"], counted["opened"], counted["hidden"]) == (2, 2, 2)
    assert _texts(at_server) == _texts(before)


@attack(ROW, off=OFF)
async def test_nor_are_the_keys_hidden_of_work_that_is_shown(archived: Archived) -> None:
    before, _, _ = await archived.archive()
    await archived.say(Kind.REVOKE, Revocation(archived.machine.agent.device, tuple(archived.works)).encode())
    view = await archived.teacher.agent.replica.view(archived.room.space)
    assert view.coursework.hand_ins.keys() == set(archived.works)
    assert _texts((await archived.archive())[0]) == _texts(before)


@attack(ROW, off=OFF)
async def test_work_of_which_no_more_than_a_header_has_come_is_named_in_a_familys_archive(archived: Archived) -> None:
    """Who brings it gives what it is of no entry that somebody has erased."""
    agent, machine = archived.teacher.agent, archived.machine
    work = await archived.room.hand_in(machine, archived.item, {"copie.odt": b"..."})
    await archived.say(Kind.ERASE, Erasure(work).encode())
    entry = (await machine.agent.replica.store.get([work]))[work]
    bare = replace(entry, salt=None, payload=None)
    assert (await agent.replica.admit([bare], source=b"the copy", now_ms=agent.now_ms())).admitted
    files, data, told = await archived.archive()
    assert [each["id"] for each in data["works"] if each["missing"] == "incomplete"] == [work.hex()]
    assert "cette machine sait qu'il existe" in said_in(files["index.html"])
    assert any(line.startswith("in it, and not shown in the class: 1 hand-in") for line in told)


async def _her_other_laptop(archived: Archived) -> Device:
    """Which she has confirmed."""
    second = await archived.room.device(Role.TEACHER, person=archived.room.teacher_person)
    for device in (second, archived.teacher):
        await device.session.sync()
    await _confirm(archived.teacher, second)
    return second


async def _confirm(by: Device, other: Device) -> None:
    known = device_id(own_device(other.agent)).hex()
    await Desk(by.agent).ask("key-confirm", reader=known, shown_as="own")
    for device in (by, other):
        await device.session.sync()


def _said(data: dict[str, Any]) -> dict[str, str | None]:
    """What an archive says was said of works, and is not shown, with whose name."""
    return {each["text"]: each["by"] for work in data["works"] for each in work["said_besides"] if each["hidden"]}


@attack(ROW, off=OFF)
async def test_nor_is_what_was_said_of_work_hidden_from_a_family(archived: Archived) -> None:
    """Her other laptop, on which she answered, is cut off with all that it said."""
    second = await _her_other_laptop(archived)
    said = {"id": archived.works[1].hex(), "text": "Un beau texte.", "mark": None, "redo": False}
    await Desk(second.agent).ask("feedback", Given({"corrige.txt": b"relis-toi"}), **said)
    for device in (second, archived.teacher):
        await device.session.sync()
    before = (await archived.archive())[1]["works"]
    assert {"Un beau texte.", "Bien raconté."} == {work["feedback"]["text"] for work in before}
    await archived.say(Kind.REVOKE, Revocation(second.agent.device, ()).encode())
    files, data, told = await archived.archive()
    assert [work["feedback"] for work in data["works"]].count(None) == 1
    assert _said(data) == {"Un beau texte.": "Mme Petit"}
    assert b"relis-toi" in files.values()
    page = said_in(files["index.html"])
    assert "A été dit aussi, et n'est plus montré dans la classe" in page
    assert "Un beau texte." in page
    assert any(line.startswith("in it, and not shown in the class: 1 ") for line in told)


NOBODYS = {"protocol.replica.at_work.views._HIDES": frozenset[Kind]()}


@pytest.mark.parametrize("how", ["erased", "cut off"])
@attack(ROW, off=NOBODYS)
async def test_a_teachers_words_are_in_a_familys_archive_though_she_is_hidden_for_an_hour(
    archived: Archived, how: str
) -> None:
    """What makes her device a teacher's is hidden with her, and her words, which are not, are nobody's by then."""
    room, head = archived.room, await archived.room.head()
    if how == "erased":
        await room.territory.say(room.space, Kind.ERASE, Erasure(room.teacher_person).encode())
    else:
        await room.territory.say(room.space, Kind.REVOKE, Revocation(archived.teacher.agent.device, ()).encode())
    for _ in range(2):
        await head.session.sync()
    desk = Desk(head.agent)
    files = await desk.files("export-person", person=room.pupil_person.hex())
    assert _said(json.loads(files["donnees.json"])) == {"Bien raconté.": None if how == "erased" else "Mme Petit"}
    assert any(line.startswith("in it, and not shown in the class: 1 ") for line in desk.told)


@attack("work is hidden for the hour in which families' portfolios are written", off=NOBODYS)
async def test_nor_is_a_portfolio_written_unasked_without_a_teachers_words_while_she_is_hidden(
    archived: Archived,
) -> None:
    await archived.say(Kind.ERASE, Erasure(archived.room.teacher_person).encode())
    desk, space = Desk(archived.teacher.agent), archived.room.space.hex()
    with pytest.raises(BadInput, match="nothing has been written yet: 1 hand-in"):
        await desk.files("portfolio", space=space)
    files = await desk.files("portfolio", space=space, hidden_too=True)
    assert any("what was said of it: by somebody who is erased by the server, " in line for line in desk.told)
    assert remarks_in(files) == {"Quelqu'un sans nom ici": "18/20\nBien raconté.\n"}


async def _by_what_is_shown(works: Works, ways: Sequence[Work], folder: str) -> dict[str, JSON]:
    return {"files": await works._open(ways[0], folder)}


PORTFOLIOS = {"protocol.replica.access.works.Works.handed": _by_what_is_shown}


@attack("work is hidden for the hour in which families' portfolios are written", off=PORTFOLIOS)
async def test_nor_are_the_keys_hidden_of_work_that_is_in_a_portfolio(archived: Archived) -> None:
    await archived.say(Kind.REVOKE, Revocation(archived.machine.agent.device, tuple(archived.works)).encode())
    files = await Desk(archived.teacher.agent).files("portfolio", space=archived.room.space.hex())
    assert sum(path.endswith(".odt") for path in files) == 2


def _under_no_key(_content_key: bytes, *sealed_to: Any) -> bytes:
    return wrap_key(bytes(32), *sealed_to)


@attack("a work that opens nowhere keeps families from getting any", off=PORTFOLIOS)
async def test_work_that_was_sealed_wrongly_is_named_and_the_rest_of_a_class_gets_its_portfolios(
    archived: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, desk = archived.room, Desk(archived.teacher.agent)
    with monkeypatch.context() as patch:
        patch.setattr("protocol.folds.hand_in_keys.wrap_key", _under_no_key)
        await room.hand_in(archived.machine, archived.item, {"rien.odt": b"..."})
    for device in (archived.machine, archived.teacher):
        await device.session.sync()
    try:
        files = await desk.files("portfolio", space=room.space.hex())
    except RelaisError as failure:
        pytest.fail(f"no portfolio of the class is written: {failure}")
    assert sum(path.endswith(".odt") for path in files) == 2
    assert any(line.startswith("does not open on this device: “Léa”, ") for line in desk.told)
    assert len(_texts((await archived.archive())[0])) == 2


def _by_each_person(
    about: Iterable[Entry], _counting: Iterable[Entry], _shown: Work | None, by_all: Remarks
) -> Sequence[FeedbackNote]:
    said = [by_all.of(entry) for entry in about if entry.header.kind == Kind.FEEDBACK]
    return list({note.voice: note for note in said}.values())


@attack(ROW, off={"protocol.replica.office.not_shown._not_said": _by_each_person})
async def test_what_a_stolen_laptop_said_in_her_place_keeps_her_words_out_of_no_archive(archived: Archived) -> None:
    """It was cut off long ago; now her own words are hidden for an hour, and its are as good."""
    second = await _her_other_laptop(archived)
    work = archived.works[0].hex()
    await Desk(second.agent).ask("feedback", id=work, text="Copié.", mark="0/20", redo=False)
    for device in (second, archived.teacher):
        await device.session.sync()
    await archived.say(Kind.REVOKE, Revocation(second.agent.device, ()).encode())
    _, data, _ = await archived.archive()
    assert [work["feedback"]["text"] for work in data["works"] if work["feedback"]] == ["Bien raconté."]
    await archived.say(Kind.ERASE, Erasure(archived.room.teacher_person).encode())
    _, data, _ = await archived.archive()
    assert _said(data).keys() == {"Copié.", "Bien raconté."}


async def _two_of_somebody_elses(archived: Archived) -> tuple[Device, Device]:
    """The copied key lists M. X, with two laptops, which confirm each other."""
    room = archived.room
    person = await room.territory.person("M. X", PersonRole.TEACHER, room.space)
    one, other = [await room.device(Role.TEACHER, person=person) for _ in range(2)]
    for device in (one, other):
        await device.session.sync()
    await one.session.sync()
    await _confirm(one, other)
    await _confirm(other, one)
    for device in (one, other):
        await device.session.sync()
    return one, other


def _of_each_device(
    about: Iterable[Entry], _counting: Iterable[Entry], _shown: Work | None, by_all: Remarks
) -> Sequence[FeedbackNote]:
    notes = {entry.id: entry for entry in about if entry.header.kind == Kind.FEEDBACK}
    last = dict[bytes, FeedbackNote]()
    for entry in in_order_of_showing(notes):
        last.setdefault(entry.header.author, by_all.of(entry))
    return [note for note in last.values() if not note.record.says_nothing]


def _as_who_made_the_state(note: Mapping[str, JSON], say: Say) -> str:
    return _remark({**note, "by": "Mme Petit"}, say)


@pytest.mark.parametrize("counts", [True, False], ids=["taken back", "nor that counts"])
@attack(
    ROW,
    off={
        "protocol.replica.office.not_shown._not_said": _of_each_device,
        "protocol.replica.access.page._remark": _as_who_made_the_state,
    },
)
async def test_a_familys_archive_signs_with_her_name_nothing_that_somebody_else_said_and_took_back(
    archived: Archived, counts: bool
) -> None:
    """By another of their devices, so that no page of the class shows it, before the work is hidden."""
    one, other = await _two_of_somebody_elses(archived)
    work, clock = archived.works[0].hex(), archived.room.territory.clock
    for device, said in ((one, {"text": "Copié.", "mark": "0/20"}), (other, {"text": "", "mark": None})):
        clock.advance(61_000)
        await Desk(device.agent).ask("feedback", id=work, redo=False, take_back=not said["text"], **said)
        for each in (one, other, archived.teacher):
            await each.session.sync()
    if not counts:
        await archived.say(Kind.REVOKE, Revocation(other.agent.device, ()).encode())
    await archived.hide("computer cut off")
    files, data, _ = await archived.archive()
    page = words_in(said_in(files["index.html"]))
    assert "Correction de Mme Petit : 18/20 Bien raconté." in page
    assert ("Correction de M. X : 0/20 Copié." in page) is ("Copié." in page) is not counts
    (answered,) = (each for each in data["works"] if each["feedback"])
    said = {each["text"]: each["by"] for each in (answered["feedback"], *answered["said_besides"])}
    assert said == {"Bien raconté.": "Mme Petit", **({} if counts else {"Copié.": "M. X"})}
