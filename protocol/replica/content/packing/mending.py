"""What of a container that arrived with wrong bytes must be fetched again (docs/protocol.md, "Packs", "Deltas").

Every frame has a hash of its own in the index, and the index has one in the trailer: where a byte is wrong, its frame
is known, and nothing else need come again. Who lies consistently is found out by the hash of the whole, as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeAlias

from blake3 import blake3

from protocol.errors import PeerFault
from protocol.limits import KiB
from protocol.replica.byte_range import Span
from protocol.transfer import delta, pack
from protocol.transfer.delta_reader import decode_delta_index, read_delta_trailer

Read: TypeAlias = Callable[[int, int], bytes]
"""The bytes at a place (start, length) of the container; fewer at its end."""

_MAGIC_BYTES: Final = 8
# what is fetched where not even the end can be read: most indexes are smaller
_BLIND_BYTES: Final = 64 * KiB


class _Frame(Protocol):
    """What both kinds of containers say of a frame."""

    @property
    def offset(self) -> int: ...

    @property
    def stored_bytes(self) -> int: ...

    @property
    def digest(self) -> bytes: ...


def bad_spans(size: int, read: Read) -> list[Span]:
    """The parts of a container of `size` bytes that are not what it says itself, in order; mended, others may show.

    None if it agrees with itself. Memory: the index and one frame.
    """
    end = read(max(0, size - _MAGIC_BYTES), _MAGIC_BYTES)
    if end not in (pack.PACK_END, delta.DELTA_END):
        return [_tail(size, _BLIND_BYTES)]
    is_delta = end == delta.DELTA_END
    magic = delta.DELTA_MAGIC if is_delta else pack.PACK_MAGIC
    try:
        frames = _delta_frames(size, read) if is_delta else _pack_frames(size, read)
    except PeerFault:
        stored_bytes = int.from_bytes(read(max(0, size - delta.TRAILER_BYTES), 4), "big")
        return [_tail(size, max(stored_bytes + delta.TRAILER_BYTES, _BLIND_BYTES))]
    found = [] if read(0, _MAGIC_BYTES) == magic else [Span(0, _MAGIC_BYTES)]
    for frame in frames:
        data = read(frame.offset, frame.stored_bytes)
        if blake3(data).digest(length=len(frame.digest)) != frame.digest:
            found.append(Span(frame.offset, frame.stored_bytes))
    return found


def _pack_frames(size: int, read: Read) -> Iterable[_Frame]:
    place = pack.read_trailer(read(max(0, size - pack.TRAILER_BYTES), pack.TRAILER_BYTES), pack_bytes=size)
    return pack.decode_index(read(place.offset, place.stored_bytes), place).frames


def _delta_frames(size: int, read: Read) -> Iterable[_Frame]:
    place = read_delta_trailer(read(max(0, size - delta.TRAILER_BYTES), delta.TRAILER_BYTES), delta_bytes=size)
    return decode_delta_index(read(place.offset, place.stored_bytes), place).frames


def _tail(size: int, length: int) -> Span:
    length = min(size, length)
    return Span(size - length, length)
