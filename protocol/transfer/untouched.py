"""Streams of a new version that the old one has: taken, not compressed again (docs/protocol.md, "Deltas").

A sentence more in a document leaves its pictures alone. Their plain bytes are the greater part of its image, and to
compress them again costs more than all else. Where a part of a new image is all that one step compresses, and is copied
from a part of an old image that one step of the old recipe compresses in the same way, the old file has the bytes.

Who made the delta has seen both recipes give their files, so that both ways lead to the same file; where that was a
lie, the file is one that no entry names, as ever.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from types import MappingProxyType
from typing import Final

from protocol.transfer.delta import Own, Source, Spliced
from protocol.transfer.reflate import Packed
from protocol.transfer.reflate_recipe import Step, decode_recipe

_BEHIND: Final = (1 << 62, 1 << 62)


@dataclass(frozen=True, slots=True)
class Untouched:
    """What of a file need not be made: `streams` gives for steps of its recipe where the old file has their output.

    `parts` make the rest of the image.
    """

    parts: tuple[Source | Own | int, ...]
    streams: Mapping[int, slice]


def untouched_streams(target: Spliced, base: int, record: int, packed: Mapping[int, Packed]) -> Untouched:
    """What a file with a recipe takes as it is from file `record` of a base.

    `packed` are that file's streams, by the place in the image at which what they hold begins.

    Raises `PeerFault`, `TooLarge` for no recipe.
    """
    parts = tuple(_joined(target.parts))
    starts = [0, *accumulate(part if isinstance(part, int) else part.length for part in parts)]
    streams: dict[int, slice] = {}
    taken: list[tuple[int, int]] = []
    for number, (start, end, step) in enumerate(_ranges(target.recipe)):
        place = bisect_right(starts, start) - 1
        part = parts[place] if place < len(parts) else 0
        if not isinstance(part, Source) or not part.unfolded or (part.base, part.record) != (base, record):
            continue
        stream = packed.get(part.start + start - starts[place])
        if stream is None or end > starts[place + 1] or stream.image_end - stream.image_start != end - start:
            continue
        if _alike(step, stream.step):
            streams[number] = slice(stream.start, stream.end)
            taken.append((start, end))
    return Untouched(tuple(_without(parts, taken)) if taken else target.parts, MappingProxyType(streams))


def _joined(parts: Iterable[Source | Own | int]) -> Iterator[Source | Own | int]:
    """The same parts, where sources that go on in each other are one."""
    last: Source | None = None
    for part in parts:
        goes_on = (
            isinstance(part, Source)
            and last is not None
            and replace(last, start=last.end) == replace(part, length=last.length)
        )
        if last is not None and isinstance(part, Source) and goes_on:
            last = replace(last, length=last.length + part.length)
            continue
        if last is not None:
            yield last
        last = part if isinstance(part, Source) else None
        if last is None:
            yield part
    if last is not None:
        yield last


def _ranges(recipe: bytes) -> Iterator[tuple[int, int, Step]]:
    """Of each step on the outermost level, what of the image it compresses."""
    at = 0
    for step in decode_recipe(recipe).steps:
        start, at = at + step.gap_bytes, at + step.image_bytes
        yield start, at, step


def _alike(one: Step, other: Step) -> bool:
    """Whether two steps make the same of the same bytes."""
    return (one.wrapping, one.parameters, one.content, one.chunk_bytes) == (
        other.wrapping,
        other.parameters,
        other.content,
        other.chunk_bytes,
    )


def _without(parts: Iterable[Source | Own | int], taken: list[tuple[int, int]]) -> Iterator[Source | Own | int]:
    """The parts of an image without some ranges of it, in order, each of which lies in one source."""
    ranges = iter([*taken, _BEHIND])
    first, last = next(ranges)
    at = 0
    for part in parts:
        end = at + (part if isinstance(part, int) else part.length)
        if not isinstance(part, Source):
            yield part
            at = end
            continue
        begin = part.start - at
        while first < end:
            if first > at:
                yield Source(part.base, part.record, begin + at, first - at, part.unfolded)
            at = last
            first, last = next(ranges)
        if at < end:
            yield Source(part.base, part.record, begin + at, end - at, part.unfolded)
        at = end
