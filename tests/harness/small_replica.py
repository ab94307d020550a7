"""A replica in memory whose store can be told to fail or to wait, what is said to it, and what it then holds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from random import Random

from protocol.model.entry import Entry, Kind
from protocol.model.structure import Successor
from protocol.model.work import ContentRef, ItemKind, Revision
from protocol.replica.at_work.replica import Admission, Draft, Replica
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.interfaces import Stored
from protocol.replica.storage.memory import MemoryStore
from protocol.roles import Role
from tests.harness.history import NOW_MS, World, Writer

SOURCE = b"a carrier"
Marks = Mapping[str, bytes | None]


class Store(MemoryStore):
    """A store that can be told to fail, or to be slow, at its next `append`."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: BaseException | None = None
        self.gate: asyncio.Event | None = None
        self.waiting = asyncio.Event()
        self.held_at_append: list[int] = []

    async def append(
        self,
        entries: Sequence[Entry],
        *,
        unsent: bool = False,
        marks: Marks | None = None,
        release: Iterable[bytes] = (),
    ) -> list[Stored]:
        self.held_at_append.append(len(self._held))
        if self.gate is not None:
            self.waiting.set()
            await self.gate.wait()
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return await super().append(entries, unsent=unsent, marks=marks, release=release)


async def opened(world: World, store: MemoryStore | None = None) -> Replica:
    return await Replica.open(world.root.key.public, store or Store(), MemoryPacks())


async def admit(replica: Replica, *entries: Entry, source: bytes = SOURCE) -> Admission:
    return await replica.admit(entries, source=source, now_ms=NOW_MS)


async def members(replica: Replica) -> set[bytes]:
    return {stored.entry.id for space in await replica.store.spaces() for stored in await replica.store.scan(space)}


async def quarantine(replica: Replica) -> list[bytes]:
    return [held.entry.id for held in await replica.store.held()]


def ids(entries: Sequence[Entry]) -> list[bytes]:
    return [entry.id for entry in entries]


def lesson(title: str = "Leçon") -> bytes:
    return Revision(ItemKind.LESSON, title, None, None, ContentRef(bytes(32), 1, 1)).encode()


def draft(writer: Writer, title: str = "Leçon", *, space: bytes | None = None, kind: Kind = Kind.REVISION) -> Draft:
    return Draft(space or writer.space, kind, writer.grant, lesson(title))


async def say(
    replica: Replica, writer: Writer, *titles: str, now_ms: int = NOW_MS, seed: int = 1, space: bytes | None = None
) -> list[Entry]:
    drafts = [draft(writer, title, space=space) for title in titles]
    return await replica.write(drafts, author=writer.key, now_ms=now_ms, entropy=Random(seed).randbytes)


def successors(world: World, first: Writer, count: int) -> list[Entry]:
    """A line of clones, each let in by the one before."""
    made = []
    for _ in range(count):
        key = world.new_key()
        payload = Successor.agreed(key, bytes(32), None, first.space, first.key.public).encode()
        made.append(world.say(first, first.space, Kind.SUCCESSOR, payload))
        first = Writer(key, Role.MACHINE, first.space, made[-1].id)
    return made


async def at_work(world: World) -> tuple[Replica, Writer]:
    teacher = world.enrol(Role.TEACHER, world.classes[0])
    replica = await opened(world)
    await admit(replica, *world.entries)
    return replica, teacher
