"""Making deltas: one revision said in terms of others that its readers have (R12, R17; docs/protocol.md, "Deltas").

Rules:
- chunks that a base has are copied by their place; what is new is compressed against the part of a base that it most
  likely comes from: the file of the same path, the one that shares most chunks, the one that was renamed;
- a file that unfolds, as its base does, travels as its image: inside ZIP and PDF a small edit then is a small change;
- files that resemble each other lie one behind the other; the manifest comes last, without the ids of what came before;
- a delta is made only where it is worth its time: not above `MAX_NEW_BYTES` (`MAX_BASELESS_BYTES` without a base), not
  for longer than `PATIENCE_S`, and it is kept only if it is a tenth smaller than the packs that it replaces.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from protocol.errors import RelaisError
from protocol.limits import (
    MAX_DELTA_BASES,
    MAX_IMAGE_BYTES,
    MAX_SPLICED_BYTES,
    KiB,
    MiB,
)
from protocol.replica.content.deltas.bases import Bases, read_range
from protocol.replica.interfaces import ContentStore, DeltaInfo
from protocol.transfer.chunking import ChunkList
from protocol.transfer.deflate_parameters import ALL_LEVELS, Profile, profile
from protocol.transfer.delta import Chunked, Copy, Source, Spliced, Tree
from protocol.transfer.delta_writer import LEVEL, DeltaWriter, FinishedDelta, compress
from protocol.transfer.image import Image, Ranged
from protocol.transfer.manifest import ManifestEntry, without_streams
from protocol.transfer.pack import FinishedPack
from protocol.transfer.places import Places
from protocol.transfer.reflate import unfold_into
from protocol.transfer.splicing import Span, spans
from protocol.transfer.zip_directory import TAIL_BYTES, members_of, shared_bytes

MAX_NEW_BYTES: Final = 48 * MiB
MAX_BASELESS_BYTES: Final = 2 * MiB
PATIENCE_S: Final = 30.0
_WORTH_IT: Final = 0.9
_MOSTLY_NEW: Final = 0.75
# plain bytes and dictionary of a frame: what a compressor of little memory reaches
_FRAME_BYTES: Final = 2 * MiB
_DICTIONARY_BYTES: Final = 2 * MiB
_WHOLE_BASE_BYTES: Final = MiB
_NEIGHBOUR_BYTES: Final = 512 * KiB
_MIN_COMPRESSED_BYTES: Final = 32
_PLAIN_ENOUGH_BYTES: Final = 4 * KiB
MAX_LOOKED_AT: Final = 300
_MIN_ARCHIVE_BYTES: Final = 32 * KiB
_ARCHIVES: Final = frozenset(
    {".zip", ".odt", ".odp", ".ods", ".odg", ".docx", ".pptx", ".xlsx", ".epub", ".h5p", ".imscc", ".ggb"}
)
# how much around the place of new bytes may help to say them, by how many they are
_SLACK: Final = ((4 * KiB, 512 * KiB), (0, 4 * KiB))
# the strongest level while that takes a second or two on an old PC, then faster ones
_LEVELS: Final = ((8 * MiB, LEVEL), (24 * MiB, 12))
_FAST_LEVEL: Final = 9
# so much may be compressed, what is read beforehand included, at the strongest level: a document that another program
# has written again is new in a hundred places, each with its surroundings
_STRONGEST_BYTES: Final = 16 * MiB
# what was written again elsewhere in a large file is looked for in all of it, from so many new bytes on, and compressed
# in parts that its compressor reaches together with what it found
_IN_PLACE: Final = 0.05
_SCATTERED_FROM_BYTES: Final = 512 * KiB
_SCATTERED_FRAME_BYTES: Final = 256 * KiB
_SCATTERED_DICTIONARY_BYTES: Final = MiB
# a table that was corrected in every hundredth line: places cost more than a compressor needs to find them
_MANY_SPANS: Final = 32
_BYTES_PER_SPAN: Final = 4
# changed chunks of a large file are nearly what they were: a stronger level takes ten times as long for a few bytes
_LARGE_LEVEL: Final = 12

_log = logging.getLogger(__name__)


class _Found(NamedTuple):
    """Where a stream or a chunk lies: base, file, chunk."""

    base: int
    record: int
    chunk: int = 0


@dataclass(frozen=True, slots=True)
class _Piece:
    """What of a new file remains once its copied chunks are taken out: the parts, and the ranges of what is new."""

    parts: tuple[Copy | int, ...]
    new: tuple[tuple[int, int], ...]

    @property
    def is_all_new(self) -> bool:
        return not any(isinstance(part, Copy) for part in self.parts)

    @property
    def new_bytes(self) -> int:
        return sum(length for _, length in self.new)


class _Inside(NamedTuple):
    """A file seen from inside."""

    image: Image
    recipe: bytes


async def keep_as_delta(
    content: ContentStore,
    space: bytes,
    tree: bytes,
    bases: Sequence[bytes],
    packs: Sequence[FinishedPack],
    *,
    allowed: Profile = ALL_LEVELS,
) -> None:
    """Let the revision with manifest `tree`, just made whole here by `packs`, go out as a delta if that is less.

    Its readers reproduce the levels in `allowed`. Nobody has to wait for it, and nothing depends on it: what goes wrong
    is logged.
    """
    replaced_bytes = sum(pack.size for pack in packs)
    try:
        async with asyncio.timeout(PATIENCE_S):
            made = await build_delta(content, space, tree, bases, allowed=allowed)
            if made is not None and made[0].size <= replaced_bytes * _WORTH_IT:
                finished, data = made
                covers = tuple(pack.hash for pack in packs)
                index = finished.index
                about = DeltaInfo(
                    finished.hash, finished.size, space, (tree,), index.bases, covers, levels=index.levels()
                )
                await content.keep_delta(about, data, unsent=True)
    except TimeoutError:
        _log.info("a publication goes out as it is: saying it as a delta takes too long here")
    except RelaisError as failure:
        _log.warning("a publication goes out as it is: %s", failure)


async def build_delta(
    content: ContentStore, space: bytes, tree: bytes, bases: Sequence[bytes], *, allowed: Profile = ALL_LEVELS
) -> tuple[FinishedDelta, bytes] | None:
    """The delta that makes the revision with manifest `tree` out of the revisions with manifests `bases`.

    All of them are here, whole. None if too much is new for a delta to be worth its time.
    """
    work = _Build(content, space, tree, bases[:MAX_DELTA_BASES], Profile(allowed & profile()))
    return await work.run()


class _Build:
    """One delta while it is made."""

    def __init__(
        self, content: ContentStore, space: bytes, tree: bytes, bases: Sequence[bytes], allowed: Profile
    ) -> None:
        self._content = content
        self._allowed = allowed
        self._recipes: dict[tuple[int, int], bytes] = {}
        self._tree = Bases(content, space, [tree], {})
        self._bases = Bases(content, space, bases, self._recipes)
        self._writer = DeltaWriter(bases)
        self._count = len(bases)
        self._streams: dict[bytes, _Found] = {}
        self._paths: dict[str, _Found] = {}
        self._chunks: dict[bytes, _Found] = {}
        self._plain: list[bytes] = []
        self._plain_bytes = 0
        self._sources: dict[Source, None] = {}
        self._level = LEVEL
        self._compressed_bytes = 0
        self._looked_at = 0

    async def run(self) -> tuple[FinishedDelta, bytes] | None:
        await self._learn()
        files = await self._tree.files(0)
        records = {file.stream: number for number, file in enumerate(files)}
        fresh = [files[number] for stream, number in records.items() if stream not in self._streams]
        fresh.sort(key=lambda file: (PurePosixPath(file.path).suffix.lower(), file.path))
        await self._tree.learn([file.stream for file in fresh])
        pieces = {file.stream: self._piece(await self._tree.chunks(file.stream)) for file in fresh}
        new_bytes = sum(piece.new_bytes for piece in pieces.values())
        if new_bytes > (MAX_NEW_BYTES if self._count else MAX_BASELESS_BYTES):
            return None
        self._level = next((level for most, level in _LEVELS if new_bytes <= most), _FAST_LEVEL)
        gone = self._paths.keys() - {file.path for file in files}
        numbers = {file.stream: await self._add(file, pieces[file.stream], gone) for file in fresh}
        await self._add_tree(files, numbers)
        finished = await asyncio.to_thread(self._writer.finish)
        return finished, self._writer.take()

    async def _learn(self) -> None:
        """Index the bases: their files by stream and by path, their chunks."""
        for base in range(self._count):
            files = await self._bases.files(base)
            for record, file in enumerate(files):
                self._streams.setdefault(file.stream, _Found(base, record))
                self._paths.setdefault(file.path, _Found(base, record))
        await self._bases.learn(list(self._streams))
        for stream, found in self._streams.items():
            for number, chunk in enumerate(await self._bases.chunks(stream)):
                self._chunks.setdefault(chunk.hash, found._replace(chunk=number))

    def _piece(self, chunks: ChunkList) -> _Piece:
        parts: list[Copy | int] = []
        new: list[tuple[int, int]] = []
        at = 0
        for chunk in chunks:
            found = self._chunks.get(chunk.hash)
            if found is None:
                parts.append(chunk.length)
                if new and sum(new[-1]) == at:
                    new[-1] = (new[-1][0], new[-1][1] + chunk.length)
                else:
                    new.append((at, chunk.length))
            else:
                last = parts[-1] if parts else None
                if isinstance(last, Copy) and _continues(last, found):
                    parts[-1] = Copy(last.base, last.record, last.first, last.count + 1)
                else:
                    parts.append(Copy(found.base, found.record, found.chunk, 1))
            at += chunk.length
        return _Piece(tuple(parts), tuple(new))

    async def _add(self, file: ManifestEntry, piece: _Piece, gone: set[str]) -> int:
        """Add one new file; the number of its target."""
        origin = self._origin(file, piece, gone) or await self._lookalike(file)
        if piece.new_bytes and file.size <= MAX_SPLICED_BYTES:
            target = await self._spliced(file, origin, piece)
            if target is not None:
                return self._writer.add_target(target)
        await self._flush()
        usual, self._level = self._level, min(self._level, _LARGE_LEVEL)
        places = await self._places(origin, piece)
        for start, length in piece.new:
            for at in range(start, start + length, _FRAME_BYTES if places is None else _SCATTERED_FRAME_BYTES):
                most_bytes = _FRAME_BYTES if places is None else _SCATTERED_FRAME_BYTES
                data = await read_range(self._content, file.stream, at, min(most_bytes, start + length - at))
                sources = await self._beside(origin, places, file, at, data)
                await self._write(data, 0, len(data), sources)
        await self._flush()
        self._level = usual
        return self._writer.add_target(Chunked(piece.parts))

    def _origin(self, file: ManifestEntry, piece: _Piece, gone: set[str]) -> _Found | None:
        """The file of a base that this one most likely comes from."""
        same = self._paths.get(file.path)
        if same is not None:
            return same
        shared: dict[tuple[int, int], int] = {}
        for part in piece.parts:
            if isinstance(part, Copy):
                shared[part.base, part.record] = shared.get((part.base, part.record), 0) + part.count
        if shared:
            return _Found(*max(shared, key=lambda place: shared[place]))
        path = PurePosixPath(file.path)
        renamed = [known for known in gone if PurePosixPath(known).suffix.lower() == path.suffix.lower()]
        if not renamed:
            return None
        return self._paths[
            max(renamed, key=lambda known: (PurePosixPath(known).name == path.name, _alike(known, file.path), known))
        ]

    async def _lookalike(self, file: ManifestEntry) -> _Found | None:
        """The archive of a base that shares most members with this one."""
        wanted = await directory(self._content, file)
        best, most = None, file.size // 8
        for base in range(self._count if wanted else 0):
            for record, known in enumerate(await self._bases.files(base)):
                if is_archive(known) and self._looked_at < MAX_LOOKED_AT:
                    self._looked_at += 1
                    shared = shared_bytes(wanted, await directory(self._content, known))
                    if shared > most:
                        best, most = _Found(base, record), shared
        return best

    async def _places(self, origin: _Found | None, piece: _Piece) -> Places | None:
        """Where what is new in a large file may have stood in its origin, if much is new."""
        if origin is None or piece.new_bytes < _SCATTERED_FROM_BYTES:
            return None
        size = (await self._bases.file(origin.base, origin.record)).size
        if size > MAX_NEW_BYTES:
            return None
        places = Places(size)
        for start in range(0, size, MiB):
            source = Source(origin.base, origin.record, start, min(MiB, size - start))
            await asyncio.to_thread(places.learn, await self._bases.source(source))
        return places

    async def _beside(
        self, origin: _Found | None, places: Places | None, file: ManifestEntry, start: int, data: bytes
    ) -> list[Source]:
        """What to compress a part of a large file against: what stood in its place, or where its pieces stood."""
        if origin is None:
            return []
        near = await self._neighbours(origin, file, start, len(data))
        found = [] if places is None else await asyncio.to_thread(places.around, data, _SCATTERED_DICTIONARY_BYTES)
        elsewhere_bytes = sum(
            end - first for first, end in found if not any(first >= one.start and end <= one.end for one in near)
        )
        if elsewhere_bytes <= len(data) * _IN_PLACE:
            return near
        return [Source(origin.base, origin.record, first, end - first) for first, end in found]

    async def _neighbours(self, origin: _Found, file: ManifestEntry, start: int, length: int) -> list[Source]:
        """The part of the origin that stands where this range stands in the new file; all of it if it is small."""
        size = (await self._bases.file(origin.base, origin.record)).size
        if not size:
            return []
        if size <= _WHOLE_BASE_BYTES:
            return [Source(origin.base, origin.record, 0, size)]
        # what was inserted or removed elsewhere moves the place by as much, at most
        slack = abs(file.size - size) + _NEIGHBOUR_BYTES
        start = min(start, size)
        first = max(0, start - slack)
        last = min(size, start + length + slack)
        if last <= first:
            return []
        if last - first > _DICTIONARY_BYTES:
            first, last = max(first, start - _NEIGHBOUR_BYTES), min(last, start + length + _NEIGHBOUR_BYTES)
        return [Source(origin.base, origin.record, first, last - first)]

    async def _spliced(self, file: ManifestEntry, origin: _Found | None, piece: _Piece) -> Spliced | None:
        """Write what is new in a file, seen from inside if it unfolds; None where whole chunks promise less."""
        data = await read_range(self._content, file.stream, 0, file.size)
        before = None
        if origin is not None and (await self._bases.file(origin.base, origin.record)).size <= MAX_SPLICED_BYTES:
            before = await self._bases.whole(origin.base, origin.record)
        inside = await self._unfold(data) if before is not None or piece.is_all_new else None
        if inside is not None:
            enough_bytes = min(len(inside.recipe), _PLAIN_ENOUGH_BYTES)
            if before is not None and await asyncio.to_thread(_new_bytes, before, data) <= enough_bytes:
                # said as it is in less than recipes take, and nobody has to compress anything again
                return await self._splice(data, before, origin, b"")
            image = await self._image_of(origin, before)
            if image is None and before is not None and piece.is_all_new and await self._holds(before, data):
                return await self._splice(data, before, origin, b"")
            if image is not None or piece.is_all_new:
                # the files need not lie beside their images while a compressor takes its room
                data, before = b"", None
                return await self._splice(inside.image, image, origin, inside.recipe)
        inside = None
        if before is None:
            return await self._splice(data, None, None, b"") if piece.is_all_new else None
        return await self._splice(data, before, origin, b"", most_new=piece.new_bytes)

    async def _holds(self, before: bytes, data: bytes) -> bool:
        """Whether a version that has no image has a part of a new one that has: a picture was put into a sound."""
        return await asyncio.to_thread(_new_bytes, before, data) <= len(data) * _MOSTLY_NEW

    async def _image_of(self, origin: _Found | None, before: bytes | None) -> Image | None:
        """The image of a file of a base, if it has one; its recipe goes into the index."""
        if origin is None or before is None:
            return None
        inside = await self._unfold(before)
        if inside is None:
            return None
        self._recipes[origin.base, origin.record] = inside.recipe
        self._bases.remember_image(origin.base, origin.record, inside.image)
        self._writer.add_image(origin.base, origin.record, inside.recipe)
        return inside.image

    async def _splice(
        self, data: Ranged, before: Ranged | None, origin: _Found | None, recipe: bytes, *, most_new: int | None = None
    ) -> Spliced | None:
        """Write what `data` does not share with `before`; None if that is more than `most_new`."""
        found = await asyncio.to_thread(spans, before or b"", data)
        if most_new is not None and sum(span.length for span in found if span.old is None) > most_new:
            return None
        if before and origin is not None and await asyncio.to_thread(_says_it_shorter, before, data, found):
            await self._flush()
            await self._write(data, 0, len(data), (Source(origin.base, origin.record, 0, len(before), bool(recipe)),))
            await self._flush()
            return Spliced((len(data),), recipe)
        parts: list[Source | int] = []
        for span in found:
            if span.old is None:
                near = () if origin is None else _near(span, len(before or b""), origin, unfolded=bool(recipe))
                await self._write(data, span.at, span.length, near)
                parts.append(span.length)
            elif origin is not None:
                parts.append(Source(origin.base, origin.record, span.old, span.length, bool(recipe)))
        return Spliced(tuple(parts), recipe)

    async def _unfold(self, data: bytes) -> _Inside | None:
        image = Image()
        seen = await asyncio.to_thread(unfold_into, image, data, allowed=self._allowed, max_image_bytes=MAX_IMAGE_BYTES)
        return None if seen is None else _Inside(image, seen.recipe)

    async def _add_tree(self, files: Sequence[ManifestEntry], numbers: dict[bytes, int]) -> None:
        holes = tuple((record, numbers[file.stream]) for record, file in enumerate(files) if file.stream in numbers)
        whole = await self._tree.manifest(0)
        data = await asyncio.to_thread(without_streams, whole, frozenset(record for record, _ in holes))
        sizes = [len(await self._bases.manifest(base)) for base in range(self._count)]
        for start in range(0, len(data), _FRAME_BYTES):
            length = min(_FRAME_BYTES, len(data) - start)
            await self._write(data, start, length, _stands_beside(start / len(data), length / len(data), sizes))
        await self._flush()
        self._writer.add_target(Tree(len(data), holes))

    async def _write(self, data: Ranged, at: int, length: int, sources: Sequence[Source]) -> None:
        """Let a range of plain bytes follow, with what they are likely made of within reach of their frame."""
        for start in range(at, at + length, _FRAME_BYTES):
            part = data[start : min(start + _FRAME_BYTES, at + length)]
            dictionary = sum(source.length for source in {**self._sources, **dict.fromkeys(sources)})
            if self._plain_bytes + len(part) > _FRAME_BYTES or dictionary > _DICTIONARY_BYTES:
                await self._flush()
            self._plain.append(part)
            self._plain_bytes += len(part)
            self._sources.update(dict.fromkeys(sources))

    async def _flush(self) -> None:
        if not self._plain:
            return
        plain, sources = b"".join(self._plain), list(self._sources)
        self._plain, self._plain_bytes, self._sources = [], 0, {}
        dictionary = await self._bases.dictionary(sources)
        self._compressed_bytes += len(plain) + len(dictionary)
        level = self._level if self._compressed_bytes <= _STRONGEST_BYTES else min(self._level, _LARGE_LEVEL)
        await asyncio.to_thread(self._writer.add_frame, plain, sources, dictionary, level=level)


def _new_bytes(before: bytes, data: bytes) -> int:
    """How many bytes of a file its version before does not have."""
    return sum(span.length for span in spans(before, data) if span.old is None)


def _says_it_shorter(before: Ranged, data: Ranged, found: Sequence[Span]) -> bool:
    """Whether a compressor that has read all of the old version says the new one in less than its many spans take."""
    if len(found) < _MANY_SPANS or len(before) > _DICTIONARY_BYTES or len(data) > _FRAME_BYTES:
        return False
    return len(compress(data[:], before[:], LEVEL, thrifty=True)) < len(found) * _BYTES_PER_SPAN


def is_archive(file: ManifestEntry) -> bool:
    """Whether a file is likely a ZIP that is worth looking at from inside."""
    suffix = PurePosixPath(file.path).suffix.lower()
    return suffix in _ARCHIVES and _MIN_ARCHIVE_BYTES <= file.size <= MAX_SPLICED_BYTES


async def directory(content: ContentStore, file: ManifestEntry) -> dict[tuple[int, int], int]:
    """The members of an archive that is here; none for other files."""
    if not is_archive(file):
        return {}
    start = max(0, file.size - TAIL_BYTES)
    try:
        return members_of(await read_range(content, file.stream, start, file.size - start), file.size)
    except RelaisError:
        return {}


def _continues(run: Copy, found: _Found) -> bool:
    return (run.base, run.record, run.first + run.count) == found


def _near(span: Span, size: int, origin: _Found, *, unfolded: bool) -> tuple[Source, ...]:
    """The part of the old version to compress new bytes against: what they replace and what stands around it."""
    if span.length < _MIN_COMPRESSED_BYTES:
        return ()
    slack = next(slack for least, slack in _SLACK if span.length >= least)
    first, last = max(0, span.near[0] - slack), min(size, span.near[1] + slack)
    length = min(last - first, _DICTIONARY_BYTES)
    return (Source(origin.base, origin.record, first, length, unfolded),) if length > 0 else ()


def _stands_beside(start: float, length: float, sizes: Sequence[int]) -> list[Source]:
    """The parts of older lists of files that stand where a part of the new one stands, as fractions of it."""
    found = []
    for base, size in enumerate(sizes):
        most = _DICTIONARY_BYTES // len(sizes)
        first = 0 if size <= most else max(0, min(size - most, int(size * (start + length / 2)) - most // 2))
        if size:
            found.append(Source(base, None, first, min(size, most)))
    return found


def _alike(one: str, other: str) -> int:
    """How much two paths have in common from their ends."""
    return next((place for place, (a, b) in enumerate(zip(one[::-1], other[::-1], strict=False)) if a != b), 0)
