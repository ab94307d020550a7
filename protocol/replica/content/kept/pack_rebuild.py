"""The index of content made anew from the packs themselves (R8; docs/adr/0020, docs/adr/0108).

Where a database was damaged, its rows of packs are lost; where somebody else may have written it, they prove nothing.
What a pack holds is read out of it; to which spaces it belongs, their entries say.

Rules:
- a pack counts once its hash, its index, each frame and each chunk were found right; a bad one is moved aside;
- all packs are read before any space is looked at: a list of files may lie in one, and what it names in others;
- what an erasure hides or a revocation holds back counts as named: somebody may let it count again, and what is to be
  destroyed later must be found;
- of a pack of which several spaces name something, those that name the most of it have it, which is all of it for those
  that it was made for: another would get with it what it may not read (key 5 of `interfaces`);
- where another database says where packs belong, that holds as far as entries bear it out, and nothing comes to it;
- what belongs nowhere becomes a part, as if it was still being fetched; whoever fetches it has it without a download;
- in memory are the indexes of a few packs, one list of files, and the names of one space's streams and chunks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from protocol.errors import Code, LocalFailure, PeerFault
from protocol.limits import PAGE_BYTES
from protocol.model.entry import Kind
from protocol.model.work import content_of
from protocol.replica.content.holdings import Holdings
from protocol.replica.content.kept.pack_files import PackFiles, pack_name, part_name
from protocol.replica.content.kept.sqlite_rebuild import RebuiltRows
from protocol.replica.content.packing.pack_check import raise_unless_damage
from protocol.replica.disk import Disk
from protocol.replica.interfaces import ContentStore, EntryStore
from protocol.transfer.pack import FinishedPack

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many bytes of packs were read, and of how many."""

_PACKS_AT_ONCE: Final = 256
_NAMES_AT_ONCE: Final = 50_000
_LISTS_AT_ONCE: Final = 500


def _nobody_waits(_done: int, _total: int) -> None:
    """Nobody is told how far it is."""


class PackRebuild:
    """Made by `PackFolder.rebuild`; used by one task, before anything else looks at the packs."""

    def __init__(self, disk: Disk, rows: RebuiltRows) -> None:
        self._disk = disk
        self._files = PackFiles(disk)
        self._rows = rows

    async def take_in_parts(self, progress: Progress = _nobody_waits) -> None:
        """Read the packs that lie whole among the parts: those that were visible under another database."""
        known = await self._rows.sizes()
        parts = [part for part in await asyncio.to_thread(self._files.parts) if part[0] not in known]
        sizes = dict(parts)
        total, done = sum(sizes.values()), 0
        async for packs, bad in self._read(parts):
            await asyncio.to_thread(self._install, [pack.hash for pack in packs])
            await self._rows.put(packs)
            done += sum(sizes[pack] for pack in (*bad, *(pack.hash for pack in packs)))
            progress(done, total)

    async def look_at_entries(self, store: EntryStore, content: ContentStore) -> None:
        """Find out of which packs the entries of each space name something."""
        holdings = Holdings(store, content)
        for space in await store.spaces():
            names = _Names(holdings, content)
            streams: list[bytes] = []
            chunks: list[bytes] = []
            after = 0
            while page := await store.page(space, after, PAGE_BYTES):
                after = page[-1].arrival
                for stored in page:
                    ref = content_of(stored.entry)
                    if ref is None:
                        continue
                    async for more in names.of(ref.stream, sealed=stored.entry.header.kind == Kind.HAND_IN):
                        streams += more.streams
                        chunks += more.chunks
                        if len(streams) + len(chunks) >= _NAMES_AT_ONCE:
                            await self._rows.bear_out(space, streams, chunks)
                            streams, chunks = [], []
            await self._rows.bear_out(space, streams, chunks)

    async def give_homes(self, *, unsent: bool) -> None:
        """Let packs belong to the spaces that name them; `unsent` are they to the server."""
        await self._rows.give_homes(unsent=unsent)
        await self._put_away_the_rest()

    async def take_homes(self, homes: Mapping[bytes, Collection[bytes]]) -> None:
        """Let packs belong to the spaces to which another database says they do, as far as those name them."""
        await self._rows.take_homes(homes)
        await self._put_away_the_rest()

    async def _put_away_the_rest(self) -> None:
        """Rows first: a file that a crash leaves without them becomes a part at the next opening."""
        rest = await self._rows.homeless()
        await self._rows.remove(rest)
        for start in range(0, len(rest), _PACKS_AT_ONCE):
            moves = [(pack_name(pack), part_name(pack)) for pack in rest[start : start + _PACKS_AT_ONCE]]
            await asyncio.to_thread(self._disk.rename_all, moves)
        await self._rows.end()

    async def _read(self, packs: Iterable[tuple[bytes, int]]) -> AsyncIterator[tuple[list[FinishedPack], list[bytes]]]:
        """What packs of these hashes and sizes hold, and which are bad, some at a time. Raises `LocalFailure`."""
        good: list[FinishedPack] = []
        bad: list[bytes] = []
        names = 0
        for pack, size in packs:
            try:
                good.append(await asyncio.to_thread(self._files.check, part_name(pack), pack, size))
                names += len(good[-1].chunks) + len(good[-1].stream_ids)
            except (PeerFault, LocalFailure) as fault:
                raise_unless_damage(fault)
                bad.append(pack)
            if names >= _NAMES_AT_ONCE or len(good) + len(bad) >= _PACKS_AT_ONCE:
                yield good, bad
                good, bad, names = [], [], 0
        if good or bad:
            yield good, bad

    def _install(self, packs: Sequence[bytes]) -> None:
        for pack in packs:
            self._disk.flush_by_name(part_name(pack))
        self._disk.rename_all([(part_name(pack), pack_name(pack)) for pack in packs])


class _Named(NamedTuple):
    """Streams and chunks that entries name, directly or through lists."""

    streams: list[bytes]
    chunks: list[bytes]


class _Names:
    """The streams and chunks that content of one space consists of, each once."""

    def __init__(self, holdings: Holdings, content: ContentStore) -> None:
        self._holdings = holdings
        self._content = content
        self._looked_into: set[tuple[bytes, bool]] = set()
        self._told: set[bytes] = set()

    async def of(self, stream: bytes, *, sealed: bool) -> AsyncIterator[_Named]:
        """Streams and chunks, as far as they are here. Raises `LocalFailure`."""
        if (stream, sealed) in self._looked_into:
            return
        self._looked_into.add((stream, sealed))
        yield await self._new([stream])
        if sealed:
            return
        try:
            files = await self._holdings.manifest(stream)
        except LocalFailure as failure:
            if failure.code not in (Code.INCOMPLETE, Code.DAMAGED):
                raise
            return
        inner = list(dict.fromkeys(file.stream for file in files))
        for start in range(0, len(inner), _LISTS_AT_ONCE):
            yield await self._new(inner[start : start + _LISTS_AT_ONCE])

    async def _new(self, streams: Sequence[bytes]) -> _Named:
        fresh = self._once(streams)
        lists = await self._content.chunk_lists(fresh)
        return _Named(fresh, self._once(chunk.hash for chunks in lists.values() for chunk in chunks))

    def _once(self, names: Iterable[bytes]) -> list[bytes]:
        fresh = list(dict.fromkeys(name for name in names if name not in self._told))
        self._told.update(fresh)
        return fresh
