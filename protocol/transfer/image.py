"""Bytes that are many times what they weigh: the images of files, kept compressed while they are worked with.

Seen from inside, a document of 1.5 MB is 21 MB. Who compares two versions of it needs both, and reads each a few times
from end to end; in blocks of zstd's fastest level they take about what the files do. See docs/protocol.md, "Reflate".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

import zstandard

from protocol.limits import KiB

_BLOCK_BYTES: Final = 256 * KiB
_LEVEL: Final = 1


class Ranged(Protocol):
    """What is read in ranges: bytes, or an image."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: slice, /) -> bytes: ...


class Image:
    """What was written, one piece behind the other. For one thread at a time."""

    __slots__ = ("_blocks", "_last", "_opener", "_packer", "_pending", "_size")

    def __init__(self) -> None:
        self._packer = zstandard.ZstdCompressor(level=_LEVEL)
        self._opener = zstandard.ZstdDecompressor()
        self._blocks: list[tuple[bool, bytes]] = []
        self._pending = bytearray()
        self._size = 0
        self._last: tuple[int, bytes] = (-1, b"")

    def __len__(self) -> int:
        return self._size

    def write(self, data: bytes | memoryview, /) -> None:
        """Let these bytes follow."""
        view = memoryview(data)
        self._size += len(view)
        while view:
            room = _BLOCK_BYTES - len(self._pending)
            self._pending += view[:room]
            view = view[room:]
            if len(self._pending) == _BLOCK_BYTES:
                plain = bytes(self._pending)
                packed = self._packer.compress(plain)
                smaller = len(packed) < len(plain)
                # what the library gives keeps the room of the worst case
                self._blocks.append((smaller, bytes(memoryview(packed)) if smaller else plain))
                self._pending.clear()

    def __getitem__(self, place: slice, /) -> bytes:
        start, stop, step = place.indices(self._size)
        if step != 1:
            raise ValueError("an image is read from its beginning to its end")
        return b"".join(self.pieces(start, max(0, stop - start)))

    def pieces(self, start: int, length: int) -> Iterator[memoryview]:
        """A range, piece by piece; no more than there is."""
        end = min(self._size, start + length)
        while start < end:
            number, at = divmod(start, _BLOCK_BYTES)
            piece = memoryview(self._block(number))[at : at + end - start]
            yield piece
            start += len(piece)

    def _block(self, number: int) -> bytes:
        if number == len(self._blocks):
            return bytes(self._pending)
        if self._last[0] != number:
            is_packed, block = self._blocks[number]
            self._last = (number, self._opener.decompress(block) if is_packed else block)
        return self._last[1]
