"""Deltas become packs: what a delta says is rebuilt from its frames and from content of its space (R17, R8).

Frame by frame, in constant memory: a dictionary, a frame or two, one file with its image, one gathered megabyte.
Streams of that file which the new one has as well are not compressed again. Everything becomes visible together at the
end, or nothing does. docs/protocol.md, "Deltas".

A delta is somebody's word, and costs as much as that somebody likes up to `MAX_DELTA_WORK_BYTES`: all of them are
rebuilt in one thread of their own, so that disks and hashes of others never wait for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Final, TypeAlias

from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import (
    INLINE_PACK_BYTES,
    MAX_DELTA_MADE_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_SPLICED_BYTES,
    MAX_STREAM_BYTES,
    MiB,
)
from protocol.replica.content.deltas.bases import Bases
from protocol.replica.content.deltas.expansion_cost import BLOCK_BYTES, FOLD_FACTOR, PART_BYTES, Kept, Work, apart
from protocol.replica.interfaces import ContentStore, DeltaInfo, PackBuild
from protocol.replica.making import Making
from protocol.transfer.byte_source import PIECE_BYTES
from protocol.transfer.chunking import CHUNK_REF_BYTES, ChunkRef, Cutter, check_chunk_list, stream_bytes
from protocol.transfer.deflate_parameters import Profile, profile
from protocol.transfer.delta import TRAILER_BYTES, Chunked, Copy, DeltaIndex, Own, Source, Spliced, Target, Tree
from protocol.transfer.delta_reader import decode_delta_index, open_delta_frame, read_delta_trailer
from protocol.transfer.image import Image
from protocol.transfer.manifest import with_streams
from protocol.transfer.reflate import fold_pieces
from protocol.transfer.untouched import Untouched, untouched_streams

_GATHERED_BYTES: Final = MiB

Read: TypeAlias = Callable[[int, int], bytes]
"""The bytes at a place (start, length) of the delta; fewer at its end. Called in a thread."""


def worth_keeping(about: DeltaInfo) -> bool:
    """Whether others may be given a delta that was taken: not those for first syncs, which only who made them keeps."""
    return bool(about.bases) or about.size <= INLINE_PACK_BYTES


async def expand_delta(
    content: ContentStore, space: bytes, delta: bytes, size: int, read: Read, making: Making | None = None
) -> DeltaInfo:
    """Make visible in `space` what the delta of this hash and size brings, and say what that is.

    The caller has checked the hash; `making` bounds what is made. Raises `PeerFault` (MISSING_BASE, MALFORMED,
    BAD_HASH …), `TooLarge`, `LocalFailure`; then nothing has changed.
    """
    index, levels = await apart(_index, read, size)
    if levels & ~profile():
        raise PeerFault(Code.MISSING_BASE, "a delta needs a zlib like the one of who made it")
    work = _Expansion(content, space, index, read, making or Making(MAX_DELTA_MADE_BYTES, 0))
    build = await content.build(space, unsent=False)
    try:
        trees = await work.run(build)
        await build.finish()
    except BaseException:
        await build.abort()
        raise
    return DeltaInfo(delta, size, space, trees, index.bases, levels=levels)


def _index(read: Read, size: int) -> tuple[DeltaIndex, Profile]:
    """What the delta says, and which levels of deflate its recipes need."""
    place = read_delta_trailer(read(max(0, size - TRAILER_BYTES), TRAILER_BYTES), delta_bytes=size)
    index = decode_delta_index(read(place.offset, place.stored_bytes), place)
    return index, index.levels()


class _Frames:
    """The plain bytes of a delta's frames, one behind the other; the last few that were opened are kept."""

    def __init__(self, index: DeltaIndex, read: Read, bases: Bases, work: Work) -> None:
        self._index = index
        self._read = read
        self._bases = bases
        self._work = work
        self._starts = [0, *accumulate(frame.plain_bytes for frame in index.frames)]
        self._kept = Kept()
        self._opened: dict[int, bytes] = {}

    async def take(self, start: int, length: int) -> bytes:
        """A range of them."""
        taken = []
        for number, span in self._within(start, length):
            dictionary = b""
            if number not in self._opened:
                dictionary = await self._bases.dictionary(self._index.frames[number].sources)
            frame = await apart(self._frame, number, dictionary)
            taken.append(frame[span])
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def now(self, start: int, length: int) -> Iterator[bytes]:
        """The same in a thread, piece by piece, where no frame has a dictionary; no piece holds on to its frame."""
        for number, span in self._within(start, length):
            for at in range(span.start, span.stop, PIECE_BYTES):
                yield self._frame(number, b"")[at : min(at + PIECE_BYTES, span.stop)]

    def _within(self, start: int, length: int) -> Iterator[tuple[int, slice]]:
        """The frames that hold a range, and what of each."""
        number = bisect_right(self._starts, start) - 1
        while length > 0:
            first = start - self._starts[number]
            some = min(length, self._starts[number + 1] - start)
            yield number, slice(first, first + some)
            number, start, length = number + 1, start + some, length - some

    def _frame(self, number: int, dictionary: bytes) -> bytes:
        frame = self._index.frames[number]
        plain = self._opened.get(number)
        if plain is None:
            for gone in self._kept.use(number, frame.plain_bytes):
                del self._opened[gone]
            self._work.add(frame.plain_bytes)
            plain = open_delta_frame(frame, self._read(frame.offset, frame.stored_bytes), dictionary)
            self._opened[number] = plain
        else:
            self._kept.use(number, frame.plain_bytes)
        return plain


