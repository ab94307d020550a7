"""Entries: immutable signed records, the only thing that history is made of (R2; docs/protocol.md, "Entries").

Rules:
- the bytes that were signed are the bytes stored and sent; nothing is encoded again to be verified;
- `id` = BLAKE3-256(header bytes); the signature is Ed25519 over a domain prefix and the header bytes;
- the header commits to salt and payload, which travel beside it and can be erased while the set stays verifiable;
- `target` (what it is about), `parents` (what it replaces) and `prev` (the author's own latest) are three separate
  things.

A kind's number is 16 × class + n. The class alone decides who may write it (`protocol.rights.door`), so an agent that
does not know a new n still admits the same set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from typing import Final, TypeVar, cast

from blake3 import blake3

from protocol.canonical import Value, decode, decode_known, encode
from protocol.clock import MAX_AT, milliseconds_of
from protocol.errors import Code, PeerFault, TooLarge
from protocol.identity import SigningKey, verify
from protocol.limits import MAX_HEADER_BYTES, MAX_PARENTS, MAX_PAYLOAD_BYTES, MAX_PREV, SALT_BYTES

T = TypeVar("T")

FORMAT: Final = 0
DOMAIN: Final = b"relais/0 entry"

ID_BYTES: Final = 32
PERSON_BYTES: Final = 16
SIGNATURE_BYTES: Final = 64
_FIELDS: Final = 12
_KNOWN_HEADERS: Final = 512
"""So many that a store gave are at hand, half a megabyte: of a class the same ones are looked at all the time."""


class KindClass(IntEnum):
    """What a kind is for; the rows of the rights table."""

    AUTHORITY = 0
    STRUCTURE = 1
    COURSE = 2
    ANSWER = 3
    WORK = 4
    WITNESS = 5
    OFFICE = 6


class Kind(IntEnum):
    """The kinds that this version understands."""

    CERTIFICATE = 0
    RECOVERY_KEY = 1
    GENERATION = 2
    ROOT_ROTATION = 3
    REWRAP = 4
    ROOT_ACCOUNT = 5
    SPACE = 16
    INVITE = 17
    GRANT = 18
    REVOKE = 19
    PERSON = 20
    SPACE_KEY = 21
    ERASE = 22
    RULING = 23
    DRILL = 24
    QUARANTINE = 25
    SPACE_CHANGE = 26
    REVISION = 32
    WITHDRAW = 33
    RESTORE = 34
    FEEDBACK = 48
    RECEIPT_TEACHER = 49
    PERSON_KEY = 50
    KEY_WRAP = 51
    PHRASE = 52
    VOUCH = 53
    SIGN_IN = 56
    HAND_IN = 64
    WRAP = 65
    RECEIPT_SAFE = 80
    SPACE_WRAP = 81
    SUCCESSOR = 82
    SIGN_IN_WRAP = 88
    SIGN_IN_LOCK = 89
    RECEIPT_SERVER = 96


def kind_name(kind: int) -> str:
    """What people are told a kind is, in a word: `receipt-teacher`; its number where a later version knows it."""
    try:
        return Kind(kind).name.lower().replace("_", "-")
    except ValueError:
        return str(kind)


def class_of(kind: int) -> int:
    """The class number of a kind's number."""
    return kind >> 4


@dataclass(frozen=True, slots=True)
class Header:
    """The signed part. Ids and keys are 32 bytes, `subject` 16, `at` a hybrid time, `size` the payload's bytes."""

    space: bytes
    kind: int
    author: bytes
    grant: bytes | None
    subject: bytes | None
    at: int
    target: bytes | None
    parents: tuple[bytes, ...]
    prev: tuple[bytes, ...]
    commitment: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A header with its exact bytes, id and signature; `salt` and `payload` are None once erased."""

    header: Header
    header_bytes: bytes
    id: bytes
    signature: bytes
    salt: bytes | None
    payload: bytes | None

    @property
    def timestamp_ms(self) -> int:
        """The timestamp under which reconciliation sorts this entry (R3)."""
        return milliseconds_of(self.header.at)

    @property
    def wire_bytes(self) -> int:
        """How many bytes the entry takes in a message, near enough for paging."""
        return len(self.header_bytes) + SIGNATURE_BYTES + SALT_BYTES + len(self.payload or b"") + 12

    @property
    def said_bytes(self) -> int:
        """How many bytes its author has signed: the header's, and those of the payload, here or not."""
        return len(self.header_bytes) + self.header.size


