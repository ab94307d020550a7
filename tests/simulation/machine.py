"""An agent's machine: its disk, its clock, its power, its line, and the daemon that runs on it while it is on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, TypeVar, cast

from protocol.errors import Code, LocalFailure, RelaisError
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry
from protocol.replica.at_work.keyring import Keyring
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.storage.second_copy import SecondCopy
from sync_agent.app import Agent
from sync_agent.coursework.reading import Manifests
from sync_agent.machine.enrolled import DEVICE_KEYS_FILE, FORMER_KEYS_FILE, Enrolment, LetIn
from sync_agent.machine.former import FormerKey
from sync_agent.machine.key_slots import KeySlots
from sync_agent.machine.marks import HAND_IN_MARKS
from sync_agent.machine.reading_keys import ReadingKeys
from sync_agent.machine.sync_result import SyncResult
from sync_agent.scheduler import Scheduler
from sync_agent.school.measures import DrillTransport, ordered
from sync_agent.sync.hearing import listening
from sync_agent.sync.session import Session
from tests.harness.wire import URL
from tests.simulation.disk import Disk, Power, stores
from tests.simulation.founding import Birth
from tests.simulation.lines import Far, Line
from tests.simulation.office import Tasks, Told

T = TypeVar("T")

POLL_S = (3_000.0, 6_000.0)


class SimSecrets:
    """Small files on the simulated disk."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def read(self, name: str) -> bytes:
        return self._files.get(name, b"")

    def is_there(self, name: str) -> bool:
        return name in self._files

    def keep(self, name: str, data: bytes) -> None:
        self._files[name] = data

    def overwrite(self, name: str, pieces: Mapping[int, bytes]) -> None:
        data = bytearray(self._files[name])
        for at, piece in pieces.items():
            data[at : at + len(piece)] = piece
        self._files[name] = bytes(data)

    def drop(self, name: str) -> None:
        self._files.pop(name, None)


class SimAgent(Agent):
    """The agent; what it has written durably is told.

    But not where its machine was let go: under a key that it had before, and nobody cut off, it promises nothing.
    """

    told: Told
    is_let_go: Callable[[], bool]

    async def take_former(self, former: Sequence[FormerKey]) -> None:
        """What a folder holds of the keys that the device had before."""
        self.agreements = (self.keys.agreement, *(each.agreement for each in former))
        self.keyring = Keyring(self.replica, self.agreements, (self.device,))
        self.former = frozenset(each.device for each in former)
        names = await self.replica.store.marks(HAND_IN_MARKS)
        self._made_before = frozenset(bytes.fromhex(name.removeprefix(HAND_IN_MARKS)) for name in names)

    def _note_let_in(self) -> None:
        """As the agent's, for as long as this one runs: no file of a simulated disk lies where programs run."""
        first = self.first_right
        if self.enrolment.let_in is None and first is not None:
            self.enrolment = replace(self.enrolment, let_in=LetIn.of(first))

    async def write(
        self,
        *drafts: Draft,
        marks: Callable[[Sequence[Entry]], Mapping[str, bytes | None]] | None = None,
        follows: bool = True,
    ) -> list[Entry]:
        entries = await super().write(*drafts, marks=marks, follows=follows)
        if not self.is_let_go():
            self.told.acknowledged(entries)
        return entries


@lru_cache(maxsize=64)
def _keys_in(held: bytes) -> DeviceKeys:
    return DeviceKeys.from_bytes(held)


class _NoCopy:
    """What is kept beside the database for the day on which its pages rot: here they do not."""

    def append(self, entries: object, marks: object = None) -> None:
        """Nothing."""

    def replace(self, entries: object, marks: object = None) -> None:
        """Nothing."""

    def clear(self) -> None:
        """Nothing."""


