"""How many entries a second one core lets in: through the bare door, into memory, into SQLite durably.

The entries are those of a class at work: people on the list, revisions, hand-ins of 25 machines. Each comes as a
message carries it and goes all the way: parsed, its commitment and its signature checked, its grant and rights judged;
then, on the second and third line, admitted by a replica in pages as a sync brings them, each page one transaction, on
disk before the next. The process is bound to one core, so that seconds are seconds of that core, waits for the disk
included. A line of its own is the floor: one signature for each entry, verified by the library that we use, no more.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final

from bench.results import Figure, Result, Setting
from protocol.canonical import Value
from protocol.clock import at_from
from protocol.identity import SigningKey, school_id, territory_id
from protocol.limits import PAGE_BYTES, SALT_BYTES
from protocol.model.entry import Entry, Kind, compose, from_wire, signature_holds, to_wire
from protocol.model.structure import Certificate, Grant, PersonRecord, SpaceRecord
from protocol.model.work import ContentRef, HandIn, ItemKind, Revision
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.interfaces import ContentStore, EntryStore
from protocol.replica.storage.memory import MemoryStore
from protocol.replica.storage.sqlite import SqliteStore
from protocol.rights.door import Door, Outcome
from protocol.roles import PersonRole, Role

ENTRIES: Final = 24_000
GOAL_PER_S: Final = 8_000.0
_MACHINES: Final = 25
_START_MS: Final = 1_795_000_000_000
_UAI: Final = "0180001X"


class ClassAtWork:
    """A territory with one class, and what is written in it."""

    def __init__(self, seed: int = 1) -> None:
        self.random = Random(seed)
        self.entries: list[Entry] = []
        self._tips: dict[tuple[bytes, bytes], bytes] = {}
        self.root, self.server = self._key(), self._key()
        self.territory = territory_id(self.root.public)
        certificate = Certificate(self.server.public, self._bytes(32))
        self.certificate = self.say(self.root, None, self.territory, Kind.CERTIFICATE, certificate.encode())
        school = SpaceRecord("École", uai=_UAI)
        self.say(self.server, self.certificate, self.territory, Kind.SPACE, school.encode())
        made = SpaceRecord("CM1", year="2026-2027").encode()
        self.space = self.say(self.server, self.certificate, school_id(self.territory, _UAI), Kind.SPACE, made)
        self.teacher = self._let_in(Role.TEACHER)
        self.machines = [self._let_in(Role.MACHINE) for _ in range(_MACHINES)]

    def say(
        self,
        author: SigningKey,
        grant: bytes | None,
        space: bytes,
        kind: Kind,
        payload: bytes,
        about: bytes | None = None,
    ) -> bytes:
        """Write an entry; its id. It names the author's latest one as `prev`."""
        before = self._tips.get((space, author.public))
        entry = compose(
            author=author,
            space=space,
            kind=kind,
            grant=grant,
            at=at_from(_START_MS + 1_000 * len(self.entries), 0),
            payload=payload,
            salt=self._bytes(SALT_BYTES),
            subject=about,
            prev=[] if before is None else [before],
        )
        self._tips[space, author.public] = entry.id
        self.entries.append(entry)
        return entry.id

    def work(self) -> None:
        """One more entry of the class."""
        draw = self.random.random()
        content = ContentRef(self._bytes(32), self.random.randrange(1 << 20), 1)
        pupil = self._bytes(16)
        if draw < 0.25:  # noqa: PLR2004  (a quarter of the entries are people)
            record = PersonRecord(f"Camille Élève {len(self.entries)}", PersonRole.PUPIL)
            self.say(self.server, self.certificate, self.space, Kind.PERSON, record.encode(), pupil)
        elif draw < 0.5:  # noqa: PLR2004  (a quarter are revisions)
            revision = Revision(ItemKind.LESSON, f"Leçon {len(self.entries)}", "Français", None, content)
            self.say(*self.teacher, self.space, Kind.REVISION, revision.encode())
        else:
            machine = self.random.choice(self.machines)
            self.say(*machine, self.space, Kind.HAND_IN, HandIn(content, self._bytes(32)).encode(), pupil)

    def _let_in(self, role: Role) -> tuple[SigningKey, bytes]:
        key = self._key()
        grant = Grant(key.public, self._bytes(32), self._bytes(32), role, None, None)
        return key, self.say(self.server, self.certificate, self.space, Kind.GRANT, grant.encode())

    def _key(self) -> SigningKey:
        return SigningKey(self._bytes(32))

    def _bytes(self, count: int) -> bytes:
        return self.random.randbytes(count)


