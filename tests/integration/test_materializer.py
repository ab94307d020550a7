"""DIR/coursework after one pass: what lies there for every history of revisions, edits, links and accidents."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocol.roles import Role
from sync_agent import materializer
from sync_agent.app import Agent, RoomLimits
from sync_agent.coursework_folder import look_through
from sync_agent.coursework_rules import NOTICE_NAME
from sync_agent.marks import SPACE_FOLDER_MARKS, TREE_FILES_MARKS, TREE_MARKS, TREE_TROUBLE_MARK
from sync_agent.materializer import Materializer
from sync_agent.status import coursework_status
from tests.harness.classroom import Files
from tests.harness.commands import Desk
from tests.harness.enrolled import Class, enrolled_class, meet, open_agent
from tests.harness.forks import Forks
from tests.harness.kill_points import KILL, Outcome, Point, fault_at_every_point, python_environment

LESSON: Files = {"index.html": b"<h1>Eau</h1>", "images/carte.png": b"\x89PNG" * 1000, "exercice.odt": b"PK\x03\x04 un"}
EDIT = (1_795_515_120, 1_795_515_120)
DATED = "exercice (modifié le 2026-11-24 à 10 h 12).odt"


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@dataclass
class Pair:
    """A teacher's and a pupils' device, opened when they are needed."""

    room: Class

    @property
    def tree(self) -> Path:
        return self.room["renard"].folder / "coursework"

    @property
    def cm1(self) -> Path:
        return self.tree / "CM1"

    async def publish(self, files: Files | None, **params: Any) -> dict[str, str]:
        """Publish at the teacher's, and bring it to the pupils' device."""
        async with opened(self.room, "petit") as agent:
            if "item" not in params:
                params = {"space": self.room.space, "title": "Eau", **params}
            published: dict[str, str] = await Desk(agent).publish(files, **params)
        await meet(self.room["petit"], self.room["renard"])
        return published

    async def tell(self, command: str, **params: Any) -> None:
        async with opened(self.room, "petit") as agent:
            await Desk(agent).ask(command, **params)
        await meet(self.room["petit"], self.room["renard"])

    async def refresh(self, *, thorough: bool = True, set_aside: bool = False, reserve_bytes: int = 0) -> None:
        async with opened(self.room, "renard") as agent:
            tree = Materializer(agent, reserve_bytes=reserve_bytes)
            await tree.refresh(thorough=thorough, set_aside=set_aside)


@asynccontextmanager
async def opened(room: Class, name: str) -> AsyncIterator[Agent]:
    agent = await open_agent(room[name])
    try:
        yield agent
    finally:
        await agent.close()


@pytest.fixture
async def pair(tmp_path: Path) -> Pair:
    return Pair(await enrolled_class(tmp_path, {"petit": Role.TEACHER, "renard": Role.MACHINE}))


def files_of(place: Path) -> dict[str, bytes]:
    """Every file below a folder; what links name is not looked at."""
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def likeness(place: Path) -> dict[str, tuple[int, int]]:
    return {
        path.relative_to(place).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in place.rglob("*")
        if path.is_file()
    }


def edit(place: Path, data: bytes, *, fresh: bool = False) -> None:
    place.write_bytes(data)
    if not fresh:
        os.utime(place, EDIT)


# --- what is shown ----------------------------------------------------------------------------------------------------


async def test_a_lesson_lies_there_as_ordinary_files(pair: Pair) -> None:
    await pair.publish(LESSON)
    await pair.refresh(thorough=False)
    assert files_of(pair.tree) == {f"CM1/Eau/{path}": data for path, data in LESSON.items()}
    assert sorted(path.name for path in pair.tree.iterdir()) == ["CM1"]


async def test_a_second_pass_touches_nothing(pair: Pair) -> None:
    await pair.publish({**LESSON, "jeu.exe": b"MZ"})
    await pair.refresh()
    before = likeness(pair.tree)
    await pair.refresh()
    assert likeness(pair.tree) == before


@pytest.mark.parametrize("changed", [["index.html"], ["index.html", "exercice.odt"]])
async def test_a_revision_keeps_the_files_that_did_not_change(pair: Pair, changed: list[str]) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    before = likeness(pair.cm1 / "Eau")
    after = {**LESSON, **dict.fromkeys(changed, b"deux")}
    await pair.publish(after, item=item)
    await pair.refresh()
    assert files_of(pair.cm1 / "Eau") == after
    now = likeness(pair.cm1 / "Eau")
    assert {path for path in now if now[path] != before[path]} == set(changed)


async def test_files_that_a_revision_drops_go_with_their_folders(pair: Pair) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    await pair.publish({"index.html": LESSON["index.html"]}, item=item)
    await pair.refresh()
    assert [path.name for path in (pair.cm1 / "Eau").iterdir()] == ["index.html"]


async def test_a_new_title_renames_the_folder(pair: Pair) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    before = likeness(pair.cm1 / "Eau")
    await pair.publish(None, item=item, title="L'eau / la pluie")
    await pair.refresh()
    assert [path.name for path in pair.cm1.iterdir()] == ["L'eau - la pluie"]
    assert likeness(pair.cm1 / "L'eau - la pluie") == before


async def test_items_of_one_title_have_folders_of_their_own_and_keep_them(pair: Pair) -> None:
    first = (await pair.publish({"a.txt": b"1"}))["item"]
    await pair.refresh()
    await pair.publish({"a.txt": b"2"}, title="EAU")
    await pair.refresh()
    expected = {"Eau/a.txt": b"1", "EAU (2)/a.txt": b"2"}
    assert files_of(pair.cm1) == expected
    await pair.tell("withdraw", item=first)
    await pair.refresh()
    assert files_of(pair.cm1) == {"EAU (2)/a.txt": b"2"}
    await pair.tell("restore", item=first)
    await pair.refresh()
    assert files_of(pair.cm1) == expected


async def test_withdrawn_items_disappear_and_come_back(pair: Pair) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    await pair.tell("withdraw", item=item)
    await pair.refresh(thorough=False)
    assert list(pair.tree.iterdir()) == []
    await pair.tell("restore", item=item)
    await pair.refresh(thorough=False)
    assert files_of(pair.cm1 / "Eau") == LESSON


async def test_what_runs_as_a_program_is_left_out_and_named(pair: Pair) -> None:
    item = (await pair.publish({**LESSON, "jeu/jeu.exe": b"MZ"}))["item"]
    await pair.refresh()
    found = files_of(pair.cm1 / "Eau")
    assert "  - jeu/jeu.exe" in found.pop(NOTICE_NAME).decode("utf-8-sig")
    assert found == LESSON
    await pair.publish(LESSON, item=item)
    await pair.refresh()
    assert files_of(pair.cm1 / "Eau") == LESSON


async def test_a_revision_that_has_not_arrived_as_a_whole_is_not_shown(pair: Pair) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    async with opened(pair.room, "petit") as teacher, opened(pair.room, "renard") as pupil:
        await Desk(teacher).publish({"index.html": b"deux"}, item=item)
        entries = [stored.entry for stored in await teacher.replica.store.scan(bytes.fromhex(pair.room.space))]
        await pupil.replica.admit(entries, source=b"x", now_ms=pupil.now_ms())
        await Materializer(pupil, reserve_bytes=0).refresh(thorough=True)
    assert files_of(pair.cm1 / "Eau") == LESSON


# --- a person's own files ---------------------------------------------------------------------------------------------


async def test_an_edit_gets_its_dated_name_when_a_revision_comes(pair: Pair) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    edit(pair.cm1 / "Eau" / "exercice.odt", b"le travail de Lea")
    after = {path: data + b" bis" for path, data in LESSON.items()}
    await pair.publish(after, item=item)
    await pair.refresh()
    assert files_of(pair.cm1 / "Eau") == {**after, DATED: b"le travail de Lea"}


async def test_even_an_edit_of_this_minute_survives_a_revision(pair: Pair) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    edit(pair.cm1 / "Eau" / "exercice.odt", b"le travail de Lea", fresh=True)
    await pair.publish({**LESSON, "exercice.odt": b"deux"}, item=item)
    await pair.refresh()
    found = files_of(pair.cm1 / "Eau")
    assert found.pop("exercice.odt") == b"deux"
    assert b"le travail de Lea" in found.values()


async def test_an_edit_is_left_in_peace_while_it_is_fresh(pair: Pair) -> None:
    await pair.publish(LESSON)
    await pair.refresh()
    edit(pair.cm1 / "Eau" / "exercice.odt", b"le travail", fresh=True)
    await pair.refresh()
    assert files_of(pair.cm1 / "Eau") == {**LESSON, "exercice.odt": b"le travail"}
    edit(pair.cm1 / "Eau" / "exercice.odt", b"le travail de Lea")
    await pair.refresh()
    assert files_of(pair.cm1 / "Eau") == {**LESSON, DATED: b"le travail de Lea"}
    await pair.refresh()
    assert files_of(pair.cm1 / "Eau") == {**LESSON, DATED: b"le travail de Lea"}


async def test_a_persons_own_files_stay_where_they_are(pair: Pair) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    own = {"notes.txt": b"a moi", "images/dessin.png": b"aussi", "tout/a/moi.txt": b"encore"}
    for path, data in own.items():
        (pair.cm1 / "Eau" / path).parent.mkdir(parents=True, exist_ok=True)
        (pair.cm1 / "Eau" / path).write_bytes(data)
    after = {path: data + b" bis" for path, data in LESSON.items()}
    await pair.publish(after, item=item)
    await pair.refresh()
    assert files_of(pair.cm1 / "Eau") == {**after, **own}
    await pair.tell("withdraw", item=item)
    await pair.refresh()
    assert files_of(pair.cm1 / "Eau") == own


async def test_an_edit_of_a_withdrawn_item_survives_under_its_dated_name(pair: Pair) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    edit(pair.cm1 / "Eau" / "exercice.odt", b"le travail de Lea")
    await pair.tell("withdraw", item=item)
    await pair.refresh()
    assert files_of(pair.tree) == {f"CM1/Eau/{DATED}": b"le travail de Lea"}


async def test_a_revision_that_needs_the_place_of_a_persons_file_moves_it(pair: Pair) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    (pair.cm1 / "Eau" / "sons").write_bytes(b"un fichier a moi")
    (pair.cm1 / "Eau" / "fin.txt").mkdir()
    (pair.cm1 / "Eau" / "fin.txt" / "moi.txt").write_bytes(b"dedans")
    after = {**LESSON, "sons/pluie.ogg": b"OggS", "fin.txt": b"fin"}
    await pair.publish(after, item=item)
    await pair.refresh()
    found = files_of(pair.cm1 / "Eau")
    assert after.items() <= found.items()
    assert sorted(found[path] for path in found.keys() - after.keys()) == [b"dedans", b"un fichier a moi"]


async def test_what_a_person_deleted_comes_back(pair: Pair) -> None:
    await pair.publish(LESSON)
    await pair.refresh()
    (pair.cm1 / "Eau" / "index.html").unlink()
    await pair.refresh()
    assert files_of(pair.cm1 / "Eau") == LESSON
    shutil.rmtree(pair.tree)
    await pair.refresh()
    assert files_of(pair.cm1 / "Eau") == LESSON


async def test_a_folder_that_a_person_renamed_is_theirs(pair: Pair) -> None:
    await pair.publish(LESSON)
    await pair.refresh()
    (pair.cm1 / "Eau").rename(pair.cm1 / "Eau de Léa")
    await pair.refresh()
    assert files_of(pair.cm1 / "Eau") == files_of(pair.cm1 / "Eau de Léa") == LESSON


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [".", "CM1", "CM1/Eau", "CM1/Eau/images", "CM1/Eau/index.html", ".relais"])
async def test_a_link_in_the_tree_is_never_followed(pair: Pair, tmp_path: Path, where: str) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    outside = tmp_path / "outside"
    shutil.copytree(pair.tree / where, outside) if (pair.tree / where).is_dir() else outside.mkdir()
    (outside / "secret.txt").write_bytes(b"secret")
    before = files_of(outside)
    place = pair.tree / where
    if where == ".":
        shutil.rmtree(pair.tree)
        place = pair.tree
    elif place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    place.symlink_to(outside)
    after = {path: data + b" bis" for path, data in LESSON.items()}
    await pair.publish(after, item=item)
    await pair.refresh()
    await pair.tell("withdraw", item=item)
    await pair.refresh()
    await pair.tell("restore", item=item)
    await pair.refresh()
    assert files_of(outside) == before
    if where not in (".", ".relais"):
        assert files_of(pair.cm1 / "Eau") == after


# --- accidents --------------------------------------------------------------------------------------------------------


async def test_a_copied_data_folder_makes_nobodys_edits(pair: Pair, tmp_path: Path) -> None:
    await pair.publish(LESSON)
    await pair.refresh()
    for path in pair.tree.rglob("*"):
        os.utime(path)
    await pair.refresh(set_aside=True)
    assert files_of(pair.cm1 / "Eau") == LESSON


async def test_a_tree_that_is_not_remembered_is_known_by_its_content(pair: Pair) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    before = likeness(pair.cm1)
    async with opened(pair.room, "renard") as agent:
        await agent.replica.store.set_marks({TREE_MARKS + item: None, TREE_FILES_MARKS + item: None})
    await pair.refresh()
    assert files_of(pair.tree) == {f"CM1/Eau/{path}": data for path, data in LESSON.items()}
    assert likeness(pair.cm1) == before


class Forgetful(Materializer):
    """Ends before it has noted what it wrote."""

    async def _settle(self) -> None:
        self._marks.clear()
        self._places.clear()


@pytest.mark.parametrize("changed", [["index.html"], ["index.html", "exercice.odt"]])
async def test_a_revision_after_a_crash_makes_nobodys_edits(pair: Pair, changed: list[str]) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    await pair.publish({**LESSON, **dict.fromkeys(changed, b"deux")}, item=item)
    async with opened(pair.room, "renard") as agent:
        await Forgetful(agent, reserve_bytes=0).refresh(thorough=False)
    after = {**LESSON, **dict.fromkeys(changed, b"trois")}
    await pair.publish(after, item=item)
    await pair.refresh(set_aside=True)
    assert files_of(pair.cm1 / "Eau") == after


async def test_a_file_that_a_power_cut_emptied_is_written_again(pair: Pair) -> None:
    await pair.publish(LESSON)
    await pair.refresh()
    edit(pair.cm1 / "Eau" / "index.html", b"")
    await pair.refresh()
    assert files_of(pair.cm1 / "Eau") == LESSON


async def test_too_little_room_is_told_and_leaves_what_was_there(pair: Pair) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    await pair.publish({path: data + b" bis" for path, data in LESSON.items()}, item=item)
    await pair.refresh(reserve_bytes=2**60)
    assert files_of(pair.tree) == {f"CM1/Eau/{path}": data for path, data in LESSON.items()}
    async with opened(pair.room, "renard") as agent:
        problem = (await coursework_status(agent.replica.store))["problem"]
        assert isinstance(problem, dict)
        assert problem["code"] == "disk-full"
    await pair.refresh()
    assert files_of(pair.cm1 / "Eau")["index.html"].endswith(b" bis")
    async with opened(pair.room, "renard") as agent:
        assert await agent.replica.store.mark(TREE_TROUBLE_MARK) is None


async def test_copies_count_in_the_disk_budget_and_an_edit_outlives_the_copy(pair: Pair) -> None:
    for title in ("Ancien", "Nouveau"):
        await pair.publish({"page.html": title.encode() * 2_000}, title=title)
    await pair.refresh()
    (pair.cm1 / "Ancien" / "mes notes.txt").write_text("à moi", encoding="utf-8")

    async def within(budget_bytes: int | None) -> list[str]:
        """What doctor tells, once the tree has been brought within a budget."""
        async with opened(pair.room, "renard") as agent:
            taken = (await agent.replica.content.totals())[2]
            agent.room_limits = RoomLimits(None if budget_bytes is None else taken + budget_bytes)
            await Materializer(agent, reserve_bytes=0).refresh(thorough=False)
            desk = Desk(agent)
            await desk.ask("doctor")
            return desk.told

    told = await within(20_000)
    assert sorted(path.name for path in pair.cm1.glob("*/*")) == ["mes notes.txt", "page.html"]
    assert (pair.cm1 / "Nouveau" / "page.html").is_file(), "what came last has its copy"
    assert any("no copy of 1 of the titles" in line for line in told)
    assert not any("no copy" in line for line in await within(None))
    assert (pair.cm1 / "Ancien" / "page.html").is_file()
    assert (pair.cm1 / "Ancien" / "mes notes.txt").read_text(encoding="utf-8") == "à moi"


async def test_a_device_without_rights_keeps_what_it_has(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    await pair.publish(LESSON)
    await pair.refresh()

    async def none() -> dict[bytes, Any]:
        return {}

    async with opened(pair.room, "renard") as agent:
        monkeypatch.setattr(agent, "spaces", none)
        await Materializer(agent).refresh(thorough=True)
    assert files_of(pair.cm1 / "Eau") == LESSON


# --- for one command --------------------------------------------------------------------------------------------------


async def bring(pair: Pair, teacher: Agent, pupil: Agent) -> None:
    """What the teacher has published reaches a pupils' device that is open."""
    entries = [stored.entry for stored in await teacher.replica.store.scan(bytes.fromhex(pair.room.space))]
    await pupil.replica.admit(entries, source=b"x", now_ms=pupil.now_ms())
    for _ in range(2):  # the list of files, then the files
        for need in await pupil.missing():
            for pack in await teacher.holdings.packs(need):
                data = await teacher.replica.content.read_pack(pack.hash, 0, pack.size)
                await pupil.replica.content.ingest(need.space, data)


