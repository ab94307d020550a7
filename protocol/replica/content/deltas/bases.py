"""What a delta may refer to: manifests of a space, with the files that they name, as they lie in a replica.

Only what packs of that very space hold counts (invariant 5 of `interfaces`): else a delta could fetch content out of a
space that its maker may not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType
from typing import NamedTuple, ParamSpec, TypeVar

from protocol.errors import Code, LocalFailure, PeerFault
from protocol.limits import MAX_IMAGE_BYTES, MAX_MANIFEST_BYTES, MAX_SPLICED_BYTES
from protocol.replica.content.deltas.expansion_cost import (
    BLOCK_BYTES,
    LISTED_BYTES,
    PART_BYTES,
    READ_BYTES,
    Work,
    apart,
)
from protocol.replica.interfaces import ContentStore
from protocol.transfer.byte_source import in_pieces
from protocol.transfer.chunking import ChunkList, ChunkRef, chunks_before, stream_bytes
from protocol.transfer.delta import Source
from protocol.transfer.image import Image
from protocol.transfer.manifest import ManifestEntry, read_manifest
from protocol.transfer.reflate import Packed, reopen_pieces

P = ParamSpec("P")
T = TypeVar("T")


class Inside(NamedTuple):
    """A file of a base seen from inside: its image, and, for who rebuilds, the file with where its streams lie."""

    image: Image
    data: bytes = b""
    packed: Mapping[int, Packed] = MappingProxyType({})


class Bases:
    """The bases of one delta; `work` counts what is done for somebody else's.

    Raises `PeerFault(MISSING_BASE)` for what is not here, MALFORMED for what cannot be, and `TooLarge`.
    """

    def __init__(
        self,
        content: ContentStore,
        space: bytes,
        bases: Sequence[bytes],
        recipes: Mapping[tuple[int, int], bytes],
        work: Work | None = None,
    ) -> None:
        self._content = content
        self._work = work
        self._space = space
        self._bases = bases
        self._recipes = recipes
        self._manifests: dict[int, bytes] = {}
        self._files: dict[int, tuple[ManifestEntry, ...]] = {}
        self._lists: dict[bytes, ChunkList] = {}
        self._inside: tuple[tuple[int, int], Inside] = ((-1, -1), Inside(Image()))

    async def manifest(self, base: int) -> bytes:
        """The bytes of a base."""
        found = self._manifests.get(base)
        if found is None:
            found = self._manifests[base] = await self.range_of(self._bases[base], 0, None, most=MAX_MANIFEST_BYTES)
        return found

    async def files(self, base: int) -> tuple[ManifestEntry, ...]:
        """The files of a base."""
        found = self._files.get(base)
        if found is None:
            found = await self._heavy(read_manifest, await self.manifest(base))
            self._files[base] = found
        return found

    async def file(self, base: int, record: int) -> ManifestEntry:
        """One file of a base."""
        files = await self.files(base)
        if record >= len(files):
            raise PeerFault(Code.MALFORMED, "a delta names a file that its base does not have", record=record)
        return files[record]

    async def chunks(self, stream: bytes) -> ChunkList:
        """The chunk list of a stream that is here."""
        found = self._lists.get(stream)
        if found is None:
            found = await self._content.chunk_list(stream)
            if found is None:
                raise missing_base(stream)
            self._lists[stream] = found
        return found

    async def learn(self, streams: Sequence[bytes]) -> None:
        """Look up many chunk lists at once."""
        self._lists.update(await self._content.chunk_lists(streams))

    async def source(self, source: Source) -> bytes:
        """The bytes that a source names."""
        self._count((BLOCK_BYTES if source.unfolded else PART_BYTES) + source.length)
        if source.record is None:
            data = (await self.manifest(source.base))[source.start : source.start + source.length]
        elif source.unfolded:
            image = await self.image(source.base, source.record)
            data = image[source.start : source.start + source.length]
        else:
            stream = (await self.file(source.base, source.record)).stream
            data = await self.range_of(stream, source.start, source.length)
        if len(data) != source.length:
            raise PeerFault(Code.MALFORMED, "a delta names bytes that its base does not have", start=source.start)
        return data

    async def dictionary(self, sources: Sequence[Source]) -> bytes:
        """The bytes that sources name, one behind the other."""
        return b"".join([await self.source(source) for source in sources])

    async def whole(self, base: int, record: int) -> bytes:
        """A whole file that is small enough to be unfolded."""
        return await self.range_of((await self.file(base, record)).stream, 0, None, most=MAX_SPLICED_BYTES)

    async def image(self, base: int, record: int) -> Image:
        """The image of a file whose recipe is known."""
        return (await self.inside(base, record)).image

    async def inside(self, base: int, record: int) -> Inside:
        """A file whose recipe is known, seen from inside; the last one is remembered."""
        if self._inside[0] != (base, record):
            data = await self.whole(base, record)
            found = await self._heavy(_reopened, data, self._recipes[base, record])
            self._count(len(found.image))
            # who makes deltas has files beside images already
            self._inside = ((base, record), found if self._work is not None else Inside(found.image))
        return self._inside[1]

    async def _heavy(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work in a thread."""
        run = asyncio.to_thread if self._work is None else apart
        return await run(work, *args, **kwargs)

    def _count(self, size: int) -> None:
        """Note work, where somebody else's word asks for it."""
        if self._work is not None:
            self._work.add(size)

    def remember_image(self, base: int, record: int, image: Image) -> None:
        """The image of a file of a base has just been made."""
        self._inside = ((base, record), Inside(image))

    async def range_of(self, stream: bytes, start: int, length: int | None, *, most: int | None = None) -> bytes:
        """Bytes of a stream, from `start` on, all of them if `length` is None; of more than `most` none are read."""
        chunks = await self.chunks(stream)
        if most is not None and sum(chunk.length for chunk in chunks) > most:
            raise PeerFault(Code.MALFORMED, "a delta is made of a file that is too large for it", stream=stream.hex())
        self._count(READ_BYTES + len(chunks) * LISTED_BYTES + (stream_bytes(chunks) if length is None else 0))
        needed = chunks if length is None else _within(chunks, start, length)
        if await self._content.missing_chunks(self._space, needed):
            raise missing_base(stream)
        return await read_range(
            self._content, stream, start, sum(c.length for c in chunks) if length is None else length
        )


