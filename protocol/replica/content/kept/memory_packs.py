"""Packs in memory: what other tests use, held to the same contract as the durable ones (R21)."""

# ruff: noqa: D102  (the interfaces say what each method means)

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from weakref import WeakSet

from blake3 import blake3

from protocol.errors import Code, LocalFailure, PeerFault, TooLarge
from protocol.limits import MAX_PACK_BYTES
from protocol.replica.byte_range import Span
from protocol.replica.content.deltas.expansion import expand_delta, worth_keeping
from protocol.replica.content.packing.mending import bad_spans
from protocol.replica.content.packing.pack_build import LEVEL, SEALED_LEVEL
from protocol.replica.content.packing.pack_check import check_pack, check_pack_bytes, not_the_pack
from protocol.replica.content.packing.pack_cover import smallest_cover
from protocol.replica.interfaces import Damage, Deciding, DeltaInfo, PackInfo, ReadInto
from protocol.replica.making import Making
from protocol.transfer.chunking import ChunkList, ChunkRef, chunk_ref, chunks_before, stream_id
from protocol.transfer.delta import is_delta
from protocol.transfer.pack import FinishedPack, open_frame, resolve_streams
from protocol.transfer.pack_writer import PackWriter


@dataclass(slots=True)
class _Pack:
    """A stored pack, opened: its bytes, the chunks and lists in it, and its spaces with whether it is unsent there."""

    data: bytes
    chunks: dict[ChunkRef, bytes]
    streams: dict[bytes, ChunkList]
    spaces: dict[bytes, bool] = field(default_factory=dict)


@dataclass(slots=True)
class _Delta:
    """A delta that is kept: what it is, its bytes, whether it is to go to the server."""

    about: DeltaInfo
    data: bytes
    unsent: bool


class MemoryBuild:
    """See `PackBuild`."""

    def __init__(self, content: MemoryPacks, space: bytes, *, unsent: bool, sealed: bool) -> None:
        self._content = content
        self._space = space
        self._unsent = unsent
        self._level = SEALED_LEVEL if sealed else LEVEL
        self._seen: set[bytes | ChunkRef] = set()
        self._writer: PackWriter | None = None
        self._written: list[tuple[bytes, FinishedPack]] = []
        self.is_sealed = sealed
        self.is_open = True

    async def chunk(self, data: bytes) -> bytes:
        ref = chunk_ref(data)
        if ref not in self._seen:
            self._seen.add(ref)
            if await self._content.missing_chunks(self._space, [ref]):
                self._open().add_chunk(data, ref)
                self._close_when_full()
        return ref.hash

    async def held(self, chunks: ChunkList) -> None:
        asked = [chunk for chunk in chunks if chunk not in self._seen]
        if await self._content.missing_chunks(self._space, asked):
            raise PeerFault(Code.MISSING_BASE, "a delta is made of content that is not here")
        self._seen.update(asked)

    async def stream(self, chunks: ChunkList) -> bytes:
        if any(chunk not in self._seen for chunk in chunks):
            raise ValueError("the chunks of a stream are added before it")
        name = stream_id(chunks)
        if name not in self._seen:
            self._seen.add(name)
            if not self._content.brought(self._space, name):
                self._open().add_stream(chunks)
                self._close_when_full()
        return name

    async def finish(self) -> list[FinishedPack]:
        self._close()
        for data, pack in self._written:
            self._content.store(self._space, data, pack, unsent=self._unsent)
        written, self._written = self._written, []
        self.is_open = False
        return [pack for _, pack in written]

    async def abort(self) -> None:
        self._writer, self._written = None, []
        self.is_open = False

    def _open(self) -> PackWriter:
        if self._writer is None:
            self._writer = PackWriter(level=self._level)
        return self._writer

    def _close_when_full(self) -> None:
        if self._writer is not None and self._writer.is_full:
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            pack = self._writer.finish()
            self._written.append((self._writer.take(), pack))
            self._writer = None


