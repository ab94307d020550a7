"""What a caller lacks of some content, in packs made for who holds a part of it (docs/protocol.md, "Batches").

Whose base is unknown, whose content came by other ways or made way in part, would get whole packs, of which most is
there already. Such a caller names what it holds; what remains is one batch, whatever the number of chunks.

Rules:
- a batch is an ordinary pack whose streams name far chunks; it lies among the deltas, in their budget, and who lacks
  the same gets the same;
- it is made while the caller waits, one at a time, of a bounded size; where it is not clearly less, packs go out;
- nobody waits for another's batch, and what one device lets be made in an hour is bounded, its copies included: packs
  bring the same, and who asks a little differently each time keeps nobody from being answered;
- it holds nothing of content that the caller may not read: what may be asked for was decided before.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from blake3 import blake3

from protocol.errors import LocalFailure, PeerFault
from protocol.limits import BATCH_PERIOD_MS, MAX_BATCH_BYTES, MAX_BATCHED_BYTES_PER_PERIOD, MiB
from protocol.messages.held_names import HeldNames
from protocol.replica.content.deltas.bases import read_range
from protocol.replica.content.holdings import Holdings, Need
from protocol.replica.interfaces import ContentStore, DeltaInfo, PackInfo
from protocol.transfer.chunking import ChunkList, ChunkRef, stream_bytes
from protocol.transfer.pack_writer import PackWriter

_LEVEL: Final = 9
_REMEMBERED: Final = 256
# a batch must be that much less than all of it, and than packs
_WORTH: Final = 0.75


@dataclass(frozen=True, slots=True)
class _Run:
    """Chunks of a stream, one behind the other, that are to be brought."""

    stream: bytes
    start: int
    chunks: tuple[ChunkRef, ...]

    @property
    def length(self) -> int:
        return sum(chunk.length for chunk in self.chunks)


class Batches:
    """Makes batches from one replica's content, and remembers which it has made. `now_ms` only tells hours apart."""

    def __init__(self, content: ContentStore, holdings: Holdings, *, now_ms: Callable[[], int]) -> None:
        self._content = content
        self._holdings = holdings
        self._now_ms = now_ms
        self._is_making = False
        self._made: OrderedDict[bytes, tuple[bytes, ...]] = OrderedDict()
        self._period = -1
        self._spent: dict[bytes, int] = {}

    async def lacking(self, need: Need, held: HeldNames, packs_bytes: int, *, line: bytes) -> list[PackInfo]:
        """Packs of what is not `held` of some content; none where packs, of so many bytes, are as good.

        None either while one is being made, or when `line`, the device that asks with its copies, has had its share.
        """
        lists = await self._holdings.lists(need)
        if lists is None:
            return []
        fresh = {stream: chunks for stream, chunks in lists.items() if not held.has(stream)}
        runs = list(_lacking(lists, held))
        all_bytes = sum(stream_bytes(chunks) for chunks in lists.values())
        if not fresh or sum(run.length for run in runs) > min(MAX_BATCH_BYTES, _WORTH * all_bytes):
            return []
        named = blake3(need.space)
        for name in sorted({chunk.hash for run in runs for chunk in run.chunks} | fresh.keys()):
            named.update(name)
        made = await self._kept(need.space, named.digest())
        if not made:
            if self._is_making or not self._take_share(line, sum(run.length for run in runs)):
                return []
            self._is_making = True
            try:
                made = await self._make(need.space, fresh, runs)
            finally:
                self._is_making = False
            self._remember(named.digest(), made)
        return made if sum(pack.size for pack in made) <= _WORTH * packs_bytes else []

    def _take_share(self, line: bytes, size: int) -> bool:
        """Count so many bytes as read and compressed for a device; whether its share of this hour has room for them."""
        period = self._now_ms() // BATCH_PERIOD_MS
        if period != self._period:
            self._period, self._spent = period, {}
        spent = self._spent.get(line, 0) + size
        if spent > MAX_BATCHED_BYTES_PER_PERIOD:
            return False
        self._spent[line] = spent
        return True

    async def _kept(self, space: bytes, name: bytes) -> list[PackInfo]:
        found = [await self._content.pack(batch, space) for batch in self._made.get(name, ())]
        return [pack for pack in found if pack is not None] if all(found) else []

    def _remember(self, name: bytes, made: Iterable[PackInfo]) -> None:
        self._made[name] = tuple(pack.hash for pack in made)
        self._made.move_to_end(name)
        while len(self._made) > _REMEMBERED:
            self._made.popitem(last=False)

    async def _make(self, space: bytes, fresh: Mapping[bytes, ChunkList], runs: Iterable[_Run]) -> list[PackInfo]:
        """Write what is lacking, and keep it; nothing where that fails, since packs bring the same."""
        made: list[PackInfo] = []
        writer = PackWriter(level=_LEVEL)
        parts: list[bytes] = []
        try:
            for run in runs:
                for some in _pieces(run):
                    data = await read_range(self._content, some.stream, some.start, some.length)
                    await asyncio.to_thread(_add, writer, some.chunks, data)
                    parts.append(writer.take())
                    if writer.is_full:
                        made.append(await self._keep(space, writer, parts))
                        writer, parts = PackWriter(level=_LEVEL), []
            for chunks in fresh.values():
                writer.add_stream(chunks)
            made.append(await self._keep(space, writer, parts))
        except (PeerFault, LocalFailure):
            return []
        return made

    async def _keep(self, space: bytes, writer: PackWriter, parts: list[bytes]) -> PackInfo:
        finished = await asyncio.to_thread(writer.finish)
        data = b"".join((*parts, writer.take()))
        await self._content.keep_delta(DeltaInfo(finished.hash, finished.size, space, (), ()), data)
        return PackInfo(finished.hash, finished.size, space)


def _lacking(lists: Mapping[bytes, ChunkList], held: HeldNames) -> Iterator[_Run]:
    """The chunks that are not held, each once, in runs."""
    seen: set[bytes] = set()
    for stream, chunks in lists.items():
        places: list[tuple[int, ChunkRef, bool]] = []
        at = 0
        for chunk in chunks:
            places.append((at, chunk, held.has(chunk.hash) or chunk.hash in seen))
            seen.add(chunk.hash)
            at += chunk.length
        for there, group in groupby(places, key=lambda place: place[2]):
            run = list(group)
            if not there:
                yield _Run(stream, run[0][0], tuple(chunk for _, chunk, _ in run))


def _pieces(run: _Run) -> Iterator[_Run]:
    """A run in parts of a megabyte or so."""
    some: list[ChunkRef] = []
    at = start = run.start
    for chunk in run.chunks:
        some.append(chunk)
        at += chunk.length
        if at - start >= MiB:
            yield _Run(run.stream, start, tuple(some))
            some, start = [], at
    if some:
        yield _Run(run.stream, start, tuple(some))


def _add(writer: PackWriter, chunks: Iterable[ChunkRef], data: bytes) -> None:
    at = 0
    for chunk in chunks:
        writer.add_chunk(data[at : at + chunk.length], chunk)
        at += chunk.length
