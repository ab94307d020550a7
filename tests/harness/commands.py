"""Commands given to an open agent as its command line gives them, without a process around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from protocol.replica.console.operation import (
    JSON,
    NO_FILES,
    Complete,
    FileData,
    FileEnd,
    FileEvent,
    FileStart,
    Incoming,
    Restart,
    Table,
)
from sync_agent.app import Agent
from sync_agent.operations import table
from tests.harness.classroom import Files, Given


class Received:
    """What a command sent: files by path, in order, only those that ended; and the lines that it told."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.lines: list[str] = []
        self._path = ""
        self._data = bytearray()
        self._size: int | None = None

    async def start(self, path: str, size: int | None) -> None:
        self._path, self._data, self._size = path, bytearray(), size

    async def data(self, data: bytes) -> None:
        self._data += data

    async def end(self) -> None:
        assert self._size in (None, len(self._data))
        self.files[self._path] = bytes(self._data)

    async def progress(self, text: str) -> None:
        self.lines.append(text)


class Desk:
    """An agent's commands."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.table = table(agent)
        self.told: list[str] = []

    async def ask(self, name: str, incoming: Incoming = NO_FILES, /, **params: JSON) -> Any:
        """The result of a command; what one that is refused has told is there as well."""
        received = Received()
        self.told = received.lines
        return await self.table[name](params, incoming, received)

    async def files(self, name: str, /, **params: JSON) -> dict[str, bytes]:
        """The files that a command sends."""
        received = Received()
        await self.table[name](params, NO_FILES, received)
        self.told = received.lines
        return received.files

    async def publish(self, files: Files | None, **params: JSON) -> Any:
        """Publish these files; `{"item", "revision"}`."""
        return await self.ask("publish", NO_FILES if files is None else Given(files), **params)

    async def hand_in(self, item: str, person: str, files: Files) -> str:
        """Hand these files in; the hand-in's id."""
        sizes: JSON = [[path, len(data)] for path, data in sorted(files.items())]
        result = await self.ask("hand-in", Given(files), item=item, person=person, files=sizes)
        assert result["state"] == "local"
        return str(result["id"])

    async def item(self, item: str) -> Any:
        """The row of an item."""
        (row,) = [row for row in await self.ask("items") if row["item"] == item]
        return row

    async def work(self, hand_in: str) -> Any:
        """The row of a hand-in."""
        (row,) = [row for row in await self.ask("hand-ins") if row["id"] == hand_in]
        return row


class Events:
    """Files as exactly these events; an end without `Complete` is a caller that went away, so is a `failure`."""

    def __init__(self, *events: FileEvent, failure: Exception | None = None) -> None:
        self._events = events
        self._failure = failure

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        for event in self._events:
            yield event
        if self._failure is not None:
            raise self._failure


def changed_once(first: Files, then: Files) -> Events:
    """Files of which one changes while it is read: what came is void, and everything comes again."""
    whole = [event for path, data in then.items() for event in (FileStart(path, len(data)), FileData(data), FileEnd())]
    void = [event for path, data in first.items() for event in (FileStart(path, len(data)), FileData(data), FileEnd())]
    return Events(*void, Restart(), *whole, Complete())


@asynccontextmanager
async def no_table() -> AsyncIterator[Table]:
    """For a command that finds an owner of DIR, and opens nothing itself."""
    raise AssertionError("somebody else has the store open")
    yield {}
