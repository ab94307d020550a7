"""What two versions of a file have in common, as ranges: how a delta finds what to copy (docs/protocol.md, "Deltas").

Chunks that both have are found first, wherever they moved; then each gap between them is narrowed byte by byte from
both ends, and a wide one is looked at once more by smaller chunks. What remains is new; beside it stands the part of
the old version that it most likely replaces. Where the cuts fall is nobody's business but the writer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from blake3 import blake3
from pyfastcdc import FastCDC

from protocol.limits import KiB

_BLOCK_BYTES: Final = 4096
_COARSE_BYTES: Final = 64 * KiB
_FINE_BYTES: Final = KiB
_FINE_FROM_BYTES: Final = 4096
# a copy that is said in more bytes than it saves is no gain
_MIN_COPY_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class Span:
    """`length` bytes of the new version from `at` on; they are those of the old one from `old` on, or new (None).

    For new bytes `near` is the range of the old version that they stand for.
    """

    at: int
    length: int
    old: int | None
    near: tuple[int, int] = (0, 0)


def spans(old: bytes, new: bytes) -> list[Span]:
    """The new version as spans of the old one and new bytes, in order."""
    found: list[Span] = []
    for span in _narrowed(old, new, _common_chunks(_pieces(old, _COARSE_BYTES), _pieces(new, _COARSE_BYTES))):
        first, last = span.near
        if span.old is None and span.length >= _FINE_FROM_BYTES and last - first >= _FINE_FROM_BYTES:
            found += _finer(span, old[first:last], new[span.at : span.at + span.length])
        else:
            found.append(span)
    return found


def _finer(span: Span, old: bytes, new: bytes) -> Iterator[Span]:
    """New bytes once more, beside what they stand for, by chunks of a kilobyte."""
    start = span.near[0]
    for part in _narrowed(old, new, _common_chunks(_pieces(old, _FINE_BYTES), _pieces(new, _FINE_BYTES))):
        place = None if part.old is None else part.old + start
        yield Span(part.at + span.at, part.length, place, (part.near[0] + start, part.near[1] + start))


def _pieces(data: bytes, around_bytes: int) -> Iterator[memoryview]:
    """`data`, never copied, in pieces cut by its content."""
    rules = FastCDC(around_bytes, min_size=around_bytes // 4, max_size=around_bytes * 4)
    for piece in rules.cut_buf(data):
        yield piece.data


def _common_chunks(old: Iterable[memoryview], new: Iterable[memoryview]) -> Iterator[Span]:
    """Runs of chunks of the new version that the old one has too."""
    places: dict[bytes, int] = {}
    at = 0
    for chunk in old:
        places.setdefault(blake3(chunk).digest(), at)
        at += len(chunk)
    at, run = 0, None
    for chunk in new:
        place = places.get(blake3(chunk).digest())
        if place is not None and run is not None and run.old is not None and run.old + run.length == place:
            run = Span(run.at, run.length + len(chunk), run.old)
        else:
            if run is not None:
                yield run
            run = None if place is None else Span(at, len(chunk), place)
        at += len(chunk)
    if run is not None:
        yield run


def _narrowed(old: bytes, new: bytes, copies: Iterable[Span]) -> Iterator[Span]:
    """The copies with what lies between them, each gap narrowed from both ends."""
    at, old_at = 0, 0
    for copy in [*copies, Span(len(new), 0, len(old))]:
        yield from _gap(old, new, (at, copy.at), (old_at, copy.old or 0))
        if copy.length:
            yield copy
        at, old_at = copy.at + copy.length, (copy.old or 0) + copy.length


def _gap(old: bytes, new: bytes, gap: tuple[int, int], across: tuple[int, int]) -> Iterator[Span]:
    """The bytes of the new version in `gap`, whose neighbours stand at both ends of `across` in the old one."""
    start, end = gap
    first, last = across
    room = min(end - start, max(0, last - first))
    head = common_prefix(new[start:end], old[first : first + room])
    head = head if head >= _MIN_COPY_BYTES else 0
    tail = common_suffix(new[start + head : end], old[first + head : last] if last > first + head else b"")
    tail = tail if tail >= _MIN_COPY_BYTES else 0
    if head:
        yield Span(start, head, first)
    if start + head < end - tail:
        near = (first + head, last - tail) if last - tail > first + head else (first + head, first + head)
        yield Span(start + head, end - tail - start - head, None, near)
    if tail:
        yield Span(end - tail, tail, last - tail)


def common_prefix(one: bytes, other: bytes) -> int:
    """How many bytes two strings have in common at their beginning."""
    most = min(len(one), len(other))
    at = 0
    while at < most and one[at : at + _BLOCK_BYTES] == other[at : at + _BLOCK_BYTES]:
        at += _BLOCK_BYTES
    if at >= most:
        return most
    return next((place for place in range(at, most) if one[place] != other[place]), most)


def common_suffix(one: bytes, other: bytes) -> int:
    """How many bytes two strings have in common at their end."""
    most = min(len(one), len(other))
    at = 0
    while at + _BLOCK_BYTES <= most:
        mine, others = len(one) - at, len(other) - at
        if one[mine - _BLOCK_BYTES : mine] != other[others - _BLOCK_BYTES : others]:
            break
        at += _BLOCK_BYTES
    return next((place for place in range(at, most) if one[-1 - place] != other[-1 - place]), most)
