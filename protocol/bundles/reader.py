"""Reads a bundle as its bytes come, in constant memory (docs/protocol.md, "Bundles").

Rules:
- every chunk is authentic when it comes out: what was read of a bundle that is cut off is good;
- one bad entry does not spoil what came beside it, and a record of a kind that is not known here says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from blake3 import blake3

from protocol.bundles.form import (
    ENTRIES,
    PACK,
    RECORD,
    REGISTERS,
    SEALED_CHUNK_BYTES,
    TAG_BYTES,
    TRAILER_BYTES,
    BundleKeys,
    Head,
    Index,
    Trailer,
)
from protocol.canonical import decode
from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import (
    BUNDLE_CHUNK_BYTES,
    MAX_BUNDLE_BYTES,
    MAX_BUNDLE_RECORD_BYTES,
    MAX_PACK_BYTES,
    MAX_REGISTER_BYTES,
)
from protocol.model.entry import ID_BYTES, Entry, from_wire


@dataclass(frozen=True, slots=True)
class Entries:
    """A batch of entries; `bad` of them could not be read, `unknown` are the ids of those in a later form."""

    entries: tuple[Entry, ...]
    bad: int
    unknown: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Registers:
    """Signed registers, not yet verified."""

    data: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PackStart:
    """A pack of this hash and size begins."""

    hash: bytes
    size: int


@dataclass(frozen=True, slots=True)
class PackData:
    """The next bytes of the pack: they lie in the reader's memory, and are good until the next event is asked for."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class PackEnd:
    """The pack has all its bytes; whether they are the right ones is the store's to check."""


Event: TypeAlias = Index | Entries | Registers | PackStart | PackData | PackEnd


class BundleReader:
    """Reads one bundle as its bytes come, in constant memory apart from its index and one batch of entries.

    `size` is that of the whole file. After an error the reader is of no further use; what came out before is good.
    """

    def __init__(self, bundle_key: bytes, head: Head, size: int) -> None:
        """Raises `TooLarge`, `PeerFault(MALFORMED)` for a size that no bundle of this head has."""
        if size > MAX_BUNDLE_BYTES:
            raise TooLarge(Code.TOO_LARGE, "a bundle is larger than allowed", size=size)
        self._body_left = size - len(head.data) - head.index_bytes - TRAILER_BYTES
        if self._body_left <= TAG_BYTES:
            raise PeerFault(Code.CUT_OFF, "a bundle is cut off")
        self._keys = BundleKeys(bundle_key, head)
        self._index_left = head.index_bytes
        self._size = size
        self._hash = blake3(head.data)
        self._sealed = memoryview(bytearray(max(SEALED_CHUNK_BYTES, head.index_bytes)))
        self._sealed_bytes = 0
        self._beyond = False
        self._chunk = memoryview(bytearray(BUNDLE_CHUNK_BYTES))
        self._rest = self._chunk[:0]
        self._plain = bytearray()
        self._number = 0
        self._kind = 0
        self._record_left: int | None = None
        self._ended = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """What the next bytes behind the head bring. Raises `PeerFault`, `TooLarge`."""
        left = memoryview(data)
        while left:
            wanted = self._index_left or min(SEALED_CHUNK_BYTES, self._body_left) or TRAILER_BYTES
            taken = left[: wanted - self._sealed_bytes]
            if not taken:
                self._beyond = True
                return
            self._sealed[self._sealed_bytes : self._sealed_bytes + len(taken)] = taken
            self._sealed_bytes += len(taken)
            left = left[len(taken) :]
            if self._sealed_bytes < wanted or not (self._index_left or self._body_left):
                continue
            sealed = self._sealed[:wanted]
            self._hash.update(sealed)
            self._sealed_bytes = 0
            if self._index_left:
                self._index_left = 0
                yield self._keys.open_index(bytes(sealed))
            else:
                self._open(sealed)
                yield from self._records()

    def finish(self) -> Trailer:
        """The trailer, once all bytes have come. Raises `PeerFault` when the end is missing or is not this bundle's."""
        if self._index_left or self._body_left or self._beyond or self._sealed_bytes != TRAILER_BYTES:
            raise PeerFault(Code.CUT_OFF, "a bundle is cut off, or goes on after its end")
        if self._plain or self._record_left is not None:
            raise PeerFault(Code.MALFORMED, "the last part of a bundle is not whole")
        trailer = Trailer.parse(bytes(self._sealed[:TRAILER_BYTES]))
        if trailer.size != self._size or trailer.hash != self._hash.digest():
            raise PeerFault(Code.BAD_HASH, "a bundle is damaged")
        return trailer

    def _open(self, sealed: memoryview) -> None:
        self._body_left -= len(sealed)
        self._rest = self._chunk[: max(0, len(sealed) - TAG_BYTES)]
        self._keys.open_chunk(sealed, self._number, self._rest, last=not self._body_left)
        self._number += 1

    def _gather(self, count: int) -> bool:
        """Take so many bytes together that may lie in several chunks; False while some are still to come."""
        taken = self._rest[: count - len(self._plain)]
        self._plain += taken
        self._rest = self._rest[len(taken) :]
        return len(self._plain) == count

    def _records(self) -> Iterator[Event]:
        while True:
            if self._record_left is None:
                if len(self._plain) < RECORD.size and not self._gather(RECORD.size):
                    return
                self._kind, size = RECORD.unpack_from(self._plain)
                most = ID_BYTES + MAX_PACK_BYTES if self._kind == PACK else MAX_BUNDLE_RECORD_BYTES
                if size > most:
                    raise TooLarge(Code.TOO_LARGE, "a part of a bundle is larger than allowed", size=size)
                if self._kind == PACK:
                    if not self._gather(RECORD.size + ID_BYTES):
                        return
                    if size <= ID_BYTES:
                        raise PeerFault(Code.MALFORMED, "a pack in a bundle is empty")
                    name = bytes(self._plain[RECORD.size :])
                    self._record_left = size - ID_BYTES
                    self._plain.clear()
                    yield PackStart(name, self._record_left)
                else:
                    self._plain.clear()
                    self._record_left = size
            if self._kind == PACK:
                piece = self._rest[: self._record_left]
                self._rest = self._rest[len(piece) :]
                self._record_left -= len(piece)
                if piece:
                    yield PackData(piece)
                if self._record_left:
                    return
                yield PackEnd()
            else:
                if not self._gather(self._record_left):
                    return
                event = _batch(self._kind, bytes(self._plain))
                self._plain.clear()
                if event is not None:
                    yield event
            self._record_left = None


def _batch(kind: int, body: bytes) -> Event | None:
    """What a record says; a kind that this version does not know says nothing."""
    if kind not in (ENTRIES, REGISTERS):
        return None
    rows = decode(body, max_bytes=MAX_BUNDLE_RECORD_BYTES)
    if type(rows) is not list:
        raise PeerFault(Code.MALFORMED, "a part of a bundle is no list")
    if kind == REGISTERS:
        return Registers(tuple(row for row in rows if type(row) is bytes and len(row) <= MAX_REGISTER_BYTES))
    found: list[Entry] = []
    unknown: set[bytes] = set()
    for row in rows:
        # one bad entry does not spoil what came beside it
        try:
            found.append(from_wire(row))
        except PeerFault as fault:
            if fault.code is Code.UNKNOWN_FORMAT and type(row) is list and type(row[0]) is bytes:
                unknown.add(blake3(row[0]).digest())
    return Entries(tuple(found), len(rows) - len(found), frozenset(unknown))
