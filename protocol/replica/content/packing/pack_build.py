"""Writing packs from new content: what the space holds already is left out, the rest is compressed in a thread.

Chunks and streams are gathered until they are worth a thread's while, then looked up in the index at once, and what is
new goes to a passing file while the next are gathered. Packs that are full are flushed there; all become visible
together at the end. Memory is twice what is gathered, one frame, and the names seen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple, Protocol, TypeAlias

from protocol.errors import Code, LocalFailure, PeerFault
from protocol.limits import MiB
from protocol.replica.disk import Disk
from protocol.transfer.chunking import ChunkList, ChunkRef, chunk_ref, stream_id
from protocol.transfer.pack import FinishedPack
from protocol.transfer.pack_writer import PackWriter

Install: TypeAlias = Callable[[Sequence[tuple[str, FinishedPack]]], Awaitable[None]]
"""Makes flushed files with these names visible as these packs."""

Start: TypeAlias = Callable[[Coroutine[None, None, None]], asyncio.Task[None]]
"""Begins work that goes on even if whoever waits for it is cancelled."""

LEVEL: Final = 3
# sealed content does not get smaller: the fastest level finds that out, and the frame is stored as it is
SEALED_LEVEL: Final = 1
_GATHERED_BYTES: Final = MiB
_GATHERED_ITEMS: Final = 1_000


class Held(Protocol):
    """What a space holds already: `ContentIndex`, or `NOTHING` where all is to be written again."""

    async def held_chunks(self, space: bytes, chunks: Collection[ChunkRef]) -> set[ChunkRef]:
        """Those of `chunks` that need not be written."""
        ...

    async def held_streams(self, space: bytes, streams: Sequence[bytes]) -> set[bytes]:
        """Those of `streams` that need not be written."""
        ...


class _Nothing:
    async def held_chunks(self, _space: bytes, _chunks: Collection[ChunkRef]) -> set[ChunkRef]:
        return set()

    async def held_streams(self, _space: bytes, _streams: Sequence[bytes]) -> set[bytes]:
        return set()


NOTHING: Final = _Nothing()


class _Chunk(NamedTuple):
    ref: ChunkRef
    data: bytes


class _Stream(NamedTuple):
    id: bytes
    chunks: ChunkList


@dataclass(slots=True)
class _OpenPack:
    name: str
    file: BinaryIO
    writer: PackWriter


class FolderBuild:
    """See `PackBuild`. After a failure only `abort` is of use."""

    def __init__(
        self,
        space: bytes,
        *,
        index: Held,
        disk: Disk,
        passing_name: Callable[[], str],
        install: Install,
        start: Start,
        sealed: bool,
        leave_room: Callable[[int], None] | None = None,
    ) -> None:
        """`leave_room` raises `LocalFailure(DISK_FULL)` where what is free of the disk is kept for something else."""
        self._space = space
        self._index = index
        self._disk = disk
        self._passing_name = passing_name
        self._install = install
        self._start = start
        self._leave_room = leave_room
        self._level = SEALED_LEVEL if sealed else LEVEL
        self._seen: set[bytes | ChunkRef] = set()
        self._gathered: list[_Chunk | _Stream] = []
        self._gathered_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._open: _OpenPack | None = None
        self._written: list[tuple[str, FinishedPack]] = []
        self.is_sealed = sealed
        self.is_open = True
        """Until it has been finished, or given up."""

    async def chunk(self, data: bytes) -> bytes:
        """See `PackBuild`."""
        ref = chunk_ref(data)
        if ref not in self._seen:
            self._seen.add(ref)
            self._gathered_bytes += len(data)
            await self._gather(_Chunk(ref, data))
        return ref.hash

    async def held(self, chunks: ChunkList) -> None:
        """See `PackBuild`."""
        asked = {chunk for chunk in chunks if chunk not in self._seen}
        if len(await self._index.held_chunks(self._space, asked)) < len(asked):
            raise PeerFault(Code.MISSING_BASE, "a delta is made of content that is not here")
        self._seen.update(asked)

    def elsewhere(self, chunks: ChunkList) -> None:
        """Streams may name these too: they lie in other packs, or are lacking."""
        self._seen.update(chunks)

    async def stream(self, chunks: ChunkList) -> bytes:
        """See `PackBuild`. Raises `ValueError` for a chunk that was not added."""
        if any(chunk not in self._seen for chunk in chunks):
            raise ValueError("the chunks of a stream are added before it")
        name = stream_id(chunks)
        if name not in self._seen:
            self._seen.add(name)
            await self._gather(_Stream(name, chunks))
        return name

    async def finish(self) -> list[FinishedPack]:
        """See `PackBuild`."""
        await self._hand_over()
        await self._settle()
        self._writing = self._start(self._make_visible())
        await self._settle()
        written, self._written = self._written, []
        self.is_open = False
        return [pack for _, pack in written]

    async def abort(self) -> None:
        """See `PackBuild`."""
        self.is_open = False
        self._gathered = []
        # what cannot be removed now is removed when the folder is opened again
        with contextlib.suppress(LocalFailure):
            await self._settle()
        names = [name for name, _ in self._written]
        if self._open is not None:
            self._open.file.close()
            names.append(self._open.name)
        self._written, self._open = [], None
        for name in names:
            with contextlib.suppress(LocalFailure):
                await asyncio.to_thread(self._disk.remove, name)

    async def _gather(self, item: _Chunk | _Stream) -> None:
        self._gathered.append(item)
        if self._gathered_bytes >= _GATHERED_BYTES or len(self._gathered) >= _GATHERED_ITEMS:
            await self._hand_over()

    async def _hand_over(self) -> None:
        await self._settle()
        gathered, self._gathered, self._gathered_bytes = self._gathered, [], 0
        self._writing = self._start(self._write_new(gathered))

    async def _settle(self) -> None:
        """Wait for what was started last; its failure is raised here, every time."""
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def _write_new(self, gathered: Sequence[_Chunk | _Stream]) -> None:
        chunks = [item.ref for item in gathered if isinstance(item, _Chunk)]
        streams = [item.id for item in gathered if isinstance(item, _Stream)]
        held: set[bytes | ChunkRef] = {*await self._index.held_chunks(self._space, chunks)}
        held |= await self._index.held_streams(self._space, streams)
        await asyncio.to_thread(self._write, gathered, held)

    async def _make_visible(self) -> None:
        await asyncio.to_thread(self._close_pack)
        if self._written:
            await self._install(self._written)

    def _write(self, gathered: Sequence[_Chunk | _Stream], held: set[bytes | ChunkRef]) -> None:
        for item in gathered:
            if isinstance(item, _Chunk):
                if item.ref in held:
                    continue
                pack = self._pack()
                pack.writer.add_chunk(item.data, item.ref)
            else:
                if item.id in held:
                    continue
                pack = self._pack()
                pack.writer.add_stream(item.chunks)
            if data := pack.writer.take():
                if self._leave_room is not None:
                    self._leave_room(len(data))
                self._disk.write(pack.file, data)
            if pack.writer.is_full:
                self._close_pack()

    def _pack(self) -> _OpenPack:
        if self._open is None:
            name = self._passing_name()
            self._open = _OpenPack(name, self._disk.create(name), PackWriter(level=self._level))
        return self._open

    def _close_pack(self) -> None:
        if self._open is None:
            return
        pack = self._open
        finished = pack.writer.finish()
        self._disk.write(pack.file, pack.writer.take())
        self._disk.flush(pack.file)
        pack.file.close()
        self._open = None
        self._written.append((pack.name, finished))
