"""What a container has brought already: how its later files say it again (docs/protocol.md, "Deltas").

The same picture stands in a document, in its other format, in its translation, and in the folder of pictures: far
apart, so that no compressor's window sees it twice. Here pieces that were cut by their content are remembered by hash,
with their place among the plain bytes of the container. Where the cuts fall is nobody's business but the writer's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from blake3 import blake3
from pyfastcdc import FastCDC

from protocol.limits import KiB
from protocol.transfer.delta import Own

_PIECE_BYTES: Final = 4 * KiB
_NAME_BYTES: Final = 16
# a shorter one costs the reader more than it saves the line; inside a frame the compressor finds it anyway
MIN_REPEAT_BYTES: Final = 8 * KiB


@dataclass(frozen=True, slots=True)
class Told:
    """A file's plain bytes in the words of its container.

    `parts` are what was there already and how many bytes are new, in order; the `new` bytes; and the places of their
    pieces, to be remembered.
    """

    parts: tuple[Own | int, ...]
    new: bytes
    places: dict[bytes, int]


class Repeats:
    """The pieces that one container has brought so far."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._rules = FastCDC(_PIECE_BYTES, min_size=_PIECE_BYTES // 4, max_size=_PIECE_BYTES * 4)

    def tell(self, plain: bytes, at: int) -> Told:
        """How `plain` is said where the container's plain bytes have come to `at`; nothing is remembered yet."""
        work = _Telling(self._places, at)
        for piece in self._rules.cut_buf(plain):
            work.add(bytes(piece.data))
        return work.end()

    def remember(self, told: Told) -> None:
        """These bytes are in the container now."""
        self._places.update(told.places)


class _Telling:
    """One file while it is told."""

    def __init__(self, known: dict[bytes, int], at: int) -> None:
        self._known = known
        self._at = at
        self._fresh: dict[bytes, int] = {}
        self._parts: list[Own | int] = []
        self._new = bytearray()
        self._run: list[bytes] = []
        self._run_at = 0
        self._run_bytes = 0

    def add(self, piece: bytes) -> None:
        name = blake3(piece).digest(length=_NAME_BYTES)
        place = self._known.get(name, self._fresh.get(name))
        if place is None:
            self._flush()
            self._fresh[name] = self._at + len(self._new)
            self._add_new(piece)
            return
        if self._run and place != self._run_at + self._run_bytes:
            self._flush()
            # what was flushed may stand before it now, and changes no place that was known
        if not self._run:
            self._run_at = place
        self._run.append(piece)
        self._run_bytes += len(piece)

    def end(self) -> Told:
        self._flush()
        return Told(tuple(self._parts), bytes(self._new), self._fresh)

    def _flush(self) -> None:
        if self._run_bytes >= MIN_REPEAT_BYTES:
            self._parts.append(Own(self._run_at, self._run_bytes))
        else:
            for piece in self._run:
                self._add_new(piece)
        self._run, self._run_bytes = [], 0

    def _add_new(self, piece: bytes) -> None:
        self._new += piece
        last = self._parts[-1] if self._parts else None
        if isinstance(last, int):
            self._parts[-1] = last + len(piece)
        else:
            self._parts.append(len(piece))
