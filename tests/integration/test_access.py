"""What a family gets to read: all that is held about a child, opened as far as the caller's keys go."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from protocol.canonical import encode
from protocol.clock import DAY_MS, rfc3339
from protocol.errors import BadInput, Code, LocalFailure, Refused
from protocol.folds.coursework import HandInState, Work
from protocol.folds.hand_in_keys import content_key_of
from protocol.identity import AgreementKey
from protocol.limits import ERASURE_DELAY_MS
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, Revocation, Ruling
from protocol.replica.access.archive import ZipOutlet
from protocol.replica.access.export import export_person
from protocol.replica.at_work.replica import Draft
from protocol.replica.catalogues import DEFAULT_LANGUAGE
from protocol.replica.console.operation import NO_FILES
from protocol.replica.upkeep.orders import DestroyedHere, ends_of
from protocol.roles import PersonRole
from sync_server.opened.app import opened
from sync_server.web.wording import Words
from tests.harness.backups import make_backup, restore_backup
from tests.harness.classroom import Classroom, Device, Given
from tests.harness.commands import Desk, Received
from tests.harness.copied_keys import brought, said_by_copy
from tests.harness.lan import exchange
from tests.harness.office_devices import town
from tests.harness.portal import said_in
from tests.harness.server_in_process import Office

_OF_A_LATER_VERSION = 95
WORK = {"dessin <1>.txt".replace("<1>", "1"): b"mon dessin", "texte.txt": b"il faisait beau"}


async def a_year(room: Classroom) -> tuple[Device, Device]:
    """Léa has handed in and got feedback with a file; Tom has handed in too."""
    tom = await room.territory.person("Tom", PersonRole.PUPIL, room.space)
    teacher, pc = await room.teacher(), await room.machine()
    for device in (teacher, pc):
        await device.session.sync()
    desk = Desk(teacher.agent)
    item = await desk.publish({"a.txt": b"a"}, space=room.space.hex(), title="Conte <b>1</b>", kind="assignment")
    for device in (teacher, pc):
        await device.session.sync()
    work = await Desk(pc.agent).hand_in(item["item"], room.pupil_person.hex(), WORK)
    await Desk(pc.agent).hand_in(item["item"], tom.hex(), {"a.txt": b"le travail de Tom"})
    for device in (pc, teacher):
        await device.session.sync()
    await desk.ask("feedback", Given({"corrige.txt": b"tres bien"}), id=work, text="Bravo <Léa>", mark="A", redo=False)
    await teacher.session.sync()
    return teacher, pc


async def exported(
    room: Classroom, *keys: AgreementKey, language: str = DEFAULT_LANGUAGE
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """What the server sends."""
    got, territory = Received(), room.territory

    async def opening(work: Work) -> bytes | None:
        return content_key_of(work, {key.public: key for key in keys})

    counted = await export_person(
        territory.replica,
        territory.holdings,
        room.pupil_person,
        opening,
        got,
        say=Words(language, 0, dt.UTC),
        territory_name="Cher",
        now_ms=territory.clock(),
        gone_in=(await DestroyedHere.of(territory.replica)).at,
        ends=await ends_of(territory.replica, territory.clock()),
        lies_as=lambda _: HandInState.SERVER,
    )
    return got.files, counted


async def test_a_teachers_device_writes_all_of_a_child_and_nothing_of_another(room: Classroom) -> None:
    teacher, _ = await a_year(room)
    desk = Desk(teacher.agent)
    files = await desk.files("export-person", person=room.pupil_person.hex())
    assert {path.rpartition("/")[2]: data for path, data in files.items() if path.startswith("travaux/")} == WORK
    (note,) = [data for path, data in files.items() if path.startswith("corrections/")]
    assert note == b"tres bien"
    page = files["index.html"].decode()
    for words in (
        "Ce que Relais garde sur Léa",
        "Conte &lt;b&gt;1&lt;/b&gt;",
        "Bravo &lt;Léa&gt;",
        "texte.txt",
        "de Mme Petit",
    ):
        assert words in page
    assert "Tom" not in page
    data = json.loads(files["donnees.json"])
    kinds = {entry["kind"] for entry in data["entries"]}
    assert {"person", "hand-in", "wrap", "receipt-server", "feedback"} <= kinds
    assert all(name["name"] == "Léa" for name in data["names"])
    assert "Tom" not in files["donnees.json"].decode()


async def test_a_teacher_gets_what_she_has_published_answered_and_opened(room: Classroom) -> None:
    teacher, _ = await a_year(room)
    desk = Desk(teacher.agent)
    await room.publish(teacher, {"eau.txt": b"la pluie", "carte.txt": b"la Loire"})
    (lesson,) = (row["item"] for row in await desk.ask("items") if row["kind"] == "lesson")
    (work,) = (row["id"] for row in await desk.ask("hand-ins") if row["person"] == room.pupil_person.hex())
    await desk.ask("confirm-opened", id=work)
    await desk.publish({"eau.txt": b"la neige", "carte.txt": b"la Loire"}, item=lesson)
    right = await teacher.agent.right(room.space, Kind.SIGN_IN)
    await teacher.agent.write(
        Draft(room.space, Kind.SIGN_IN, right.grant, encode({"how": "pin"}), subject=room.pupil_person)
    )
    files = await desk.files("export-person", person=room.teacher_person.hex())
    assert {path: data for path, data in files.items() if path.startswith("cours/")} == {
        "cours/001 Conte -b-1--b-/a.txt": b"a",
        "cours/002 Leçon/eau.txt": b"la neige",
        "cours/002 Leçon/carte.txt": b"la Loire",
        "cours/002 Leçon (version 1)/eau.txt": b"la pluie",
    }
    page = said_in(files["index.html"])
    for words in ("Conte <b>1</b>", "Bravo <Léa>", "à Léa, le", "corrige.txt", "Travaux ouverts"):
        assert words in page
    assert "Aucun travail rendu." not in page
    assert "Tom" not in page
    written = json.loads(files["donnees.json"])["written"]
    assert {entry["kind"] for entry in written["entries"]} == {"revision", "feedback", "receipt-teacher", "sign-in"}
    assert [entry["kind"] for entry in written["entries"] if entry["payload"] is None] == ["sign-in"]
    (opened,) = written["opened"]
    assert (opened["pupil"], opened["title"]) == ("Léa", "Conte <b>1</b>")
    (device,) = written["devices"]
    assert (device["device"], device["confirmed"], device["cut_off"]) == (teacher.agent.device.hex(), True, False)
    assert [entry["kind"] for entry in written["rights"]] == ["grant"]


async def test_a_head_who_is_named_gets_what_she_has_decided_in_her_school(room: Classroom) -> None:
    who = await room.territory.person("Mme Roux", PersonRole.TEACHER, room.space)
    head = await room.head(who)
    desk = Desk(head.agent)
    for _ in range(2):
        await head.session.sync()
    made = (await desk.ask("space add", name="CE2"))["space"]
    await desk.ask("person add", name="Zoé", role="pupil", space=[made])
    files = await desk.files("export-person", person=who.hex())
    written = json.loads(files["donnees.json"])["written"]
    said = {entry["kind"]: entry for entry in written["entries"]}
    assert {"space", "person"} <= said.keys()
    assert (said["person"]["payload"], said["person"]["withheld"], written["unconfirmed"]) == (None, True, 0)
    page = said_in(files["index.html"])
    assert "Classe faite" in page
    assert "Zoé" not in page + files["donnees.json"].decode()


async def test_the_server_leaves_work_sealed_unless_the_kit_opens_it(room: Classroom) -> None:
    await a_year(room)
    files, counted = await exported(room)
    assert (counted["hand_ins"], counted["opened"]) == (1, 0)
    assert not any(path.startswith("travaux/") for path in files)
    assert "Scellé" in files["index.html"].decode()
    files, counted = await exported(room, room.territory.keys.recovery)
    assert counted["opened"] == 1
    assert {path.rpartition("/")[2]: data for path, data in files.items() if path.startswith("travaux/")} == WORK


async def test_a_shared_machine_writes_nobodys_and_nobody_writes_a_strangers(room: Classroom) -> None:
    teacher, pc = await a_year(room)
    with pytest.raises(Refused) as refused:
        await Desk(pc.agent).files("export-person", person=room.pupil_person.hex())
    assert refused.value.code is Code.NO_RIGHT
    with pytest.raises(BadInput) as unknown:
        await Desk(teacher.agent).files("export-person", person="ab" * 16)
    assert unknown.value.code is Code.UNKNOWN_PERSON


async def test_a_remark_of_which_a_file_is_damaged_is_named_and_the_rest_of_the_archive_is_written(
    room: Classroom, tmp_path: Path
) -> None:
    teacher, _ = await a_year(room)
    desk, person = Desk(teacher.agent), room.pupil_person.hex()
    (work,) = (row["id"] for row in await desk.ask("hand-ins") if row["person"] == person)
    files = {"long.bin": os.urandom(3_000_000)}
    before = set(teacher.agent.folder.glob("packs/*/*.pack"))
    await desk.ask("feedback", Given(files), id=work, text="Encore bravo", mark=None, redo=False)
    (pack,) = set(teacher.agent.folder.glob("packs/*/*.pack")) - before
    data = bytearray(pack.read_bytes())
    data[len(data) // 4] ^= 1
    pack.write_bytes(data)
    with ZipOutlet(tmp_path / "lea.zip") as archive:
        await desk.table["export-person"]({"person": person}, Given({}), archive)
        archive.keep()
    with zipfile.ZipFile(tmp_path / "lea.zip") as found:
        (row,) = json.loads(found.read("donnees.json"))["works"]
        assert not any(path.startswith("corrections/") for path in found.namelist())
        assert "Les fichiers ne sont pas sur cette machine." in said_in(found.read("index.html"))
    assert (row["feedback"]["text"], row["feedback"]["missing"]) == ("Encore bravo", "damaged")


@pytest.mark.parametrize(
    ("language", "words", "hidden"),
    [
        ("fr", "Jusqu'au {day} à {clock}, il peut encore être annulé", "Ce travail n'est plus montré dans la classe"),
        ("en", "Until {day}, {clock}, it can still be taken back", "This work is no longer shown in the class"),
    ],
)
async def test_in_the_week_after_an_erasure_an_archive_says_until_when_it_can_be_taken_back_and_what_is_hidden(
    room: Classroom, language: str, words: str, hidden: str
) -> None:
    await a_year(room)
    await room.territory.say(room.territory.id, Kind.ERASE, Erasure(room.pupil_person).encode())
    final_ms = room.territory.clock() + ERASURE_DELAY_MS
    files, counted = await exported(room, language=language)
    until = {"until": rfc3339(final_ms), "by_kit": False, "hand_ins_hidden": 1}
    assert (counted["hand_ins"], counted["hidden"], counted["erasure"]) == (1, 1, until)
    assert json.loads(files["donnees.json"])["erasure"] == until
    say, page = Words(language, 0, dt.UTC), said_in(files["index.html"])
    clock = said_in(say.clock(final_ms).encode())
    assert words.format(day=f"{say.moment(final_ms):%d/%m/%Y}", clock=clock) in page
    assert hidden in page
    assert say("family.no_work") not in page


async def _states(room: Classroom, teacher: Device) -> tuple[list[str], list[str]]:
    """How far the child's works have come, as the archive of a teacher's laptop says, and the server's."""
    by_laptop = await Desk(teacher.agent).files("export-person", person=room.pupil_person.hex())
    return _states_in(by_laptop), _states_in((await exported(room))[0])


