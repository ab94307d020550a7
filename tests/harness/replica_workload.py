"""A small working day of a replica, step by step: what the crash tests kill, fail and continue.

Every step may be repeated: doing the whole day again after a crash at any moment leads to the same state. A step's
`facts` say of each of its effects whether it can be seen, so that "half done" shows.

`python -m tests.harness.replica_workload FOLDER [STEPS]` runs it as a program.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeAlias

from protocol.errors import PeerFault, RelaisError
from protocol.model.entry import Entry
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.interfaces import Held, RegisterRow
from protocol.replica.storage.sqlite import SqliteStore
from protocol.transfer.chunking import chunk_list, cut, stream_id
from protocol.transfer.pack_writer import PackWriter
from tests.harness.entries import OTHER_SPACE, SPACE, EntryMaker, ids_of

FAILED_STATUS = 3


@dataclass(slots=True)
class Replica:
    """A store and its packs, in a folder;"""

    folder: Path
    store: SqliteStore
    content: PackFolder

    @classmethod
    async def open(cls, folder: Path) -> Replica:
        store = await SqliteStore.open(folder)
        try:
            return cls(folder, store, await PackFolder.open(folder, store))
        except BaseException:
            await store.close()
            raise

    async def close(self) -> None:
        await self.content.close()
        await self.store.close()


Facts: TypeAlias = "Sequence[bool]"


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is done, and whether each of its effects can be seen."""

    name: str
    do: Callable[[Replica], Awaitable[object]]
    facts: Callable[[Replica], Awaitable[Facts]]


_MAKE = EntryMaker(2)
WRITTEN = [*_MAKE.entries(2), _MAKE.entry(OTHER_SPACE, payload=bytes(6_000))]
RECEIVED = [*_MAKE.entries(2), _MAKE.entry(OTHER_SPACE)]
WAITING = _MAKE.entry()
REGISTER = RegisterRow(1, b"s" * 16, b"d" * 32, 1_000, b"state")
OWN_FILES = [b"", b"a page of text", Random(3).randbytes(70_000)]
MORE_FILES = [*OWN_FILES, b"another page of text"]
FOREIGN_FILES = [Random(4).randbytes(30_000), b"from elsewhere"]
INLINE_FILES = [b"small enough for a message"]


def stream_of(data: bytes) -> bytes:
    return stream_id(chunk_list(cut(data)))


def _pack_of(files: Sequence[bytes]) -> tuple[bytes, bytes]:
    writer = PackWriter()
    for data in files:
        for chunk in cut(data):
            writer.add_chunk(chunk)
        writer.add_stream(chunk_list(cut(data)))
    return writer.finish().hash, writer.take()


FOREIGN, FOREIGN_BYTES = _pack_of(FOREIGN_FILES)
INLINE, INLINE_BYTES = _pack_of(INLINE_FILES)


async def _build(replica: Replica, files: Sequence[bytes]) -> None:
    build = await replica.content.build(SPACE, unsent=True)
    try:
        for data in files:
            for chunk in cut(data):
                await build.chunk(chunk)
            await build.stream(chunk_list(cut(data)))
        await build.finish()
    except BaseException:
        await build.abort()
        raise


async def _download(replica: Replica) -> None:
    try:
        await _download_once(replica)
    except PeerFault:
        # what a power cut left of the part was not what had come: it has been thrown away
        await _download_once(replica)


async def _download_once(replica: Replica) -> None:
    if await replica.content.pack(FOREIGN, SPACE) is None:
        while (size := await replica.content.part_size(FOREIGN)) < len(FOREIGN_BYTES):
            await replica.content.append_part(FOREIGN, size, FOREIGN_BYTES[size : size + 16_000])
        await replica.content.finish_part(SPACE, FOREIGN, len(FOREIGN_BYTES))


async def _present(replica: Replica, entries: Sequence[Entry]) -> Facts:
    present = await replica.store.present(ids_of(entries))
    return [entry.id in present for entry in entries]


async def _readable(replica: Replica, files: Sequence[bytes]) -> Facts:
    facts = []
    for data in files:
        listed = await replica.content.chunk_list(stream_of(data))
        facts.append(listed is not None)
        if listed is not None:
            assert b"".join([piece async for piece in replica.content.read_stream(stream_of(data))]) == data
    return facts


async def _admit(replica: Replica) -> None:
    await replica.store.append([WAITING], marks={"admitted": b"1"}, release=[WAITING.id])


async def _admitted(replica: Replica) -> Facts:
    return [WAITING.id in await replica.store.present([WAITING.id]), await replica.store.mark("admitted") == b"1"]


