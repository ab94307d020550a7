"""What a teacher puts into DIR/publish, or ticks in a folder of their own, while `run` is up: real processes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.roles import Role
from tests.harness.enrolled import Class, enrolled_class
from tests.harness.machines import Machine, school
from tests.harness.patience import eventually

NOISE = Random(1)


@pytest.fixture
async def room(tmp_path: Path) -> Class:
    return await enrolled_class(tmp_path, {"petit": Role.TEACHER, "renard": Role.MACHINE})


@pytest.fixture
def petit(room: Class) -> Iterator[Machine]:
    machine = room["petit"]
    machine.start()
    eventually("the folder of the class", (machine.folder / "publish" / "CM1").is_dir)
    yield machine
    if machine.daemon is not None:
        machine.kill()


@pytest.fixture
def drop(petit: Machine) -> Path:
    return petit.folder / "publish" / "CM1"


def write(place: Path, files: dict[str, bytes | str]) -> None:
    for path, data in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(data.encode() if isinstance(data, str) else data)


def item(machine: Machine, title: str) -> dict[str, Any] | None:
    found = [row for row in machine.ok("items") if row["title"] == title]
    assert len(found) <= 1, found
    return found[0] if found else None


def published(machine: Machine, title: str, ready: Callable[[dict[str, Any]], bool] = bool) -> dict[str, Any]:
    """The item of this title, once it is there and `ready`."""

    def ask() -> dict[str, Any] | None:
        row = item(machine, title)
        return row if row is not None and ready(row) else None

    return eventually(f"“{title}” published", ask)


def revised(machine: Machine, before: dict[str, Any]) -> dict[str, Any]:
    return published(machine, before["title"], lambda row: row["revision"] != before["revision"])


def paths(row: dict[str, Any]) -> list[str]:
    return [file["path"] for file in row["files"]]


def problems(machine: Machine) -> list[dict[str, str]]:
    found: list[dict[str, str]] = machine.ok("status")["watch"]["problems"]
    return found


# --- titles -----------------------------------------------------------------------------------------------------------


def test_a_folder_becomes_a_lesson_as_a_whole(petit: Machine, drop: Path, room: Class) -> None:
    write(drop / "Le cycle de l'eau", {"index.html": "<h1>Eau</h1>", "images/carte.png": bytes(500_000), "~$x": "lock"})
    row = published(petit, "Le cycle de l'eau")
    assert (row["space"], row["kind"], row["item"]) == (room.space, "lesson", row["revision"])
    assert paths(row) == ["images/carte.png", "index.html"]
    assert petit.ok("cat", row["item"], "images/carte.png", raw=True) == bytes(500_000)


def test_a_file_beside_the_folders_is_a_title_of_its_own(petit: Machine, drop: Path) -> None:
    write(drop, {"Les volcans.odt": "PK", ".caché": "x", "film.mp4.part": "x"})
    assert paths(published(petit, "Les volcans")) == ["Les volcans.odt"]
    assert len(petit.ok("items")) == 1


def test_thousands_of_files_at_once_are_one_revision(petit: Machine, drop: Path) -> None:
    for number in range(3_000):
        write(drop / "Gros cours" / f"{number // 100}", {f"{number}.html": f"page {number}"})
    row = published(petit, "Gros cours")
    assert len(row["files"]) == 3_000
    assert row["revision"] == row["item"]


def test_saving_as_editors_do_makes_a_revision_of_the_same_item(petit: Machine, drop: Path) -> None:
    write(drop / "Leçon", {"a.txt": "un", "b.txt": "b"})
    first = published(petit, "Leçon")
    write(drop / "Leçon", {".goutputstream-1": "deux", "a.txt.tmp": "x"})
    (drop / "Leçon" / "a.txt").rename(drop / "Leçon" / "a.txt~")
    (drop / "Leçon" / ".goutputstream-1").rename(drop / "Leçon" / "a.txt")
    (drop / "Leçon" / "a.txt.tmp").unlink()
    second = revised(petit, first)
    assert second["item"] == first["item"]
    assert paths(second) == ["a.txt", "b.txt"]
    assert petit.ok("cat", second["item"], "a.txt", raw=True) == b"deux"


def test_a_title_that_was_only_touched_makes_no_revision(petit: Machine, drop: Path) -> None:
    write(drop / "Leçon", {"a.txt": "un"})
    first = published(petit, "Leçon")
    os.utime(drop / "Leçon" / "a.txt")
    write(drop, {"autre.txt": "x"})
    published(petit, "autre")
    petit.stop()
    petit.start()
    write(drop, {"encore.txt": "x"})
    published(petit, "encore")
    assert item(petit, "Leçon") == first


def test_a_renamed_folder_keeps_its_item_and_gives_it_the_new_title(petit: Machine, drop: Path) -> None:
    write(drop / "Nouveau dossier", {"a.txt": "un"})
    first = published(petit, "Nouveau dossier")
    (drop / "Nouveau dossier").rename(drop / "Les fleuves")
    assert published(petit, "Les fleuves")["item"] == first["item"]
    assert len(petit.ok("items")) == 1


def test_another_folder_in_the_place_of_a_deleted_one_is_another_item(petit: Machine, drop: Path) -> None:
    write(drop / "Les fleuves", {"a.txt": "un"})
    first = published(petit, "Les fleuves")
    shutil.rmtree(drop / "Les fleuves")
    write(drop / "Les volcans", {"a.txt": "deux fois plus"})
    assert published(petit, "Les volcans")["item"] != first["item"]
    assert item(petit, "Les fleuves") == first


def test_a_title_set_elsewhere_survives_edits_in_the_folder(petit: Machine, drop: Path) -> None:
    write(drop / "eau", {"a.txt": "un"})
    first = published(petit, "eau")
    petit.ok("publish", "--item", first["item"], "--title", "Qu'est-ce que l'eau ?", "--subject", "Sciences")
    write(drop / "eau", {"b.txt": "deux"})
    row = published(petit, "Qu'est-ce que l'eau ?", lambda row: len(row["files"]) == 2)
    assert (row["item"], row["subject"]) == (first["item"], "Sciences")


def test_deleting_never_withdraws(petit: Machine, drop: Path) -> None:
    write(drop / "Leçon", {"a.txt": "un", "b.txt": "b"})
    first = published(petit, "Leçon")
    (drop / "Leçon" / "b.txt").unlink()
    second = revised(petit, first)
    assert paths(second) == ["a.txt"]
    shutil.rmtree(drop / "Leçon")
    write(drop, {"autre.txt": "x"})
    published(petit, "autre")
    assert item(petit, "Leçon") == second
    write(drop / "Leçon", {"c.txt": "un"})
    assert revised(petit, second)["item"] == first["item"]


# --- what cannot be published -----------------------------------------------------------------------------------------


def test_a_name_that_windows_mangles_holds_the_whole_title_back(petit: Machine, drop: Path) -> None:
    write(drop / "Leçon", {"a.txt": "un", "Qui ?.txt": "deux"})
    (problem,) = eventually("a problem", lambda: problems(petit))
    assert (problem["title"], problem["path"]) == ("Leçon", "Qui ?.txt")
    done = petit.run("doctor")
    assert done.status == 1
    assert "bad-name" in [problem["code"] for problem in done.json["problems"]]
    assert petit.ok("items") == []
    (drop / "Leçon" / "Qui ?.txt").rename(drop / "Leçon" / "Qui.txt")
    assert paths(published(petit, "Leçon")) == ["Qui.txt", "a.txt"]
    assert problems(petit) == []


def test_a_link_is_not_followed(petit: Machine, drop: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    write(drop / "Leçon", {"a.txt": "un"})
    (drop / "Leçon" / "lien").symlink_to(tmp_path / "secret")
    (drop / "Leçon" / "boucle").symlink_to(drop)
    (drop / "lien").symlink_to(tmp_path / "secret")
    eventually("both problems", lambda: {problem["title"] for problem in problems(petit)} == {"Leçon", "lien"})
    assert petit.ok("items") == []
    for link in (drop / "Leçon" / "lien", drop / "Leçon" / "boucle", drop / "lien"):
        link.unlink()
    assert paths(published(petit, "Leçon")) == ["a.txt"]


def test_a_download_is_not_published_before_its_end(petit: Machine, drop: Path) -> None:
    write(drop / "Leçon", {"a.txt": "un", "film.mp4.part": "la moitié"})
    write(drop, {"témoin.txt": "x"})
    published(petit, "témoin")
    assert item(petit, "Leçon") is None
    write(drop / "Leçon", {"film.mp4.part": "tout le film"})
    (drop / "Leçon" / "film.mp4.part").rename(drop / "Leçon" / "film.mp4")
    row = published(petit, "Leçon")
    assert paths(row) == ["a.txt", "film.mp4"]
    assert row["revision"] == row["item"]


def test_a_file_that_is_still_open_is_waited_for(petit: Machine, drop: Path) -> None:
    (drop / "Leçon").mkdir()
    with (drop / "Leçon" / "film.mp4").open("wb") as film:
        film.write(b"une partie, ")
        film.flush()
        write(drop, {"témoin.txt": "x"})
        published(petit, "témoin")
        assert item(petit, "Leçon") is None
        film.write(b"et le reste")
    row = published(petit, "Leçon")
    assert petit.ok("cat", row["item"], "film.mp4", raw=True) == b"une partie, et le reste"
    assert row["revision"] == row["item"]


def test_only_a_teachers_device_has_a_publish_folder(room: Class) -> None:
    renard = room["renard"]
    renard.start()
    try:
        renard.ok("status")
        assert not (renard.folder / "publish").exists()
    finally:
        renard.stop()


def test_spaces_of_one_name_have_folders_of_their_own(tmp_path: Path) -> None:
    with school(tmp_path) as here:
        other = here.server.ok("space", "add", "CM1", "--school", "0180002Y")["space"]
        laptop = here.enrol("laptop", "teacher")
        here.server.ok("grant", "--device", laptop.ok("status")["device"], "--space", other)
        laptop.start()
        places = [laptop.folder / "publish" / name for name in ("CM1", "CM1 (2)")]
        eventually("both folders", lambda: all(place.is_dir() for place in places))
        for place in places:
            write(place, {f"{place.name}.txt": "x"})
        rows = [published(laptop, place.name) for place in places]
        assert {row["space"] for row in rows} == {here.space, other}
        before = {row["title"]: row["space"] for row in rows}
        laptop.kill()
        laptop.start()
        write(places[1], {"encore.txt": "x"})
        assert published(laptop, "encore")["space"] == before["CM1 (2)"]


# --- starting again ---------------------------------------------------------------------------------------------------


def test_changes_made_while_the_agent_was_down_are_published_and_others_are_not(petit: Machine, drop: Path) -> None:
    write(drop / "Leçon", {"a.txt": "un"})
    write(drop / "Autre", {"a.txt": "un"})
    before = published(petit, "Leçon")
    other = published(petit, "Autre")
    petit.kill()
    write(drop / "Leçon", {"b.txt": "deux"})
    write(drop / "Nouvelle", {"c.txt": "trois"})
    petit.start()
    assert paths(revised(petit, before)) == ["a.txt", "b.txt"]
    published(petit, "Nouvelle")
    assert item(petit, "Autre") == other


def test_a_moved_data_folder_publishes_nothing_again(petit: Machine, drop: Path, tmp_path: Path) -> None:
    write(drop / "Leçon", {"a.txt": "un"})
    before = published(petit, "Leçon")
    petit.stop()
    shutil.copytree(petit.folder, tmp_path / "moved")
    moved = Machine("moved", tmp_path / "moved", "sync-agent")
    moved.start()
    try:
        write(moved.folder / "publish" / "CM1", {"témoin.txt": "x"})
        published(moved, "témoin")
        assert item(moved, "Leçon") == before
    finally:
        moved.kill()


# --- the brake --------------------------------------------------------------------------------------------------------


def lessons(drop: Path, titles: int = 4, files: int = 6) -> None:
    for title in range(titles):
        write(
            drop / f"Leçon {title}", {f"{file}.txt": f"Page {file} de la leçon {title}. " * 50 for file in range(files)}
        )


def scramble(place: Path) -> None:
    for path in sorted(place.rglob("*.txt")):
        path.write_bytes(NOISE.randbytes(path.stat().st_size))


def test_a_burst_that_scrambles_what_is_published_pauses_and_asks(petit: Machine, drop: Path) -> None:
    lessons(drop)
    before = {title: published(petit, f"Leçon {title}") for title in range(4)}
    scramble(drop)

    def all_told() -> dict[str, Any] | None:
        told: dict[str, Any] | None = petit.ok("status")["watch"]["paused"]
        return told if told is not None and len(told["titles"]) == len(before) else None

    paused = eventually("a pause that names all", all_told)
    write(drop, {"LISEZ-MOI.txt": "payez"})
    assert paused["files"] == 24
    assert "paused" in [problem["code"] for problem in petit.run("doctor").json["problems"]]
    petit.kill()
    petit.start()
    assert petit.ok("status")["watch"]["paused"] == paused
    assert {title: item(petit, f"Leçon {title}") for title in range(4)} == before
    assert item(petit, "LISEZ-MOI") is None
    petit.ok("watch", "resume")
    after = revised(petit, before[3])
    published(petit, "LISEZ-MOI")
    eventually("the brake watches again", lambda: petit.ok("status")["watch"]["paused"] is None)
    petit.ok("restore", after["item"], "--revision", before[3]["revision"])
    restored = item(petit, "Leçon 3")
    assert restored is not None
    assert restored["revision"] not in (before[3]["revision"], after["revision"])
    assert petit.ok("cat", restored["item"], "0.txt", raw=True).startswith(b"Page 0")


def test_files_that_get_a_further_extension_pause_too(petit: Machine, drop: Path) -> None:
    lessons(drop, titles=2)
    before = {title: published(petit, f"Leçon {title}") for title in range(2)}
    scramble(drop)
    for path in sorted(drop.rglob("*.txt")):
        path.rename(f"{path}.locked")
    eventually("a pause", lambda: petit.ok("status")["watch"]["paused"])
    assert {title: item(petit, f"Leçon {title}") for title in range(2)} == before


def test_a_lesson_that_is_written_anew_does_not_pause(petit: Machine, drop: Path) -> None:
    lessons(drop, titles=1, files=12)
    before = published(petit, "Leçon 0")
    write(drop / "Leçon 0", {f"{file}.txt": f"Une nouvelle page {file}. " * 50 for file in range(12)})
    revised(petit, before)
    assert petit.ok("status")["watch"]["paused"] is None


def test_an_earlier_revision_comes_back_even_of_a_withdrawn_item(petit: Machine, drop: Path) -> None:
    write(drop / "Leçon", {"a.txt": "un"})
    first = published(petit, "Leçon")
    write(drop / "Leçon", {"a.txt": "deux"})
    second = revised(petit, first)
    petit.ok("withdraw", first["item"])
    petit.ok("restore", first["item"], "--revision", first["revision"])
    row = item(petit, "Leçon")
    assert row is not None
    assert not row["withdrawn"]
    assert petit.ok("cat", row["item"], "a.txt", raw=True) == b"un"
    assert petit.run("restore", first["item"], "--revision", "00" * 32).code == "unknown-revision"
    petit.ok("restore", first["item"], "--revision", second["revision"])
    assert petit.ok("cat", row["item"], "a.txt", raw=True) == b"deux"


# --- folders of the teacher's own -------------------------------------------------------------------------------------


def test_of_a_folder_of_ones_own_only_what_is_ticked_is_published(petit: Machine, drop: Path, room: Class) -> None:
    own = petit.folder.parent / "Mes cours"
    write(own / "Les volcans", {"a.txt": "un"})
    write(own, {"Brouillon.txt": "x", "fiche.odt": "y"})
    added = petit.ok("watch", "add", str(own), "--space", room.space)
    assert added["titles"] == ["Brouillon", "Les volcans", "fiche"]
    write(drop, {"témoin.txt": "x"})
    published(petit, "témoin")
    assert len(petit.ok("items")) == 1
    petit.ok("watch", "tick", "Les volcans", str(own / "fiche.odt"))
    first = published(petit, "Les volcans")
    published(petit, "fiche")
    write(own / "Les volcans", {"b.txt": "deux"})
    second = revised(petit, first)
    (own / "Les volcans").rename(own / "Les volcans d'Auvergne")
    renamed = published(petit, "Les volcans d'Auvergne")
    assert renamed["item"] == first["item"] == second["item"]
    rows = {row["title"]: (row["ticked"], row["item"]) for row in petit.ok("watch", "list")}
    assert rows["Brouillon"] == (False, None)
    assert rows["Les volcans d'Auvergne"] == (True, first["item"])
    petit.ok("watch", "untick", "Les volcans d'Auvergne")
    write(own / "Les volcans d'Auvergne", {"c.txt": "trois"})
    write(drop, {"encore.txt": "x"})
    published(petit, "encore")
    assert item(petit, "Les volcans d'Auvergne") == renamed
    petit.ok("watch", "remove", str(own))
    assert [row["folder"] for row in petit.ok("watch", "list")] == [str(drop)] * 2


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["add", "{nothing}", "--space", "{space}"], 2, "missing-file"),
        (["add", "{data}/coursework", "--space", "{space}"], 2, "usage"),
        (["add", "{data}/..", "--space", "{space}"], 2, "usage"),
        (["add", "{own}", "--space", "00"], 2, "unknown-space"),
        (["tick", "Nulle part"], 2, "unknown-path"),
        (["remove", "{own}"], 2, "missing-file"),
    ],
)
def test_what_cannot_be_watched_is_refused(
    petit: Machine, room: Class, tmp_path: Path, words: list[str], status: int, code: str
) -> None:
    (tmp_path / "own").mkdir()
    (petit.folder / "coursework").mkdir(exist_ok=True)
    given = {"nothing": tmp_path / "x", "data": petit.folder, "own": tmp_path / "own", "space": room.space}
    done = petit.run("watch", *(word.format(**given) for word in words))
    assert (done.status, done.code) == (status, code)


def test_a_pupils_machine_watches_nothing(room: Class, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    done = room["renard"].run("watch", "add", str(tmp_path / "own"), "--space", room.space)
    assert (done.status, done.code) == (5, "no-right")


def test_resuming_what_is_not_paused_changes_nothing(petit: Machine) -> None:
    assert petit.ok("watch", "resume") == {}