def commitment(salt: bytes, payload: bytes) -> bytes:
    """What a header says of its payload: BLAKE3-256(salt ‖ payload)."""
    return blake3(salt + payload).digest()


def compose(
    *,
    author: SigningKey,
    space: bytes,
    kind: int,
    grant: bytes | None,
    at: int,
    payload: bytes,
    salt: bytes,
    subject: bytes | None = None,
    target: bytes | None = None,
    parents: Sequence[bytes] = (),
    prev: Sequence[bytes] = (),
) -> Entry:
    """A new signed entry. `salt` is `SALT_BYTES` of fresh randomness; `parents` and `prev` as the spec orders them.

    Raises `TooLarge` when the payload or the references exceed the limits.
    """
    made = unsigned(
        author=author.public,
        space=space,
        kind=kind,
        grant=grant,
        at=at,
        payload=payload,
        salt=salt,
        subject=subject,
        target=target,
        parents=parents,
        prev=prev,
    )
    return replace(made, signature=author.sign(DOMAIN, made.header_bytes))


def unsigned(
    *,
    author: bytes,
    space: bytes,
    kind: int,
    grant: bytes | None,
    at: int,
    payload: bytes,
    salt: bytes,
    subject: bytes | None = None,
    target: bytes | None = None,
    parents: Sequence[bytes] = (),
    prev: Sequence[bytes] = (),
) -> Entry:
    """As `compose`, by the public key of an author who has yet to sign: its signature is zeros."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise TooLarge(Code.TOO_LARGE, "this record is too long", size=len(payload), max=MAX_PAYLOAD_BYTES)
    header = Header(
        space=space,
        kind=int(kind),
        author=author,
        grant=grant,
        subject=subject,
        at=at,
        target=target,
        parents=tuple(parents),
        prev=tuple(prev),
        commitment=commitment(salt, payload),
        size=len(payload),
    )
    data = encode_header(header)
    return Entry(header, data, blake3(data).digest(), bytes(SIGNATURE_BYTES), salt, payload)


def encode_header(header: Header) -> bytes:
    """The canonical bytes of a header: an array of twelve fields, the format first."""
    return encode(
        [
            FORMAT,
            header.space,
            header.kind,
            header.author,
            header.grant,
            header.subject,
            header.at,
            header.target,
            list(header.parents),
            list(header.prev),
            header.commitment,
            header.size,
        ]
    )


def decode_header(data: bytes) -> Header:
    """The header in `data`. Raises `PeerFault` (malformed, not canonical, unknown format) or `TooLarge`."""
    return _header(decode(data, max_bytes=MAX_HEADER_BYTES))


def _header(fields: Value) -> Header:
    if not isinstance(fields, list) or not fields:
        raise PeerFault(Code.MALFORMED, "an entry's header is not a list")
    if fields[0] != FORMAT or isinstance(fields[0], bool):
        raise PeerFault(Code.UNKNOWN_FORMAT, "an entry has a format that this version does not know", format=fields[0])
    if len(fields) != _FIELDS:
        raise PeerFault(Code.MALFORMED, "an entry's header has the wrong number of fields", fields=len(fields))
    _, space, kind, author, grant, subject, at, target, parents, prev, committed, size = fields
    if (
        not _is_id(space)
        or not _is_count(kind, 255)
        or not _is_id(author)
        or not (grant is None or _is_id(grant))
        or not (subject is None or (type(subject) is bytes and len(subject) == PERSON_BYTES))
        or not _is_count(at, MAX_AT)
        or not (target is None or _is_id(target))
        or not _are_ids(parents, MAX_PARENTS)
        or not _are_ids(prev, MAX_PREV)
        or not _is_id(committed)
        or not _is_count(size, MAX_PAYLOAD_BYTES)
    ):
        raise PeerFault(Code.MALFORMED, "an entry's header has a field of the wrong form")
    return Header(
        cast("bytes", space),
        cast("int", kind),
        cast("bytes", author),
        grant,
        subject,
        cast("int", at),
        target,
        tuple(cast("list[bytes]", parents)),
        tuple(cast("list[bytes]", prev)),
        cast("bytes", committed),
        cast("int", size),
    )


def to_wire(entry: Entry) -> list[Value]:
    """The entry as a message carries it: header bytes, signature, salt, payload."""
    return [entry.header_bytes, entry.signature, entry.salt, entry.payload]


def from_wire(value: Value) -> Entry:
    """The entry that a message carries, its form and its commitment checked; the signature is the door's.

    Raises `PeerFault` (malformed, not canonical, unknown format, bad commitment) or `TooLarge`.
    """
    if not isinstance(value, list) or len(value) != 4:  # noqa: PLR2004  (the four parts named above)
        raise PeerFault(Code.MALFORMED, "an entry does not have four parts")
    data, signature, salt, payload = value
    if type(data) is not bytes or type(signature) is not bytes or len(signature) != SIGNATURE_BYTES:
        raise PeerFault(Code.MALFORMED, "an entry's header or signature has the wrong form")
    if salt is None and payload is None:
        return restore(data, signature, None, None)
    if type(salt) is not bytes or len(salt) != SALT_BYTES or type(payload) is not bytes:
        raise PeerFault(Code.MALFORMED, "an entry's salt or payload has the wrong form")
    entry = restore(data, signature, salt, payload)
    if len(payload) != entry.header.size or commitment(salt, payload) != entry.header.commitment:
        raise PeerFault(Code.BAD_COMMITMENT, "an entry's payload is not the one that was signed", id=entry.id.hex())
    return entry


def restore(data: bytes, signature: bytes, salt: bytes | None, payload: bytes | None) -> Entry:
    """An entry from its parts; that the payload is the one that was signed is the caller's to check."""
    return Entry(decode_header(data), data, blake3(data).digest(), signature, salt, payload)


