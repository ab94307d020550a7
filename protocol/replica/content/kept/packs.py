"""Packs as files, with their index in the database of the entries: the `ContentStore` of agents and embedded servers.

How the files are named: `pack_files`.

Rules (R8):
- a file is durable under its name before its rows are written, and all rows are written in one transaction;
- what a crash leaves between the two is a whole pack without rows: it becomes a part again, so that finishing it costs
  no second download; rows without a file are removed, and their content counts as missing.
"""

# ruff: noqa: D102  (the interface says what each method means)

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from weakref import WeakSet, WeakValueDictionary

from blake3 import blake3

from protocol.errors import Code, LocalFailure, PeerFault, TooLarge
from protocol.limits import MAX_PACK_BYTES, MiB
from protocol.replica.byte_range import Span
from protocol.replica.content.deltas.expansion import expand_delta, worth_keeping
from protocol.replica.content.kept.frames import Frames
from protocol.replica.content.kept.left_parts import BeingWritten
from protocol.replica.content.kept.lost_packs import note_lost, tell_lost
from protocol.replica.content.kept.pack_files import (
    DAMAGED,
    PARTS,
    PASSING,
    PackFiles,
    damaged_name,
    delta_name,
    pack_name,
    pack_of_part,
    part_name,
)
from protocol.replica.content.kept.pack_rebuild import PackRebuild
from protocol.replica.content.kept.sqlite_content import CHUNKS_AT_ONCE, ContentIndex
from protocol.replica.content.kept.sqlite_deltas import DeltaRows
from protocol.replica.content.kept.sqlite_rebuild import RebuiltRows
from protocol.replica.content.packing.mending import bad_spans
from protocol.replica.content.packing.pack_build import NOTHING, FolderBuild, Held, Install
from protocol.replica.content.packing.pack_check import check_pack_bytes, not_the_pack, raise_unless_damage
from protocol.replica.content.packing.pack_cover import smallest_cover
from protocol.replica.content.packing.pack_remains import Remains
from protocol.replica.disk import Disk
from protocol.replica.interfaces import Damage, Deciding, DeltaInfo, PackInfo, ReadInto
from protocol.replica.making import Making
from protocol.replica.storage.sqlite import SqliteStore
from protocol.transfer.chunking import ChunkList, ChunkRef, chunks_before
from protocol.transfer.delta import is_delta
from protocol.transfer.pack import FinishedPack

T = TypeVar("T")

DELTA_BUDGET_BYTES: Final = 256 * MiB


