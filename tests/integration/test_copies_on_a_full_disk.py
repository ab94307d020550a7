"""DIR/coursework on a disk that fills while it is brought in step: copies make way, what a person wrote stays seen."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from sync_agent.coursework import folder as folder_steps
from sync_agent.coursework.folder import Lying, make_durable
from sync_agent.coursework.materializer import Materializer
from sync_agent.coursework.space_folders import OUR_FOLDER
from sync_agent.machine.marks import TREE_FILES_MARKS, TREE_MARKS
from tests.harness.full_disk import FullDisk
from tests.harness.small_disk import SmallDisk
from tests.harness.tree import DATED, LESSON, Pair, edit, files_of, opened

pytestmark = pytest.mark.usefixtures("utc")
WORK = b"le travail de Lea"


class _Crash(BaseException):
    """A program ends here."""


async def _renamed_without_room(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> str:
    """A title is renamed and grows; for what is new there is no room, so that its former files have the new name."""
    item = (await pair.publish({"film.bin": bytes(200_000), "corrige.txt": b"le corrige"}, title="Eau"))["item"]
    await pair.refresh()
    edit(pair.cm1 / "Eau" / "devoir.odt", WORK)
    await pair.publish({"film.bin": b"1" * 400_000, "autre.txt": b"x"}, item=item, title="La pluie")
    SmallDisk(pair.room["renard"].folder, 100_000).mount(monkeypatch)
    await pair.refresh()
    assert set(files_of(pair.cm1)) == {"La pluie/film.bin", "La pluie/corrige.txt", "La pluie/devoir.odt"}
    return item


async def test_a_title_that_was_renamed_and_found_no_room_makes_way(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _renamed_without_room(pair, monkeypatch)
    await pair.refresh(reserve_bytes=2**60)
    assert files_of(pair.tree) == {"CM1/La pluie/devoir.odt": WORK}
    async with opened(pair.room, "renard") as agent:
        assert not await agent.replica.store.marks(TREE_MARKS)
        assert not await agent.replica.store.marks(TREE_FILES_MARKS)
    monkeypatch.undo()
    await pair.refresh()
    assert set(files_of(pair.cm1)) == {"La pluie/film.bin", "La pluie/autre.txt", "La pluie/devoir.odt"}


async def test_a_title_that_was_renamed_and_found_no_room_goes_when_it_is_withdrawn(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = await _renamed_without_room(pair, monkeypatch)
    monkeypatch.undo()
    await pair.tell("withdraw", item=item)
    await pair.refresh()
    assert files_of(pair.tree) == {"CM1/La pluie/devoir.odt": WORK}


@pytest.mark.parametrize("ends", ["before its new name is noted", "after"])
async def test_a_title_that_is_withdrawn_after_a_crash_amid_its_renaming_goes(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    item = (await pair.publish({"film.bin": bytes(2000), "corrige.txt": b"le corrige"}, title="Eau"))["item"]
    await pair.refresh()
    edit(pair.cm1 / "Eau" / "devoir.odt", WORK)
    await pair.publish({"film.bin": b"1"}, item=item, title="La pluie")
    async with opened(pair.room, "renard") as agent:
        set_marks = agent.replica.store.set_marks

        async def crash(marks: dict[str, bytes | None]) -> None:
            if ends == "after":
                await set_marks(marks)
            raise _Crash

        monkeypatch.setattr(agent.replica.store, "set_marks", crash)
        with pytest.raises(_Crash):
            await Materializer(agent).refresh(thorough=True)
        monkeypatch.undo()
    await pair.tell("withdraw", item=item)
    await pair.refresh()
    name = "Eau" if ends.startswith("before") else "La pluie"
    assert files_of(pair.tree) == {f"CM1/{name}/devoir.odt": WORK}


async def test_copies_make_way_though_what_was_noted_of_them_found_no_room(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.publish({"film.bin": bytes(800_000)}, title="Ancien")
    await pair.refresh()
    await pair.publish({"page.html": b"<p>" * 9000}, title="Nouveau")
    async with opened(pair.room, "renard") as agent:
        disk = FullDisk(agent.folder, monkeypatch, 2_000_000)
        disk.mount(monkeypatch)
        tree = Materializer(agent, reserve_bytes=500_000)

        def as_a_film_fills_the_disk(places: Sequence[Path]) -> None:
            make_durable(places)
            disk.fill()

        with monkeypatch.context() as patch:
            patch.setattr("sync_agent.coursework.materializer.make_durable", as_a_film_fills_the_disk)
            await tree.refresh(thorough=True)
        assert set(files_of(pair.cm1)) == {"Ancien/film.bin", "Nouveau/page.html"}
        await tree.refresh(thorough=True)
        assert set(files_of(pair.tree)) == {"CM1/Nouveau/page.html"}
        assert disk.free_bytes >= 500_000
        disk.fill()
        await tree.refresh(thorough=True)
        assert not files_of(pair.tree), "what was noted last is known as well"
        disk.make_room()
        await tree.refresh(thorough=True)
        assert set(files_of(pair.cm1)) == {"Ancien/film.bin", "Nouveau/page.html"}


async def test_what_a_crash_hid_is_seen_again_though_nothing_can_be_brought_in_step_any_more(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = (await pair.publish({"film.bin": bytes(2000)}, title="Eau"))["item"]
    await pair.refresh()
    edit(pair.cm1 / "Eau" / "devoir.odt", WORK)
    await pair.publish({"film.bin": b"1"}, item=item, title="La pluie")
    async with opened(pair.room, "renard") as agent:

        async def crash(_: Mapping[str, bytes | None]) -> None:
            raise _Crash

        with monkeypatch.context() as patch:
            patch.setattr(agent.replica.store, "set_marks", crash)
            with pytest.raises(_Crash):
                await Materializer(agent).refresh(thorough=True)
    assert list(files_of(pair.tree)) != ["CM1/Eau/devoir.odt"], "it lies in .relais"

    async def none() -> dict[bytes, Any]:
        return {}

    async with opened(pair.room, "renard") as agent:
        monkeypatch.setattr(agent, "spaces", none)  # its right has ended meanwhile
        await Materializer(agent).refresh(thorough=True)
    assert set(files_of(pair.tree)) == {"CM1/Eau/film.bin", "CM1/Eau/devoir.odt"}


async def test_a_name_that_could_not_be_noted_leaves_a_title_where_it_was(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = (await pair.publish({"film.bin": bytes(200_000)}, title="Eau"))["item"]
    await pair.refresh()
    edit(pair.cm1 / "Eau" / "devoir.odt", WORK)
    await pair.publish({"film.bin": b"1"}, item=item, title="La pluie")
    async with opened(pair.room, "renard") as agent:
        disk = FullDisk(agent.folder, monkeypatch)
        disk.fill()
        await Materializer(agent, reserve_bytes=0).refresh(thorough=True)
    assert set(files_of(pair.tree)) == {"CM1/Eau/film.bin", "CM1/Eau/devoir.odt"}


def _no_block_for(is_there: Callable[[Path], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk has no block for folders that are made there."""
    mkdir = Path.mkdir

    def make(self: Path, *rest: Any, **named: Any) -> None:
        if is_there(self):
            raise OSError(errno.ENOSPC, "no space left")
        mkdir(self, *rest, **named)

    monkeypatch.setattr(Path, "mkdir", make)