class MemoryPacks:
    """See `ContentStore`."""

    def __init__(self) -> None:
        self._packs: dict[bytes, _Pack] = {}
        self._builds: WeakSet[MemoryBuild] = WeakSet()
        self._parts: dict[tuple[bytes, bytes], bytes] = {}
        self._deltas: dict[bytes, _Delta] = {}
        self.changes = 0

    async def build(self, space: bytes, *, unsent: bool, sealed: bool = False) -> MemoryBuild:
        build = MemoryBuild(self, space, unsent=unsent, sealed=sealed)
        self._builds.add(build)
        return build

    async def ingest(
        self, space: bytes, data: bytes, *, unsent: bool = False, making: Making | None = None
    ) -> FinishedPack | None:
        if is_delta(data):
            await self._take_delta(space, blake3(data).digest(), data, making)
            return None
        finished = check_pack_bytes(data, making)
        self.store(space, data, finished, unsent=unsent)
        return finished

    async def part_size(self, pack: bytes, sender: bytes = b"") -> int:
        return len(self._parts.get((pack, sender), b""))

    async def parts_sent(self) -> list[tuple[tuple[bytes, bytes], int]]:
        return [(part, len(data)) for part, data in self._parts.items() if part[1]]

    async def append_part(self, pack: bytes, offset: int, data: bytes | memoryview, sender: bytes = b"") -> int:
        if offset + len(data) > MAX_PACK_BYTES:
            raise TooLarge(Code.TOO_LARGE, "a pack is larger than allowed", max=MAX_PACK_BYTES)
        have = self._parts.get((pack, sender), b"")
        if len(have) != offset:
            raise PeerFault(Code.WRONG_OFFSET, "a pack continues at another place", offset=offset, expected=len(have))
        self._parts.pop((pack, sender), None)  # the last to be touched stands last
        self._parts[pack, sender] = have + bytes(data)
        return offset + len(data)

    async def resume_part(self, pack: bytes, size: int) -> int:
        del size
        return await self.part_size(pack)

    async def bad_spans(self, pack: bytes, size: int) -> list[Span]:
        part = self._parts.get((pack, b""), b"")
        return bad_spans(size, lambda start, length: part[start : start + length]) if len(part) == size else []

    async def mend_part(self, pack: bytes, offset: int, data: bytes) -> None:
        part = self._parts.get((pack, b""), b"")
        if offset + len(data) > len(part):
            raise not_the_pack(len(part), offset + len(data))
        self._parts[pack, b""] = part[:offset] + data + part[offset + len(data) :]

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
        part = self._parts.get((pack, sender))
        try:
            return await self._finish_part(PackInfo(pack, size, space), sender, making, unsent=unsent)
        except PeerFault as fault:
            if keep_bad and part is not None and fault.code is not Code.WRONG_OFFSET:
                self._parts[pack, sender] = part
            raise

    async def _finish_part(
        self, wanted: PackInfo, sender: bytes, making: Making | None, *, unsent: bool
    ) -> FinishedPack | None:
        pack, size, space = wanted.hash, wanted.size, wanted.space
        part = self._parts.get((pack, sender))
        if part is not None and len(part) == size and is_delta(part):
            del self._parts[pack, sender]
            if blake3(part).digest() != pack:
                raise PeerFault(Code.BAD_HASH, "a delta is not the one that was asked for", expected=pack.hex())
            await self._take_delta(space, pack, part, making)
            return None
        if part is None and await self.pack(pack, space) is not None:
            return check_pack_bytes(self._packs[pack].data)
        if part is None or len(part) < size:
            raise not_the_pack(len(part or b""), size)
        del self._parts[pack, sender]
        finished = check_pack(pack, len(part), lambda start, length: part[start : start + length], making)
        self.store(space, part, finished, unsent=unsent)
        return finished

    async def lying_parts(self) -> dict[str, int]:
        """Memory outlives no program that might have left some."""
        return {}

    async def drop_lying(self, parts: Iterable[str]) -> None:
        """There are none."""

    async def drop_part(self, pack: bytes, sender: bytes = b"") -> None:
        self._parts.pop((pack, sender), None)

    async def share(self, pack: bytes, space: bytes) -> None:
        if pack in self._packs:
            spaces = self._packs[pack].spaces
            spaces.setdefault(space, any(spaces.values()))
            self.changes += 1

    async def pack(self, pack: bytes, space: bytes | None = None) -> PackInfo | None:
        if (delta := self._deltas.get(pack)) is not None and space in (None, delta.about.space):
            return PackInfo(pack, delta.about.size, delta.about.space)
        stored = self._packs.get(pack)
        if stored is None or (space is not None and space not in stored.spaces):
            return None
        return PackInfo(pack, len(stored.data), space if space is not None else next(iter(stored.spaces)))

    async def read_pack(self, pack: bytes, start: int, length: int) -> bytes:
        if pack in self._deltas:
            return self._deltas[pack].data[start : start + length]
        if pack not in self._packs:
            raise LocalFailure(Code.INCOMPLETE, "this content is not here", pack=pack.hex())
        return self._packs[pack].data[start : start + length]

    async def pack_reader(self, pack: bytes) -> ReadInto:
        data = await self.read_pack(pack, 0, MAX_PACK_BYTES)

        def read(start: int, memory: memoryview) -> int:
            found = data[start : start + len(memory)]
            memory[: len(found)] = found
            return len(found)

        return read

    async def keep_delta(self, about: DeltaInfo, data: bytes, *, unsent: bool = False) -> None:
        self._deltas.setdefault(about.hash, _Delta(about, data, unsent))

    async def drop_delta(self, delta: bytes) -> bool:
        return self._deltas.pop(delta, None) is not None

    async def deltas(self, space: bytes) -> list[DeltaInfo]:
        return [delta.about for delta in self._deltas.values() if delta.about.space == space]

    async def unsent_deltas(self) -> list[DeltaInfo]:
        return [delta.about for delta in self._deltas.values() if delta.unsent]

    async def _take_delta(self, space: bytes, delta: bytes, data: bytes, making: Making | None) -> None:
        def read(start: int, length: int) -> bytes:
            return data[start : start + length]

        about = await expand_delta(self, space, delta, len(data), read, making)
        if worth_keeping(about):
            await self.keep_delta(about, data)

    async def chunk_list(self, stream: bytes) -> ChunkList | None:
        return (await self.chunk_lists([stream])).get(stream)

    async def chunk_lists(self, streams: Sequence[bytes]) -> dict[bytes, ChunkList]:
        wanted = set(streams)
        return {
            name: chunks for pack in self._packs.values() for name, chunks in pack.streams.items() if name in wanted
        }

    async def known_streams(self, streams: Sequence[bytes]) -> set[bytes]:
        return set((await self.chunk_lists(streams)).keys())

    async def missing_chunks(self, space: bytes, chunks: Sequence[ChunkRef]) -> set[ChunkRef]:
        here = [pack.chunks for pack in self._packs.values() if space in pack.spaces]
        return {chunk for chunk in chunks if not any(chunk in held for held in here)}

    async def missing_streams(self, space: bytes, streams: Sequence[bytes]) -> set[bytes]:
        return {stream for stream in streams if not self.brought(space, stream)}

    async def held_names(self, space: bytes, most: int) -> list[bytes]:
        here = [pack for pack in self._packs.values() if space in pack.spaces]
        found = {name for pack in here for name in (*(chunk.hash for chunk in pack.chunks), *pack.streams)}
        return sorted(found) if len(found) <= most else []

    async def packs_holding(
        self, space: bytes, chunks: Iterable[ChunkRef], streams: Iterable[bytes] = ()
    ) -> list[PackInfo]:
        wanted, lists = set(chunks), set(streams)
        return smallest_cover(
            {
                PackInfo(name, len(pack.data), space): {
                    *(chunk.hash for chunk in wanted & pack.chunks.keys()),
                    *(lists & pack.streams.keys()),
                }
                for name, pack in self._packs.items()
                if space in pack.spaces
            }
        )

    async def read_stream(self, stream: bytes, start: int = 0) -> AsyncIterator[bytes]:
        chunks = await self.chunk_list(stream)
        if chunks is None:
            raise LocalFailure(Code.INCOMPLETE, "this content is not here", stream=stream.hex())
        skipped, offset = chunks_before(chunks, start)
        for chunk in chunks[skipped:]:
            data = next((pack.chunks[chunk] for pack in self._packs.values() if chunk in pack.chunks), None)
            if data is None:
                raise LocalFailure(Code.INCOMPLETE, "this content is not here as a whole", chunk=chunk.hash.hex())
            yield data[offset:]
            offset = 0

    async def unsent_packs(self) -> list[PackInfo]:
        waiting = [
            PackInfo(name, len(pack.data), space)
            for name, pack in self._packs.items()
            for space, unsent in pack.spaces.items()
            if unsent
        ]
        return sorted(waiting, key=lambda pack: (pack.size, pack.hash, pack.space))

    async def mark_packs(self, packs: Iterable[bytes], *, unsent: bool) -> None:
        for name in packs:
            if name in self._deltas and not unsent:
                self._deltas[name].unsent = False
                await self.mark_packs(self._deltas[name].about.covers, unsent=False)
            if name in self._packs:
                self._packs[name].spaces = dict.fromkeys(self._packs[name].spaces, unsent)

    async def forget(
        self, spaces: Collection[bytes], streams: Collection[bytes], deciding: Deciding = nullcontext
    ) -> list[bytes]:
        async with deciding():
            return self._forget(spaces, streams)

    def _forget(self, spaces: Collection[bytes], streams: Collection[bytes]) -> list[bytes]:
        lists = [(name, refs) for pack in self._packs.values() for name, refs in pack.streams.items()]
        needed = {ref for name, refs in lists if name not in streams for ref in refs}
        alone = {ref for name, refs in lists if name in streams for ref in refs} - needed
        gone = {
            name: pack
            for name, pack in self._packs.items()
            if pack.spaces.keys() <= set(spaces)
            and not (pack.streams.keys().isdisjoint(streams) and alone.isdisjoint(pack.chunks))
        }
        for name, pack in gone.items():
            left = [refs for one, refs in pack.streams.items() if one not in streams]
            self._move_out(pack, [chunk for chunk in pack.chunks if chunk not in alone], left)
            del self._packs[name]
            self.changes += 1
        return list(gone)

    async def forget_unfinished(self, spaces: Collection[bytes]) -> None:  # noqa: ARG002
        self._parts.clear()

    async def unnamed(self) -> list[bytes]:
        named = self._named()
        return [name for name, pack in self._packs.items() if not named.issuperset(pack.chunks)]

    async def forget_damaged(self) -> None:
        """Nothing is moved aside in memory."""

    async def is_building(self) -> bool:
        return any(build.is_open and not build.is_sealed for build in self._builds)

    async def forget_unnamed(self, packs: Collection[bytes]) -> list[bytes]:
        named = self._named()
        gone = [name for name in await self.unnamed() if name in packs]
        for name in gone:
            pack = self._packs.pop(name)
            self._move_out(pack, [chunk for chunk in pack.chunks if chunk in named], list(pack.streams.values()))
            self.changes += 1
        return gone

    async def sharing(self, streams: Collection[bytes]) -> set[bytes]:
        lists = [(name, refs) for pack in self._packs.values() for name, refs in pack.streams.items()]
        chunks = {ref for name, refs in lists if name in streams for ref in refs}
        return {name for name, refs in lists if not chunks.isdisjoint(refs)} - set(streams)

    async def spaces_of(self, streams: Collection[bytes]) -> set[bytes]:
        packs = (pack for pack in self._packs.values() if not pack.streams.keys().isdisjoint(streams))
        return {space for pack in packs for space in pack.spaces}

    async def pack_sizes(self) -> dict[bytes, int]:
        return {name: len(pack.data) for name, pack in self._packs.items()}

    async def drop(self, packs: Sequence[bytes]) -> None:
        for name in packs:
            self._packs.pop(name, None)
        self.changes += 1

    async def totals(self) -> tuple[int, int, int]:
        chunks = {chunk for pack in self._packs.values() for chunk in pack.chunks}
        return len(self._packs), len(chunks), sum(len(pack.data) for pack in self._packs.values())

    async def verify(self) -> list[Damage]:
        return []

    async def free_bytes(self) -> int:
        return 1 << 40

    async def disk_bytes(self) -> int:
        return 1 << 41

    async def close(self) -> None:
        return

    def brought(self, space: bytes, stream: bytes) -> bool:
        """Whether a pack of the space carries this stream's list."""
        return any(stream in pack.streams for pack in self._packs.values() if space in pack.spaces)

    def _named(self) -> set[ChunkRef]:
        """Every chunk that a list names."""
        return {ref for pack in self._packs.values() for refs in pack.streams.values() for ref in refs}

    def _move_out(self, pack: _Pack, chunks: Collection[ChunkRef], lists: Collection[ChunkList]) -> None:
        """What is left of a pack, as one of its own."""
        writer = PackWriter(level=LEVEL)
        for chunk in chunks:
            writer.add_chunk(pack.chunks[chunk], chunk)
        for refs in lists:
            writer.add_stream(refs)
        if chunks or lists:
            finished = writer.finish()
            data = writer.take()
            for space, unsent in pack.spaces.items():
                self.store(space, data, finished, unsent=unsent)

    def store(self, space: bytes, data: bytes, finished: FinishedPack, *, unsent: bool) -> None:
        """Make a verified pack visible in a space."""
        stored = self._packs.get(finished.hash)
        if stored is None:
            opened = [
                chunk
                for frame in finished.index.frames
                for chunk in open_frame(frame, data[frame.offset : frame.offset + frame.stored_bytes])
            ]
            lists = resolve_streams(finished.index, finished.chunks)
            streams = dict(zip(finished.stream_ids, lists, strict=True))
            stored = self._packs[finished.hash] = _Pack(data, dict(zip(finished.chunks, opened, strict=True)), streams)
        stored.spaces[space] = unsent and stored.spaces.get(space, True)
        self.changes += 1