def _reopened(data: bytes, recipe: bytes) -> Inside:
    image = Image()
    packed: dict[int, Packed] = {}

    def note(stream: Packed) -> None:
        packed[stream.image_start] = stream

    for piece in reopen_pieces(in_pieces(data), recipe, max_bytes=MAX_IMAGE_BYTES, note=note):
        image.write(piece)
    return Inside(image, data, packed)


async def read_range(content: ContentStore, stream: bytes, start: int, length: int) -> bytes:
    """Up to `length` bytes of a stream that is here. Raises `PeerFault(MISSING_BASE)` if it is not whole."""
    data = bytearray()
    if not length:
        return b""
    try:
        async with aclosing(content.read_stream(stream, start)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                data += piece
                if len(data) >= length:
                    break
    except LocalFailure as failure:
        if failure.code in (Code.INCOMPLETE, Code.DAMAGED):
            raise missing_base(stream) from failure
        raise
    return bytes(data[:length])


def missing_base(stream: bytes) -> PeerFault:
    """A delta is of no use here."""
    return PeerFault(Code.MISSING_BASE, "a delta is made of content that is not here", stream=stream.hex())


def _within(chunks: ChunkList, start: int, length: int) -> Sequence[ChunkRef]:
    first, offset = chunks_before(chunks, start)
    last, rest = chunks_before(chunks, start + length)
    return chunks[first : last + (1 if rest else 0)] if length or offset else ()
