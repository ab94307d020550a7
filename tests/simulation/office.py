"""The server's machine: its disk, its power, and what runs on it while it is on."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol, TypeVar, cast

from protocol.errors import RelaisError
from protocol.messages.wire import Call
from protocol.model.entry import Entry
from protocol.replica.answering.challenges import Challenges
from protocol.replica.at_work.replica import Draft, Entropy, Notes, Replica
from protocol.replica.interfaces import ContentStore, EntryStore
from protocol.replica.office.arrivals import NOTE_INTERVAL_S, note_arrivals
from protocol.replica.storage.sqlite import SqliteStore
from sync_server.handlers.store.codes_of_before import enrolment_at
from sync_server.opened.app import Server, _with_certificate, _with_next_keys
from sync_server.opened.keys import CAPABILITY_KEY_BYTES, ServerKeys, Territory
from tests.harness.wire import Frontage
from tests.simulation.disk import Disk, Power, stores
from tests.simulation.founding import ServerBirth

T = TypeVar("T")

TEND_S: Final = 120.0
KEYS: Final = "keys"
"""What a disk's image says of the keys that the server had then."""
_IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108 — a folder of our own is made in it
_NOWHERE: Final = Path("server")


class Told(Protocol):
    """Who is told of what happens on a machine."""

    def acknowledged(self, entries: Sequence[Entry]) -> None:
        """These were written durably, and whoever wrote them was told so."""

    def surprise(self, who: str, error: BaseException) -> None:
        """Something was raised that nobody foresees."""


class SimServer(Server):
    """The server; what it has written durably is told."""

    told: Told | None = None

    async def write(self, drafts: Sequence[Draft], notes: Notes | None = None) -> list[Entry]:
        entries = await super().write(drafts, notes)
        if self.told is not None:
            self.told.acknowledged(entries)
        return entries


async def open_server(
    birth: ServerBirth,
    store: EntryStore,
    content: ContentStore,
    *,
    now_ms: Callable[[], int],
    entropy: Entropy,
    folder: Path | None = None,
) -> SimServer:
    """The server over these stores; in `folder` lies what a rotation of its keys, or of the root, has made durable."""
    sqlite = cast("SqliteStore", store)
    replica = await Replica.open(birth.territory.root, store, content)
    territory, keys = birth.territory, birth.keys
    if folder is not None:
        territory, keys = Territory.read(folder), ServerKeys.read(folder)
        territory, keys = await _with_next_keys(folder, territory, keys, sqlite)
        territory = await _with_certificate(folder, territory, keys, replica)
    server = await SimServer.over(folder or _NOWHERE, territory, keys, sqlite, replica, now_ms=now_ms, entropy=entropy)
    # the same in each life: drawn from the world's randomness it would be another history
    server.responder.challenges = Challenges(bytes(32), now_ms)
    server._link_key = bytes(CAPABILITY_KEY_BYTES)
    server.responder.station = replace(server.responder.station, capability_key=server._link_key)
    server.responder.add_handler(Call.ENROLL, enrolment_at(server).answer)
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
        self._folder: Path | None = None
        self.power = Power(random, self._power_went)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Let the server do something, for as long as it has power."""
        return self._tasks.spawn(work)

    @property
    def certificate(self) -> bytes:
        """The one under which it will open: where the power cut a rotation short, its real folder says which."""
        return (self.birth.territory if self._folder is None else Territory.read(self._folder)).certificate

    async def boot(self) -> None:
        """Open what lies on the disk, and answer."""
        await self.switch_off()
        self.power = power = Power(self._random, self._power_went)
        store, content = stores(self.disk, power)
        entropy = Random(self._random.random()).randbytes
        server = await open_server(self.birth, store, content, now_ms=self.now_ms, entropy=entropy, folder=self._folder)
        if self.power is power and power.on:
            self.server, server.told = server, self._told
            self.keep_keys(server)
            self.frontage = Frontage(server.responder)
            self.spawn(self._tend(server))

    async def switch_off(self) -> None:
        """The power goes."""
        if self.power.on:
            self.power.on = False
            self._power_went()
        await self._tasks.end()

    def begin_rotation(self, server: Server) -> None:
        """Let the keys lie in a real folder from now on, where a rotation makes new ones durable beside them."""
        if self._folder is None:
            self._folder = server.folder = Path(tempfile.mkdtemp(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None))
            server.keys.write(self._folder)
            server.territory.write(self._folder)

    def keep_keys(self, server: Server) -> None:
        """Those that the server has now are its own."""
        self.birth = replace(self.birth, keys=server.keys, territory=server.territory)
        signing, agreement = server.keys.signing.seed, server.keys.agreement.seed
        self.disk.files[KEYS] = signing + agreement + server.keys.capability

    def begin_anew(self, birth: ServerBirth) -> None:
        """Be another server from the next start on."""
        self.birth = birth
        self.close()

    def close(self) -> None:
        """Throw the real folder away."""
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

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
            await note_arrivals(server.store, now_ms, server.running)
            self.disk.noted = (*noted, (now_ms, count))

    def _power_went(self) -> None:
        self.server = None
        self.frontage = None
        self.disk.lose_unflushed(self._random)
