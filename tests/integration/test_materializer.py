"""DIR/coursework after one pass: what is shown of every history of revisions, and what accidents leave."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from sync_agent.app import RoomLimits
from sync_agent.coursework import folder as folder_steps
from sync_agent.coursework.materializer import Materializer
from sync_agent.coursework.rules import NOTICE_NAME
from sync_agent.coursework.space_folders import OUR_FOLDER
from sync_agent.machine.marks import TREE_FILES_MARKS, TREE_MARKS, TREE_TROUBLE_MARK
from sync_agent.status import coursework_status
from tests.harness.commands import Desk
from tests.harness.small_disk import SmallDisk
from tests.harness.tree import LESSON, Pair, edit, files_of, likeness, opened

pytestmark = pytest.mark.usefixtures("utc")


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


async def test_too_little_room_is_told_and_leaves_what_was_there(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()
    await pair.publish({path: data + b" bis" for path, data in LESSON.items()}, item=item)
    with monkeypatch.context() as patch:
        # three files and two folders take five blocks
        SmallDisk(pair.room["renard"].folder, 4 * 4096).mount(patch)
        await pair.refresh()
    assert files_of(pair.tree) == {f"CM1/Eau/{path}": data for path, data in LESSON.items()}
    async with opened(pair.room, "renard") as agent:
        problem = (await coursework_status(agent.replica.store))["problem"]
        assert isinstance(problem, dict)
        assert problem["code"] == "disk-full"
    await pair.refresh()
    assert files_of(pair.cm1 / "Eau")["index.html"].endswith(b" bis")
    async with opened(pair.room, "renard") as agent:
        assert await agent.replica.store.mark(TREE_TROUBLE_MARK) is None


async def test_a_title_for_which_there_is_no_room_keeps_no_other_out(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.publish({"film.bin": bytes(200_000)}, title="Film")
    await pair.publish({"page.html": b"<p>"}, title="Eau")
    SmallDisk(pair.room["renard"].folder, 100_000).mount(monkeypatch)
    await pair.refresh()
    assert [path.name for path in pair.cm1.iterdir()] == ["Eau"]


async def test_where_the_disk_is_nearly_full_copies_make_way_and_come_back_but_for_what_a_person_wrote(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    for title in ("Ancien", "Nouveau"):
        item = (await pair.publish({"a/page.html": title.encode() * 100_000, "b/vide.txt": b""}, title=title))["item"]
    await pair.refresh()
    async with opened(pair.room, "renard") as agent:
        await Desk(agent).files("cat", item=item, path="b/vide.txt")
    edit(pair.cm1 / "Ancien" / "b" / "vide.txt", b"le travail de Lea")
    folder = pair.room["renard"].folder
    disk = SmallDisk(folder, 1_000_000)
    disk.mount(monkeypatch)
    (folder / "video.bin").write_bytes(bytes(600_000))
    await pair.refresh(reserve_bytes=500_000)
    assert list(files_of(pair.cm1 / "Ancien").values()) == [b"le travail de Lea"]
    assert len(files_of(pair.cm1 / "Nouveau")) == 2, "what came last stays"
    assert disk.free_bytes >= 500_000
    async with opened(pair.room, "renard") as agent:
        problem = (await coursework_status(agent.replica.store))["problem"]
        assert isinstance(problem, dict)
        assert problem["code"] == "disk-full"
    (folder / "video.bin").unlink()
    await pair.refresh(reserve_bytes=100_000)
    assert len(files_of(pair.cm1 / "Ancien")) == 3
    assert b"le travail de Lea" in files_of(pair.cm1 / "Ancien").values()


async def test_copies_make_way_on_a_disk_that_has_no_block_for_one_more_folder(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.publish(LESSON)
    await pair.refresh()
    edit(pair.cm1 / "Eau" / "exercice.odt", b"le travail de Lea")
    make = folder_steps.make_real_folder

    def full(place: Path, root: Path) -> None:
        if place.name == OUR_FOLDER and (pair.cm1 / "Eau" / "images").exists():
            raise OSError(errno.ENOSPC, "no space left")
        make(place, root)

    monkeypatch.setattr(folder_steps, "make_real_folder", full)
    await pair.refresh(reserve_bytes=2**60)
    assert list(files_of(pair.tree).values()) == [b"le travail de Lea"]


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

    told = await within(24_000)
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
