"""DIR/coursework around one command: looked through ahead of it, brought in step after it, and killed anywhere."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sync_agent.app import Agent
from sync_agent.coursework import materializer
from sync_agent.coursework.folder import look_through
from sync_agent.coursework.materializer import Materializer
from sync_agent.machine.marks import SPACE_FOLDER_MARKS
from tests.harness.classroom import Files
from tests.harness.commands import Desk
from tests.harness.forks import Forks
from tests.harness.kill_points import KILL, Outcome, Point, fault_at_every_point, python_environment
from tests.harness.tree import DATED, LESSON, Pair, edit, files_of, opened

pytestmark = pytest.mark.usefixtures("utc")


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
