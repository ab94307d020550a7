"""Writing a delta: frames as they come, then the index that says what they are (docs/protocol.md, "Deltas").

Whoever writes decides what is said by reference and what anew; here is only the form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import zstandard
from blake3 import blake3

from protocol.canonical import Value, encode
from protocol.limits import MAX_PACK_BYTES, MAX_PACK_INDEX_BYTES
from protocol.transfer.delta import (
    DELTA_END,
    DELTA_MAGIC,
    TRAILER,
    Chunked,
    Copy,
    DeltaFrame,
    DeltaIndex,
    Own,
    Source,
    Spliced,
    Target,
    Tree,
    expands_too_much,
    frame_digest,
    index_digest,
    raw_dictionary,
)

LEVEL: Final = 19
# of trees (two numbers for each byte that is reached) and of the hashes that lead to them
_THRIFTY_LOGS: Final = (22, 20)
# beside a dictionary zstd keeps its tables twice
_THRIFTY_TREE_LOGS_BESIDE_DICTIONARY: Final = (21, 19)


@dataclass(frozen=True, slots=True)
class FinishedDelta:
    """A delta that was written."""

    hash: bytes
    size: int
    index: DeltaIndex


class DeltaWriter:
    """Writes one delta; its bytes are fetched with `take()`. The caller sees to it that frames and targets add up."""

    def __init__(self, bases: Sequence[bytes] = ()) -> None:
        self._bases = tuple(bases)
        self._images: dict[tuple[int, int], bytes] = {}
        self._hash = blake3()
        self._written_bytes = 0
        self._output: list[bytes] = []
        self._frames: list[DeltaFrame] = []
        self._targets: list[Target] = []
        self._emit(DELTA_MAGIC)

    @property
    def written_bytes(self) -> int:
        """The size so far."""
        return self._written_bytes

    def add_frame(
        self,
        plain: bytes,
        sources: Sequence[Source],
        dictionary: bytes,
        *,
        level: int = LEVEL,
        stored: bytes | None = None,
    ) -> None:
        """Write the next plain bytes, compressed against the bytes that `sources` name; `stored` if that is done."""
        stored = compress(plain, dictionary, level, thrifty=True) if stored is None else stored
        if len(stored) >= len(plain):
            stored, sources, dictionary = plain, (), b""
        elif expands_too_much(len(stored), len(dictionary), len(plain)):
            half = len(plain) // 2
            self.add_frame(plain[:half], sources, dictionary, level=level)
            self.add_frame(plain[half:], sources, dictionary, level=level)
            return
        self._frames.append(
            DeltaFrame(self._written_bytes, len(stored), len(plain), frame_digest(stored), tuple(sources))
        )
        self._emit(stored)

    def add_target(self, target: Target) -> int:
        """Add a target, whose plain bytes are the next; its number."""
        self._targets.append(target)
        return len(self._targets) - 1

    def add_image(self, base: int, record: int, recipe: bytes) -> None:
        """Let sources name the image of a file of a base."""
        self._images[base, record] = recipe

    def take(self) -> bytes:
        """The bytes that have become certain since the last call."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    def finish(self) -> FinishedDelta:
        """Write the index; one more `take()` gives the last bytes. Raises `ValueError` when a limit was ignored."""
        index = DeltaIndex(self._bases, dict(self._images), tuple(self._frames), tuple(self._targets))
        images: list[Value] = [[base, record, recipe] for (base, record), recipe in index.images.items()]
        plain = encode(
            [list(index.bases), images, list(map(_frame_row, index.frames)), list(map(_target_row, index.targets))]
        )
        stored = compress(plain, b"", LEVEL)
        if len(stored) >= len(plain):
            stored = plain
        self._emit(stored)
        self._emit(TRAILER.pack(len(stored), len(plain), index_digest(stored, len(plain)), DELTA_END))
        if len(plain) > MAX_PACK_INDEX_BYTES or self._written_bytes > MAX_PACK_BYTES:
            raise ValueError("the delta was full and got more")
        return FinishedDelta(self._hash.digest(), self._written_bytes, index)

    def _emit(self, data: bytes) -> None:
        self._hash.update(data)
        self._written_bytes += len(data)
        self._output.append(data)


def compress(plain: bytes, dictionary: bytes, level: int, *, thrifty: bool = False) -> bytes:
    """One zstd frame that declares its size, with the whole dictionary within reach.

    The strongest levels take 180 MB for their tables; `thrifty` ones 25, which look at the nearest megabyte or two.
    """
    # Nothing is further away than this; the reader takes the window from the content's size.
    window_log = min(max((len(plain) + len(dictionary)).bit_length(), 10), 27)
    usual = zstandard.ZstdCompressionParameters.from_level(
        level, source_size=len(plain), dict_size=len(dictionary), window_log=window_log
    )
    has_trees = usual.strategy >= zstandard.STRATEGY_BTLAZY2
    chain_log, hash_log = _THRIFTY_TREE_LOGS_BESIDE_DICTIONARY if dictionary and has_trees else _THRIFTY_LOGS
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=len(plain),
        dict_size=len(dictionary),
        window_log=window_log,
        chain_log=min(usual.chain_log, chain_log) if thrifty else usual.chain_log,
        hash_log=min(usual.hash_log, hash_log) if thrifty else usual.hash_log,
        write_content_size=True,
        write_checksum=False,
        write_dict_id=False,
    )
    made = zstandard.ZstdCompressor(
        compression_params=parameters, dict_data=raw_dictionary(dictionary) if dictionary else None
    ).compress(plain)
    # what the library gives keeps the room of the worst case
    return bytes(memoryview(made))


def _frame_row(frame: DeltaFrame) -> list[Value]:
    return [frame.stored_bytes, frame.plain_bytes, frame.digest, list(map(_source_row, frame.sources))]


def _source_row(source: Source) -> list[Value]:
    place = 0 if source.record is None else source.record + 1
    return [source.base, -place if source.unfolded else place, source.start, source.length]


def _target_row(target: Target) -> list[Value]:
    match target:
        case Chunked(parts):
            return [0, _part_rows(parts)]
        case Spliced(parts, recipe):
            return [1, _splice_rows(parts), recipe]
        case Tree(plain_bytes, holes):
            return [2, plain_bytes, [[record, number] for record, number in holes]]


def _splice_rows(parts: Sequence[Source | Own | int]) -> list[Value]:
    """Parts as they stand in the index; a source that goes on in the same file says what it leaves out only."""
    rows: list[Value] = []
    last: Source | None = None
    for part in parts:
        if isinstance(part, Own):
            rows.append([-1, 0, part.start, part.length])
        elif isinstance(part, int):
            rows.append(part)
        else:
            row = _source_row(part)
            rows.append(
                row if last is None or row[:2] != _source_row(last)[:2] else [part.start - last.end, part.length]
            )
            last = part
    return rows


def _part_rows(parts: Sequence[Copy | int]) -> list[Value]:
    """The same of copied chunks."""
    rows: list[Value] = []
    last: Copy | None = None
    for part in parts:
        if isinstance(part, int):
            rows.append(part)
        elif last is not None and (last.base, last.record) == (part.base, part.record):
            rows.append([part.first - last.first - last.count, part.count])
            last = part
        else:
            rows.append([part.base, part.record, part.first, part.count])
            last = part
    return rows