def measure(setting: Setting) -> Iterator[Result]:
    """The lines of the table."""
    school = ClassAtWork()
    while len(school.entries) < ENTRIES:
        school.work()
    pages = list(_pages([to_wire(entry) for entry in school.entries]))
    folder = setting.work / "admission"
    with one_core():
        floor = _verify_all(school.entries)
        yield Result("admission", "the signatures alone (the floor)", _figures(*floor))
        yield _result("the bare door", *_through_the_door(school.root.public, pages))
        yield _result("into memory", *asyncio.run(_admit_to_memory(school.root.public, pages)))
        shutil.rmtree(folder, ignore_errors=True)
        yield _result("into SQLite, durable", *asyncio.run(_admit_to_sqlite(school.root.public, pages, folder)))
    shutil.rmtree(folder)


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and the threads that it starts meanwhile, on one core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _verify_all(entries: Sequence[Entry]) -> tuple[float, float]:
    began = _now()
    if not all(map(signature_holds, entries)):
        raise AssertionError("an honest signature does not hold")
    return _since(began)


def _through_the_door(root: bytes, pages: Sequence[Sequence[Value]]) -> tuple[float, float]:
    door = Door(root)
    began = _now()
    for page in pages:
        for value in page:
            entry = from_wire(value)
            if door.examine(entry).outcome is not Outcome.ADMIT:
                raise AssertionError("the door refuses an honest entry")
            door.learn(entry)
    return _since(began)


async def _admit_to_memory(root: bytes, pages: Sequence[Sequence[Value]]) -> tuple[float, float]:
    return await _admit(root, pages, MemoryStore(), MemoryPacks())


async def _admit_to_sqlite(root: bytes, pages: Sequence[Sequence[Value]], folder: Path) -> tuple[float, float]:
    store = await SqliteStore.open(folder)
    return await _admit(root, pages, store, await PackFolder.open(folder, store))


async def _admit(
    root: bytes, pages: Sequence[Sequence[Value]], store: EntryStore, content: ContentStore
) -> tuple[float, float]:
    replica = await Replica.open(root, store, content)
    began = _now()
    admitted = 0
    for page in pages:
        entries = [from_wire(value) for value in page]
        admission = await replica.admit(entries, source=bytes(32), now_ms=_START_MS)
        admitted += len(admission.admitted)
    spent = _since(began)
    await replica.close()
    if admitted != sum(map(len, pages)):
        raise AssertionError("the replica did not admit all")
    return spent


def _pages(values: Sequence[Sequence[Value]]) -> Iterator[Sequence[Value]]:
    """Pages of about the size in which a sync brings them."""
    page: list[Value] = []
    size = 0
    for value in values:
        page.append(value)
        size += sum(len(part) for part in value if isinstance(part, bytes))
        if size >= PAGE_BYTES:
            yield page
            page, size = [], 0
    yield page


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(began: tuple[float, float]) -> tuple[float, float]:
    return time.perf_counter() - began[0], time.process_time() - began[1]


def _figures(wall_s: float, cpu_s: float) -> dict[str, Figure]:
    return {"entries_per_s": ENTRIES / wall_s, "entries_per_cpu_s": ENTRIES / cpu_s}


def _result(what: str, wall_s: float, cpu_s: float) -> Result:
    return Result("admission", what, _figures(wall_s, cpu_s), {"entries_per_s": GOAL_PER_S})
