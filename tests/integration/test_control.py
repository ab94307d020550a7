from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import stat
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, PeerFault, Refused, RelaisError, TooLarge
from protocol.limits import FILE_PIECE_BYTES, MAX_FILE_BYTES, MAX_RESULT_BYTES
from protocol.replica.command import run_command
from protocol.replica.control import serve_control
from protocol.replica.control_frames import Frame, event_bytes, frame_bytes
from protocol.replica.operation import (
    JSON,
    NO_FILES,
    Complete,
    FileData,
    FileEnd,
    FileEvent,
    FileStart,
    Incoming,
    Outgoing,
    Params,
    Restart,
    Table,
)
from protocol.replica.ownership import Control, acquire, publish_control, read_control
from tests.harness.control_program import TABLE, Counting, Zeros, in_process

if sys.platform != "win32":
    import fcntl

ROOT = Path(__file__).parents[2]
LARGE = 200 * 1024 * 1024
CEILING_KIB = 80 * 1024


class Programs:
    """The processes of one test; none outlives it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.running: list[Process] = []

    async def start(self, *arguments: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.harness.control_program", *arguments, cwd=ROOT, stdin=PIPE, stdout=PIPE
        )
        self.running.append(process)
        return process

    async def own(self) -> Process:
        owner = await self.start("own", str(self.data_dir))
        assert await line(owner) == "locked"
        await say(owner)
        assert await line(owner) == "open"
        return owner

    async def ask(self, name: str, *rest: str) -> dict[str, Any]:
        process = await self.start("ask", str(self.data_dir), name, *rest)
        return await told(process)


async def line(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def told(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    answer = json.loads(await process.stdout.read())
    await process.wait()
    assert isinstance(answer, dict)
    return answer


async def say(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    await process.stdin.drain()


async def stop(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 0


@pytest.fixture
async def programs(tmp_path: Path) -> AsyncIterator[Programs]:
    started = Programs(tmp_path)
    yield started
    for process in started.running:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def served(data_dir: Path, table: Table = TABLE) -> AsyncIterator[Control]:
    owner = acquire(data_dir)
    assert owner is not None
    with owner:
        async with serve_control(table, owner, grace_s=0.0) as control:
            yield control


async def ask(
    data_dir: Path,
    name: str,
    params: Params | None = None,
    incoming: Incoming = NO_FILES,
    outgoing: Outgoing | None = None,
) -> JSON:
    return await run_command(data_dir, name, params or {}, incoming, outgoing or Counting(), in_process)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Given:
    """Events as a test wants them."""

    def __init__(self, *events: FileEvent, failure: Exception | None = None) -> None:
        self.events = events
        self.failure = failure
        self.touched = False

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        self.touched = True
        for event in self.events:
            yield event
        if self.failure is not None:
            raise self.failure


# --- who runs a command -----------------------------------------------------------------------------------------------


async def test_a_command_runs_in_its_own_process_while_nobody_owns_the_store(programs: Programs) -> None:
    answer = await programs.ask("who")
    assert answer["result"]["pid"] == answer["pid"]


async def test_a_command_is_run_by_the_process_that_owns_the_store(programs: Programs) -> None:
    owner = await programs.own()
    answer = await programs.ask("who", '{"title": "Les volcans été"}')
    assert answer["result"] == {"pid": owner.pid, "title": "Les volcans été"}
    await stop(owner)
    assert not (programs.data_dir / "run" / "control.json").exists()
    answer = await programs.ask("who")
    assert answer["result"]["pid"] == answer["pid"]


async def test_the_next_command_works_after_the_owner_was_killed(programs: Programs) -> None:
    owner = await programs.own()
    owner.kill()
    await owner.wait()
    assert (programs.data_dir / "run" / "control.json").exists()
    answer = await programs.ask("who")
    assert answer["result"]["pid"] == answer["pid"]
    assert not (programs.data_dir / "run" / "control.json").exists()


async def test_a_new_owner_removes_what_a_killed_one_left_before_anything_else(programs: Programs) -> None:
    owner = await programs.own()
    owner.kill()
    await owner.wait()
    assert read_control(programs.data_dir) is not None
    starting = await programs.start("own", str(programs.data_dir))
    assert await line(starting) == "locked"
    assert read_control(programs.data_dir) is None


async def test_a_command_says_so_when_the_owner_dies_under_it(programs: Programs) -> None:
    owner = await programs.own()
    waiting = await programs.start("ask", str(programs.data_dir), "wait")
    assert await line(waiting) == "waiting"
    owner.kill()
    answer = await told(waiting)
    assert (answer["error"], waiting.returncode) == ("internal", 1)


async def test_two_commands_at_once_both_succeed_without_an_owner(programs: Programs) -> None:
    answers = await asyncio.gather(*(programs.ask("absorb", "{}", "4000000") for _ in range(2)))
    assert [answer["result"]["bytes"] for answer in answers] == [4_000_000] * 2


async def test_two_commands_at_once_both_reach_the_owner(programs: Programs) -> None:
    owner = await programs.own()
    answers = await asyncio.gather(*(programs.ask("mirror", "{}", "4000000") for _ in range(2)))
    assert [(answer["result"]["pid"], answer["received"]) for answer in answers] == [(owner.pid, 4_000_000)] * 2


async def test_a_command_waits_for_an_owner_that_is_starting(programs: Programs) -> None:
    owner = await programs.start("own", str(programs.data_dir))
    assert await line(owner) == "locked"

    async def until_it_has_started(pause_s: float) -> None:
        assert pause_s > 0
        await say(owner)
        assert await line(owner) == "open"

    result = await run_command(
        programs.data_dir, "who", {}, NO_FILES, Counting(), in_process, pause=until_it_has_started
    )
    assert result == {"pid": owner.pid}


async def test_a_command_waits_for_an_owner_that_is_stopping(programs: Programs) -> None:
    owner = await programs.start("own", str(programs.data_dir))
    assert await line(owner) == "locked"

    async def until_it_has_ended(pause_s: float) -> None:
        owner.kill()
        await owner.wait()

    result = await run_command(programs.data_dir, "who", {}, NO_FILES, Counting(), in_process, pause=until_it_has_ended)
    assert isinstance(result, dict)
    assert result["pid"] != owner.pid


async def test_a_command_gives_up_after_thirty_seconds_of_silence(tmp_path: Path) -> None:
    now = 1000.0
    pauses: list[float] = []

    async def pass_time(pause_s: float) -> None:
        nonlocal now
        now += pause_s
        pauses.append(pause_s)

    owner = acquire(tmp_path)
    assert owner is not None
    with owner, pytest.raises(LocalFailure) as refusal:
        await run_command(tmp_path, "who", {}, NO_FILES, Counting(), in_process, monotonic=lambda: now, pause=pass_time)
    assert refusal.value.code == Code.STORE_LOCKED
    assert now == 1030.0
    assert len(pauses) < 100


async def test_a_port_where_nobody_listens_is_asked_again_and_the_files_are_kept(tmp_path: Path) -> None:
    owner = acquire(tmp_path)
    assert owner is not None
    async with serve_control(TABLE, owner) as gone:
        pass
    publish_control(owner, gone.host, gone.port, gone.token)
    files = Given(Complete())

    async def until_it_has_ended(pause_s: float) -> None:
        assert not files.touched
        owner.release()

    result = await run_command(tmp_path, "absorb", {}, files, Counting(), in_process, pause=until_it_has_ended)
    assert isinstance(result, dict)
    assert result["files"] == 0
    assert files.touched


async def test_a_foreign_program_on_the_old_port_gets_no_files(tmp_path: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    files = Given(Complete())
    owner = acquire(tmp_path)
    assert owner is not None
    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        publish_control(owner, "127.0.0.1", server.sockets[0].getsockname()[1], "old")

        async def until_it_has_ended(pause_s: float) -> None:
            assert not files.touched
            owner.release()

        await run_command(tmp_path, "absorb", {}, files, Counting(), in_process, pause=until_it_has_ended)


async def test_a_long_command_answers_others_meanwhile(tmp_path: Path) -> None:
    async def serve_one(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        return {"other": await ask(tmp_path, "who")}

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Table]:
        yield {**TABLE, "serve-one": serve_one}

    result = await run_command(tmp_path, "serve-one", {}, NO_FILES, Counting(), opened, serve_others=True)
    assert isinstance(result, dict)
    assert result["other"] is not None
    assert not (tmp_path / "run" / "control.json").exists()


async def test_a_command_that_is_over_in_a_moment_opens_no_channel(tmp_path: Path) -> None:
    async def look(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        return {"published": (tmp_path / "run" / "control.json").exists()}

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Table]:
        yield {"look": look}

    for _ in range(2):
        result = await run_command(tmp_path, "look", {}, NO_FILES, Counting(), opened, serve_others=True)
        assert result == {"published": False}


async def test_a_long_command_is_done_also_where_others_cannot_be_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = asyncio.Event()

    @contextlib.asynccontextmanager
    async def no_port(*_: object) -> AsyncIterator[None]:
        tried.set()
        raise LocalFailure(Code.ADDRESS_IN_USE, "no port")
        yield

    async def last(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        await tried.wait()
        return {"done": True}

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Table]:
        yield {"last": last}

    monkeypatch.setattr("protocol.replica.control.serve_control", no_port)
    assert await run_command(tmp_path, "last", {}, NO_FILES, Counting(), opened, serve_others=True) == {"done": True}


# --- the lock and the control file ------------------------------------------------------------------------------------


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


def test_drafts_that_a_killed_owner_left_are_cleared(tmp_path: Path) -> None:
    with acquire(tmp_path) or pytest.fail("taken") as owner:
        (tmp_path / "run" / "control.json.dead").touch()
        publish_control(owner, "127.0.0.1", 1, "t")
        assert names_in(tmp_path / "run") == ["control.json", "lock"]


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


# --- what crosses the channel -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        BadInput(Code.UNKNOWN_ITEM, "il n'y a pas de tel devoir : é"),
        Refused(Code.NO_RIGHT, "no"),
        NoAnswer(Code.UNREACHABLE, "no"),
        LocalFailure(Code.DISK_FULL, "no"),
        PeerFault(Code.BAD_HASH, "no"),
        TooLarge(Code.TOO_LARGE, "no"),
    ],
)
async def test_an_error_crosses_the_channel_as_what_it_was(tmp_path: Path, error: RelaisError) -> None:
    async def fail(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        raise error

    async with served(tmp_path, {"fail": fail}):
        with pytest.raises(RelaisError) as crossed:
            await ask(tmp_path, "fail")
    assert (type(crossed.value), crossed.value.code, crossed.value.message) == (type(error), error.code, error.message)


async def test_an_unforeseen_error_stays_in_the_owner_and_is_told_as_one_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def crash(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        raise ZeroDivisionError

    async with served(tmp_path, {**TABLE, "crash": crash}):
        with pytest.raises(LocalFailure) as crossed:
            await ask(tmp_path, "crash")
        assert crossed.value.code == Code.INTERNAL
        assert "ZeroDivisionError" in caplog.text
        assert await ask(tmp_path, "who")


async def test_an_owner_of_another_version_that_lacks_the_command_says_so(tmp_path: Path) -> None:
    async with served(tmp_path, {}):
        with pytest.raises(LocalFailure, match="does not know the command who"):
            await ask(tmp_path, "who")


async def test_files_progress_and_result_come_back_in_order(tmp_path: Path) -> None:
    async def produce(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        await outgoing.progress("un\nmoment " + "é" * 5000)
        await outgoing.start("vide.txt", 0)
        await outgoing.end()
        await outgoing.start("leçon/été.bin", None)
        await outgoing.data(b"x" * (2 * FILE_PIECE_BYTES + 1))
        await outgoing.data(b"")
        await outgoing.end()
        return ["ok", None, 1.5]

    received = Counting()
    async with served(tmp_path, {"produce": produce}):
        assert await ask(tmp_path, "produce", outgoing=received) == ["ok", None, 1.5]
    assert received.files == ["vide.txt", "leçon/été.bin"]
    assert received.announced == [0, None]
    assert received.size == 2 * FILE_PIECE_BYTES + 1
    assert received.lines[0].startswith("un\nmoment éé")


async def test_a_large_result_crosses_whole_and_one_too_large_is_an_error(tmp_path: Path) -> None:
    async def large(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        return "x" * 5_000_000

    async with served(tmp_path, {"large": large}):
        assert await ask(tmp_path, "large") == "x" * 5_000_000
    with pytest.raises(TooLarge):
        frame_bytes(Frame.RESULT, bytes(MAX_RESULT_BYTES + 1))


async def test_what_was_sent_before_a_restart_is_void(tmp_path: Path) -> None:
    files = Given(
        FileStart("a", 1), FileData(b"x"), FileEnd(), FileStart("b", 9), FileData(b"x"), Restart(),
        FileStart("b", 3), FileData(b"xyz"), FileEnd(), Complete(),
    )  # fmt: skip
    async with served(tmp_path):
        result = await ask(tmp_path, "absorb", incoming=files)
    assert isinstance(result, dict)
    assert (result["files"], result["bytes"]) == (1, 3)


async def test_a_failure_while_the_caller_reads_its_files_is_the_callers_own(tmp_path: Path) -> None:
    failure = LocalFailure(Code.CHANGING_FILE, "cours.odt changes")
    async with served(tmp_path):
        with pytest.raises(LocalFailure) as seen:
            await ask(tmp_path, "absorb", incoming=Given(FileStart("cours.odt", 3), FileData(b"x"), failure=failure))
        assert seen.value is failure
        assert await ask(tmp_path, "who")


async def test_a_failure_while_the_caller_writes_ends_the_command(tmp_path: Path) -> None:
    class Full(Counting):
        async def data(self, data: bytes) -> None:
            raise LocalFailure(Code.DISK_FULL, "full", size=len(data))

    async with served(tmp_path):
        with pytest.raises(LocalFailure, match="full"):
            await ask(tmp_path, "mirror", incoming=Zeros(30_000_000), outgoing=Full())
        assert await ask(tmp_path, "who")


async def test_an_answer_before_the_input_is_complete_ends_the_sending(tmp_path: Path) -> None:
    async def refuse(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        raise BadInput(Code.UNKNOWN_SPACE, "no such space")

    async with served(tmp_path, {"refuse": refuse}):
        with pytest.raises(BadInput, match="no such space"):
            await ask(tmp_path, "refuse", incoming=Zeros(MAX_FILE_BYTES))


async def test_a_caller_that_disappears_aborts_what_it_had_not_completed(tmp_path: Path) -> None:
    begun, aborted = asyncio.Event(), asyncio.Event()

    async def collect(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        try:
            async for _ in incoming:
                begun.set()
        except BaseException:
            aborted.set()
            raise
        return {}

    class Endless:
        async def __aiter__(self) -> AsyncIterator[FileEvent]:
            yield FileStart("a", None)
            await asyncio.Event().wait()

    async with served(tmp_path, {"collect": collect}):
        caller = asyncio.create_task(ask(tmp_path, "collect", incoming=Endless()))
        await begun.wait()
        caller.cancel()
        await aborted.wait()
        with contextlib.suppress(asyncio.CancelledError):
            await caller


async def test_a_complete_command_runs_to_its_end_though_its_caller_is_gone(tmp_path: Path) -> None:
    complete, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def keep(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        async for _ in incoming:
            pass
        complete.set()
        await go_on.wait()
        done.set()
        return {}

    async with served(tmp_path, {**TABLE, "keep": keep}):
        caller = asyncio.create_task(ask(tmp_path, "keep"))
        await complete.wait()
        caller.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await caller
        assert await ask(tmp_path, "who")
        go_on.set()
        await done.wait()


@pytest.mark.parametrize("name", ["absorb", "mirror"])
async def test_200_mb_pass_in_constant_memory(programs: Programs, name: str) -> None:
    owner = await programs.own()
    answer = await programs.ask(name, "{}", str(LARGE))
    assert answer["result"]["pid"] == owner.pid
    assert LARGE in (answer["received"], answer["result"].get("bytes"))
    assert max(answer["peak_kib"], answer["result"]["peak_kib"]) < CEILING_KIB


def no_loopback(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    """Let this machine refuse to listen on these addresses."""
    loop = asyncio.get_running_loop()
    real = loop.create_server

    async def create_server(factory: Any, host: str, *rest: Any, **named: Any) -> Any:
        if host in missing:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return await real(factory, host, *rest, **named)

    monkeypatch.setattr(loop, "create_server", create_server)


async def test_the_other_loopback_address_serves_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_loopback(monkeypatch, "127.0.0.1")
    async with served(tmp_path) as control:
        assert control.host == "::1"
        assert await ask(tmp_path, "who")


async def test_a_machine_without_loopback_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_loopback(monkeypatch, "127.0.0.1", "::1")
    with pytest.raises(LocalFailure) as failure:
        async with served(tmp_path):
            pass
    assert failure.value.code == Code.ADDRESS_IN_USE


# --- who may knock, and with what -------------------------------------------------------------------------------------


async def post(control: Control, body: bytes = b"", path: str = "/command/who", **headers: str) -> tuple[int, bytes]:
    given = {"Authorization": f"Bearer {control.token}", **headers}
    async with (
        ClientSession() as session,
        session.post(f"http://127.0.0.1:{control.port}{path}", data=body, headers=given) as response,
    ):
        return response.status, await response.read()


WHO = frame_bytes(Frame.PARAMS, b"{}") + frame_bytes(Frame.COMPLETE)


async def test_the_right_token_at_the_right_address_opens(tmp_path: Path) -> None:
    async with served(tmp_path) as control:
        status, body = await post(control, WHO)
    assert (status, body[0]) == (200, Frame.RESULT)


@pytest.mark.parametrize(
    "token", ["", "Bearer ", "Bearer x", "Basic {token}", "{token}", "Bearer {token}x", "Bearer é"]
)
async def test_a_wrong_token_is_refused(tmp_path: Path, token: str) -> None:
    async with served(tmp_path) as control:
        status, body = await post(control, WHO, Authorization=token.format(token=control.token))
    assert (status, body) == (401, b"token\n")


@pytest.mark.parametrize("host", ["localhost:{port}", "evil.example", "127.0.0.1", "evil.example:{port}"])
async def test_a_foreign_host_is_refused_even_with_the_token(tmp_path: Path, host: str) -> None:
    async with served(tmp_path) as control:
        status, _ = await post(control, WHO, Host=host.format(port=control.port))
    assert status == 403


async def test_a_web_page_is_refused_even_with_the_token(tmp_path: Path) -> None:
    async with served(tmp_path) as control:
        assert (await post(control, WHO, Origin=f"http://127.0.0.1:{control.port}"))[0] == 403
        assert (await post(control, WHO, path="/elsewhere"))[0] == 404
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{control.port}/command/who") as response:
            assert response.status == 401


def _params(body: bytes = b"{}") -> bytes:
    return frame_bytes(Frame.PARAMS, body)


def _start(size: int | None) -> bytes:
    return event_bytes(FileStart("a", size))


_MALFORMED: dict[str, bytes] = {
    "no parameters first": frame_bytes(Frame.COMPLETE),
    "parameters that are no JSON": _params(b"{"),
    "parameters that are no object": _params(b"[]"),
    "parameters that are no text": _params(b"\xff"),
    "parameters nested without end": _params(b"[" * 200_000),
    "an unknown frame": _params() + b"\x63\0\0\0\0",
    "a frame of the other direction": _params() + frame_bytes(Frame.RESULT, b"{}"),
    "parameters twice": _params() + _params(),
    "a piece too large": _params() + _start(None) + struct.pack(">BI", Frame.FILE_DATA, FILE_PIECE_BYTES + 1),
    "an end with a body": _params() + _start(0) + struct.pack(">BI", Frame.FILE_END, 1) + b"x",
    "an empty piece": _params() + _start(None) + struct.pack(">BI", Frame.FILE_DATA, 0),
    "parameters too large": struct.pack(">BI", Frame.PARAMS, 1 << 30),
    "data outside a file": _params() + event_bytes(FileData(b"x")),
    "an end outside a file": _params() + event_bytes(FileEnd()),
    "a file inside a file": _params() + _start(1) + _start(1),
    "a file longer than announced": _params() + _start(1) + event_bytes(FileData(b"xx")),
    "a file shorter than announced": _params() + _start(1) + event_bytes(FileEnd()),
    "a size below zero": _params() + _start(-1),
    "a file too large": _params() + _start(MAX_FILE_BYTES + 1),
    "a path too long": _params() + event_bytes(FileStart("a" * 2000, 0)),
    "an end in the middle of a file": _params() + _start(1) + event_bytes(Complete()),
    "a start without a path": _params() + frame_bytes(Frame.FILE_START, b'{"size":1}'),
    "a start with a size that is no number": _params() + frame_bytes(Frame.FILE_START, b'{"path":"a","size":true}'),
}


@pytest.mark.parametrize("body", _MALFORMED.values(), ids=_MALFORMED)
async def test_what_breaks_the_order_is_refused_and_the_owner_goes_on(tmp_path: Path, body: bytes) -> None:
    async with served(tmp_path) as control:
        status, answer = await post(control, body, path="/command/absorb")
        assert (status, answer[0]) == (200, Frame.FAILURE)
        assert json.loads(answer[5:])["code"] in ("malformed", "too-large")
        assert await ask(tmp_path, "who")


@pytest.mark.parametrize(
    "body", [b"", b"\x01", _params()[:-1], _params(), _params() + _start(5) + b"\x03\0\0\0\x05abc"]
)
async def test_what_ends_too_early_is_dropped_and_the_owner_goes_on(tmp_path: Path, body: bytes) -> None:
    async with served(tmp_path) as control:
        status, answer = await post(control, body, path="/command/absorb")
        assert (status, answer) == (200, b"")
        assert await ask(tmp_path, "who")


async def test_bytes_that_are_no_http_do_not_stop_the_owner(tmp_path: Path) -> None:
    async with served(tmp_path) as control:
        for noise in (b"\0" * 100, b"POST /command/who HTTP/1.1\r\n", b"\x16\x03\x01", b"A" * 100_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
            writer.write(noise)
            writer.write_eof()
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        assert await ask(tmp_path, "who")


async def test_an_owner_that_answers_nonsense_is_a_fault_and_no_crash(tmp_path: Path) -> None:
    async def answer(body: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
            writer.close()

        return serve

    owner = acquire(tmp_path)
    assert owner is not None
    for body, expected in (
        (b"", LocalFailure),
        (b"\x63\0\0\0\0", PeerFault),
        (frame_bytes(Frame.COMPLETE), PeerFault),
        (frame_bytes(Frame.PARAMS, b"{}"), PeerFault),
        (frame_bytes(Frame.FAILURE, b"[]"), PeerFault),
        (frame_bytes(Frame.FAILURE, b'{"code":"new","message":"m","exit_status":5}'), Refused),
    ):
        async with await asyncio.start_server(await answer(body), "127.0.0.1", 0) as server:
            publish_control(owner, "127.0.0.1", server.sockets[0].getsockname()[1], "t")
            with pytest.raises(expected):
                await ask(tmp_path, "who")
    owner.release()
