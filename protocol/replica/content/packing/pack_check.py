"""Everything that must hold before a received pack becomes visible (R8; docs/protocol.md, "Packs").

The hash of the whole comes first, then the index, every frame, every chunk and every stream list; memory is the index
and one frame, whatever the size of the pack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from blake3 import blake3

from protocol.errors import Code, LocalFailure, PeerFault
from protocol.limits import MiB
from protocol.replica.making import Making
from protocol.transfer.chunking import ChunkRef, stream_id
from protocol.transfer.pack import (
    TRAILER_BYTES,
    FinishedPack,
    IndexPlace,
    PackReceiver,
    chunk_refs,
    decode_index,
    read_trailer,
    resolve_streams,
)

Read: TypeAlias = Callable[[int, int], "bytes | memoryview"]
"""The bytes at a place (start, length) of the pack; fewer at its end. They are good until the next are read."""

_PIECE_BYTES: Final = MiB


def check_pack(pack: bytes, size: int, read: Read, making: Making | None = None) -> FinishedPack:
    """What the pack of this hash and size holds. Raises `PeerFault`, `TooLarge` for anything that is not that pack.

    What its index unfolds to beyond its size counts in `making` before that is read, and what is noted of it, where it
    is more, before its lists are looked through; both whether or not it is kept.
    """
    receiver = PackReceiver(pack, size)
    for start in range(0, size, _PIECE_BYTES):
        receiver.feed(read(start, _PIECE_BYTES))
    receiver.finish()
    place = read_trailer(bytes(read(size - TRAILER_BYTES, TRAILER_BYTES)), pack_bytes=size)
    counted = max(size, _unfolded_bytes(place))
    if making is not None:
        making.note(counted - size)
    index = decode_index(bytes(read(place.offset, place.stored_bytes)), place)
    if making is not None:
        making.note(max(0, index.noted_bytes - counted))
    chunks: list[ChunkRef] = []
    for frame in index.frames:
        chunks.extend(chunk_refs(frame, read(frame.offset, frame.stored_bytes)))
    streams = tuple(map(stream_id, resolve_streams(index, chunks)))
    return FinishedPack(pack, size, index, tuple(chunks), streams)


def check_pack_bytes(data: bytes, making: Making | None = None) -> FinishedPack:
    """What a pack that lies in memory whole holds. Raises `PeerFault`, `TooLarge`."""
    view = memoryview(data)
    return check_pack(blake3(data).digest(), len(data), lambda start, length: view[start : start + length], making)


def _unfolded_bytes(place: IndexPlace) -> int:
    """What reading an index costs, whatever turns out to be wrong with it: a hundred bytes may unfold to megabytes."""
    return place.plain_bytes


def not_the_pack(have: int, size: int) -> PeerFault:
    """A part that is not, or no longer, as long as whoever finishes it believes."""
    return PeerFault(Code.WRONG_OFFSET, "a pack has not arrived as a whole", size=have, expected=size)


def raise_unless_damage(fault: PeerFault | LocalFailure) -> None:
    """Go on only if it is the pack that is bad: too many open files, or a virus scanner at work, say nothing of it."""
    if isinstance(fault, LocalFailure) and fault.code is not Code.DAMAGED:
        raise fault