def _states_in(files: dict[str, bytes]) -> list[str]:
    return [work["state"] for work in json.loads(files["donnees.json"])["works"]]


async def test_what_is_hidden_has_come_as_far_as_it_had_before(room: Classroom) -> None:
    teacher, pc = await a_year(room)
    task = bytes.fromhex(next(row["item"] for row in await Desk(teacher.agent).ask("items")))
    opened, _ = [await room.hand_in(pc, task, {"b.txt": b"b"}) for _ in range(2)]
    for device in (pc, teacher, pc):
        await device.session.sync()
    await Desk(teacher.agent).ask("confirm-opened", id=opened.hex())
    await teacher.session.sync()
    before = await _states(room, teacher)
    assert before == (["marked", "teacher", "server"],) * 2
    await room.territory.say(room.space, Kind.ERASE, Erasure(room.pupil_person).encode())
    await teacher.session.sync()
    assert await _states(room, teacher) == before


async def test_what_came_when_it_was_held_back_already_is_where_it_lies(room: Classroom) -> None:
    """No receipt says that the teacher's laptop has it; the server takes no content of it."""
    teacher, pc = await a_year(room)
    task = bytes.fromhex(next(row["item"] for row in await Desk(teacher.agent).ask("items")))
    heads = await room.territory.replica.tips(room.space, pc.agent.device)
    await room.territory.say(room.space, Kind.REVOKE, Revocation(pc.agent.device, tuple(heads)).encode())
    work = await room.hand_in(pc, task, {"b.txt": b"b"})
    await exchange(pc.agent, teacher.agent)
    for _ in range(2):
        await teacher.session.sync()
    assert await room.territory.replica.store.get([work])
    assert await _states(room, teacher) == (["marked", "safe"], ["marked", "local"])