class PackFolder:
    """See `ContentStore`."""

    def __init__(
        self, disk: Disk, store: SqliteStore, delta_budget_bytes: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._disk = disk
        self._files = PackFiles(disk)
        self._store = store
        self._index = ContentIndex(store.database)
        self._deltas = DeltaRows(store.database)
        self._ballast = store.database.ballast
        self.delta_budget_bytes = delta_budget_bytes
        """How much room deltas may take; those that were used longest ago make way."""
        self._frames = Frames(self._disk, self._set_aside)
        self._builds: WeakSet[FolderBuild] = WeakSet()
        self._being_written = BeingWritten(monotonic)
        self._passing = itertools.count(1)
        # a part grows by one writer at a time; files and rows of packs change together
        self._part_locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._install_lock = asyncio.Lock()
        self._working: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(
        cls,
        folder: Path,
        store: SqliteStore,
        *,
        delta_budget_bytes: int = DELTA_BUDGET_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> PackFolder:
        """Open the packs in `folder`, whose index lies in `store`; what a crash left is tidied.

        `monotonic` is in seconds. Raises `LocalFailure`.
        """
        packs = cls(Disk(folder), store, delta_budget_bytes, monotonic)
        await packs._tidy()
        return packs

    # --- taking in ----------------------------------------------------------------------------------------------------

    @property
    def changes(self) -> int:
        return self._index.changes

    async def build(self, space: bytes, *, unsent: bool, sealed: bool = False) -> FolderBuild:
        async def install(files: Sequence[tuple[str, FinishedPack]]) -> None:
            await self._take_in(space, files, unsent=unsent)

        return self._build(space, self._index, install, sealed=sealed, leave_room=self._ballast.leave)

    async def ingest(
        self, space: bytes, data: bytes, *, unsent: bool = False, making: Making | None = None
    ) -> FinishedPack | None:
        if is_delta(data):
            name = blake3(data).digest()
            about = await expand_delta(self, space, name, len(data), lambda at, length: data[at : at + length], making)
            if worth_keeping(about):
                await self.keep_delta(about, data)
            return None
        return await asyncio.shield(self._start(self._ingest(space, data, making, unsent=unsent)))

    async def part_size(self, pack: bytes, sender: bytes = b"") -> int:
        return self._disk.size(part_name(pack, sender)) or 0

    async def parts_sent(self) -> list[tuple[tuple[bytes, bytes], int]]:
        return await asyncio.to_thread(self._files.parts_sent)

    async def append_part(self, pack: bytes, offset: int, data: bytes | memoryview, sender: bytes = b"") -> int:
        if offset + len(data) > MAX_PACK_BYTES:
            raise TooLarge(Code.TOO_LARGE, "a pack is larger than allowed", max=MAX_PACK_BYTES)
        return await asyncio.shield(self._start(self._append_part(pack, offset, data, sender)))

    async def resume_part(self, pack: bytes, size: int) -> int:
        async with self._part_lock(pack):
            if self._disk.size(part_name(pack)) is None and self._disk.size(damaged_name(pack)) == size:
                self._being_written.note(part_name(pack))
                await asyncio.to_thread(self._disk.rename_all, [(damaged_name(pack), part_name(pack))])
        return await self.part_size(pack)

    async def bad_spans(self, pack: bytes, size: int) -> list[Span]:
        name = part_name(pack)
        async with self._part_lock(pack):
            if self._disk.size(name) != size:
                return []
            return await asyncio.to_thread(bad_spans, size, partial(self._files.readable, name))

    async def mend_part(self, pack: bytes, offset: int, data: bytes) -> None:
        name = part_name(pack)
        async with self._part_lock(pack):
            have = self._disk.size(name) or 0
            if offset + len(data) > have:
                raise not_the_pack(have, offset + len(data))
            self._being_written.note(name)
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
        name = part_name(pack, sender)
        if self._disk.size(name) == size and await asyncio.to_thread(self._files.holds_delta, name, size):
            await asyncio.shield(self._start(self._finish_delta(part, name, making, keep_bad=keep_bad)))
            return None
        work = self._finish_part(part, name, making, unsent=unsent, keep_bad=keep_bad)
        return await asyncio.shield(self._start(work))

    async def drop_part(self, pack: bytes, sender: bytes = b"") -> None:
        async with self._part_lock(pack):
            await asyncio.to_thread(self._disk.remove, part_name(pack, sender))

    async def lying_parts(self) -> dict[str, int]:
        found = await asyncio.to_thread(self._files.all_parts)
        return {name: size for name, size in found.items() if name not in self._being_written}

    async def drop_lying(self, parts: Iterable[str]) -> None:
        for name in parts:
            async with self._part_lock(pack_of_part(name)):
                if name not in self._being_written:
                    await asyncio.to_thread(self._disk.remove, name)

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
        return await asyncio.to_thread(self._disk.read, await self._stored_name(pack), start, length)

    async def pack_reader(self, pack: bytes) -> ReadInto:
        return partial(self._disk.read_into, await self._stored_name(pack))

    async def _stored_name(self, pack: bytes) -> str:
        if await self._index.pack(pack, None) is not None:
            return pack_name(pack)
        if await self._deltas.find(pack) is not None:
            return delta_name(pack)
        raise LocalFailure(Code.INCOMPLETE, "this content is not here", pack=pack.hex())

    async def keep_delta(self, about: DeltaInfo, data: bytes, *, unsent: bool = False) -> None:
        self._ballast.leave(len(data))
        name = self._passing_name()
        await asyncio.to_thread(self._files.write_whole, name, data)
        await self._install_delta(name, about, unsent=unsent)

    async def drop_delta(self, delta: bytes) -> bool:
        if await self._deltas.find(delta) is None:
            return False
        await self._deltas.remove([delta])
        await asyncio.to_thread(self._disk.remove, delta_name(delta))
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

    async def missing_chunks(self, space: bytes, chunks: Sequence[ChunkRef]) -> set[ChunkRef]:
        return set(chunks) - await self._index.held_chunks(space, chunks)

    async def missing_streams(self, space: bytes, streams: Sequence[bytes]) -> set[bytes]:
        return set(streams) - await self._index.held_streams(space, streams)

    async def held_names(self, space: bytes, most: int) -> list[bytes]:
        return await self._index.held_names(space, most)

    async def packs_holding(
        self, space: bytes, chunks: Iterable[ChunkRef], streams: Iterable[bytes] = ()
    ) -> list[PackInfo]:
        return smallest_cover(await self._index.holders(space, chunks, streams))

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
                yield (await self._frames.chunk(chunk, places.get(chunk.hash, [])))[offset:]
                offset = 0

    async def unsent_packs(self) -> list[PackInfo]:
        return await self._index.unsent()

    async def mark_packs(self, packs: Iterable[bytes], *, unsent: bool) -> None:
        await self._index.mark(list(packs), unsent=unsent)

    async def forget(
        self, spaces: Collection[bytes], streams: Collection[bytes], deciding: Deciding = nullcontext
    ) -> list[bytes]:
        return await self._give_up(lambda: self._index.given_up(spaces, streams), deciding)

    async def forget_unfinished(self, spaces: Collection[bytes]) -> None:
        for space in spaces:
            for delta in await self._deltas.of_space(space):
                await self.drop_delta(delta.hash)
        await self.drop_lying(await self.lying_parts())

    async def unnamed(self) -> list[bytes]:
        return await self._index.unnamed()

    async def forget_damaged(self) -> None:
        await asyncio.to_thread(self._remove_traces, ())

    async def is_building(self) -> bool:
        return any(build.is_open and not build.is_sealed for build in self._builds)

    async def forget_unnamed(self, packs: Collection[bytes]) -> list[bytes]:
        async def found() -> list[Remains]:
            return [] if await self.is_building() else await self._index.without_unnamed(packs)

        return await self._give_up(found)

    async def sharing(self, streams: Collection[bytes]) -> set[bytes]:
        return await self._index.sharing(streams)

    async def spaces_of(self, streams: Collection[bytes]) -> set[bytes]:
        return await self._index.spaces_of(streams)

    async def pack_sizes(self) -> dict[bytes, int]:
        return await self._index.sizes()

    async def drop(self, packs: Sequence[bytes]) -> None:
        await asyncio.shield(self._start(self._drop(packs)))

    async def totals(self) -> tuple[int, int, int]:
        return await self._index.totals()

    async def verify(self) -> list[Damage]:
        sizes = await self._index.sizes()
        damages = await tell_lost(self._store, sizes)
        rows = RebuiltRows(self._store.database)
        counts, strays = await rows.count()
        if strays:
            damages.append(Damage("index", b"", f"content was said to lie in {strays} packs that there are not"))
        for pack, size in sizes.items():
            try:
                found = await asyncio.to_thread(self._files.check, pack_name(pack), pack, size)
                if await rows.put_right(found, counts):
                    damages.append(Damage("index", pack, "it did not say what the pack holds"))
            except (PeerFault, LocalFailure) as fault:
                raise_unless_damage(fault)
                await self._set_aside(pack)
                damages.append(Damage("pack", pack, fault.message))
        return damages

    def rebuild(self) -> PackRebuild:
        """What makes the index of these packs anew, before anybody asks for content."""
        return PackRebuild(self._disk, RebuiltRows(self._store.database))

    async def free_bytes(self) -> int:
        return self._disk.free_bytes()

    async def disk_bytes(self) -> int:
        return self._disk.total_bytes()

    async def close(self) -> None:
        await asyncio.gather(*self._working, return_exceptions=True)
        self._frames.close_all()

    # --- files and rows -----------------------------------------------------------------------------------------------

    def _build(
        self,
        space: bytes,
        held: Held,
        install: Install,
        *,
        sealed: bool,
        leave_room: Callable[[int], None] | None = None,
    ) -> FolderBuild:
        build = FolderBuild(
            space,
            index=held,
            disk=self._disk,
            passing_name=self._passing_name,
            install=install,
            start=self._start,
            sealed=sealed,
            leave_room=leave_room,
        )
        self._builds.add(build)
        return build

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

    async def _ingest(self, space: bytes, data: bytes, making: Making | None, *, unsent: bool) -> FinishedPack:
        finished = await asyncio.to_thread(check_pack_bytes, data, making)
        self._ballast.leave(len(data))
        name = self._passing_name()
        await asyncio.to_thread(self._files.write_whole, name, data)
        await self._take_in(space, [(name, finished)], unsent=unsent)
        return finished

    async def _append_part(self, pack: bytes, offset: int, data: bytes | memoryview, sender: bytes) -> int:
        name = part_name(pack, sender)
        async with self._part_lock(pack):
            self._being_written.note(name)
            self._ballast.leave(len(data))
            return await asyncio.to_thread(self._files.extend, name, offset, data)

    async def _finish_part(
        self, part: PackInfo, name: str, making: Making | None, *, unsent: bool, keep_bad: bool
    ) -> FinishedPack:
        async with self._part_lock(part.hash):
            have = self._disk.size(name)
            if have is None and await self._index.pack(part.hash, part.space) is not None:
                return await asyncio.to_thread(self._files.check, pack_name(part.hash), part.hash, part.size)
            if have is None or have < part.size:
                raise not_the_pack(have or 0, part.size)
            try:
                finished = await asyncio.to_thread(self._files.check, name, part.hash, have, making)
            except PeerFault:
                if not keep_bad:
                    await asyncio.to_thread(self._disk.remove, name)
                raise
            await asyncio.to_thread(self._disk.flush_by_name, name)
            await self._install(part.space, [(name, finished)], unsent=unsent)
            await self._drop_download(part.hash)
            return finished

    async def _finish_delta(self, part: PackInfo, name: str, making: Making | None, *, keep_bad: bool) -> None:
        async with self._part_lock(part.hash):
            if self._disk.size(name) is None and await self._deltas.find(part.hash) is not None:
                return
            try:
                await asyncio.to_thread(self._files.check_hash, name, part.hash, part.size)
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
            await asyncio.to_thread(self._disk.rename_all, [(name, delta_name(about.hash))])
            gone = await self._deltas.add(about, unsent=unsent, budget_bytes=self.delta_budget_bytes)
        for delta in gone:
            await asyncio.to_thread(self._disk.remove, delta_name(delta))

    def _remove_traces(self, packs: Sequence[bytes]) -> None:
        """Remove packs, and all that was moved aside: it may hold the same."""
        for pack in packs:
            for name in (pack_name(pack), part_name(pack)):
                self._disk.remove(name)
        for name, _ in list(self._disk.files(DAMAGED)):
            self._disk.remove(name)

    async def _install(self, space: bytes, files: Sequence[tuple[str, FinishedPack]], *, unsent: bool) -> None:
        """Give flushed files the names of their packs, durably, then make them visible in one transaction."""
        names = [(name, pack_name(pack.hash)) for name, pack in files]
        async with self._install_lock:
            await asyncio.to_thread(self._disk.rename_all, names)
            await self._index.add(space, [pack for _, pack in files], unsent=unsent)

    async def _take_in(self, space: bytes, files: Sequence[tuple[str, FinishedPack]], *, unsent: bool) -> None:
        """Install packs that came by another way; a download of one that is just being looked through ends first."""
        await self._install(space, files, unsent=unsent)
        for _, pack in files:
            async with self._part_lock(pack.hash):
                await self._drop_download(pack.hash)

    async def _drop_download(self, pack: bytes) -> None:
        """Remove what was fetched of a pack that is here by now; the caller holds its lock."""
        if self._disk.size(part_name(pack)) is not None:
            await asyncio.to_thread(self._disk.remove, part_name(pack))

    async def _give_up(
        self, find: Callable[[], Awaitable[list[Remains]]], deciding: Deciding = nullcontext
    ) -> list[bytes]:
        """Move what is left out of the packs that are found, then let these go."""
        while True:
            found = await find()
            for remains in found:
                await self._move_out(remains)
            async with AsyncExitStack() as held:
                for pack in sorted(remains.pack for remains in found):
                    # a part of one that is being looked through stays until that is done
                    await held.enter_async_context(self._part_lock(pack))
                await held.enter_async_context(self._install_lock)
                await held.enter_async_context(deciding())
                # what was taken in meanwhile may need more of them
                if await find() == found:
                    gone = [remains.pack for remains in found]
                    # files first: what a crash left of them without rows would become a part, and lie there for weeks
                    await asyncio.to_thread(self._remove_traces, gone)
                    await self._index.remove(gone)
                    break
        self._frames.close(gone)
        return gone

    async def _move_out(self, remains: Remains) -> None:
        """Write what others need of a pack into packs of its own; what cannot be read any more is lacking then."""

        async def install(files: Sequence[tuple[str, FinishedPack]]) -> None:
            (space, unsent), *further = remains.spaces.items()
            await self._take_in(space, files, unsent=unsent)
            for other, is_unsent in further:
                await self._index.add(other, [pack for _, pack in files], unsent=is_unsent)

        build = self._build(next(iter(remains.spaces)), NOTHING, install, sealed=False)
        try:
            for first in range(0, len(remains.chunks), CHUNKS_AT_ONCE):
                part = remains.chunks[first : first + CHUNKS_AT_ONCE]
                places = await self._index.places(part)
                for chunk in part:
                    try:
                        await build.chunk(await self._frames.chunk(chunk, places.get(chunk.hash, [])))
                    except LocalFailure as failure:
                        if failure.code not in (Code.DAMAGED, Code.INCOMPLETE):
                            raise
            for chunks in remains.streams.values():
                build.elsewhere(chunks)
                await build.stream(chunks)
            await build.finish()
        except BaseException:
            await build.abort()
            raise

    async def _drop(self, packs: Sequence[bytes]) -> None:
        """Rows first: a file that a crash leaves without them becomes a part, and costs no download."""
        async with self._install_lock:
            await self._index.remove(packs)
            for pack in packs:
                await asyncio.to_thread(self._disk.remove, pack_name(pack))
        self._frames.close(packs)

    async def _set_aside(self, pack: bytes) -> None:
        """Take a bad pack out of sight."""
        async with self._install_lock:
            if self._disk.size(pack_name(pack)) is not None:
                await asyncio.to_thread(self._disk.rename_all, [(pack_name(pack), damaged_name(pack))])
            await self._index.remove([pack])
        self._frames.close([pack])

    async def _tidy(self) -> None:
        known = await self._index.sizes()
        gone = await asyncio.to_thread(self._files.tidy_files, known)
        # noted before their rows go: who opens after a power cut in between finds them gone once more
        await note_lost(self._store, gone)
        await self._index.remove(gone)
        kept = await self._deltas.sizes()
        await self._deltas.remove(await asyncio.to_thread(self._files.tidy_deltas, kept))

    def _part_lock(self, pack: bytes) -> asyncio.Lock:
        return self._part_locks.setdefault(pack, asyncio.Lock())

    def _passing_name(self) -> str:
        return f"{PARTS}/{next(self._passing)}{PASSING}"