async def test_what_a_person_wrote_is_seen_and_copies_make_way_where_no_folder_can_be_made(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    for title in ("Eau", "Terre"):
        await pair.publish(LESSON, title=title)
    await pair.refresh()
    edit(pair.cm1 / "Eau" / "devoir.odt", WORK)
    edit(pair.cm1 / "Eau" / "exercice.odt", b"autre travail")
    (pair.tree / OUR_FOLDER / "old-of-another").mkdir(parents=True)  # a crash left it: it takes no block now
    _no_block_for(lambda place: pair.tree in place.parents, monkeypatch)
    await pair.refresh(reserve_bytes=2**60)
    assert files_of(pair.tree) == {"CM1/Eau/devoir.odt": WORK, f"CM1/Eau/{DATED}": b"autre travail"}


async def test_what_a_person_wrote_stands_one_folder_higher_where_its_own_cannot_be_made(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = (await pair.publish({"a.html": b"a", "b/b.html": b"b", "c.html": b"c"}))["item"]
    await pair.refresh()
    edit(pair.cm1 / "Eau" / "b" / "devoir.odt", WORK)
    await pair.publish({"a.html": b"aa", "c.html": b"cc"}, item=item)
    _no_block_for(lambda place: place == pair.cm1 / "Eau" / "b", monkeypatch)
    await pair.refresh()
    assert files_of(pair.tree) == {"CM1/Eau/a.html": b"aa", "CM1/Eau/c.html": b"cc", "CM1/Eau/devoir.odt": WORK}


@pytest.mark.parametrize("put_away", [True, False], ids=["in .relais", "where it lies"])
async def test_what_is_saved_after_a_copy_was_looked_at_stays_when_it_makes_way(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, *, put_away: bool
) -> None:
    await pair.publish(LESSON)
    await pair.refresh()
    look_through = folder_steps.look_through
    saved = list[str]()

    def saved_in_that_moment(place: Path, *rest: Any) -> Mapping[str, Lying]:
        found = look_through(place, *rest)
        if not saved and "exercice.odt" in found:
            saved.append(found["exercice.odt"].place)
            edit(Path(saved[0]), WORK)
        return found

    monkeypatch.setattr(folder_steps, "look_through", saved_in_that_moment)
    if not put_away:
        images = pair.cm1 / "Eau" / "images"
        _no_block_for(lambda place: place.name == OUR_FOLDER and images.exists(), monkeypatch)
    await pair.refresh(reserve_bytes=2**60)
    assert (OUR_FOLDER in saved[0]) is put_away
    assert list(files_of(pair.tree).values()) == [WORK]