async def test_for_one_command_only_what_changed_is_looked_through_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.publish(LESSON)
    other = (await pair.publish({"a.txt": b"un"}, title="Autre"))["item"]
    await pair.refresh()
    looked: list[str] = []

    def noted(place: Path, *rest: Any) -> Any:
        looked.append(place.name)
        return look_through(place, *rest)

    monkeypatch.setattr(materializer, "look_through", noted)
    async with opened(pair.room, "petit") as teacher, opened(pair.room, "renard") as pupil:
        tree = Materializer(pupil, reserve_bytes=0, once=True)
        await tree.ahead()
        assert sorted(looked) == ["Autre", "Eau"]
        looked.clear()
        await Desk(teacher).publish({"a.txt": b"deux"}, item=other)
        await bring(pair, teacher, pupil)
        await tree.refresh(thorough=True, set_aside=True)
    assert looked == ["Autre"]
    assert files_of(pair.cm1) == {**{f"Eau/{path}": data for path, data in LESSON.items()}, "Autre/a.txt": b"deux"}


async def test_an_edit_made_before_a_sync_keeps_its_dated_name_whatever_the_sync_brings(pair: Pair) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    edit(pair.cm1 / "Eau" / "exercice.odt", b"le travail de Lea")
    async with opened(pair.room, "renard") as pupil:
        await Materializer(pupil, reserve_bytes=0, once=True).ahead()
    assert files_of(pair.cm1 / "Eau") == {**LESSON, DATED: b"le travail de Lea"}
    await pair.publish({**LESSON, "exercice.odt": b"deux"}, item=item)
    await pair.refresh(set_aside=True)
    assert files_of(pair.cm1 / "Eau") == {**LESSON, "exercice.odt": b"deux", DATED: b"le travail de Lea"}


