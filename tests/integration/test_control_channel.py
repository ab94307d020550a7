"""What crosses the control channel: errors, files, progress, results."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, PeerFault, Refused, RelaisError, TooLarge
from protocol.limits import FILE_PIECE_BYTES, MAX_FILE_BYTES, MAX_RESULT_BYTES
from protocol.replica.console.control_frames import Frame, frame_bytes
from protocol.replica.console.operation import (
    JSON,
    Complete,
    FileData,
    FileEnd,
    FileEvent,
    FileStart,
    Incoming,
    Outgoing,
    Params,
    Restart,
)
from tests.harness.control_owners import Given, Programs, ask, programs_in, served
from tests.harness.control_program import TABLE, Counting, Zeros

LARGE = 200 * 1024 * 1024
CEILING_KIB = 80 * 1024


@pytest.fixture
async def programs(tmp_path: Path) -> AsyncIterator[Programs]:
    async with programs_in(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    "error",
    [
        BadInput(Code.UNKNOWN_ITEM, "il n'y a pas de tel devoir : é"),
        BadInput(Code.USAGE, "laquelle ?", choices=[{"space": "ab12", "name": "CM1 é"}]),
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
    assert crossed.value.facts == error.facts


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