def restore_known(data: bytes, signature: bytes, salt: bytes | None, payload: bytes | None) -> Entry:
    """As `restore`, where the hash of `data` is the id of an entry that was let in: its encoding was judged then."""
    return Entry(_known_header(data), data, blake3(data).digest(), signature, salt, payload)


@lru_cache(maxsize=_KNOWN_HEADERS)
def _known_header(data: bytes) -> Header:
    return _header(decode_known(data))


def parsed(entry: Entry, parse: Callable[[bytes], T]) -> T | None:
    """What an entry's payload says, or None where it was erased or this version cannot read it."""
    try:
        return parse(entry.payload or b"")
    except PeerFault:
        return None


def signature_holds(entry: Entry) -> bool:
    """Whether the author's key signed exactly these header bytes; a weak key never does."""
    return verify(entry.header.author, DOMAIN, entry.header_bytes, entry.signature)


def ids_in(joined: bytes) -> tuple[bytes, ...]:
    """The ids that lie there one behind the other, in a mark or a field."""
    return tuple(joined[at : at + ID_BYTES] for at in range(0, len(joined), ID_BYTES))


def _is_id(value: object) -> bool:
    return type(value) is bytes and len(value) == ID_BYTES


def _is_count(value: object, largest: int) -> bool:
    return type(value) is int and 0 <= value <= largest


def _are_ids(value: object, most: int) -> bool:
    if value == []:
        return True
    return (
        type(value) is list
        and len(value) <= most
        and all(_is_id(part) for part in value)
        and len(set(value)) == len(value)
    )
