"""What two versions of a file have in common, as ranges: how a delta finds what to copy (docs/protocol.md, "Deltas").

Chunks that both have are found first, wherever they moved; then each gap between them is narrowed byte by byte from
both ends, and a wide one is looked at once more by smaller chunks: first those of what it stands for, then, where much
is new still, those of all of the old version, since programs also write the same in another order. What remains is new;
beside it stands the part of the old version that it most likely replaces. Where the cuts fall is nobody's business but
the writer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from blake3 import blake3
from pyfastcdc import FastCDC

from protocol.limits import KiB, MiB
from protocol.transfer.image import Ranged

_BLOCK_BYTES: Final = 4096
_WINDOW_BYTES: Final = MiB
_COARSE_BYTES: Final = 64 * KiB
_FINE_BYTES: Final = KiB
_FINE_FROM_BYTES: Final = 4096
_SCATTERED_BYTES: Final = 2 * KiB
_SCATTERED_FROM_BYTES: Final = 16 * KiB
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


def spans(old: Ranged, new: Ranged) -> list[Span]:
    """The new version as spans of the old one and new bytes, in order. Memory: a few windows of a megabyte."""
    found: list[Span] = []
    copies = _common_chunks(_places(old, _COARSE_BYTES), _pieces(new, _COARSE_BYTES))
    for span in _narrowed(old, new, copies, (0, len(old))):
        first, last = span.near
        if span.old is None and span.length >= _FINE_FROM_BYTES and last - first >= _FINE_FROM_BYTES:
            found += _finer(span, _part(old, first, last), _part(new, span.at, span.at + span.length))
        else:
            found.append(span)
    return list(_joined(_gathered(found, old, new)))


def _joined(found: Iterable[Span]) -> Iterator[Span]:
    """The same, where copies that go on in each other are one."""
    last: Span | None = None
    for span in found:
        if last is not None and last.old is not None and span.old == last.old + last.length:
            last = Span(last.at, last.length + span.length, last.old)
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last


def _gathered(found: list[Span], old: Ranged, new: Ranged) -> list[Span]:
    """The same, where much is new looked for in all of the old version."""
    if not old or not any(span.old is None and span.length >= _SCATTERED_FROM_BYTES for span in found):
        return found
    places = _places(old, _SCATTERED_BYTES)
    gathered: list[Span] = []
    for span in found:
        if span.old is not None or span.length < _SCATTERED_FROM_BYTES:
            gathered.append(span)
            continue
        part = _part(new, span.at, span.at + span.length)
        copies = _common_chunks(places, _pieces(part, _SCATTERED_BYTES))
        within = _narrowed(old, part, copies, span.near)
        gathered += [Span(some.at + span.at, some.length, some.old, some.near) for some in within]
    return gathered


def _finer(span: Span, old: Ranged, new: Ranged) -> Iterator[Span]:
    """New bytes once more, beside what they stand for, by chunks of a kilobyte."""
    start = span.near[0]
    copies = _common_chunks(_places(old, _FINE_BYTES), _pieces(new, _FINE_BYTES))
    for part in _narrowed(old, new, copies, (0, len(old))):
        place = None if part.old is None else part.old + start
        yield Span(part.at + span.at, part.length, place, (part.near[0] + start, part.near[1] + start))


class _Part:
    """A range of something larger, which is not copied."""

    __slots__ = ("_end", "_start", "_whole")

    def __init__(self, whole: Ranged, start: int, end: int) -> None:
        self._whole, self._start, self._end = whole, start, end

    def __len__(self) -> int:
        return self._end - self._start

    def __getitem__(self, place: slice, /) -> bytes:
        start, stop, _ = place.indices(len(self))
        return self._whole[self._start + start : self._start + max(start, stop)]


def _part(whole: Ranged, start: int, end: int) -> Ranged:
    return whole[start:end] if end - start <= _WINDOW_BYTES else _Part(whole, start, end)


def _pieces(data: Ranged, around_bytes: int) -> Iterator[memoryview]:
    """`data` in pieces cut by its content; where its windows end changes nothing."""
    most_bytes = around_bytes * 4
    rules = FastCDC(around_bytes, min_size=around_bytes // 4, max_size=most_bytes)
    rest = b""
    for start in range(0, len(data), _WINDOW_BYTES):
        window = rest + data[start : start + _WINDOW_BYTES]
        # with fewer at hand, later bytes could still move the cut
        needed = most_bytes if start + _WINDOW_BYTES < len(data) else 1
        at = 0
        cuts = iter(rules.cut_buf(window))
        while len(window) - at >= needed:
            piece = next(cuts).data
            yield piece
            at += len(piece)
        rest = window[at:]


def _places(data: Ranged, around_bytes: int) -> dict[bytes, int]:
    """Where each piece of `data` stands first, by its hash."""
    places: dict[bytes, int] = {}
    at = 0
    for piece in _pieces(data, around_bytes):
        places.setdefault(blake3(piece).digest(), at)
        at += len(piece)
    return places


def _common_chunks(places: Mapping[bytes, int], new: Iterable[memoryview]) -> Iterator[Span]:
    """Runs of chunks of the new version that the old one has too."""
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


def _narrowed(old: Ranged, new: Ranged, copies: Iterable[Span], across: tuple[int, int]) -> Iterator[Span]:
    """The copies with what lies between them, narrowed from both ends; `new` stands for `across` in the old version."""
    at, old_at = 0, across[0]
    for copy in [*copies, Span(len(new), 0, across[1])]:
        # what goes on in a copy beside it costs nothing to say
        beside = (0 if at else _MIN_COPY_BYTES, 0 if copy.length else _MIN_COPY_BYTES)
        yield from _gap(old, new, (at, copy.at), (old_at, copy.old or 0), beside)
        if copy.length:
            yield copy
        at, old_at = copy.at + copy.length, (copy.old or 0) + copy.length


def _gap(
    old: Ranged, new: Ranged, gap: tuple[int, int], across: tuple[int, int], least: tuple[int, int]
) -> Iterator[Span]:
    """The bytes of the new version in `gap`, whose neighbours stand at both ends of `across` in the old one.

    At either end a copy is of so many bytes at `least`.

    Where these are in the other order, what follows the one and what precedes the other are looked at alike.
    """
    start, end = gap
    first, last = across
    moved = last < first
    room = min(end - start, (len(old) if moved else last) - first)
    head = common_prefix(new, start, old, first, room)
    head = head if head >= least[0] else 0
    from_ = max(0, last - (end - start - head)) if moved else first + head
    tail = common_suffix(new, end, old, last, min(end - start - head, max(0, last - from_)))
    tail = tail if tail >= least[1] else 0
    if head:
        yield Span(start, head, first)
    if start + head < end - tail:
        near = (first + head, last - tail) if last - tail > first + head else (first + head, first + head)
        yield Span(start + head, end - tail - start - head, None, near)
    if tail:
        yield Span(end - tail, tail, last - tail)


def common_prefix(one: Ranged, at: int, other: Ranged, other_at: int, most: int) -> int:
    """How many bytes, up to `most`, are the same from two places on."""
    for same in range(0, most, _BLOCK_BYTES):
        size = min(_BLOCK_BYTES, most - same)
        mine, others = one[at + same : at + same + size], other[other_at + same : other_at + same + size]
        if mine != others:
            return same + next(place for place in range(size) if mine[place] != others[place])
    return most


def common_suffix(one: Ranged, end: int, other: Ranged, other_end: int, most: int) -> int:
    """How many bytes, up to `most`, are the same before two places."""
    for same in range(0, most, _BLOCK_BYTES):
        size = min(_BLOCK_BYTES, most - same)
        mine, others = one[end - same - size : end - same], other[other_end - same - size : other_end - same]
        if mine != others:
            return same + next(place for place in range(size) if mine[-1 - place] != others[-1 - place])
    return most