class _Expansion:
    """One delta while it is rebuilt."""

    def __init__(self, content: ContentStore, space: bytes, index: DeltaIndex, read: Read, making: Making) -> None:
        self._index = index
        self._making = making
        self._work = Work()
        self._bases = Bases(content, space, index.bases, index.images, self._work)
        self._frames = _Frames(index, read, self._bases, self._work)
        self._at = 0

    async def run(self, build: PackBuild) -> tuple[bytes, ...]:
        """Add all targets to the build; the ids of the manifests among them."""
        ids: list[bytes] = []
        for target in self._index.targets:
            ids.append(await self._target(build, target, ids))
        return tuple(name for name, target in zip(ids, self._index.targets, strict=True) if isinstance(target, Tree))

    async def _target(self, build: PackBuild, target: Target, ids: Sequence[bytes]) -> bytes:
        match target:
            case Chunked():
                return await self._chunked(build, target)
            case Spliced():
                return await self._add(build, await self._spliced(target))
            case Tree(plain_bytes, holes):
                data = with_streams(await self._take(plain_bytes), {record: ids[number] for record, number in holes})
                if len(data) > MAX_MANIFEST_BYTES:
                    raise TooLarge(Code.TOO_LARGE, "a list of files is larger than allowed", size=len(data))
                return await self._add(build, [data])

    async def _chunked(self, build: PackBuild, target: Chunked) -> bytes:
        self._work.add(len(target.parts) * PART_BYTES)
        chunks: list[ChunkRef] = []
        for part in target.parts:
            if isinstance(part, Copy):
                copied = (await self._bases.chunks((await self._bases.file(part.base, part.record)).stream))[
                    part.first : part.first + part.count
                ]
                if len(copied) != part.count:
                    raise PeerFault(Code.MALFORMED, "a delta copies chunks that its base does not have")
                self._making.add(len(copied) * CHUNK_REF_BYTES)
                await build.held(copied)
                chunks += copied
            else:
                self._making.add(part)
                chunks.append(ChunkRef(await build.chunk(await self._take(part)), part))
        listed = tuple(chunks)
        if stream_bytes(listed) > MAX_STREAM_BYTES:
            raise TooLarge(Code.FILE_TOO_LARGE, "a file is larger than allowed", max=MAX_STREAM_BYTES)
        check_chunk_list(listed)
        return await build.stream(listed)

    async def _spliced(self, target: Spliced) -> Iterable[bytes | memoryview]:
        """The file, piece by piece, since an image is many times what the file is."""
        self._work.add(len(target.parts) * PART_BYTES + (target.image_bytes * FOLD_FACTOR if target.recipe else 0))
        if not self._index.bases:
            at, self._at = self._at, self._at + target.plain_bytes
            return _file(self._pieces(target, at), target.recipe)
        origin = next((part for part in target.parts if isinstance(part, Source) and part.unfolded), None)
        if origin is None or origin.record is None:
            return _file(chain.from_iterable([await self._made_of(part, None) for part in target.parts]), target.recipe)
        # a file has one origin, whose image is read as it is needed; of more none is kept
        place = origin.base, origin.record
        inside = await self._bases.inside(*place)
        kept = Untouched(target.parts, {})
        if target.recipe:
            kept = await apart(untouched_streams, target, *place, inside.packed)
        self._work.add(BLOCK_BYTES * sum(_is_from(part, place) for part in target.parts))
        made = [await self._made_of(part, inside.image if _is_from(part, place) else None) for part in kept.parts]
        streams = {number: memoryview(inside.data)[where] for number, where in kept.streams.items()}
        return _file(chain.from_iterable(made), target.recipe, streams)

    async def _made_of(self, part: Source | Own | int, image: Image | None) -> Iterable[bytes | memoryview]:
        """The bytes of a part; those of a range of `image` as they are asked for."""
        if isinstance(part, int):
            return [await self._take(part)]
        if isinstance(part, Own):
            return ()
        if image is not None and part.end <= len(image):
            return image.pieces(part.start, part.length)
        return [await self._bases.source(part)]

    def _pieces(self, target: Spliced, at: int) -> Iterator[bytes]:
        """The plain bytes of a file that is made of the delta alone."""
        for part in target.parts:
            if isinstance(part, int):
                yield from self._frames.now(at, part)
                at += part
            elif isinstance(part, Own):
                yield from self._frames.now(part.start, part.length)

    async def _add(self, build: PackBuild, pieces: Iterable[bytes | memoryview]) -> bytes:
        """Cut bytes as they come and add them as a stream."""
        coming, cutter, listed = iter(pieces), Cutter(), []
        more = True
        while more:
            chunks, more = await apart(_next_chunks, coming, cutter)
            self._making.add(sum(map(len, chunks)))
            listed += [ChunkRef(await build.chunk(chunk), len(chunk)) for chunk in chunks]
        return await build.stream(tuple(listed))

    async def _take(self, length: int) -> bytes:
        """The next plain bytes; frames are opened as they are needed."""
        at, self._at = self._at, self._at + length
        return await self._frames.take(at, length) if length else b""


def _file(
    image: Iterable[bytes | memoryview], recipe: bytes, streams: Mapping[int, memoryview] | None = None
) -> Iterable[bytes | memoryview]:
    """The file of these plain bytes, and of streams that are taken as they are."""
    return fold_pieces(image, recipe, max_bytes=MAX_SPLICED_BYTES, untouched=streams or {}) if recipe else image


def _is_from(part: Source | Own | int, place: tuple[int, int]) -> bool:
    """Whether a part is a range of this image."""
    return isinstance(part, Source) and part.unfolded and (part.base, part.record) == place


def _next_chunks(coming: Iterator[bytes | memoryview], cutter: Cutter) -> tuple[list[bytes], bool]:
    """The chunks of about the next megabyte, and whether more may follow."""
    gathered = bytearray()
    for piece in coming:
        gathered += piece
        if len(gathered) >= _GATHERED_BYTES:
            return cutter.feed(gathered), True
    return cutter.feed(gathered) + cutter.finish(), False
