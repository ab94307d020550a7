"""Packs as files, with their index in the database of the entries: the `ContentStore` of agents and embedded servers.

Below the folder, `packs/ab/<hash>.pack` holds what is visible, `parts/<hash>.part` what is still fetched,
`parts/<hash>-<sender>.part` what somebody sends, `parts/*.passing` what is being written, `damaged/<hash>.pack` what
was found bad, `deltas/<hash>.delta` deltas kept for others.

Rules (R8):
- a file is durable under its name before its rows are written, and all rows are written in one transaction;
- what a crash leaves between the two is a whole pack without rows: it becomes a part again, so that finishing it costs
  no second download; rows without a file are removed, and their content counts as missing.
"""

# ruff: noqa: D102  (the interface says what each method means)

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from blake3 import blake3

from protocol.chunking import ChunkList, ChunkRef, chunks_before
from protocol.delta import DELTA_END, is_delta
from protocol.errors import Code, LocalFailure, PeerFault, TooLarge
from protocol.limits import MAX_PACK_BYTES, MiB
from protocol.pack import FinishedPack, open_frame
from protocol.replica.byte_range import Span
from protocol.replica.disk import Disk
from protocol.replica.expansion import expand_delta, worth_keeping
from protocol.replica.interfaces import Damage, DeltaInfo, Making, PackInfo
from protocol.replica.lost_packs import note_lost, tell_lost
from protocol.replica.mending import bad_spans
from protocol.replica.pack_build import FolderBuild
from protocol.replica.pack_check import check_pack, check_pack_bytes, not_the_pack
from protocol.replica.pack_cover import smallest_cover
from protocol.replica.sqlite import SqliteStore
from protocol.replica.sqlite_content import CHUNKS_AT_ONCE, ContentIndex, Place
from protocol.replica.sqlite_deltas import DeltaRows

T = TypeVar("T")

PACKS: Final = "packs"
PARTS: Final = "parts"
DAMAGED: Final = "damaged"
DELTAS: Final = "deltas"
_PACK: Final = ".pack"
_PART: Final = ".part"
_PASSING: Final = ".passing"
_DELTA: Final = ".delta"

_DELTA_FILE: Final = rf"{DELTAS}/([0-9a-f]{{64}}){re.escape(_DELTA)}"

DELTA_BUDGET_BYTES: Final = 256 * MiB
_CACHED_FRAME_BYTES: Final = 4 * MiB
# a download that nobody has continued for so long is given up
_PART_LIFETIME_S: Final = 30 * 24 * 3600


