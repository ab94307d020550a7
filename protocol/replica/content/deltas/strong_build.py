"""Strong containers: all lessons of a space for who has none of them, in the fewest bytes (docs/protocol.md, "Deltas").

Rules:
- files are sorted by what they are: text before documents, pictures, sound and video, and what resembles each other
  side by side; so that on a thin line a pupil reads before he looks and listens. Documents that hold pictures stand
  next to pictures, since they hold the same;
- files that weigh less seen from inside travel as images; frames are large, the effort is the greatest,
  and nearly so where that would take minutes;
- what a container has brought already is said again by its place, however far away that is;
- a container is a delta without bases; the last of a set has the manifests, and names the others: only together do
  they bring the lessons.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import PurePosixPath
from typing import Final, Protocol

from protocol.limits import MAX_DELTA_WORK_BYTES, MAX_PACK_BYTES, MAX_SPLICED_BYTES, MiB
from protocol.replica.content.deltas.bases import Bases, read_range
from protocol.replica.content.deltas.expansion_cost import Foreseen
from protocol.replica.interfaces import ContentStore
from protocol.transfer.delta import Chunked, Own, Spliced, Tree
from protocol.transfer.delta_writer import LEVEL, DeltaWriter, FinishedDelta
from protocol.transfer.manifest import ManifestEntry, without_streams

CONTAINER_BYTES: Final = 24 * MiB
_FRAME_BYTES: Final = 8 * MiB
_KINDS: Final = (
    "txt md csv json xml html htm xhtml css js mjs tex py svg vtt srt",
    "pdf rtf",
    "odt odp ods odg docx pptx xlsx epub h5p zip ggb imscc",
    "png gif bmp jpg jpeg webp avif tif tiff",
    "wav mid flac ogg oga opus mp3 m4a aac",
    "mp4 webm ogv mkv mov avi",
)
_RANKS: Final = {suffix: rank for rank, suffixes in enumerate(_KINDS) for suffix in suffixes.split()}
_OTHER: Final = 2
# Of 316 MB the level below makes 0.6 % more in two thirds of the time, which then is minutes.
_LONG_BYTES: Final = 64 * MiB
_LONG_LEVEL: Final = 17
# by what a document is, not by the program that wrote it: its other formats hold the same
_BY_NAME: Final = frozenset({_OTHER})
# a kind begins a container of its own once the one before has grown that large
_ROUND_BYTES: Final = 8 * MiB
# an index holds no more values than a message may
_MAX_PARTS: Final = 50_000
# a container ends before its readers have too much to do
_ENOUGH_WORK_BYTES: Final = MAX_DELTA_WORK_BYTES // 2
_MOST_WORK_BYTES: Final = MAX_DELTA_WORK_BYTES // 4 * 3
# with what stands before it in a container, it must stay a delta of allowed size
MAX_FILE_BYTES: Final = 40 * MiB


class Effort(Protocol):
    """Who does the heavy work."""

    async def compress(self, plain: bytes, level: int) -> bytes:
        """One zstd frame of that level."""
        ...

    async def tell(self, data: bytes, at: int, *, anew: bool) -> tuple[bytes, tuple[Own | int, ...], bytes]:
        """A file in the words of a container whose plain bytes have come to `at`, and remembered there.

        `anew` if it is a new one, of which nothing is known. Recipe (none if it is not seen from inside), parts, new
        bytes.
        """
        ...


def reading_order(file: ManifestEntry) -> tuple[int, str, str]:
    """By what to sort files: what is read first, then what resembles each other."""
    path = PurePosixPath(file.path)
    suffix = path.suffix.lower().removeprefix(".")
    rank = _RANKS.get(suffix, _OTHER)
    return rank, path.stem if rank in _BY_NAME else suffix, file.path


async def build_strong(
    content: ContentStore, space: bytes, trees: Sequence[bytes], effort: Effort
) -> AsyncGenerator[tuple[FinishedDelta, bytes], None]:
    """The containers that bring these revisions, which are here whole; the last has the manifests."""
    work = _Build(content, space, trees, effort)
    async for made in work.run():
        yield made


class _Build:
    """One set of containers while it is made."""

    def __init__(self, content: ContentStore, space: bytes, trees: Sequence[bytes], effort: Effort) -> None:
        self._content = content
        self._trees = trees
        self._manifests = Bases(content, space, trees, {})
        self._effort = effort
        self._writer = DeltaWriter()
        self._numbers: dict[bytes, int] = {}
        self._plain: list[bytes] = []
        self._plain_bytes = 0
        self._told_bytes = 0
        self._told_parts = 0
        self._anew = True
        self._level = LEVEL
        self._foreseen = Foreseen(_FRAME_BYTES)
        self._work_bytes = 0

    async def run(self) -> AsyncIterator[tuple[FinishedDelta, bytes]]:
        files: dict[bytes, ManifestEntry] = {}
        for number in range(len(self._trees)):
            files.update((file.stream, file) for file in await self._manifests.files(number))
        if sum(file.size for file in files.values()) > _LONG_BYTES:
            self._level = _LONG_LEVEL
        rank = 0
        for file in sorted(files.values(), key=reading_order):
            before, rank = rank, reading_order(file)[0]
            most = _ROUND_BYTES if rank != before else MAX_PACK_BYTES - file.size - _FRAME_BYTES
            if self._writer.written_bytes > most:
                yield await self._finish()
            await self._add(file)
            if (
                self._writer.written_bytes >= CONTAINER_BYTES
                or self._told_parts >= _MAX_PARTS
                or self._work_bytes >= _ENOUGH_WORK_BYTES
            ):
                yield await self._finish()
        for number in range(len(self._trees)):
            await self._add_tree(number)
        yield await self._finish()

    async def _add(self, file: ManifestEntry) -> None:
        if file.size > MAX_SPLICED_BYTES:
            chunks = await self._manifests.chunks(file.stream)
            for start in range(0, file.size, MiB):
                await self._write(await read_range(self._content, file.stream, start, min(MiB, file.size - start)))
            self._numbers[file.stream] = self._writer.add_target(Chunked(tuple(chunk.length for chunk in chunks)))
            return
        data = await read_range(self._content, file.stream, 0, file.size)
        recipe, new = b"", b""
        parts: tuple[Own | int, ...] = ()
        if data:
            recipe, parts, new = await self._effort.tell(data, self._told_bytes, anew=self._anew)
            self._anew = False
            cost = self._foreseen.file(parts, self._told_bytes, folded=bool(recipe))
            if self._work_bytes + cost > _MOST_WORK_BYTES:
                # said from so many places that no reader would follow; what was told of it is no place to refer to
                recipe, parts, new, self._anew = b"", (len(data),), data, True
                cost = len(data)
            self._work_bytes += cost
            self._told_parts += len(parts)
        for start in range(0, len(new), MiB):
            await self._write(new[start : start + MiB])
        self._numbers[file.stream] = self._writer.add_target(Spliced(parts, recipe))

    async def _add_tree(self, number: int) -> None:
        files = await self._manifests.files(number)
        holes = tuple(
            (record, self._numbers[file.stream]) for record, file in enumerate(files) if file.stream in self._numbers
        )
        data = without_streams(await self._manifests.manifest(number), frozenset(record for record, _ in holes))
        for start in range(0, len(data), MiB):
            await self._write(data[start : start + MiB])
        self._writer.add_target(Tree(len(data), holes))

    async def _write(self, data: bytes) -> None:
        if self._plain_bytes + len(data) > _FRAME_BYTES:
            await self._flush()
        self._told_bytes += len(data)
        self._plain.append(data)
        self._plain_bytes += len(data)

    async def _flush(self) -> None:
        if self._plain:
            plain = b"".join(self._plain)
            self._plain, self._plain_bytes = [], 0
            self._foreseen.frame(len(plain))
            self._writer.add_frame(plain, (), b"", stored=await self._effort.compress(plain, self._level))

    async def _finish(self) -> tuple[FinishedDelta, bytes]:
        await self._flush()
        finished = self._writer.finish()
        data = self._writer.take()
        self._writer, self._numbers, self._anew = DeltaWriter(), {}, True
        self._told_bytes, self._told_parts = 0, 0
        self._foreseen, self._work_bytes = Foreseen(_FRAME_BYTES), 0
        return finished, data
