"""Looking at the files of a title, and reading them: on a real disk."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Code, LocalFailure
from protocol.limits import FILE_PIECE_BYTES
from protocol.replica.console.operation import Complete, FileData, FileEnd, FileStart
from sync_agent.coursework.file_notes import FileNote, decode_notes, encode_notes
from sync_agent.machine.plain_files import stream_of
from sync_agent.watching.brake import Change
from sync_agent.watching.events import file_system_of
from sync_agent.watching.files import (
    Look,
    TitleFiles,
    changed_files,
    head_of,
    is_being_written,
    look_at,
    name_obstacle,
)


@pytest.fixture
def lesson(tmp_path: Path) -> Path:
    place = tmp_path / "Leçon"
    (place / "images").mkdir(parents=True)
    (place / "index.html").write_text("<h1>Eau</h1>")
    (place / "images" / "carte.png").write_bytes(b"\x89PNG" + bytes(3 * FILE_PIECE_BYTES))
    return place


def look(place: Path) -> Look:
    found = look_at(place)
    assert found is not None
    return found


def notes_of(found: Look) -> dict[str, FileNote]:
    return {
        file.path: FileNote(file.path, file.size, file.changed_ns, file.inode, stream_of(file.place) or b"")
        for file in found.files
    }


def test_a_look_finds_the_files_and_not_what_programs_leave_behind(lesson: Path) -> None:
    for name in ("~$index.docx", "Thumbs.db", ".index.html.swp"):
        (lesson / name).write_bytes(b"x")
    (lesson / "__MACOSX").mkdir()
    (lesson / "__MACOSX" / "x").write_bytes(b"x")
    found = look(lesson)
    assert [file.path for file in found.files] == ["images/carte.png", "index.html"]
    assert not found.unfinished
    assert found.obstacle is None


def test_two_looks_are_alike_until_something_changes(lesson: Path) -> None:
    before = look(lesson).likeness
    assert look(lesson).likeness == before
    seen = {before}
    for change in (
        lambda: (lesson / "index.html").write_text("<h1>EAU</h1>"),
        lambda: (lesson / "index.html").rename(lesson / "accueil.html"),
        (lesson / "vide").mkdir,
        lambda: (lesson / "film.mp4.part").write_bytes(b"x"),
        lambda: (lesson / "film.mp4.part").write_bytes(b"xy"),
        (lesson / "images" / "carte.png").unlink,
    ):
        change()
        now = look(lesson).likeness
        assert now not in seen
        seen.add(now)


def test_an_unfinished_download_is_noticed(lesson: Path) -> None:
    (lesson / "film.mp4.part").write_bytes(b"x")
    assert look(lesson).unfinished
    assert look(lesson).glimpse({}).unfinished


def test_nothing_is_no_title(tmp_path: Path) -> None:
    assert look_at(tmp_path / "nothing") is None


def test_a_link_is_never_followed(lesson: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (lesson / "lien").symlink_to(tmp_path / "secret")
    (lesson / "boucle").symlink_to(lesson)
    found = look(lesson)
    assert found.obstacle is not None
    assert found.obstacle.code is Code.UNREADABLE_FILE
    assert [file.path for file in found.files] == ["images/carte.png", "index.html"]
    assert head_of(str(lesson / "lien")) == b""
    assert stream_of(str(lesson / "lien")) is None


def test_what_is_no_file_is_named(lesson: Path) -> None:
    os.mkfifo(lesson / "tube")
    obstacle = look(lesson).obstacle
    assert obstacle is not None
    assert obstacle.path == "tube"


def test_a_name_that_windows_mangles_is_named(lesson: Path) -> None:
    (lesson / "Qui ?.html").write_text("x")
    obstacle = name_obstacle(look(lesson).files)
    assert obstacle is not None
    assert (obstacle.code, obstacle.path) == (Code.BAD_NAME, "Qui ?.html")


def test_a_glimpse_tells_what_the_rules_ask(lesson: Path) -> None:
    notes = notes_of(look(lesson))
    assert look(lesson).is_as_noted(notes)
    (lesson / "index.html").unlink()
    (lesson / "vide.txt").touch()
    (lesson / "vieux.txt").write_text("x")
    os.utime(lesson / "vieux.txt", (10, 10))
    glimpse = look(lesson).glimpse(notes)
    assert not look(lesson).is_as_noted(notes)
    assert (glimpse.lost, glimpse.empty, glimpse.coarse, glimpse.changed_bytes) == (True, True, True, 1)


def test_what_became_of_published_files_is_told_by_looks_alone(lesson: Path) -> None:
    for name in ("a", "b", "c", "d.txt"):
        (lesson / name).write_text(name)
    notes = notes_of(look(lesson))
    (lesson / "a").unlink()
    (lesson / "b").rename(lesson / "images" / "b")
    (lesson / "c").write_text("C!")
    (lesson / "d.txt").unlink()
    (lesson / "d.txt.locked").write_text("secret")
    assert changed_files(look(lesson), notes) == {
        "a": Change.GONE,
        "c": Change.REWRITTEN,
        "d.txt": Change.SCRAMBLED,
    }


@pytest.mark.skipif(sys.platform != "linux", reason="others do not tell")
def test_a_file_that_a_program_writes_is_noticed(lesson: Path) -> None:
    found = look(lesson)
    assert not is_being_written(found.files)
    with (lesson / "index.html").open("a"):
        assert is_being_written(found.files)
    assert not is_being_written(found.files)


# --- reading ----------------------------------------------------------------------------------------------------------


async def read(files: TitleFiles) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    path = ""
    async for event in files:
        match event:
            case FileStart(name, _):
                path, found[name] = name, b""
            case FileData(data):
                assert len(data) <= FILE_PIECE_BYTES
                found[path] += data
            case FileEnd():
                path = ""
            case Complete():
                return found
    raise AssertionError


async def test_files_are_read_as_they_are(lesson: Path) -> None:
    (lesson / "vide.txt").touch()
    found = look(lesson)
    assert await read(TitleFiles(lesson, found, found.files)) == {
        "images/carte.png": b"\x89PNG" + bytes(3 * FILE_PIECE_BYTES),
        "index.html": b"<h1>Eau</h1>",
        "vide.txt": b"",
    }


async def test_a_title_that_changes_while_it_is_read_is_not_read_to_its_end(lesson: Path) -> None:
    found = look(lesson)

    async def changing() -> AsyncIterator[None]:
        async for event in TitleFiles(lesson, found, found.files):
            if event == FileStart("index.html", found.files[-1].size):
                (lesson / "de plus.html").write_text("x")
            yield

    with pytest.raises(LocalFailure) as caught:
        async for _ in changing():
            pass
    assert caught.value.code is Code.CHANGING_FILE


@pytest.mark.parametrize("index", [0, 1])
async def test_a_file_that_is_not_as_it_was_found_is_not_read(lesson: Path, index: int) -> None:
    found = look(lesson)
    stale = [replace(file, size=file.size - 1) if number == index else file for number, file in enumerate(found.files)]
    with pytest.raises(LocalFailure) as caught:
        await read(TitleFiles(lesson, found, stale))
    assert caught.value.code is Code.CHANGING_FILE


# --- notes and mounts -------------------------------------------------------------------------------------------------

notes = st.builds(
    FileNote,
    path=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
    size=st.integers(0, 2**32),
    changed_ns=st.integers(-(2**62), 2**62),
    inode=st.integers(0, 2**64 - 1),
    stream=st.binary(min_size=32, max_size=32),
)


@given(st.lists(notes, unique_by=lambda note: note.path, max_size=20))
def test_notes_are_read_as_they_were_written(written: list[FileNote]) -> None:
    assert decode_notes(encode_notes(written)) == {note.path: note for note in written}


@given(st.binary(max_size=60))
def test_damaged_notes_are_no_notes(data: bytes) -> None:
    assert decode_notes(data) == {}
    assert decode_notes(None) == {}


def test_the_file_system_of_a_place_is_that_of_the_nearest_mount() -> None:
    table = (
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /mnt/Mes\\040cours rw - cifs //serveur/cours rw\n"
        "31 30 0:41 / /mnt/Mes\\040cours/local rw - ext4 /dev/sdb1 rw\n"
        "nonsense\n"
    )
    assert file_system_of("/home/petit", table) == "ext4"
    assert file_system_of("/mnt/Mes cours", table) == "cifs"
    assert file_system_of("/mnt/Mes cours/CM1", table) == "cifs"
    assert file_system_of("/mnt/Mes cours/local/x", table) == "ext4"
    assert file_system_of("/mnt/Mes coursives", table) == "ext4"
    assert file_system_of("/", "") is None
