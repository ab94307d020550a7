"""Owners of a data folder and those who ask them, as processes and in this one, for tests of the control channel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from protocol.replica.console.command import run_command
from protocol.replica.console.control import serve_control
from protocol.replica.console.operation import (
    JSON,
    NO_FILES,
    FileEvent,
    Incoming,
    Outgoing,
    Params,
    Table,
)
from protocol.replica.console.ownership import Control, acquire
from tests.harness.control_program import TABLE, Counting, in_process

ROOT = Path(__file__).parents[2]


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


@contextlib.asynccontextmanager
async def programs_in(data_dir: Path) -> AsyncIterator[Programs]:
    """Processes over DIR; those that still run at the end are killed."""
    started = Programs(data_dir)
    try:
        yield started
    finally:
        for process in started.running:
            if process.returncode is None:
                process.kill()
            await process.communicate()


@contextlib.asynccontextmanager
async def served(data_dir: Path, table: Table = TABLE) -> AsyncIterator[Control]:
    """An owner of DIR in this process; the way to it."""
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
