"""Bytes that arrive in pieces, taken by number (docs/protocol.md, "Reflate").

The last piece that was taken can be given back in part: whoever decompresses learns too late where a stream ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from protocol.errors import Code, PeerFault

PIECE_BYTES: Final = 64 * 1024


def in_pieces(data: bytes | memoryview) -> Iterator[memoryview]:
    """`data` in slices of `PIECE_BYTES`."""
    view = memoryview(data)
    for start in range(0, len(view), PIECE_BYTES):
        yield view[start : start + PIECE_BYTES]


def evened(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The same bytes in slices of `PIECE_BYTES`, whatever the size of `pieces`; the last may be shorter."""
    gathered = bytearray()
    for piece in pieces:
        view = memoryview(piece)
        if not gathered and len(view) == PIECE_BYTES:
            yield view
            continue
        gathered += view
        whole = len(gathered) - len(gathered) % PIECE_BYTES
        for start in range(0, whole, PIECE_BYTES):
            yield bytes(gathered[start : start + PIECE_BYTES])
        del gathered[:whole]
    if gathered:
        yield bytes(gathered)


class ByteSource:
    """Hands out the bytes of `pieces` in order; `taken_bytes` counts them."""

    __slots__ = ("_at", "_current", "_pieces", "taken_bytes")

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = iter(pieces)
        self._current = memoryview(b"")
        self._at = 0
        self.taken_bytes = 0

    def piece(self, most_bytes: int = PIECE_BYTES) -> memoryview:
        """The next bytes, at least one and at most `most_bytes` or `PIECE_BYTES`; `PeerFault` if there are none."""
        while self._at == len(self._current):
            following = next(self._pieces, None)
            if following is None:
                raise PeerFault(Code.MALFORMED, "a file or its image ends earlier than its recipe says")
            self._current, self._at = memoryview(following), 0
        piece = self._current[self._at : self._at + min(most_bytes, PIECE_BYTES)]
        self._at += len(piece)
        self.taken_bytes += len(piece)
        return piece

    def back(self, count: int) -> None:
        """Give back the last `count` bytes of the piece that was taken last."""
        self._at -= count
        self.taken_bytes -= count

    def take(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes, in pieces. Raises `PeerFault` if there are fewer."""
        while count:
            piece = self.piece(count)
            count -= len(piece)
            yield piece

    def read(self, count: int) -> bytes:
        """The next `count` bytes, which are few."""
        return b"".join(self.take(count))

    def expect_end(self) -> None:
        """Raise `PeerFault` if bytes remain."""
        if self._at < len(self._current) or any(map(len, self._pieces)):
            raise PeerFault(Code.MALFORMED, "a file or its image goes on longer than its recipe says")
