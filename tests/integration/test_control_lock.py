"""The lock of a data folder, and the file that leads commands to its owner."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code, LocalFailure
from protocol.replica.console.command import run_command
from protocol.replica.console.control_frames import Frame, frame_bytes
from protocol.replica.console.operation import NO_FILES
from protocol.replica.console.ownership import acquire, publish_control, read_control
from tests.harness.control_owners import Programs, ask, names_in, programs_in, served
from tests.harness.control_program import Counting, in_process

if sys.platform != "win32":
    import fcntl


@pytest.fixture
async def programs(tmp_path: Path) -> AsyncIterator[Programs]:
    async with programs_in(tmp_path) as made:
        yield made


async def test_the_store_has_one_owner_at_a_time(tmp_path: Path) -> None:
    first = acquire(tmp_path)
    assert first is not None
    assert acquire(tmp_path) is None
    first.release()
    first.release()
    second = acquire(tmp_path)
    assert second is not None
    second.release()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
async def test_only_the_owner_of_the_account_can_read_the_way_in(tmp_path: Path) -> None:
    async with served(tmp_path) as control:
        run = tmp_path / "run"
        assert stat.S_IMODE(run.stat().st_mode) == 0o700
        assert stat.S_IMODE((run / "control.json").stat().st_mode) == 0o600
        assert read_control(tmp_path) == control
        assert names_in(run) == ["control.json", "lock"]
        assert not any((run / name).is_socket() for name in names_in(run))
        assert str(tmp_path) not in (run / "control.json").read_text()
    assert names_in(run) == ["lock"]


async def test_a_folder_that_is_moved_under_its_owner_still_leads_to_it(programs: Programs) -> None:
    here = programs.data_dir / "here"
    here.mkdir()
    programs.data_dir = here
    owner = await programs.own()
    programs.data_dir = here.rename(here.parent / "there")
    assert (await programs.ask("who"))["result"]["pid"] == owner.pid


async def test_a_copied_folder_has_an_owner_of_its_own(programs: Programs, tmp_path: Path) -> None:
    await programs.own()
    copy = tmp_path / "copy" / "run"
    copy.mkdir(parents=True)
    for path in (tmp_path / "run").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    programs.data_dir = copy.parent
    answer = await programs.ask("who")
    assert answer["result"]["pid"] == answer["pid"]


async def test_a_missing_data_folder_is_not_made_by_a_command_that_reads(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refusal:
        await ask(tmp_path / "nothing", "who")
    assert refusal.value.code == Code.NOT_INITIALISED
    assert not (tmp_path / "nothing").exists()
    await run_command(tmp_path / "new" / "data", "who", {}, NO_FILES, Counting(), in_process, create=True)
    assert (tmp_path / "new" / "data").is_dir()


def in_the_way_of_run(folder: Path) -> None:
    (folder / "run").write_bytes(b"")


def in_the_way_of_the_lock(folder: Path) -> None:
    (folder / "run" / "lock").mkdir(parents=True)


@pytest.mark.parametrize("obstacle", [in_the_way_of_run, in_the_way_of_the_lock])
def test_a_folder_that_cannot_be_locked_is_a_failure_of_this_machine(
    tmp_path: Path, obstacle: Callable[[Path], None]
) -> None:
    obstacle(tmp_path)
    with pytest.raises(LocalFailure) as failure:
        acquire(tmp_path)
    assert failure.value.code == Code.STORAGE_FAILED


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_place_of_a_data_folder_is_the_callers_mistake(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(BadInput) as mistake:
        acquire(tmp_path / "file" / below, create=True)
    assert mistake.value.code is Code.USAGE
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    owner = acquire(tmp_path)
    assert owner is not None
    monkeypatch.setattr(os, "open", full)
    with owner, pytest.raises(LocalFailure) as failure:
        publish_control(owner, "127.0.0.1", 1, "t")
    assert failure.value.code == Code.DISK_FULL
    with pytest.raises(LocalFailure):
        acquire(tmp_path)
    assert names_in(tmp_path / "run") == ["lock"]


@pytest.mark.parametrize("was_there", [False, True])
@pytest.mark.parametrize("left", [None, "work.txt"])
def test_a_folder_that_was_made_for_what_failed_goes_unless_something_lies_in_it(
    tmp_path: Path, *, was_there: bool, left: str | None
) -> None:
    folder = tmp_path / "dir"
    if was_there:
        folder.mkdir()
    owner = acquire(folder, create=True)
    assert owner is not None
    if left is not None:
        (folder / left).write_bytes(b"")
    with pytest.raises(ValueError, match="no answer"), owner, owner.beginning():
        raise ValueError("no answer")
    assert folder.exists() == (was_there or left is not None)
    again = acquire(folder, create=True)
    assert again is not None
    again.release()


def test_drafts_that_a_killed_owner_left_are_cleared(tmp_path: Path) -> None:
    with acquire(tmp_path) or pytest.fail("taken") as owner:
        (tmp_path / "run" / "control.json.dead").touch()
        publish_control(owner, "127.0.0.1", 1, "t")
        assert names_in(tmp_path / "run") == ["control.json", "lock"]


async def test_an_owner_that_hangs_is_said_to_and_takes_nothing_once_it_goes_on(tmp_path: Path) -> None:
    heard: list[bytes] = []
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())  # to its end: the caller goes away
        writer.close()
        gone.set()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    with acquire(tmp_path) or pytest.fail("taken") as owner:
        publish_control(owner, "127.0.0.1", port, "t")
        with pytest.raises(LocalFailure, match="does not answer") as failure:
            await run_command(tmp_path, "who", {}, NO_FILES, Counting(), in_process, patience_s=0.1)
    assert failure.value.code is Code.STORE_LOCKED
    await gone.wait()
    listener.close()
    assert frame_bytes(Frame.PARAMS, b"{}") in heard[0]
    assert frame_bytes(Frame.COMPLETE) not in heard[0].partition(frame_bytes(Frame.PARAMS, b"{}"))[2]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not replace an open file")
@pytest.mark.parametrize("replaced", [True, False])
def test_the_lock_that_counts_is_the_one_that_others_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    lock = tmp_path / "run" / "lock"
    flock = fcntl.flock

    def meddle(descriptor: int, how: int) -> None:
        monkeypatch.undo()
        lock.unlink()
        if replaced:
            lock.touch()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", meddle)
    with acquire(tmp_path) or pytest.fail("taken"):
        assert acquire(tmp_path) is None


@pytest.mark.skipif(sys.platform == "win32", reason="a lock of POSIX")
def test_a_disk_that_knows_no_locks_is_a_failure_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with pytest.raises(LocalFailure) as failure:
        acquire(tmp_path)
    assert failure.value.code == Code.STORAGE_FAILED


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"host":"127.0.0.1","port":0,"token":"t","pid":1}',
        b'{"host":"203.0.113.9","port":80,"token":"t","pid":1}',
        b'{"host":"127.0.0.1","port":80,"token":"a\\r\\nb","pid":1}',
        b'{"host":"127.0.0.1","port":80,"token":"t","pid":1}' + b" " * 5000,
        b"\xff\xfe",
    ],
)
def test_a_broken_control_file_leads_nowhere(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "control.json").write_bytes(content)
    assert read_control(tmp_path) is None
