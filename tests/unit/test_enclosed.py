"""What lies in a folder is opened there, and nowhere else: on a real disk."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from sync_agent.machine.enclosed import Enclosure, lies_below

posix = pytest.mark.skipif(sys.platform == "win32", reason="made with POSIX calls")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "cours"
    (place / "a" / "b").mkdir(parents=True)
    (place / "a" / "b" / "c.txt").write_bytes(b"c")
    return place


def read(enclosure: Enclosure, below: str) -> bytes:
    with os.fdopen(enclosure.open(below), "rb") as file:
        return file.read()


def test_a_file_is_opened_at_any_depth(folder: Path) -> None:
    (folder / "top.txt").write_bytes(b"top")
    enclosure = Enclosure.of(folder)
    assert read(enclosure, os.path.join("a", "b", "c.txt")) == b"c"  # noqa: PTH118
    assert read(enclosure, "top.txt") == b"top"


@posix
def test_a_folder_is_the_one_to_which_its_name_leads(folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    assert Enclosure.of(folder.parent / "link") == Enclosure.of(folder)


@posix
@pytest.mark.parametrize("swapped", ["a", "a/b", "a/b/c.txt"])
def test_no_link_on_the_way_is_followed_even_to_the_same_file(folder: Path, swapped: str) -> None:
    enclosure = Enclosure.of(folder)
    (folder / swapped).rename(folder / "aside")
    (folder / swapped).symlink_to(folder / "aside")
    with pytest.raises(OSError) as refused:  # noqa: PT011
        read(enclosure, "a/b/c.txt")
    assert refused.value.errno in (errno.ELOOP, errno.ENOTDIR)


@posix
def test_another_folder_in_the_place_of_the_one_that_was_found_is_not_read(folder: Path) -> None:
    enclosure = Enclosure.of(folder)
    folder.rename(folder.parent / "aside")
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "c.txt").write_bytes(b"another")
    with pytest.raises(OSError) as refused:  # noqa: PT011
        read(enclosure, "a/b/c.txt")
    assert refused.value.errno == errno.ELOOP


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists what a process has open")
def test_nothing_stays_open_whether_a_file_was_opened_or_not(folder: Path) -> None:
    enclosure = Enclosure.of(folder)
    before = len([*Path("/proc/self/fd").iterdir()])
    read(enclosure, "a/b/c.txt")
    for below in ("a/b/missing", "a/missing/c.txt", "a/b/c.txt/d"):
        with pytest.raises(OSError):  # noqa: PT011
            enclosure.open(below)
    assert len([*Path("/proc/self/fd").iterdir()]) == before


@posix
def test_the_way_to_what_a_link_leads_to_is_told_where_that_lies_in_the_folder(folder: Path) -> None:
    (folder / "in").symlink_to("a/b/c.txt")
    (folder / "by-way").symlink_to("../cours/a")
    (folder / "out").symlink_to("..")
    enclosure = Enclosure.of(folder)
    assert enclosure.way_to(folder / "in") == "a/b/c.txt"
    assert enclosure.way_to(folder / "by-way") == "a"
    assert enclosure.way_to(folder / "out") is None


@pytest.mark.parametrize(
    ("place", "folder", "inside"),
    [
        (r"\\?\C:\Users\Petit\Paquet\a.txt", r"C:\Users\Petit\Paquet", True),
        (r"\\?\c:\users\petit\paquet\a.txt", r"C:\Users\Petit\Paquet", True),
        (r"C:\Users\Petit\Paquet\a.txt", r"\\?\C:\Users\Petit\Paquet", True),
        (r"\\?\UNC\serveur\cours\Paquet\a.txt", r"\\serveur\cours\Paquet", True),
        (r"\\?\C:\a.txt", "C:\\", True),
        (r"\\?\C:\Users\Petit\Paquets\a.txt", r"C:\Users\Petit\Paquet", False),
        (r"\\?\D:\Users\Petit\Paquet\a.txt", r"C:\Users\Petit\Paquet", False),
        (r"\\?\C:\Users\Petit\Documents\a.txt", r"C:\Users\Petit\Paquet", False),
    ],
)
def test_where_windows_says_that_a_file_lies_is_told_to_be_in_a_folder_or_not(
    place: str, folder: str, inside: bool
) -> None:
    assert lies_below(place, folder) is inside