class PackFolder:
    """See `ContentStore`."""

    def __init__(self, disk: Disk, store: SqliteStore, delta_budget_bytes: int) -> None:
        self._disk = disk
        self._store = store
        self._index = ContentIndex(store.database)
        self._deltas = DeltaRows(store.database)
        self.delta_budget_bytes = delta_budget_bytes
        """How much room deltas may take; those that were used longest ago make way."""
        self._frames: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._passing = itertools.count(1)
        # a part grows by one writer at a time; files and rows of packs change together
        self._part_locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._install_lock = asyncio.Lock()
        self._working: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(
        cls, folder: Path, store: SqliteStore, *, delta_budget_bytes: int = DELTA_BUDGET_BYTES
    ) -> PackFolder:
        """Open the packs in `folder`, whose index lies in `store`; what a crash left is tidied.

        Raises `LocalFailure`.
        """
        packs = cls(Disk(folder), store, delta_budget_bytes)
        await packs._tidy()
        return packs

    # --- taking in ----------------------------------------------------------------------------------------------------

    async def build(self, space: bytes, *, unsent: bool, sealed: bool = False) -> FolderBuild:
        async def install(files: Sequence[tuple[str, FinishedPack]]) -> None:
            await self._install(space, files, unsent=unsent)

        return FolderBuild(
            space,
            index=self._index,
            disk=self._disk,
            passing_name=self._passing_name,
            install=install,
            start=self._start,
            sealed=sealed,
        )

    async def ingest(
        self, space: bytes, data: bytes, *, unsent: bool = False, making: Making | None = None
    ) -> FinishedPack | None:
        if is_delta(data):
            name = blake3(data).digest()
            about = await expand_delta(self, space, name, len(data), lambda at, length: data[at : at + length], making)
            if worth_keeping(about):
                await self.keep_delta(about, data)
            return None
        return await asyncio.shield(self._start(self._ingest(space, data, unsent=unsent)))

    async def part_size(self, pack: bytes, sender: bytes = b"") -> int:
        return self._disk.size(_part_name(pack, sender)) or 0

    async def append_part(self, pack: bytes, offset: int, data: bytes, sender: bytes = b"") -> int:
        if offset + len(data) > MAX_PACK_BYTES:
            raise TooLarge(Code.TOO_LARGE, "a pack is larger than allowed", max=MAX_PACK_BYTES)
        return await asyncio.shield(self._start(self._append_part(pack, offset, data, sender)))

    async def resume_part(self, pack: bytes, size: int) -> int:
        async with self._part_lock(pack):
            if self._disk.size(_part_name(pack)) is None and self._disk.size(_damaged_name(pack)) == size:
                await asyncio.to_thread(self._disk.rename_all, [(_damaged_name(pack), _part_name(pack))])
        return await self.part_size(pack)

    async def bad_spans(self, pack: bytes, size: int) -> list[Span]:
        name = _part_name(pack)
        async with self._part_lock(pack):
            if self._disk.size(name) != size:
                return []
            return await asyncio.to_thread(bad_spans, size, partial(self._readable, name))

    async def mend_part(self, pack: bytes, offset: int, data: bytes) -> None:
        name = _part_name(pack)
        async with self._part_lock(pack):
            have = self._disk.size(name) or 0
            if offset + len(data) > have:
                raise not_the_pack(have, offset + len(data))
            await asyncio.to_thread(self._disk.replace, name, offset, data)

    async def finish_part(
        self,
        space: bytes,
        pack: bytes,
        size: int,
        *,
        unsent: bool = False,
        keep_bad: bool = False,
        sender: bytes = b"",
        making: Making | None = None,
    ) -> FinishedPack | None:
        part = PackInfo(pack, size, space)
        name = _part_name(pack, sender)
        if self._disk.size(name) == size and await asyncio.to_thread(self._holds_delta, name, size):
            await asyncio.shield(self._start(self._finish_delta(part, name, making, keep_bad=keep_bad)))
            return None
        return await asyncio.shield(self._start(self._finish_part(part, name, unsent=unsent, keep_bad=keep_bad)))

    async def drop_part(self, pack: bytes, sender: bytes = b"") -> None:
        async with self._part_lock(pack):
            await asyncio.to_thread(self._disk.remove, _part_name(pack, sender))

    async def share(self, pack: bytes, space: bytes) -> None:
        await self._index.share(pack, space)

    # --- asking -------------------------------------------------------------------------------------------------------

    async def pack(self, pack: bytes, space: bytes | None = None) -> PackInfo | None:
        found = await self._index.pack(pack, space)
        if found is None:
            delta = await self._deltas.find(pack)
            if delta is not None and space in (None, delta.space):
                return PackInfo(pack, delta.size, delta.space)
        return found

    async def read_pack(self, pack: bytes, start: int, length: int) -> bytes:
        name = _pack_name(pack)
        if await self._index.pack(pack, None) is None:
            name = _delta_name(pack)
            if await self._deltas.find(pack) is None:
                raise LocalFailure(Code.INCOMPLETE, "this content is not here", pack=pack.hex())
        return await asyncio.to_thread(self._disk.read, name, start, length)

    async def keep_delta(self, about: DeltaInfo, data: bytes, *, unsent: bool = False) -> None:
        name = self._passing_name()
        await asyncio.to_thread(self._write_whole, name, data)
        await self._install_delta(name, about, unsent=unsent)

    async def drop_delta(self, delta: bytes) -> bool:
        if await self._deltas.find(delta) is None:
            return False
        await self._deltas.remove([delta])
        await asyncio.to_thread(self._disk.remove, _delta_name(delta))
        return True

    async def deltas(self, space: bytes) -> list[DeltaInfo]:
        return await self._deltas.of_space(space)

    async def unsent_deltas(self) -> list[DeltaInfo]:
        return await self._deltas.unsent()

    async def chunk_list(self, stream: bytes) -> ChunkList | None:
        return (await self._index.chunk_lists([stream])).get(stream)

    async def chunk_lists(self, streams: Sequence[bytes]) -> dict[bytes, ChunkList]:
        return await self._index.chunk_lists(streams)

    async def known_streams(self, streams: Sequence[bytes]) -> set[bytes]:
        return await self._index.known_streams(streams)

    async def missing_chunks(self, space: bytes, chunks: Sequence[bytes]) -> set[bytes]:
        return set(chunks) - await self._index.held_chunks(space, chunks)

    async def missing_streams(self, space: bytes, streams: Sequence[bytes]) -> set[bytes]:
        return set(streams) - await self._index.held_streams(space, streams)

    async def held_names(self, space: bytes, most: int) -> list[bytes]:
        return await self._index.held_names(space, most)

    async def packs_holding(
        self, space: bytes, chunks: Iterable[bytes], streams: Iterable[bytes] = ()
    ) -> list[PackInfo]:
        return smallest_cover(await self._index.holders(space, list(set(chunks)), list(set(streams))))

    async def read_stream(self, stream: bytes, start: int = 0) -> AsyncIterator[bytes]:
        found = await self._index.stream_places(stream)
        if found is None:
            raise LocalFailure(Code.INCOMPLETE, "this content is not here", stream=stream.hex())
        chunks, places = found
        skipped, offset = chunks_before(chunks, start)
        for first in range(skipped, len(chunks), CHUNKS_AT_ONCE):
            part = chunks[first : first + CHUNKS_AT_ONCE]
            if first:
                places = await self._index.places(part)
            for chunk in part:
                yield (await self._read_chunk(chunk, places.get(chunk.hash, [])))[offset:]
                offset = 0

    async def unsent_packs(self) -> list[PackInfo]:
        return await self._index.unsent()

    async def mark_packs(self, packs: Iterable[bytes], *, unsent: bool) -> None:
        await self._index.mark(list(packs), unsent=unsent)

    async def forget(self, space: bytes, streams: Collection[bytes]) -> list[bytes]:
        async with self._install_lock:
            gone = await self._index.holding_only(space, streams)
            await self._index.remove(gone)
            await asyncio.to_thread(self._remove_traces, gone)
        for delta in await self._deltas.of_space(space):
            await self.drop_delta(delta.hash)
        for cached in [key for key in self._frames if key[0] in gone]:
            del self._frames[cached]
        return gone

    async def pack_sizes(self) -> dict[bytes, int]:
        return await self._index.sizes()

    async def drop(self, packs: Sequence[bytes]) -> None:
        await asyncio.shield(self._start(self._drop(packs)))

    async def totals(self) -> tuple[int, int, int]:
        return await self._index.totals()

    async def verify(self) -> list[Damage]:
        sizes = await self._index.sizes()
        damages = await tell_lost(self._store, sizes)
        for pack, size in sizes.items():
            try:
                await asyncio.to_thread(self._check, _pack_name(pack), pack, size)
            except (PeerFault, LocalFailure) as fault:
                _raise_unless_damage(fault)
                await self._set_aside(pack)
                damages.append(Damage("pack", pack, fault.message))
        return damages

    async def whole_parts(self) -> list[FinishedPack]:
        """The packs that lie whole among the parts: those that were visible under a database that is lost."""
        return await asyncio.to_thread(self._whole_parts)

    async def free_bytes(self) -> int:
        return self._disk.free_bytes()

    async def disk_bytes(self) -> int:
        return self._disk.total_bytes()

    async def close(self) -> None:
        await asyncio.gather(*self._working, return_exceptions=True)
        self._frames.clear()

    # --- files and rows -----------------------------------------------------------------------------------------------

    def _start(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        """Begin work that goes on even if whoever waits for it is cancelled: a thread cannot be stopped half-way."""
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            # looked at, since nobody may be waiting any more
            task.exception()

    async def _ingest(self, space: bytes, data: bytes, *, unsent: bool) -> FinishedPack:
        finished = await asyncio.to_thread(check_pack_bytes, data)
        name = self._passing_name()
        await asyncio.to_thread(self._write_whole, name, data)
        await self._install(space, [(name, finished)], unsent=unsent)
        return finished

    async def _append_part(self, pack: bytes, offset: int, data: bytes, sender: bytes) -> int:
        async with self._part_lock(pack):
            return await asyncio.to_thread(self._extend, _part_name(pack, sender), offset, data)

    async def _finish_part(self, part: PackInfo, name: str, *, unsent: bool, keep_bad: bool) -> FinishedPack:
        async with self._part_lock(part.hash):
            have = self._disk.size(name)
            if have is None and await self._index.pack(part.hash, part.space) is not None:
                return await asyncio.to_thread(self._check, _pack_name(part.hash), part.hash, part.size)
            if have is None or have < part.size:
                raise not_the_pack(have or 0, part.size)
            try:
                finished = await asyncio.to_thread(self._check, name, part.hash, have)
            except PeerFault:
                if not keep_bad:
                    await asyncio.to_thread(self._disk.remove, name)
                raise
            await asyncio.to_thread(self._disk.flush_by_name, name)
            await self._install(part.space, [(name, finished)], unsent=unsent)
            return finished

    async def _finish_delta(self, part: PackInfo, name: str, making: Making | None, *, keep_bad: bool) -> None:
        async with self._part_lock(part.hash):
            if self._disk.size(name) is None and await self._deltas.find(part.hash) is not None:
                return
            try:
                await asyncio.to_thread(self._check_hash, name, part.hash, part.size)
                read = partial(self._disk.read, name)
                about = await expand_delta(self, part.space, part.hash, part.size, read, making)
            except PeerFault as fault:
                # what it is made of may come yet: whoever asked for it drops it in the end
                if fault.code is not Code.MISSING_BASE and not keep_bad:
                    await asyncio.to_thread(self._disk.remove, name)
                raise
            if worth_keeping(about):
                await asyncio.to_thread(self._disk.flush_by_name, name)
                await self._install_delta(name, about, unsent=False)
            else:
                await asyncio.to_thread(self._disk.remove, name)

    async def _install_delta(self, name: str, about: DeltaInfo, *, unsent: bool) -> None:
        """Give a flushed file the name of its delta, then note it; what makes room for it goes."""
        async with self._install_lock:
            await asyncio.to_thread(self._disk.rename_all, [(name, _delta_name(about.hash))])
            gone = await self._deltas.add(about, unsent=unsent, budget_bytes=self.delta_budget_bytes)
        for delta in gone:
            await asyncio.to_thread(self._disk.remove, _delta_name(delta))

    def _remove_traces(self, packs: Sequence[bytes]) -> None:
        """Remove packs, and all that was moved aside: it may hold the same."""
        for pack in packs:
            self._disk.remove(_pack_name(pack))
        for name, _ in list(self._disk.files(DAMAGED)):
            self._disk.remove(name)

    async def _install(self, space: bytes, files: Sequence[tuple[str, FinishedPack]], *, unsent: bool) -> None:
        """Give flushed files the names of their packs, durably, then make them visible in one transaction."""
        names = [(name, _pack_name(pack.hash)) for name, pack in files]
        async with self._install_lock:
            await asyncio.to_thread(self._disk.rename_all, names)
            await self._index.add(space, [pack for _, pack in files], unsent=unsent)
        # a download of the same pack that was under way is of no use any more
        for _, pack in files:
            if self._disk.size(_part_name(pack.hash)) is not None:
                await asyncio.to_thread(self._disk.remove, _part_name(pack.hash))

    async def _drop(self, packs: Sequence[bytes]) -> None:
        """Rows first: a file that a crash leaves without them becomes a part, and costs no download."""
        async with self._install_lock:
            await self._index.remove(packs)
            for pack in packs:
                await asyncio.to_thread(self._disk.remove, _pack_name(pack))
        gone = set(packs)
        for cached in [key for key in self._frames if key[0] in gone]:
            del self._frames[cached]

    async def _set_aside(self, pack: bytes) -> None:
        """Take a bad pack out of sight."""
        async with self._install_lock:
            if self._disk.size(_pack_name(pack)) is not None:
                await asyncio.to_thread(self._disk.rename_all, [(_pack_name(pack), _damaged_name(pack))])
            await self._index.remove([pack])
        for cached in [key for key in self._frames if key[0] == pack]:
            del self._frames[cached]

    async def _tidy(self) -> None:
        known = await self._index.sizes()
        gone = await asyncio.to_thread(self._tidy_files, known)
        # noted before their rows go: who opens after a power cut in between finds them gone once more
        await note_lost(self._store, gone)
        await self._index.remove(gone)
        kept = await self._deltas.sizes()
        await self._deltas.remove(await asyncio.to_thread(self._tidy_deltas, kept))

    def _tidy_files(self, known: dict[bytes, int]) -> list[bytes]:
        """Bring the folders into line with the rows; returns the packs whose rows must go."""
        for folder in (PACKS, PARTS, DAMAGED, DELTAS):
            self._disk.make_folder(folder)
        given_up = time.time() - _PART_LIFETIME_S
        for name, facts in self._disk.files(PARTS):
            if name.endswith(_PASSING) or facts.st_mtime < given_up:
                self._disk.remove(name)
        here = set()
        moves = []
        for name, facts in self._disk.files(PACKS):
            named = re.fullmatch(rf"{PACKS}/../([0-9a-f]{{64}}){re.escape(_PACK)}", name)
            if named is None:
                continue
            pack = bytes.fromhex(named[1])
            if pack not in known:
                moves.append((name, _part_name(pack)))
            elif facts.st_size != known[pack]:
                moves.append((name, _damaged_name(pack)))
            else:
                here.add(pack)
        if moves:
            self._disk.rename_all(moves)
        return [pack for pack in known if pack not in here]

    def _tidy_deltas(self, known: dict[bytes, int]) -> list[bytes]:
        """Remove files without rows; returns the deltas whose rows must go."""
        here = set()
        for name, facts in self._disk.files(DELTAS):
            delta = bytes.fromhex(named[1]) if (named := re.fullmatch(_DELTA_FILE, name)) else None
            if delta is not None and known.get(delta) == facts.st_size:
                here.add(delta)
            else:
                self._disk.remove(name)
        return [delta for delta in known if delta not in here]

    def _whole_parts(self) -> list[FinishedPack]:
        found = []
        for name, facts in list(self._disk.files(PARTS)):
            named = re.fullmatch(rf"{PARTS}/([0-9a-f]{{64}}){re.escape(_PART)}", name)
            if named is None:
                continue
            with contextlib.suppress(PeerFault):
                found.append(self._check(name, bytes.fromhex(named[1]), facts.st_size))
        return found

    def _part_lock(self, pack: bytes) -> asyncio.Lock:
        return self._part_locks.setdefault(pack, asyncio.Lock())

    def _passing_name(self) -> str:
        return f"{PARTS}/{next(self._passing)}{_PASSING}"

    def _write_whole(self, name: str, data: bytes) -> None:
        try:
            with self._disk.create(name) as file:
                self._disk.write(file, data)
                self._disk.flush(file)
        except LocalFailure:
            # a full disk above all needs its room back
            with contextlib.suppress(LocalFailure):
                self._disk.remove(name)
            raise

    def _extend(self, name: str, offset: int, data: bytes) -> int:
        have = self._disk.size(name) or 0
        if have != offset:
            raise PeerFault(Code.WRONG_OFFSET, "a pack continues at another place", offset=offset, expected=have)
        with self._disk.append_to(name) as file:
            self._disk.write(file, data)
        return have + len(data)

    def _check_hash(self, name: str, delta: bytes, size: int) -> None:
        hashed = blake3()
        for start in range(0, size, MiB):
            hashed.update(self._disk.read(name, start, MiB))
        if hashed.digest() != delta:
            raise PeerFault(Code.BAD_HASH, "a delta is not the one that was asked for", expected=delta.hex())

    def _holds_delta(self, name: str, size: int) -> bool:
        """Whether a part is a delta, by either end: the other may be what is damaged."""
        end = self._readable(name, max(0, size - len(DELTA_END)), len(DELTA_END))
        return is_delta(self._readable(name, 0, len(DELTA_END))) or end == DELTA_END

    def _readable(self, name: str, start: int, length: int) -> bytes:
        """Bytes of a file; zeros where the disk cannot read it any more."""
        try:
            return self._disk.read(name, start, length)
        except LocalFailure as failure:
            if failure.code is not Code.DAMAGED:
                raise
            return bytes(length)

    def _check(self, name: str, pack: bytes, size: int) -> FinishedPack:
        return check_pack(pack, size, lambda start, length: self._disk.read(name, start, length))

    # --- chunks -------------------------------------------------------------------------------------------------------

    async def _read_chunk(self, chunk: ChunkRef, places: Sequence[Place]) -> bytes:
        """The bytes of a chunk from the first place that has them, an opened frame before others."""
        damaged = False
        for place in sorted(places, key=lambda place: (place.pack, place.frame.offset) not in self._frames):
            try:
                frame = await self._open_frame(place)
            except (PeerFault, LocalFailure) as fault:
                _raise_unless_damage(fault)
                frame = b""
            data = frame[place.start : place.start + place.length]
            if len(data) == chunk.length and blake3(data).digest() == chunk.hash:
                return data
            damaged = True
            await self._set_aside(place.pack)
        if damaged:
            raise LocalFailure(Code.DAMAGED, "stored content is damaged", chunk=chunk.hash.hex())
        raise LocalFailure(Code.INCOMPLETE, "this content is not here as a whole", chunk=chunk.hash.hex())

    async def _open_frame(self, place: Place) -> bytes:
        key = (place.pack, place.frame.offset)
        frame = self._frames.get(key)
        if frame is None:
            frame = await asyncio.to_thread(self._read_frame, place)
            self._frames[key] = frame
            while len(self._frames) > 1 and sum(map(len, self._frames.values())) > _CACHED_FRAME_BYTES:
                self._frames.popitem(last=False)
        self._frames.move_to_end(key)
        return frame

    def _read_frame(self, place: Place) -> bytes:
        data = self._disk.read(_pack_name(place.pack), place.frame.offset, place.frame.stored_bytes)
        return open_frame(place.frame, data)[0]


def _raise_unless_damage(fault: PeerFault | LocalFailure) -> None:
    """Go on only if it is the pack that is bad: too many open files, or a virus scanner at work, say nothing of it."""
    if isinstance(fault, LocalFailure) and fault.code is not Code.DAMAGED:
        raise fault


def _pack_name(pack: bytes) -> str:
    return f"{PACKS}/{pack[:1].hex()}/{pack.hex()}{_PACK}"


def _delta_name(delta: bytes) -> str:
    return f"{DELTAS}/{delta.hex()}{_DELTA}"


def _damaged_name(pack: bytes) -> str:
    return f"{DAMAGED}/{pack.hex()}{_PACK}"


def _part_name(pack: bytes, sender: bytes = b"") -> str:
    name = f"{pack.hex()}-{sender.hex()}" if sender else pack.hex()
    return f"{PARTS}/{name}{_PART}"
