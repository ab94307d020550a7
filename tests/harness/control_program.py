"""A small program with a table of commands, run as a process of its own by the tests of the control channel.

`own DIR` takes the store, says "locked", waits for a line, opens the channel, says "open", serves until its stdin ends.
`ask DIR NAME [PARAMS [BYTES]]` gives a command, with a file of BYTES zeros, and says in JSON what became of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from protocol.errors import RelaisError
from protocol.limits import FILE_PIECE_BYTES
from protocol.replica.console.command import run_command
from protocol.replica.console.control import serve_control
from protocol.replica.console.operation import (
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
from protocol.replica.console.ownership import acquire


class Zeros:
    """One file of zeros."""

    def __init__(self, size: int) -> None:
        self._size = size

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        yield FileStart("zeros", self._size)
        for offset in range(0, self._size, FILE_PIECE_BYTES):
            yield FileData(bytes(min(FILE_PIECE_BYTES, self._size - offset)))
        yield FileEnd()
        yield Complete()


class Counting:
    """Takes what comes and remembers how much."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.announced: list[int | None] = []
        self.size = 0
        self.lines: list[str] = []

    async def start(self, path: str, size: int | None) -> None:
        self.files.append(path)
        self.announced.append(size)

    async def data(self, data: bytes) -> None:
        self.size += len(data)

    async def end(self) -> None:
        pass

    async def progress(self, text: str) -> None:
        self.lines.append(text)


async def who(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
    """The process that runs the command."""
    return {"pid": os.getpid(), **params}


async def absorb(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
    """Count what comes."""
    files, size = 0, 0
    async for event in incoming:
        match event:
            case FileData(data):
                size += len(data)
            case FileEnd():
                files += 1
            case Restart():
                files, size = 0, 0
    return {"files": files, "bytes": size, "pid": os.getpid(), "peak_kib": peak_kib()}


async def mirror(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
    """Send back every file while it comes."""
    async for event in incoming:
        match event:
            case FileStart(path, size):
                await outgoing.start(path, size)
            case FileData(data):
                await outgoing.data(data)
            case FileEnd():
                await outgoing.end()
    return {"pid": os.getpid(), "peak_kib": peak_kib()}


async def wait(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
    """Never end."""
    await outgoing.progress("waiting")
    await asyncio.Event().wait()
    return {}


TABLE: Table = {"who": who, "absorb": absorb, "mirror": mirror, "wait": wait}


def say(line: str) -> None:
    """One line to the test."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def peak_kib() -> int:
    """The most memory that this program has held. (`getrusage` would count the process that it was forked from.)"""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:"))


@contextlib.asynccontextmanager
async def in_process() -> AsyncIterator[Table]:
    yield TABLE


async def own(data_dir: Path) -> None:
    owner = acquire(data_dir)
    assert owner is not None
    with owner:
        say("locked")
        await asyncio.to_thread(sys.stdin.readline)
        async with serve_control(TABLE, owner):
            say("open")
            await asyncio.to_thread(sys.stdin.read)


class Saying(Counting):
    """Says each line of progress at once."""

    async def progress(self, text: str) -> None:
        say(text)


async def ask(data_dir: Path, name: str, params: str = "{}", size: str | None = None) -> None:
    outgoing = Saying()
    incoming = NO_FILES if size is None else Zeros(int(size))
    try:
        result = await run_command(data_dir, name, json.loads(params), incoming, outgoing, in_process)
    except RelaisError as error:
        say(json.dumps({"error": error.code, "message": error.message}))
        sys.exit(error.exit_status)
    told = {"result": result, "received": outgoing.size, "pid": os.getpid(), "peak_kib": peak_kib()}
    say(json.dumps(told))


if __name__ == "__main__":
    data_dir = Path(sys.argv[2])
    asyncio.run(own(data_dir) if sys.argv[1] == "own" else ask(data_dir, *sys.argv[3:]))