async def test_before_the_names_of_spaces_have_come_no_folder_is_named(pair: Pair) -> None:
    await pair.publish(LESSON)
    async with opened(pair.room, "renard") as pupil:
        await Materializer(pupil, reserve_bytes=0, once=True).ahead()
        assert await pupil.replica.store.marks(SPACE_FOLDER_MARKS) == {}
    assert not pair.tree.exists()


MANY: Files = {f"{folder}/{number}.html": b"page %d" % number for folder in ("a", "b", "b/c") for number in range(4)}


async def changed_meanwhile(pair: Pair, item: str, after: Files, meanwhile: Callable[[Path], None]) -> None:
    """One command: the tree is looked through, a person is at work, and a new version comes."""
    async with opened(pair.room, "petit") as teacher, opened(pair.room, "renard") as pupil:
        tree = Materializer(pupil, reserve_bytes=0, once=True)
        await tree.ahead()
        meanwhile(pair.cm1 / "Eau")
        await Desk(teacher).publish(after, item=item)
        await bring(pair, teacher, pupil)
        await tree.refresh(thorough=True, set_aside=True)


@pytest.mark.parametrize(
    ("meanwhile", "kept"),
    [
        (lambda _: None, {}),
        (lambda eau: edit(eau / "b/c/1.html", b"a moi"), {b"a moi"}),
        (lambda eau: edit(eau / "b/c/notes.txt", b"a moi"), {b"a moi"}),
        (lambda eau: (eau / "b/c/1.html").unlink(), {}),
        (lambda eau: shutil.rmtree(eau / "b"), {}),
        (shutil.rmtree, {}),
    ],
    ids=["nobody", "the same file", "a file beside it", "deleted", "its folder deleted", "all deleted"],
)
async def test_what_a_person_does_while_a_sync_waits_is_seen_where_a_file_changes(
    pair: Pair, meanwhile: Callable[[Path], None], kept: set[bytes]
) -> None:
    item = (await pair.publish(MANY))["item"]
    await pair.refresh()
    after = {**MANY, "b/c/1.html": b"corrige"}
    await changed_meanwhile(pair, item, after, meanwhile)
    found = files_of(pair.cm1 / "Eau")
    assert found["b/c/1.html"] == b"corrige"
    assert {data for path, data in found.items() if path not in after} == set(kept)
    await pair.refresh(set_aside=True)
    found = files_of(pair.cm1 / "Eau")
    assert {path: found[path] for path in after} == after
    assert {data for path, data in found.items() if path not in after} == set(kept)