async def test_why_something_is_not_shown_is_told_once_though_its_computer_was_cut_off_twice(room: Classroom) -> None:
    teacher, pc = await a_year(room)
    for _ in range(2):
        await room.territory.say(room.space, Kind.REVOKE, Revocation(pc.agent.device, ()).encode())
    await teacher.session.sync()
    desk = Desk(teacher.agent)
    await desk.files("export-person", person=room.pupil_person.hex())
    (line,) = (each for each in desk.told if "not shown in the class" in each)
    assert line.startswith("in it, and not shown in the class: 1 hand-in or remark, held back"), line
    assert line.count("held back since its computer was cut off") == 1


async def test_that_she_is_to_be_forgotten_is_told_by_a_teachers_device_too_and_no_more_once_it_is_taken_back(
    room: Classroom,
) -> None:
    teacher, _ = await a_year(room)
    said = await room.territory.say(room.territory.id, Kind.ERASE, Erasure(room.pupil_person).encode())
    await teacher.session.sync()
    desk = Desk(teacher.agent)
    files = await desk.files("export-person", person=room.pupil_person.hex())
    assert "Un effacement est en cours" in said_in(files["index.html"])
    _, _, hidden, line = desk.told
    assert hidden.startswith("in it, and not shown in the class: 1 hand-in or remark, erased by the server, ")
    assert "still held (1). Until" in line
    assert f"`sync-server unerase {room.pupil_person.hex()}` takes that back" in line
    taken_back = Ruling((), (said.id,)).encode()
    await room.territory.say(room.territory.id, Kind.RULING, taken_back)
    await teacher.session.sync()
    files = await desk.files("export-person", person=room.pupil_person.hex())
    assert "effacement est en cours" not in said_in(files["index.html"])
    assert json.loads(files["donnees.json"])["erasure"] is None
    assert desk.told[2:] == []


