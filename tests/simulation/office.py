"""The server's machine: its disk, its power, and what runs on it while it is on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol, TypeVar, cast

from protocol.entry import Entry
from protocol.errors import RelaisError
from protocol.replica.arrivals import NOTE_INTERVAL_S, note_arrivals
from protocol.replica.interfaces import ContentStore, EntryStore
from protocol.replica.office.enrolment import Enrolment
from protocol.replica.replica import Draft, Entropy, Replica
from protocol.replica.sqlite import SqliteStore
from protocol.wire import Call
from sync_server.app import Server
from tests.harness.wire import Frontage
from tests.simulation.disk import Disk, Power, stores
from tests.simulation.founding import ServerBirth

T = TypeVar("T")

TEND_S: Final = 120.0


class Told(Protocol):
    """Who is told of what happens on a machine."""

    def acknowledged(self, entries: Sequence[Entry]) -> None:
        """These were written durably, and whoever wrote them was told so."""

    def surprise(self, who: str, error: BaseException) -> None:
        """Something was raised that nobody foresees."""


class SimServer(Server):
    """The server; what it has written durably is told."""

    told: Told | None = None

    async def write(self, drafts: Sequence[Draft]) -> list[Entry]:
        entries = await super().write(drafts)
        if self.told is not None:
            self.told.acknowledged(entries)
        return entries


async def open_server(
    birth: ServerBirth, store: EntryStore, content: ContentStore, *, now_ms: Callable[[], int], entropy: Entropy
) -> SimServer:
    """The server over these stores."""
    sqlite = cast("SqliteStore", store)
    replica = await Replica.open(birth.territory.root, store, content)
    server = await SimServer.over(
        Path("server"), birth.territory, birth.keys, sqlite, replica, now_ms=now_ms, entropy=entropy
    )
    server.responder.add_handler(Call.ENROLL, Enrolment(server, server.contacts.note_enrolment).answer)
    return server


class Tasks:
    """The tasks of a machine, ended together when its power goes."""

    def __init__(self, who: str, told: Told) -> None:
        self._who = who
        self._told = told
        self._running: dict[asyncio.Task[Any], None] = {}

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something that the power may end."""
        task = asyncio.ensure_future(work)
        self._running[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, RelaisError):
            self._told.surprise(self._who, error)

    async def end(self) -> None:
        """End all of them."""
        ending = list(self._running)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    @property
    def idle(self) -> bool:
        return not self._running


class Office:
    """The server, which may be off. Everything that people do there is done by its own handlers."""

    def __init__(self, birth: ServerBirth, disk: Disk, random: Random, now_ms: Callable[[], int], told: Told) -> None:
        self.birth = birth
        self.disk = disk
        self.now_ms = now_ms
        self.server: Server | None = None
        self.frontage: Frontage | None = None
        self._random = random
        self._told = told
        self._tasks = Tasks("server", told)
        self.power = Power(random, self._power_went)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Let the server do something, for as long as it has power."""
        return self._tasks.spawn(work)

    async def boot(self) -> None:
        """Open what lies on the disk, and answer."""
        await self.switch_off()
        self.power = power = Power(self._random, self._power_went)
        store, content = stores(self.disk, power)
        entropy = Random(self._random.random()).randbytes
        server = await open_server(self.birth, store, content, now_ms=self.now_ms, entropy=entropy)
        if self.power is power and power.on:
            self.server, server.told = server, self._told
            self.frontage = Frontage(server.responder)
            self.spawn(self._tend(server))

    async def switch_off(self) -> None:
        """The power goes."""
        if self.power.on:
            self.power.on = False
            self._power_went()
        await self._tasks.end()

    async def _tend(self, server: Server) -> None:
        """What `run` does beside answering."""
        while True:
            await server.space_keeper.tend_grown()
            await self._note(server)
            await asyncio.sleep(TEND_S)

    async def _note(self, server: Server) -> None:
        """What is here now, every few minutes."""
        now_ms, noted = self.now_ms(), self.disk.noted
        if not noted or now_ms - noted[-1][0] >= NOTE_INTERVAL_S * 1000:
            count = len(self.disk.store._entries)
            await note_arrivals(server.store, now_ms)
            self.disk.noted = (*noted, (now_ms, count))

    def _power_went(self) -> None:
        self.server = None
        self.frontage = None
        self.disk.lose_unflushed(self._random)
