"""Bundles: entries, registers and packs of one space, sealed in one file that anybody may carry.

Rules:
- in clear stand a territory, a space, the name of a key, and what opens that key to who lawfully has it; all else is
  sealed under the space's key, so that a disk found in the street shows sizes and ids, no name, no work;
- the index stands in front: what a bundle brings is known without reading the rest;
- every chunk is authentic when it comes out, so that what was read of a bundle that is cut off is good;
- the trailer is last and hashes all before it: who has no key can tell that a bundle is whole.

What is written and read here are head, index and trailer, and what seals; `writer` and `reader` do the
rest. docs/protocol.md, "Bundles".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.canonical import Value, decode, encode
from protocol.errors import Code, PeerFault, TooLarge
from protocol.fields import Fields
from protocol.identity import tagged
from protocol.limits import (
    BUNDLE_CHUNK_BYTES,
    MAX_BUNDLE_ENTRIES,
    MAX_BUNDLE_INDEX_BYTES,
    MAX_BUNDLE_PACKS,
    MAX_BUNDLE_PREFACE_BYTES,
    MAX_PACK_BYTES,
)
from protocol.model.entry import ID_BYTES, Entry, from_wire, ids_in, to_wire

MAGIC: Final = b"RLSBNDL\0"
END: Final = b"RLSBEND\0"
TAG_BYTES: Final = 16
NONCE_BYTES: Final = 32
NAME_BYTES: Final = 16

_DOMAIN: Final = b"relais/0 bundle"
_FIXED: Final = struct.Struct(">8s32s32s32s32sII")
_TRAILER: Final = struct.Struct(">Q32s8s")
_INDEX_NONCE: Final = bytes(12)

HEAD_BYTES: Final = _FIXED.size
TRAILER_BYTES: Final = _TRAILER.size
SEALED_CHUNK_BYTES: Final = BUNDLE_CHUNK_BYTES + TAG_BYTES

RECORD: Final = struct.Struct(">BI")
"""In front of each part of the body: what it is, and how many bytes follow."""
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


def _ids(data: bytes) -> tuple[bytes, ...]:
    if len(data) % ID_BYTES:
        raise PeerFault(Code.MALFORMED, "a list of ids in a bundle is cut off")
    return ids_in(data)


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
