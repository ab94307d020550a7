"""Where a large file holds what a part of its next version holds too: what to lay beside it when it is compressed.

A program that writes a document again moves and renumbers what is in it: no chunk is the same, and hardly anything
stands where it stood. Pieces of half a kilobyte are the same nevertheless. Their places are learnt while the old
version passes, in some five megabytes of memory: of a larger file they are larger. Where the cuts fall is nobody's
business but the writer's.
"""

from __future__ import annotations

from typing import Final

from blake3 import blake3
from pyfastcdc import FastCDC

from protocol.limits import KiB

_LEAST_PIECE_BYTES: Final = 512
_PIECES: Final = 16 * 1024
_NAME_BYTES: Final = 8
# what stands around a piece is likely the same as well, and the place of a range costs a dozen bytes
_AROUND_BYTES: Final = 2 * KiB


class Places:
    """The pieces of one file of so many bytes."""

    def __init__(self, file_bytes: int) -> None:
        around_bytes = _LEAST_PIECE_BYTES
        while around_bytes * _PIECES < file_bytes:
            around_bytes *= 2
        self._most_bytes = 4 * around_bytes
        self._rules = FastCDC(around_bytes, min_size=around_bytes // 4, max_size=self._most_bytes)
        self._places: dict[bytes, int] = {}
        self._rest = b""
        self._at = 0

    def learn(self, data: bytes) -> None:
        """What follows in the file; what is too short to be cut for certain is left for the next call."""
        window, done = self._rest + data, 0
        cuts = iter(self._rules.cut_buf(window))
        while len(window) - done >= self._most_bytes:
            piece = next(cuts).data
            self._places.setdefault(_name(piece), self._at << 16 | len(piece))
            self._at += len(piece)
            done += len(piece)
        self._rest = window[done:]

    def around(self, data: bytes, most_bytes: int) -> list[tuple[int, int]]:
        """The ranges (first, end) of the file that hold pieces of `data`, in order; the longest up to `most_bytes`."""
        named = {self._places.get(_name(piece.data)) for piece in self._rules.cut_buf(data)}
        found = [(place >> 16, place & 0xFFFF) for place in named if place is not None]
        ranges: list[tuple[int, int]] = []
        for at, length in sorted(found):
            first, end = max(0, at - _AROUND_BYTES), min(self._at, at + length + _AROUND_BYTES)
            if ranges and first <= ranges[-1][1]:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((first, end))
        chosen, left_bytes = [], most_bytes
        for first, end in sorted(ranges, key=lambda place: place[0] - place[1]):
            if end - first <= left_bytes:
                chosen.append((first, end))
                left_bytes -= end - first
        return sorted(chosen)


def _name(piece: memoryview) -> bytes:
    return blake3(piece).digest(length=_NAME_BYTES)