async def test_an_archive_says_so_too_while_the_whole_class_is_hidden_by_the_kit(room: Classroom) -> None:
    await a_year(room)
    await room.territory.kit_says(room.school, Kind.ERASE, Erasure(room.space).encode())
    _, counted = await exported(room)
    assert (counted["erasure"]["by_kit"], counted["erasure"]["hand_ins_hidden"]) == (True, 1)


@pytest.mark.parametrize(
    ("language", "closed", "ends"),
    [
        ("fr", "La classe « CM1 » a été fermée", "il peut encore être annulé"),
        ("en", "The class “CM1” was closed", "it can still be taken back"),
    ],
)
async def test_of_somebody_whose_class_was_closed_it_is_not_said_that_they_are_to_be_forgotten(
    room: Classroom, language: str, closed: str, ends: str
) -> None:
    teacher, _ = await a_year(room)
    await room.territory.kit_says(room.school, Kind.ERASE, Erasure(room.space).encode())
    files, _ = await exported(room, language=language)
    page = said_in(files["index.html"])
    assert closed in page
    assert ends not in page
    await teacher.session.sync()
    desk = Desk(teacher.agent)
    for person, held in ((room.pupil_person, 1), (room.teacher_person, 0)):
        desk.told.clear()
        files = await desk.files("export-person", person=person.hex())
        assert "La classe « CM1 » a été fermée" in said_in(files["index.html"])
        (line,) = [each for each in desk.told if "the class “CM1” was closed, and is destroyed from " in each]
        assert f"that are still held there ({held})" in line
        assert not [each for each in desk.told if "to be forgotten, and hidden" in each or "unerase" in each]


async def test_of_who_is_to_be_forgotten_as_well_both_are_said(room: Classroom) -> None:
    await a_year(room)
    await room.territory.kit_says(room.school, Kind.ERASE, Erasure(room.space).encode())
    await room.territory.say(room.territory.id, Kind.ERASE, Erasure(room.pupil_person).encode())
    page = said_in((await exported(room))[0]["index.html"])
    assert "Un effacement est en cours" in page
    assert "La classe « CM1 » a été fermée" in page


async def test_a_class_that_another_than_the_kit_hides_is_not_said_to_be_destroyed(room: Classroom) -> None:
    teacher, _ = await a_year(room)
    await room.territory.say(room.school, Kind.ERASE, Erasure(room.space).encode())
    await teacher.session.sync()
    desk = Desk(teacher.agent)
    files = await desk.files("export-person", person=room.pupil_person.hex())
    assert "La classe « CM1 » n'est plus montrée. Rien n'en est détruit" in said_in(files["index.html"])
    (line,) = [each for each in desk.told if "the class “CM1” is hidden, not by the kit" in each]
    assert f"`sync-server unerase {room.space.hex()}` shows it again" in line