class Machine:
    """A machine, which may be off. `skew_ms` is how wrong its clock is."""

    def __init__(
        self,
        birth: Birth,
        name: str,
        disk: Disk,
        far: Far,
        random: Random,
        true_ms: Callable[[], int],
        told: Told,
        note: Callable[[str], None],
        *,
        daemon: bool,
    ) -> None:
        self.birth = birth
        self.name = name
        self.disk = disk
        self.skew_ms = 0
        self.agent: SimAgent | None = None
        self.session: Session | None = None
        self.scheduler: Scheduler | None = None
        self.manifests = Manifests()
        self.line = Line(far, random, note)
        self.revoked = False
        self.remembers = True
        self.keeps_time = True
        self.daemon = daemon
        self.heeds = False
        """Whether anything was ever ordered that it should heed."""
        self.hangs = False
        """Whether its program has stopped, and its connections stand (`mornings`)."""
        self._random = random
        self._true_ms = true_ms
        self.told = told
        self.note = note
        self._tasks = Tasks(name, told)
        self.power = Power(random, self._power_went)
        self.power.on = False

    def now_ms(self) -> int:
        """What its clock says."""
        return max(0, self._true_ms() + self.skew_ms)

    @property
    def keys(self) -> DeviceKeys:
        """Those that it has now: a clone has taken others than it was enrolled with."""
        held = self.disk.files.get(DEVICE_KEYS_FILE)
        return self.birth.keys if held is None else _keys_in(held)

    def take_keys(self, keys: DeviceKeys) -> None:
        """Be another device from the next start on."""
        self.disk.files[f"{FORMER_KEYS_FILE}/{self.device.hex()}"] = FormerKey.of(self.keys).to_bytes()
        self.disk.files[DEVICE_KEYS_FILE] = keys.to_bytes()

    def _former(self) -> list[FormerKey]:
        prefix = f"{FORMER_KEYS_FILE}/"
        return [FormerKey.from_bytes(held) for name, held in self.disk.files.items() if name.startswith(prefix)]

    @property
    def device(self) -> bytes:
        return self.keys.signing.public

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Let the machine do something, for as long as it has power."""
        return self._tasks.spawn(work)

    async def boot(self) -> None:
        """Open what lies on the disk; a daemon begins to sync."""
        await self.switch_off()
        self.power = power = Power(self._random, self._power_went)
        store, content = stores(self.disk, power)
        entropy = Random(self._random.random()).randbytes
        enrolment = Enrolment(URL, self.birth.root, "Cher", self.birth.name)
        replica = await Replica.open(self.birth.root, store, content)
        agent = await SimAgent.over(Path(self.name), enrolment, self.keys, replica, now_ms=self.now_ms, entropy=entropy)
        if former := self._former():
            await agent.take_former(former)
        agent._introduction = agent._outbox = cast("SecondCopy", _NoCopy())
        agent.secrets = SimSecrets(self.disk.files)
        agent.reading_keys = ReadingKeys(agent.secrets)
        drawn = Random(f"slots {self.name} {self._true_ms()}").randbytes
        agent.key_slots = KeySlots(lambda: agent.secrets, store, drawn)
        agent.told, agent.is_let_go = self.told, lambda: self.revoked
        agent.steady_ms = self._true_ms
        if self.power is not power or not power.on:
            return
        self.agent, self.manifests = agent, Manifests()
        transport = DrillTransport(self.line, URL)
        self.session = session = Session(agent, transport)
        self.scheduler = scheduler = Scheduler(
            lambda routine: self._sync(session, transport, routine=routine),
            poll_s=POLL_S,
            monotonic=asyncio.get_running_loop().time,
            draw=self._random.uniform,
        )
        if self.daemon:
            agent.on_change = scheduler.wake
            self.spawn(self._serve(session, transport, scheduler))

    async def switch_off(self) -> None:
        """The power goes."""
        if self.power.on:
            self.power.on = False
            self._power_went()
        await self._tasks.end()

    async def sync(self) -> SyncResult:
        """The command `sync`."""
        if self.scheduler is None:
            return SyncResult()
        return await self.scheduler.sync_now()

    async def _sync(self, session: Session, transport: DrillTransport, *, routine: bool) -> SyncResult:
        if self.heeds:
            transport.follow(await ordered(session.agent))
        return await session.sync(routine=routine)

    async def _serve(self, session: Session, transport: DrillTransport, scheduler: Scheduler) -> None:
        try:
            async with listening(session, transport, scheduler):
                await scheduler.run_forever()
        except RelaisError as error:
            self.told.surprise(self.name, error)
        finally:
            for met in session.agent.unforeseen.rows():
                self.told.surprise(self.name, LocalFailure(Code.INTERNAL, f"{met.what} at {met.where}"))

    def _power_went(self) -> None:
        self.agent = self.session = self.scheduler = None
        self.disk.lose_unflushed(self._random)
