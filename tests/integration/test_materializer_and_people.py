"""DIR/coursework after one pass, where people were at work: edits and files stay, links of theirs are not followed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from sync_agent.coursework.folder import NewFile, write_files
from tests.harness.tree import DATED, LESSON, Pair, edit, files_of

pytestmark = pytest.mark.usefixtures("utc")


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


async def test_so_does_one_that_is_saved_while_the_revision_is_being_written(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = (await pair.publish(LESSON))["item"]
    await pair.refresh()

    def written_while_lea_saves(files: Iterable[NewFile], changed_ns: int) -> list[tuple[int, int]]:
        (pair.cm1 / "Eau" / "exercice.odt").write_bytes(b"le travail de Lea")
        return write_files(files, changed_ns)

    monkeypatch.setattr("sync_agent.coursework.materializer.write_files", written_while_lea_saves)
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
