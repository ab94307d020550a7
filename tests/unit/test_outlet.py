from __future__ import annotations

import io
import os
import stat
import sys
from datetime import datetime
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code, LocalFailure, PeerFault, RelaisError
from protocol.replica.console.operation import Outgoing
from sync_agent.console.coursework import write_page
from sync_agent.console.outlet import FolderOutlet, StdoutOutlet

posix = pytest.mark.skipif(sys.platform == "win32", reason="made with POSIX calls")


async def write(outlet: Outgoing, path: str, *pieces: bytes) -> None:
    await outlet.start(path, None)
    for piece in pieces:
        await outlet.data(piece)
    await outlet.end()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def lead_to_a_full_disk(descriptor: int) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, descriptor)
    os.close(full)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_files_are_written_straight_into_the_folder(tmp_path: Path) -> None:
    with FolderOutlet(tmp_path / "new" / "dir") as outlet:
        await write(outlet, "leçon.txt", b"a", b"b")
        await write(outlet, "x/y/z.txt")
        await write(outlet, "x/y/w.txt", b"w")
    assert tree(tmp_path / "new" / "dir") == {"leçon.txt": b"ab", "x/y/z.txt": b"", "x/y/w.txt": b"w"}


def test_no_folder_is_made_when_no_file_comes(tmp_path: Path) -> None:
    with FolderOutlet(tmp_path / "dir"):
        pass
    assert not (tmp_path / "dir").exists()


async def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"old")
    with FolderOutlet(tmp_path) as outlet:
        await outlet.start("a.txt", 3)
        await outlet.data(b"ne")
        assert (tmp_path / "a.txt").read_bytes() == b"old"
        await outlet.data(b"w")
        await outlet.end()
    assert (tmp_path / "a.txt").read_bytes() == b"new"


async def test_a_file_that_was_not_finished_is_gone(tmp_path: Path) -> None:
    with FolderOutlet(tmp_path) as outlet:
        await write(outlet, "a.txt", b"a")
        await outlet.start("b.txt", 3)
        await outlet.data(b"b")
    assert tree(tmp_path) == {"a.txt": b"a"}


@posix
async def test_what_a_killed_command_has_begun_goes_with_the_next_one_and_what_another_writes_stays(
    tmp_path: Path,
) -> None:
    (tmp_path / "x").mkdir()
    for draft in (".relais-0123456789abcdef", "x/.relais-fedcba9876543210"):
        (tmp_path / draft).write_bytes(b"ha")
    (tmp_path / ".relais-notes").write_bytes(b"hers")
    with FolderOutlet(tmp_path) as under_way, FolderOutlet(tmp_path) as outlet:
        await under_way.start("c.txt", 1)
        await write(outlet, "a.txt", b"a")
        await write(outlet, "x/b.txt", b"b")
        await under_way.data(b"c")
        await under_way.end()
    assert tree(tmp_path) == {"a.txt": b"a", "x/b.txt": b"b", "c.txt": b"c", ".relais-notes": b"hers"}


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../a", "a/../../b", "a//b", "a/", ".", "a/./b", "a\0b"])
async def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    with FolderOutlet(tmp_path / "dir") as outlet, pytest.raises(PeerFault) as refusal:
        await outlet.start(path, 1)
    assert refusal.value.code == Code.BAD_NAME
    assert names_in(tmp_path) == []


@posix
@pytest.mark.parametrize("path", ["link/a.txt", "x/link/a.txt"])
async def test_a_link_on_the_way_is_not_followed(tmp_path: Path, path: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "dir" / "x").mkdir(parents=True)
    for place in ("link", "x/link"):
        (tmp_path / "dir" / place).symlink_to(tmp_path / "outside")
    with FolderOutlet(tmp_path / "dir") as outlet, pytest.raises(BadInput) as refusal:
        await outlet.start(path, 1)
    assert (refusal.value.code, "link" in refusal.value.message) == (Code.BAD_NAME, True)
    assert names_in(tmp_path / "outside") == []