async def test_a_link_that_takes_a_folders_place_while_a_sync_waits_is_not_followed(pair: Pair, tmp_path: Path) -> None:
    item = (await pair.publish(MANY))["item"]
    await pair.refresh()
    outside = tmp_path / "outside"
    shutil.copytree(pair.cm1 / "Eau" / "b", outside)
    before = files_of(outside)

    def linked(eau: Path) -> None:
        shutil.rmtree(eau / "b")
        (eau / "b").symlink_to(outside)

    after = {**MANY, "b/c/1.html": b"corrige"}
    await changed_meanwhile(pair, item, after, linked)
    assert files_of(outside) == before
    await pair.refresh(set_aside=True)
    assert files_of(outside) == before
    assert files_of(pair.cm1 / "Eau") == after


async def test_for_one_changed_file_only_its_folder_is_looked_at_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = (await pair.publish(MANY))["item"]
    await pair.refresh()
    scanned: list[str] = []
    scandir = os.scandir

    def noted(place: str) -> Any:
        if str(place).startswith(str(pair.cm1)):
            scanned.append(Path(place).name)
        return scandir(place)

    def from_now_on(_: Path) -> None:
        monkeypatch.setattr(os, "scandir", noted)

    await changed_meanwhile(pair, item, {**MANY, "b/1.html": b"corrige"}, from_now_on)
    monkeypatch.undo()
    assert sorted(scanned) == ["Eau", "b"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs strace")
async def test_a_pass_killed_anywhere_leads_to_the_same_tree(pair: Pair, tmp_path: Path) -> None:
    gone = (await pair.publish({"a.txt": b"un", "b.txt": b"deux"}, title="Retirée"))["item"]
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    edit(pair.cm1 / "Eau" / "exercice.odt", b"le travail de Lea")
    edit(pair.cm1 / "Retirée" / "a.txt", b"aussi")
    (pair.cm1 / "Eau" / "notes.txt").write_bytes(b"a moi")
    after = {"index.html": b"nouveau", "images/carte.png": LESSON["images/carte.png"], "exercice.odt": b"trois"}
    await pair.publish(after, item=item, title="L'eau")
    await pair.publish({"x.txt": b"x"}, title="Nouvelle")
    await pair.tell("withdraw", item=gone)
    template = pair.room["renard"].folder
    expected = {
        **{f"CM1/L'eau/{path}": data for path, data in after.items()},
        f"CM1/L'eau/{DATED}": b"le travail de Lea",
        "CM1/L'eau/notes.txt": b"a moi",
        "CM1/Nouvelle/x.txt": b"x",
        "CM1/Retirée/a (modifié le 2026-11-24 à 10 h 12).txt": b"aussi",
    }

    with Forks("tests.harness.tree_program", env=python_environment()) as program:

        def after_each(folder: Path, point: Point, outcome: Outcome) -> None:
            assert program.run(folder, ["-e", "trace=none"])[0] == 0
            assert files_of(folder / "coursework") == expected, (point, outcome)

        points = await asyncio.to_thread(
            fault_at_every_point,
            program,
            tmp_path / "killed",
            after_each,
            fault=KILL,
            calls=("rename", "renameat", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "write"),
            template=template,
            allow_hidden=True,
        )
    assert points > 20
