"""What DIR/coursework shows and how things are called there."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.limits import MAX_PATH_COMPONENT_BYTES
from protocol.portable_names import check_portable, compared, portable_name
from protocol.transfer.chunking import chunk_list, cut, stream_id
from protocol.transfer.manifest import ManifestEntry
from sync_agent.coursework.copies_room import DiskRoom, Taken, making_way, room_beyond, taken
from sync_agent.coursework.folder import folders_above
from sync_agent.coursework.rules import NOTICE_NAME, dated_name, fitting, is_dated, is_denied, local_time, wanted_files
from sync_agent.coursework.space_folders import folder_name, free_name

EDITED = dt.datetime(2026, 11, 24, 10, 12, tzinfo=dt.UTC)


def entry(path: str) -> ManifestEntry:
    return ManifestEntry(path, 10, stream_id(chunk_list(cut(path.encode()))))


@pytest.mark.parametrize(
    ("path", "denied"),
    [
        ("jeu.exe", True),
        ("JEU.EXE", True),
        ("photo.jpg.lnk", True),
        ("Desktop.ini", True),
        ("reglages.ini", False),
        ("bureau.rdp", True),
        ("tri.py", False),
        ("scripts/jeu.js", True),
        ("notes.docm", True),
        ("notes.docx", False),
        ("index.html", False),
        ("exe", False),
        ("exe/lisez-moi.txt", False),
        ("dossier.exe/lisez-moi.txt", True),
        ("Jeu.app/Contents/MacOS/jeu", True),
        ("lecon.mobileconfig", True),
    ],
)
def test_what_runs_as_a_program_is_left_out(path: str, denied: bool) -> None:
    assert is_denied(path) is denied
    assert (path in wanted_files([entry(path)])) is not denied


def test_what_is_left_out_is_named_in_a_text_file() -> None:
    wanted = wanted_files([entry("index.html"), entry("b/jeu.js"), entry("a.exe")])
    assert set(wanted) == {"index.html", NOTICE_NAME}
    notice = wanted[NOTICE_NAME]
    assert notice.data is not None
    assert notice.data.decode("utf-8-sig").splitlines()[-2:] == ["  - a.exe", "  - b/jeu.js"]
    assert (notice.size, notice.stream) == (len(notice.data), stream_id(chunk_list(cut(notice.data))))


def test_the_text_file_never_hides_a_file_of_the_lesson() -> None:
    wanted = wanted_files([entry("a.exe"), entry(NOTICE_NAME.upper())])
    assert set(wanted) == {NOTICE_NAME.upper(), "Fichiers non copiés (2).txt"}


def test_a_lesson_without_such_files_has_no_text_file() -> None:
    assert set(wanted_files([entry("index.html")])) == {"index.html"}


def test_an_edit_is_dated_by_the_minute() -> None:
    first = dated_name("exercice.odt", EDITED, [])
    assert first == "exercice (modifié le 2026-11-24 à 10 h 12).odt"
    assert dated_name("exercice.odt", EDITED, [first]) == "exercice (modifié le 2026-11-24 à 10 h 12) (2).odt"
    assert (
        dated_name("Mon dossier v1.2 final", EDITED, []) == "Mon dossier v1.2 final (modifié le 2026-11-24 à 10 h 12)"
    )
    ogham_space = "\u1680"
    assert dated_name(ogham_space, EDITED, []).startswith(ogham_space)


def test_a_time_that_no_calendar_holds_is_dated_all_the_same() -> None:
    assert local_time(2**62).year > 2000
    assert local_time(10**25).year == 1970


names = st.text(min_size=1, max_size=300).map(portable_name)


@given(names, st.lists(names, max_size=5))
def test_a_dated_name_is_portable_and_free(name: str, taken: list[str]) -> None:
    found = dated_name(name, EDITED, [name, *taken])
    assert is_dated(found)
    assert not is_dated(name)
    assert not check_portable([found])
    assert len(found.encode()) <= MAX_PATH_COMPONENT_BYTES
    assert compared(found) not in {compared(other) for other in [name, *taken]}


@given(names, st.lists(names, max_size=5), st.booleans())
def test_a_free_name_differs_as_every_file_system_compares(name: str, taken: list[str], is_file: bool) -> None:
    found = free_name(name, taken, is_file=is_file)
    assert compared(found) not in {compared(other) for other in taken}
    if compared(name) not in {compared(other) for other in taken}:
        assert found == name


def test_a_second_title_of_a_name_is_numbered() -> None:
    assert free_name("Volcans", ["VOLCANS", "Volcans (2)"]) == "Volcans (3)"
    assert free_name("Chapitre 1.5", ["Chapitre 1.5"]) == "Chapitre 1.5 (2)"


def test_within_a_budget_what_was_used_last_has_a_copy_and_without_one_everything_has() -> None:
    sizes = {b"old": 40, b"new": 50, b"huge": 500, b"tiny": 10}
    used_ms = {b"old": 1, b"new": 9, b"huge": 8, b"tiny": 2}
    assert fitting(sizes, used_ms, None) == set(sizes)
    assert fitting(sizes, used_ms, 60) == {b"new", b"tiny"}
    assert fitting(sizes, used_ms, 600) == set(sizes)
    assert fitting(sizes, used_ms, 0) == set()


def test_each_file_and_each_folder_takes_a_block_at_least() -> None:
    assert taken([0, 1, 4096, 4097], folders_above(["a/b/c.txt", "a/d.txt"]), 4096) == Taken(
        (1 + 1 + 1 + 2 + 3) * 4096, 7
    )


def test_what_was_used_longest_ago_makes_way_first_and_no_more_than_is_needed() -> None:
    takes = {b"old": Taken(40, 1), b"new": Taken(50, 1), b"older": Taken(10, 90)}
    used_ms = {b"old": 2, b"new": 9, b"older": 1}
    assert making_way(takes, used_ms, Taken(0, 0)) == []
    assert making_way(takes, used_ms, Taken(10, 0)) == [b"older"]
    assert making_way(takes, used_ms, Taken(0, 91)) == [b"older", b"old"]
    assert making_way(takes, used_ms, Taken(1_000, 0)) == [b"older", b"old", b"new"]


@pytest.mark.parametrize(
    ("needed", "fits"), [(Taken(100, 10), True), (Taken(101, 1), False), (Taken(1, 11), False), (Taken(0, 0), True)]
)
def test_a_title_finds_room_where_there_is_room_for_its_bytes_and_for_its_files(needed: Taken, fits: bool) -> None:
    assert DiskRoom(100, 10).holds(needed) is fits
    assert DiskRoom(100, None).holds(Taken(100, 10**9)), "a disk that does not tell"
    assert DiskRoom(-5, 10).lacking == Taken(5, 0)
    assert DiskRoom(5, -10).lacking == Taken(0, 10)


def test_the_room_of_this_disk_is_what_is_free_beyond_the_reserve(tmp_path: Path) -> None:
    assert room_beyond(tmp_path, 1_000, 400).size == 600


@given(st.dictionaries(st.binary(max_size=3), st.integers(0, 100), max_size=12), st.integers(0, 300))
def test_copies_never_take_more_than_there_is_room_for(sizes: dict[bytes, int], room_bytes: int) -> None:
    assert sum(sizes[item] for item in fitting(sizes, sizes, room_bytes)) <= room_bytes


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("CORREC~1", "CORREC-1"),
        ("CO1A2B~1.TXT", "CO1A2B-1.TXT"),
        ("~12", "-12"),
        ("~ 30 minutes", "~ 30 minutes"),
        ("Eau ~", "Eau ~"),
    ],
)
def test_no_folder_of_a_class_or_title_is_called_as_windows_calls_another_in_short(name: str, called: str) -> None:
    assert folder_name(name) == called


def test_a_name_with_a_sign_that_macos_overlooks_is_taken_where_the_one_without_it_is() -> None:
    assert free_name("Eau\u200d", ["eau"]) == "Eau\u200d (2)"
