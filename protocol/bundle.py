"""Bundles: entries, registers and packs of one space, sealed in one file that anybody may carry.

Rules:
- in clear stand a territory, a space, the name of a key, and what opens that key to who lawfully has it; all else is
  sealed under the space's key, so that a disk found in the street shows sizes and ids, no name, no work;
- the index stands in front: what a bundle brings is known without reading the rest;
- every chunk is authentic when it comes out, so that what was read of a bundle that is cut off is good;
- the trailer is last and hashes all before it: who has no key can tell that a bundle is whole.

docs/protocol.md, "Bundles".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeAlias, TypeVar

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.canonical import Value, decode, encode
from protocol.entry import ID_BYTES, Entry, from_wire, to_wire
from protocol.errors import Code, PeerFault, TooLarge
from protocol.fields import Fields
from protocol.identity import tagged
from protocol.limits import (
    BUNDLE_CHUNK_BYTES,
    MAX_BUNDLE_BYTES,
    MAX_BUNDLE_ENTRIES,
    MAX_BUNDLE_INDEX_BYTES,
    MAX_BUNDLE_PACKS,
    MAX_BUNDLE_PREFACE_BYTES,
    MAX_BUNDLE_RECORD_BYTES,
    MAX_PACK_BYTES,
    MAX_REGISTER_BYTES,
)

MAGIC: Final = b"RLSBNDL\0"
END: Final = b"RLSBEND\0"
TAG_BYTES: Final = 16
NONCE_BYTES: Final = 32
NAME_BYTES: Final = 16

_DOMAIN: Final = b"relais/0 bundle"
_FIXED: Final = struct.Struct(">8s32s32s32s32sII")
_TRAILER: Final = struct.Struct(">Q32s8s")
_RECORD: Final = struct.Struct(">BI")
_INDEX_NONCE: Final = bytes(12)
_SEALED_CHUNK_BYTES: Final = BUNDLE_CHUNK_BYTES + TAG_BYTES

HEAD_BYTES: Final = _FIXED.size
TRAILER_BYTES: Final = _TRAILER.size

Draw: TypeAlias = "Callable[[memoryview], None]"
"""Fills memory with the bytes that come next."""
_Octets = TypeVar("_Octets", bytes, memoryview)

ENTRIES: Final = 1
REGISTERS: Final = 2
PACK: Final = 3


@dataclass(frozen=True, slots=True)
class Head:
    """What a bundle says in clear: whose it is, which key opens it; `preface` are the entries that open that key."""

    territory: bytes
    space: bytes
    commitment: bytes
    nonce: bytes
    preface: tuple[Entry, ...]
    index_bytes: int
    data: bytes

    @classmethod
    def compose(
        cls, territory: bytes, space: bytes, commitment: bytes, nonce: bytes, preface: Sequence[Entry], index_bytes: int
    ) -> Self:
        """A new head; `nonce` is `NONCE_BYTES` of randomness, `index_bytes` the size of the sealed index."""
        said = encode([to_wire(entry) for entry in preface])
        fixed = _FIXED.pack(MAGIC, territory, space, commitment, nonce, len(said), index_bytes)
        return cls(territory, space, commitment, nonce, tuple(preface), index_bytes, fixed + said)


@dataclass(frozen=True, slots=True)
class PackNote:
    """A pack in a bundle: its hash, its size, and the hand-ins whose sealed content is in it (none: coursework)."""

    hash: bytes
    size: int
    works: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class RegisterNote:
    """A register in a bundle: whose it is, and its time in ms."""

    device: bytes
    at_ms: int


@dataclass(frozen=True, slots=True)
class Index:
    """What a bundle brings: ids of entries, those of bare headers, packs and registers in their order."""

    entries: tuple[bytes, ...] = ()
    bare: tuple[bytes, ...] = ()
    packs: tuple[PackNote, ...] = ()
    registers: tuple[RegisterNote, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it brings nothing."""
        return not (self.entries or self.bare or self.packs or self.registers)

    def encode(self) -> bytes:
        """The plain bytes."""
        return encode(
            {
                "bare": b"".join(self.bare),
                "entries": b"".join(self.entries),
                "packs": [[pack.hash, pack.size, b"".join(pack.works)] for pack in self.packs],
                "registers": [[register.device, register.at_ms] for register in self.registers],
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The index in plain bytes. Raises `PeerFault`, `TooLarge`."""
        fields = Fields(decode(data, max_bytes=MAX_BUNDLE_INDEX_BYTES), "the index of a bundle")
        return cls(
            _ids(fields.octets("entries", most=MAX_BUNDLE_ENTRIES * ID_BYTES)),
            _ids(fields.octets("bare", most=MAX_BUNDLE_ENTRIES * ID_BYTES)),
            tuple(_pack_note(row) for row in fields.rows("packs", MAX_BUNDLE_PACKS)),
            tuple(_register_note(row) for row in fields.rows("registers", MAX_BUNDLE_ENTRIES)),
        )


@dataclass(frozen=True, slots=True)
class Trailer:
    """The end of a bundle: its whole size, and BLAKE3 of all before the trailer."""

    size: int
    hash: bytes

    @property
    def name(self) -> str:
        """The name of the bundle's file, without its ending."""
        return self.hash[:NAME_BYTES].hex()

    def encode(self) -> bytes:
        """The last bytes of the bundle."""
        return _TRAILER.pack(self.size, self.hash, END)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From the last `TRAILER_BYTES` of a bundle. Raises `PeerFault(UNKNOWN_FORMAT)`: it is cut off, or none."""
        if len(data) != TRAILER_BYTES or not data.endswith(END):
            raise PeerFault(Code.UNKNOWN_FORMAT, "a bundle has no end")
        size, digest, _ = _TRAILER.unpack(data)
        return cls(size, digest)


def head_size(fixed: bytes) -> int:
    """How long the head is whose first `HEAD_BYTES` these are. Raises `PeerFault`, `TooLarge`."""
    if len(fixed) < HEAD_BYTES or not fixed.startswith(MAGIC):
        raise PeerFault(Code.UNKNOWN_FORMAT, "this is no bundle")
    *_, preface, index = _FIXED.unpack_from(fixed)
    if preface > MAX_BUNDLE_PREFACE_BYTES or not TAG_BYTES <= index <= MAX_BUNDLE_INDEX_BYTES + TAG_BYTES:
        raise TooLarge(Code.TOO_LARGE, "the head of a bundle is larger than allowed", preface=preface, index=index)
    return HEAD_BYTES + int(preface)


def parse_head(data: bytes) -> Head:
    """The head in exactly its bytes. Raises `PeerFault`, `TooLarge`."""
    if len(data) != head_size(data):
        raise PeerFault(Code.MALFORMED, "the head of a bundle has another size")
    _, territory, space, commitment, nonce, _, index = _FIXED.unpack_from(data)
    said = decode(data[HEAD_BYTES:], max_bytes=MAX_BUNDLE_PREFACE_BYTES)
    if type(said) is not list:
        raise PeerFault(Code.MALFORMED, "the preface of a bundle is no list")
    return Head(territory, space, commitment, nonce, tuple(map(from_wire, said)), index, data)


class BundleKeys:
    """What seals one bundle; made from the space's bundle key (32 bytes) and the bundle's head."""

    __slots__ = ("_body", "_index")

    def __init__(self, bundle_key: bytes, head: Head) -> None:
        both = HKDF(hashes.SHA256(), 64, salt=blake3(head.data).digest(), info=tagged(_DOMAIN, b"")).derive(bundle_key)
        self._index = ChaCha20Poly1305(both[:32])
        self._body = ChaCha20Poly1305(both[32:])

    def seal_index(self, index: bytes) -> bytes:
        """The index as it stands in the bundle, `TAG_BYTES` longer."""
        return self._index.encrypt(_INDEX_NONCE, index, None)

    def open_index(self, sealed: bytes) -> Index:
        """What the bundle brings. Raises `PeerFault`, `TooLarge`."""
        try:
            return Index.parse(self._index.decrypt(_INDEX_NONCE, sealed, None))
        except InvalidTag as reason:
            raise PeerFault(Code.BAD_SEAL, "the index of a bundle is damaged, or sealed under another key") from reason

    def seal_chunk(self, plain: memoryview, number: int, into: memoryview, *, last: bool) -> None:
        """Seal a chunk of the body into memory that is `TAG_BYTES` longer."""
        self._body.encrypt_into(_nonce(number, last=last), plain, None, into)

    def open_chunk(self, sealed: memoryview, number: int, into: memoryview, *, last: bool) -> None:
        """Open a chunk of the body into memory that is `TAG_BYTES` shorter. Raises `PeerFault(BAD_SEAL)`."""
        if len(sealed) < TAG_BYTES:
            raise PeerFault(Code.BAD_SEAL, "a part of a bundle is shorter than any")
        try:
            self._body.decrypt_into(_nonce(number, last=last), sealed, None, into)
        except InvalidTag as reason:
            raise PeerFault(Code.BAD_SEAL, "a part of a bundle is damaged, missing or out of place") from reason


class BundleWriter:
    """Writes one bundle in constant memory. Every method gives what has become certain, to be written in that order.

    What it gives lies in memory of its own, and is good until the next call: to let each piece have new memory costs
    more time than to read, seal and hash it. May be called in a thread, one call after the other.

    `preface` are the entries that open the key; the index is known from the beginning, and what follows is exactly what
    it lists, in its order: entries, then bare ones, registers, packs.
    """

    def __init__(
        self,
        bundle_key: bytes,
        *,
        territory: bytes,
        space: bytes,
        commitment: bytes,
        nonce: bytes,
        preface: Sequence[Entry],
        index: Index,
    ) -> None:
        plain = index.encode()
        self.head: Final = Head.compose(territory, space, commitment, nonce, preface, len(plain) + TAG_BYTES)
        self._keys = BundleKeys(bundle_key, self.head)
        self._chunk = memoryview(bytearray(BUNDLE_CHUNK_BYTES))
        self._filled = 0
        self._ready = memoryview(bytearray(_SEALED_CHUNK_BYTES))
        self._ready_bytes = 0
        self._number = 0
        self._hash = blake3()
        self.size = 0
        self._begun = self.head.data + self._keys.seal_index(plain)

    def begin(self) -> bytes:
        """Head and index."""
        return self._counted(self._begun)

    def entries(self, entries: Sequence[Entry]) -> memoryview:
        """A batch of entries, at most `MAX_BUNDLE_RECORD_BYTES` of them."""
        return self._record(ENTRIES, encode([to_wire(entry) for entry in entries]))

    def registers(self, registers: Sequence[bytes]) -> memoryview:
        """Signed registers."""
        return self._record(REGISTERS, encode(list(registers)))

    def pack(self, note: PackNote) -> memoryview:
        """A pack begins; `data` or `drawn` brings its `size` bytes."""
        return self.data(_RECORD.pack(PACK, ID_BYTES + note.size) + note.hash)

    def data(self, data: bytes) -> memoryview:
        """The next bytes of a pack."""
        left = memoryview(data)

        def copy(memory: memoryview) -> None:
            nonlocal left
            memory[:] = left[: len(memory)]
            left = left[len(memory) :]

        return self.drawn(len(data), copy)

    def drawn(self, size: int, draw: Draw) -> memoryview:
        """The next `size` bytes of a pack, which `draw` puts where they are sealed from: they are copied nowhere else.

        Gives the chunks that they complete. The last one is never empty, so a full one waits until more comes.
        """
        self._ready_bytes = 0
        self._make_room(self._filled + size)
        while size:
            if self._filled == BUNDLE_CHUNK_BYTES:
                self._seal(last=False)
            count = min(size, BUNDLE_CHUNK_BYTES - self._filled)
            draw(self._chunk[self._filled : self._filled + count])
            self._filled += count
            size -= count
        return self._ready[: self._ready_bytes]

    def finish(self) -> bytes:
        """The rest, and the trailer."""
        self._ready_bytes = 0
        self._seal(last=True)
        self.size += TRAILER_BYTES
        return bytes(self._ready[: self._ready_bytes]) + Trailer(self.size, self._hash.digest()).encode()

    def _record(self, kind: int, body: bytes) -> memoryview:
        if len(body) > MAX_BUNDLE_RECORD_BYTES:
            raise ValueError("a record is larger than allowed")
        return self.data(_RECORD.pack(kind, len(body)) + body)

    def _make_room(self, plain_bytes: int) -> None:
        """Have memory for as many sealed chunks as so many bytes fill."""
        needed = max(1, plain_bytes // BUNDLE_CHUNK_BYTES) * _SEALED_CHUNK_BYTES
        if len(self._ready) < needed:
            self._ready = memoryview(bytearray(needed))

    def _seal(self, *, last: bool) -> None:
        """Seal what fills the chunk behind what is ready, and hash it there while the processor still has it."""
        end = self._ready_bytes + self._filled + TAG_BYTES
        sealed = self._ready[self._ready_bytes : end]
        self._keys.seal_chunk(self._chunk[: self._filled], self._number, sealed, last=last)
        self._counted(sealed)
        self._ready_bytes, self._filled = end, 0
        self._number += 1

    def _counted(self, data: _Octets) -> _Octets:
        self._hash.update(data)
        self.size += len(data)
        return data


@dataclass(frozen=True, slots=True)
class Entries:
    """A batch of entries; `bad` of them could not be read."""

    entries: tuple[Entry, ...]
    bad: int


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
        self._sealed = memoryview(bytearray(max(_SEALED_CHUNK_BYTES, head.index_bytes)))
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
            wanted = self._index_left or min(_SEALED_CHUNK_BYTES, self._body_left) or TRAILER_BYTES
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
                if len(self._plain) < _RECORD.size and not self._gather(_RECORD.size):
                    return
                self._kind, size = _RECORD.unpack_from(self._plain)
                most = ID_BYTES + MAX_PACK_BYTES if self._kind == PACK else MAX_BUNDLE_RECORD_BYTES
                if size > most:
                    raise TooLarge(Code.TOO_LARGE, "a part of a bundle is larger than allowed", size=size)
                if self._kind == PACK:
                    if not self._gather(_RECORD.size + ID_BYTES):
                        return
                    if size <= ID_BYTES:
                        raise PeerFault(Code.MALFORMED, "a pack in a bundle is empty")
                    name = bytes(self._plain[_RECORD.size :])
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
    found = list(_readable(rows))
    return Entries(tuple(found), len(rows) - len(found))


def _readable(rows: Iterable[Value]) -> Iterator[Entry]:
    """One bad entry does not spoil what came beside it."""
    for row in rows:
        try:
            yield from_wire(row)
        except PeerFault:
            continue


def _ids(data: bytes) -> tuple[bytes, ...]:
    if len(data) % ID_BYTES:
        raise PeerFault(Code.MALFORMED, "a list of ids in a bundle is cut off")
    return tuple(data[at : at + ID_BYTES] for at in range(0, len(data), ID_BYTES))


def _pack_note(row: Value) -> PackNote:
    match row:
        case [bytes(name), int(size), bytes(works)] if len(name) == ID_BYTES and 0 < size <= MAX_PACK_BYTES:
            return PackNote(name, size, _ids(works))
    raise PeerFault(Code.MALFORMED, "a pack in the index of a bundle has the wrong form")


def _register_note(row: Value) -> RegisterNote:
    match row:
        case [bytes(device), int(at_ms)] if len(device) == ID_BYTES and at_ms >= 0:
            return RegisterNote(device, at_ms)
    raise PeerFault(Code.MALFORMED, "a register in the index of a bundle has the wrong form")


def _nonce(number: int, *, last: bool) -> bytes:
    return bytes(7) + number.to_bytes(4, "big") + (b"\x01" if last else b"\x00")