async def test_what_was_erased_by_who_was_cut_off_since_has_no_end_until_somebody_else_says_so(room: Classroom) -> None:
    await a_year(room)
    head = (await room.head()).agent
    right = await head.right(room.school, Kind.ERASE)
    (said,) = await head.write(Draft(room.school, Kind.ERASE, right.grant, Erasure(room.pupil_person).encode()))
    await room.devices[-1].session.sync()
    _, counted = await exported(room)
    assert counted["erasure"]["until"] is not None
    await room.territory.say(room.school, Kind.REVOKE, Revocation(head.device, (said.id,)).encode())
    files, counted = await exported(room)
    assert counted["erasure"] == {"until": None, "by_kit": False, "hand_ins_hidden": 1}
    assert "Rien n'en est détruit tant que personne d'autre ne le confirme" in said_in(files["index.html"])


async def cut_off(place: Path) -> None:
    with ZipOutlet(place) as archive:
        await archive.start("a.txt", 1)
        await archive.data(b"a")
        raise RuntimeError


async def test_an_archive_appears_whole_or_not_at_all_and_replaces_nothing(tmp_path: Path) -> None:
    place = tmp_path / "lea.zip"
    with pytest.raises(RuntimeError):
        await cut_off(place)
    assert os.listdir(tmp_path) == []  # noqa: PTH208  (no blocking pathlib in a coroutine)
    with ZipOutlet(place) as archive:
        await archive.start("travaux/a.txt", 1)
        await archive.data(b"a")
        await archive.end()
        archive.keep()
    with zipfile.ZipFile(place) as found:
        assert found.read("travaux/a.txt") == b"a"
    assert os.stat(place).st_mode & 0o077 == 0  # noqa: PTH116
    missing = tmp_path / "missing"
    for taken, why in ((place, f"{place} exists already"), (missing / "lea.zip", f"the folder {missing} does not")):
        with pytest.raises(BadInput, match=re.escape(why)):
            ZipOutlet(taken)


async def filled(place: Path, size: int) -> None:
    with ZipOutlet(place) as archive:
        await archive.start("a.bin", size)
        await archive.data(os.urandom(size))
        await archive.end()
        archive.keep()


@pytest.mark.skipif(os.name != "posix", reason="a bound for files as POSIX knows it")
@pytest.mark.parametrize("size", [300, 30_000])
async def test_an_archive_for_which_there_is_no_room_is_told_by_its_name_and_leaves_nothing(
    tmp_path: Path, size: int
) -> None:
    import resource  # noqa: PLC0415  (not on every platform)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(LocalFailure, match=r"lea\.zip") as raised:
            await filled(tmp_path / "lea.zip", size)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.code is Code.DISK_FULL
    assert os.listdir(tmp_path) == []  # noqa: PTH208  (no blocking pathlib in a coroutine)


async def test_that_a_server_was_restored_is_told_once_however_many_classes_had_the_child(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        _, _, _, pupil, _ = await here.class_in_step()
        other = (await here.office.do("space add", name="Chorale", school="0180001D", year="none"))["space"]
        await here.office.do("grant", person=pupil, space=[other])
        await make_backup(here.office.server, tmp_path / "backup")
        here.office.clock.advance(8 * DAY_MS)
        await restore_backup(tmp_path / "new", tmp_path / "backup", tmp_path / "server" / "kit", here.office.clock)
        async with opened(tmp_path / "new", now_ms=here.office.clock, entropy=os.urandom) as new:
            office = Office(new, here.office.clock, here.office.space)
            await office.do("erase", person=[pupil], dry_run=True)
    assert [line.count("this server was restored") for line in office.said.lines if "this server was" in line] == [1]
    assert any(line.startswith("warning: “CM2 B”: machines of this class have not told") for line in office.said.lines)
    assert not any("others may not even be known" in line for line in office.said.lines), "that is told once"


async def test_an_archive_names_a_word_of_a_kind_that_a_later_version_knows_by_its_number(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        pupil, out = await here.office.add_person("Léa", "pupil"), Received()
        later = said_by_copy(here, _OF_A_LATER_VERSION, b"x", here.space, subject=pupil)
        await brought(here, later)
        await here.office.table["export-person"]({"person": pupil}, NO_FILES, out)
        entries = json.loads(out.files["donnees.json"])["entries"]
        assert {each["id"]: each["kind"] for each in entries}[later.id.hex()] == str(_OF_A_LATER_VERSION)