@posix
async def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "a.txt").symlink_to(tmp_path / "precious")
    with FolderOutlet(tmp_path / "dir") as outlet:
        await write(outlet, "a.txt", b"new")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (tmp_path / "dir" / "a.txt").is_symlink()


@posix
async def test_the_folder_that_the_caller_named_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "dir").symlink_to("real")
    with FolderOutlet(tmp_path / "dir") as outlet:
        await write(outlet, "a.txt", b"a")
    assert tree(tmp_path / "real") == {"a.txt": b"a"}


async def test_what_stands_in_the_way_is_named_and_kept(tmp_path: Path) -> None:
    (tmp_path / "dir" / "a.txt").mkdir(parents=True)
    (tmp_path / "dir" / "b").write_bytes(b"kept")
    with FolderOutlet(tmp_path / "dir") as outlet, pytest.raises(BadInput, match=r"a\.txt"):
        await write(outlet, "a.txt", b"a")
    with FolderOutlet(tmp_path / "dir") as outlet, pytest.raises(BadInput, match="b"):
        await write(outlet, "b/c.txt", b"a")
    with FolderOutlet(tmp_path / "dir" / "b") as outlet, pytest.raises(BadInput, match="b"):
        await write(outlet, "c.txt", b"a")
    assert tree(tmp_path / "dir") == {"b": b"kept"}


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root writes everywhere")
async def test_a_folder_that_may_not_be_written_is_a_failure_of_this_machine(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with FolderOutlet(closed) as outlet, pytest.raises(LocalFailure) as failure:
        await outlet.start("a.txt", 1)
    assert failure.value.code == Code.STORAGE_FAILED


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
async def test_a_full_disk_is_told_as_such_and_leaves_no_half_file(tmp_path: Path) -> None:
    with FolderOutlet(tmp_path) as outlet:
        await outlet.start("a.txt", 1)
        assert outlet._file is not None
        lead_to_a_full_disk(outlet._file.fileno())
        with pytest.raises(LocalFailure) as failure:
            await outlet.data(b"x" * 10_000)
    assert (failure.value.code, failure.value.exit_status) == (Code.DISK_FULL, 1)
    assert tree(tmp_path) == {}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
async def test_a_full_disk_behind_stdout_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    lead_to_a_full_disk(writing)
    with os.fdopen(reading, "rb"), os.fdopen(writing, "wb", buffering=0) as full:
        stdout = io.TextIOWrapper(full, write_through=True)
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(LocalFailure) as failure:
            await write(StdoutOutlet(), "a.txt", b"x")
        stdout.detach()
    assert failure.value.code == Code.DISK_FULL


def test_a_file_for_a_stdout_that_is_closed_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(LocalFailure, match="stdout is closed"):
        StdoutOutlet()


async def test_stdout_gets_the_bytes_of_one_file_and_nothing_else(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    outlet = StdoutOutlet()
    await outlet.progress("un instant")
    await write(outlet, "a.txt", b"\0\xff\r\n", b"end")
    with pytest.raises(RelaisError):
        await outlet.start("b.txt", 1)
    captured = capfdbinary.readouterr()
    assert (captured.out, captured.err) == (b"\0\xff\r\nend", b"un instant\n")


@posix
async def test_a_reader_that_goes_away_is_a_broken_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as pipe:
        stdout = io.TextIOWrapper(pipe, write_through=True)
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(BrokenPipeError):
            await write(StdoutOutlet(), "a.txt", b"x")
        stdout.detach()


async def test_what_a_person_wrote_there_is_set_aside_under_the_time_of_the_edit(tmp_path: Path) -> None:
    edited_s = datetime(2026, 11, 27, 14, 5).astimezone().timestamp()
    told = []
    for edited in (b"corrected", b"corrected again", b"work", b"work"):
        with FolderOutlet(tmp_path) as outlet:
            await write(outlet, "copies/copie.odt", b"work")
        told.append([(edit.path, edit.kept_as) for edit in outlet.edits])
        (tmp_path / "copies" / "copie.odt").write_bytes(edited)
        os.utime(tmp_path / "copies" / "copie.odt", (edited_s, edited_s))
    first = "copies/copie (modifié le 2026-11-27 à 14 h 05).odt"
    second = "copies/copie (modifié le 2026-11-27 à 14 h 05) (2).odt"
    assert told == [[], [("copies/copie.odt", first)], [("copies/copie.odt", second)], []]
    assert tree(tmp_path) == {"copies/copie.odt": b"work", first: b"corrected", second: b"corrected again"}


async def test_what_a_file_manager_acts_upon_at_its_sight_comes_under_a_name_that_it_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("Desktop.ini", "photos/vacances.SCF", "copie.odt", "jeu.py", "lnk")
    for folder, from_others in (("own", False), ("theirs", True)):
        with FolderOutlet(tmp_path / folder, from_others=from_others) as outlet:
            for name in names:
                await write(outlet, name, b"x")
    assert set(tree(tmp_path / "own")) == set(names)
    assert set(tree(tmp_path / "theirs")) == {
        "Desktop.ini.txt",
        "photos/vacances.SCF.txt",
        "copie.odt",
        "jeu.py",
        "lnk",
    }
    assert "photos/vacances.SCF" in capsys.readouterr().err


async def test_a_name_that_is_made_harmless_stays_a_name_and_takes_nobodys_place(tmp_path: Path) -> None:
    longest = "x" * 251 + ".lnk"
    with FolderOutlet(tmp_path, from_others=True) as outlet:
        for name, data in (("a.lnk", b"1"), ("a.lnk.txt", b"2"), (longest, b"3")):
            await write(outlet, name, data)
    written = tree(tmp_path)
    assert sorted(written.values()) == [b"1", b"2", b"3"]
    assert not [name for name in written if name.endswith(".lnk")]


async def test_where_the_system_knows_it_a_mark_says_that_pupils_made_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.console.outlet._HAS_STREAMS", True)
    for from_others in (False, True):
        marks = tmp_path / str(from_others)
        with FolderOutlet(marks, from_others=from_others) as outlet:
            await write(outlet, "copie.odt", b"x")
        # elsewhere than on Windows a stream is a file beside it
        found = [path.read_bytes() for path in marks.glob("*:Zone.Identifier")]
        assert found == ([b"[ZoneTransfer]\r\nZoneId=3\r\n"] if from_others else [])


def _modes(folder: Path) -> dict[str, str]:
    return {str(each.relative_to(folder)): oct(stat.S_IMODE(each.stat().st_mode)) for each in folder.rglob("*")}


@posix
async def test_pupils_opened_work_is_for_this_account_alone_and_a_lesson_for_whom_the_system_says(
    tmp_path: Path,
) -> None:
    before = os.umask(0o022)
    try:
        for name, from_others in (("work", True), ("lesson", False)):
            with FolderOutlet(tmp_path / name, from_others=from_others) as outlet:
                await outlet.start("Léa/b.txt", 1)
                await outlet.data(b"x")
                await outlet.end()
        (tmp_path / "common").mkdir(mode=0o755)
        with FolderOutlet(tmp_path / "common", from_others=True) as outlet:
            await outlet.start("b.txt", 1)
            await outlet.end()
    finally:
        os.umask(before)
    assert _modes(tmp_path) == {
        "work": "0o700",
        "work/Léa": "0o700",
        "work/Léa/b.txt": "0o600",
        "lesson": "0o755",
        "lesson/Léa": "0o755",
        "lesson/Léa/b.txt": "0o644",
        "common": "0o755",
        "common/b.txt": "0o600",
    }


@posix
def test_a_page_to_print_for_which_there_is_no_room_is_a_full_disk_and_leaves_nothing(tmp_path: Path) -> None:
    import resource  # noqa: PLC0415  (not on every platform)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(LocalFailure) as raised:
            write_page(tmp_path / "preuve.html", "x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.code is Code.DISK_FULL
    assert names_in(tmp_path) == []
    with pytest.raises(BadInput) as nowhere:
        write_page(tmp_path / "nowhere" / "preuve.html", "x")
    assert nowhere.value.code is Code.MISSING_FILE