async def _always(_: Replica) -> Facts:
    return []


async def _registered(replica: Replica) -> Facts:
    return [await replica.store.registers() == [REGISTER]]


STEPS = (
    Step(
        "what was written here is kept, and waits to be sent",
        lambda replica: replica.store.append(WRITTEN, unsent=True, marks={"written": b"1"}),
        lambda replica: _present(replica, WRITTEN),
    ),
    Step("own content", lambda replica: _build(replica, OWN_FILES), lambda replica: _readable(replica, OWN_FILES)),
    Step(
        "an entry waits in quarantine",
        lambda replica: replica.store.hold([Held(b"peer", WAITING, None)], max_entries=9, max_bytes=9_999),
        _always,
    ),
    Step("it is admitted", _admit, _admitted),
    Step("a pack arrives in parts", _download, lambda replica: _readable(replica, FOREIGN_FILES)),
    Step(
        "a page arrives, with its cursor",
        lambda replica: replica.store.append(RECEIVED, marks={"cursor": b"1", "written": None}),
        lambda replica: _present(replica, RECEIVED),
    ),
    Step(
        "a small pack arrives in a message",
        lambda replica: replica.content.ingest(OTHER_SPACE, INLINE_BYTES),
        lambda replica: _readable(replica, INLINE_FILES),
    ),
    Step(
        "a new revision shares most of its content",
        lambda replica: _build(replica, MORE_FILES),
        lambda replica: _readable(replica, MORE_FILES[-1:]),
    ),
    Step(
        "the server holds what was sent",
        lambda replica: replica.store.mark_sent(ids_of(WRITTEN)),
        _always,
    ),
    Step(
        "registers",
        lambda replica: replica.store.put_registers([REGISTER]),
        _registered,
    ),
)


async def state_of(replica: Replica) -> object:
    """Everything that can be asked, so that two replicas can be compared."""
    store, content = replica.store, replica.content
    return {
        "positions": [await store.position(space) for space in (SPACE, OTHER_SPACE)],
        "entries": [await store.scan(space) for space in (SPACE, OTHER_SPACE)],
        "unsent": ids_of(await store.unsent(1 << 20)),
        "held": await store.held(),
        "marks": await store.marks(""),
        "registers": await store.registers(),
        "totals": await content.totals(),
        "unsent packs": await content.unsent_packs(),
        "parts": [await content.part_size(pack) for pack in (FOREIGN, INLINE)],
        "readable": [await _readable(replica, files) for files in (MORE_FILES, FOREIGN_FILES, INLINE_FILES)],
        "damage": [await store.verify(), await content.verify()],
        "passing files": sorted(file.name for file in (replica.folder / "parts").iterdir()),
    }


async def live(folder: Path, say: Callable[[str], None] = lambda _: None, steps: int = len(STEPS)) -> None:
    """The day, or its first steps. Raises what the first failing step raises."""
    replica = await Replica.open(folder)
    try:
        for number, step in enumerate(STEPS[:steps]):
            await step.do(replica)
            say(f"ack {number}")
    finally:
        await replica.close()


async def check(folder: Path, done: int, unharmed: object, gone: Collection[bytes] = ()) -> None:
    """Nothing that was acknowledged is lost, no step is half done, and the day can be finished.

    `gone` are packs whose file somebody has deleted; that is told, and no more.
    """
    replica = await Replica.open(folder)
    try:
        for number, step in enumerate(STEPS):
            facts = await step.facts(replica)
            assert all(facts) or number >= done, f"lost: {step.name}"
            assert all(facts) or not any(facts), f"half done: {step.name}"
        assert await replica.store.verify() == []
        assert {damage.id for damage in await replica.content.verify()} <= {*gone}
    finally:
        await replica.close()
    await live(folder)
    replica = await Replica.open(folder)
    try:
        assert await state_of(replica) == unharmed
    finally:
        await replica.close()


async def _day(folder: Path, steps: int) -> int:
    # one worker, so that the same calls come from the same thread in every run
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    try:
        await live(folder, lambda line: print(line, flush=True), steps)  # noqa: T201  (read by the test)
    except RelaisError as error:
        print(f"failed {error.code}", flush=True)  # noqa: T201
        return FAILED_STATUS
    return 0


def run(folder: Path, steps: str = str(len(STEPS))) -> int:
    """The day in a process of its own, for `tests.harness.forks`: prints `ack N` after each step, or `failed CODE`."""
    return asyncio.run(_day(folder, int(steps)))


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), *sys.argv[2:]))
