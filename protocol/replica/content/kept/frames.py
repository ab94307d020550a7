"""Chunks out of packs that lie as files: the frames that were opened last stay open for a while.

Rules:
- a chunk is believed by its hash alone, and looked for in each place that the index names, an opened frame before
  others;
- whose list says another length than a place has is wrong itself, and has spoilt no pack; a place that has the length
  and not the bytes is in a bad one.

docs/protocol.md, "Packs".
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

from blake3 import blake3

from protocol.errors import Code, LocalFailure, PeerFault
from protocol.limits import MiB
from protocol.replica.content.kept.pack_files import pack_name
from protocol.replica.content.kept.sqlite_content import Place
from protocol.replica.content.packing.pack_check import raise_unless_damage
from protocol.replica.disk import Disk
from protocol.transfer.chunking import ChunkRef
from protocol.transfer.pack import open_frame

_OPEN_BYTES: Final = 4 * MiB


class Frames:
    """The frames of the packs on a disk."""

    def __init__(self, disk: Disk, set_aside: Callable[[bytes], Awaitable[None]]) -> None:
        """`set_aside` takes a pack out of sight that turned out to be bad."""
        self._disk = disk
        self._set_aside = set_aside
        self._open: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()

    async def chunk(self, chunk: ChunkRef, places: Sequence[Place]) -> bytes:
        """The bytes of a chunk. Raises `LocalFailure` where no place has it whole (`INCOMPLETE`, `DAMAGED`)."""
        damaged = False
        fitting = _of_length(chunk.length, places)
        for place in sorted(fitting, key=lambda place: (place.pack, place.frame.offset) not in self._open):
            try:
                frame = await self._opened(place)
            except (PeerFault, LocalFailure) as fault:
                raise_unless_damage(fault)
                frame = b""
            data = frame[place.start : place.start + place.length]
            if len(data) == chunk.length and blake3(data).digest() == chunk.hash:
                return data
            damaged = True
            await self._set_aside(place.pack)
        if damaged:
            raise LocalFailure(Code.DAMAGED, "stored content is damaged", chunk=chunk.hash.hex())
        raise LocalFailure(Code.INCOMPLETE, "this content is not here as a whole", chunk=chunk.hash.hex())

    def close(self, packs: Collection[bytes]) -> None:
        """Keep nothing open of packs that are here no more."""
        for opened in [key for key in self._open if key[0] in packs]:
            del self._open[opened]

    def close_all(self) -> None:
        """Keep nothing open."""
        self._open.clear()

    async def _opened(self, place: Place) -> bytes:
        key = (place.pack, place.frame.offset)
        frame = self._open.get(key)
        if frame is None:
            frame = await asyncio.to_thread(self._read, place)
            self._open[key] = frame
            while len(self._open) > 1 and sum(map(len, self._open.values())) > _OPEN_BYTES:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return frame

    def _read(self, place: Place) -> bytes:
        data = self._disk.read(pack_name(place.pack), place.frame.offset, place.frame.stored_bytes)
        return open_frame(place.frame, data)[0]


def _of_length(length: int, places: Sequence[Place]) -> list[Place]:
    """Those where a chunk has the length that a list says."""
    return [place for place in places if place.length == length]
