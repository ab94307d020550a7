"""Who runs a command: the process that owns the store, or the command's own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code, LocalFailure
from protocol.replica.console.command import run_command
from protocol.replica.console.control import serve_control
from protocol.replica.console.operation import JSON, NO_FILES, Complete, FileEvent, Incoming, Outgoing, Params, Table
from protocol.replica.console.ownership import acquire, publish_control, read_control
from tests.harness.control_owners import Given, Programs, ask, line, programs_in, say, stop, told
from tests.harness.control_program import TABLE, Counting, in_process
from tests.harness.patience import until


@pytest.fixture
async def programs(tmp_path: Path) -> AsyncIterator[Programs]:
    async with programs_in(tmp_path) as made:
        yield made


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


async def test_an_owner_that_is_being_stopped_takes_no_other_command_and_ends_those_that_it_has_taken(
    tmp_path: Path,
) -> None:
    stopping, begun, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(_params: Params, _incoming: Incoming, _outgoing: Outgoing) -> JSON:
        begun.set()
        await answered.wait()
        return {"by": "the one that stops"}

    owner = acquire(tmp_path)
    assert owner is not None

    async def until_it_has_ended(_pause_s: float) -> None:
        answered.set()
        assert await earlier == {"by": "the one that stops"}
        owner.release()

    async with serve_control({"who": slow}, owner, stopping=stopping.is_set):
        earlier = asyncio.create_task(run_command(tmp_path, "who", {}, NO_FILES, Counting(), in_process))
        await begun.wait()
        stopping.set()
        later = await run_command(tmp_path, "who", {}, NO_FILES, Counting(), in_process, pause=until_it_has_ended)
    assert later == {"pid": os.getpid()}


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


async def test_of_a_caller_that_refuses_what_is_asked_of_it_the_log_does_not_say_that_it_went_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing(Counting):
        async def end(self) -> None:
            raise BadInput(Code.USAGE, "the kit does not sign this before it is said whose name that was")

    async def erase(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        await outgoing.start("question", 1)
        await outgoing.data(b"?")
        await outgoing.end()
        return {"answers": len([event async for event in incoming])}

    async def never() -> AsyncIterator[FileEvent]:
        await asyncio.Event().wait()
        yield Complete()

    owner = acquire(tmp_path)
    assert owner is not None
    with owner, caplog.at_level(logging.INFO, "protocol.replica.console.control"):
        async with serve_control({"erase": erase}, owner):
            with pytest.raises(BadInput, match="whose name that was"):
                await run_command(tmp_path, "erase", {}, never(), Refusing(), in_process)
            await until(lambda: caplog.messages)
    assert caplog.messages == ["erase was given up by who called it: they refused what it asked of them, or went away"]


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

    monkeypatch.setattr("protocol.replica.console.control.serve_control", no_port)
    assert await run_command(tmp_path, "last", {}, NO_FILES, Counting(), opened, serve_others=True) == {"done": True}
