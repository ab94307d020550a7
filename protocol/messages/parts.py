"""What messages consist of: parts as dataclasses, and as rows of a canonical map (docs/protocol.md, "Messages").

Each `read_…` raises `PeerFault` or `TooLarge` for what has the wrong form.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from blake3 import blake3

from protocol.canonical import Value
from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import (
    CURSOR_HASH_BYTES,
    INLINE_TOTAL_BYTES,
    MAX_HELD_BYTES,
    MAX_NAME_CHARS,
    MAX_PACK_BYTES,
    MAX_REGISTER_BYTES,
    SET_FINGERPRINT_BYTES,
)
from protocol.model.entry import Entry, from_wire, to_wire
from protocol.reconcile.checkpoint import Checkpoint, Cursor
from protocol.shown_text import name_shown
from protocol.transfer.crossing import LINK_KEY_BYTES

SPACE_PREFIX_BYTES: Final = 4
MAX_CAPABILITY_CHARS: Final = 256
MAX_ENTRIES: Final = 20_000
_MAX_ARRIVALS: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """An entry that was not taken, and why."""

    id: bytes
    code: Code


@dataclass(frozen=True, slots=True)
class InlinePack:
    """A whole small pack, and the space that it belongs to."""

    space: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Offer:
    """A pack that the caller could send."""

    space: bytes
    pack: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Link:
    """A pack to be fetched with a capability, for a while, under the link's `key` (`crossing`) if it has one."""

    space: bytes
    pack: bytes
    size: int
    capability: str
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class Upload:
    """A pack that is wanted: send it from `offset` on, with this capability, under the link's `key` if it has one."""

    pack: bytes
    offset: int
    capability: str
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A stream whose content is missing in a space."""

    space: bytes
    stream: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """What the caller holds of a space, of whose content it misses a part: `HeldNames`, not yet read."""

    space: bytes
    names: bytes


@dataclass(frozen=True, slots=True)
class SpacePage:
    """News of one space: entries in order of arrival, and where they lead; `more` says that there are more."""

    checkpoint: Checkpoint
    entries: tuple[Entry, ...]
    refused: tuple[Refusal, ...]
    more: bool


def wire_rows(entries: Iterable[Entry]) -> list[Value]:
    """Entries as they travel."""
    return [to_wire(entry) for entry in entries]


def read_entries(rows: Sequence[Value]) -> tuple[tuple[Entry, ...], tuple[Refusal, ...]]:
    """Entries that travelled, and those that do not parse; raises `PeerFault` where a row is none at all."""
    entries: list[Entry] = []
    refused: list[Refusal] = []
    for row in rows:
        try:
            entries.append(from_wire(row))
        except PeerFault as fault:
            if not isinstance(row, list) or not row or type(row[0]) is not bytes:
                raise
            refused.append(Refusal(blake3(row[0]).digest(), fault.code))
    return tuple(entries), tuple(refused)


def page_row(page: SpacePage) -> list[Value]:
    """A page as it travels."""
    return [*checkpoint_row(page.checkpoint), wire_rows(page.entries), page.more]


def read_page(row: Value) -> SpacePage:
    """The page in a row."""
    match row:
        case [space, count, chain, fingerprint, list(rows), bool(more)]:
            entries, refused = read_entries(rows)
            return SpacePage(read_checkpoint([space, count, chain, fingerprint]), entries, refused, more)
        case _:
            raise _malformed("a page of a space")


def checkpoint_row(checkpoint: Checkpoint) -> list[Value]:
    """A checkpoint as it travels."""
    return [checkpoint.space, checkpoint.count, checkpoint.chain, checkpoint.fingerprint]


def read_checkpoint(row: Sequence[Value]) -> Checkpoint:
    """The checkpoint in a row."""
    match row:
        case [bytes(space), int(count), bytes(chain), bytes(fingerprint)] if (
            len(space) == 32  # noqa: PLR2004  (an id)
            and 0 <= count <= _MAX_ARRIVALS
            and len(chain) == CURSOR_HASH_BYTES
            and len(fingerprint) == SET_FINGERPRINT_BYTES
        ):
            return Checkpoint(space, count, chain, fingerprint)
        case _:
            raise _malformed("a checkpoint")


def read_cursor(row: Value) -> Cursor:
    """The cursor in a row."""
    match row:
        case [bytes(space), int(count), bytes(chain), bool(complete)] if (
            len(space) in (SPACE_PREFIX_BYTES, 32) and 0 <= count <= _MAX_ARRIVALS and len(chain) == CURSOR_HASH_BYTES
        ):
            return Cursor(space, count, chain, complete)
        case _:
            raise _malformed("a cursor")


def read_inline_packs(rows: Sequence[Value]) -> tuple[InlinePack, ...]:
    """The packs in the rows; raises `TooLarge` for more than two messages may hold."""
    packs = []
    total = 0
    for row in rows:
        match row:
            case [bytes(space), bytes(data)] if len(space) == 32:  # noqa: PLR2004  (an id)
                packs.append(InlinePack(space, data))
                total += len(data)
            case _:
                raise _malformed("a pack")
    if total > 2 * INLINE_TOTAL_BYTES:
        raise TooLarge(Code.TOO_LARGE, "a message holds too much content", size=total, max=2 * INLINE_TOTAL_BYTES)
    return tuple(packs)


def read_offer(row: Value) -> Offer:
    """The offer in a row."""
    match row:
        case [bytes(space), bytes(pack), int(size)] if _is_pack(space, pack, size):
            return Offer(space, pack, size)
        case _:
            raise _malformed("an offer")


def link_row(link: Link) -> list[Value]:
    """A link as it travels."""
    return [link.space, link.pack, link.size, link.capability, *_key_row(link.key)]


def read_link(row: Value) -> Link:
    """The link in a row."""
    match row:
        case [bytes(space), bytes(pack), int(size), str(capability), *key] if (
            _is_pack(space, pack, size) and len(capability) <= MAX_CAPABILITY_CHARS
        ):
            return Link(space, pack, size, capability, _read_key(key))
        case _:
            raise _malformed("a link")


def upload_row(upload: Upload) -> list[Value]:
    """A wanted pack as it travels."""
    return [upload.pack, upload.offset, upload.capability, *_key_row(upload.key)]


def read_upload(row: Value) -> Upload:
    """The upload in a row."""
    match row:
        case [bytes(pack), int(offset), str(capability), *key] if (
            _is_pack(pack, pack, offset) and len(capability) <= MAX_CAPABILITY_CHARS
        ):
            return Upload(pack, offset, capability, _read_key(key))
        case _:
            raise _malformed("a wanted pack")


def _key_row(key: bytes) -> list[Value]:
    """The end of a row: a link of before has no key."""
    return [key] if key else []


def _read_key(row: list[Value]) -> bytes:
    match row:
        case []:
            return b""
        case [bytes(key)] if len(key) == LINK_KEY_BYTES:
            return key
        case _:
            raise _malformed("the key of a link")


def read_wanted(row: Value) -> Wanted:
    """The wish in a row."""
    match row:
        case [bytes(space), bytes(stream)] if len(space) == len(stream) == 32:  # noqa: PLR2004  (ids)
            return Wanted(space, stream)
        case _:
            raise _malformed("a wanted stream")


def read_called(row: Value) -> tuple[bytes, str]:
    """A device and the name that it gave, in a row."""
    match row:
        case [bytes(key), str(name)] if len(key) == 32 and len(name) <= MAX_NAME_CHARS:  # noqa: PLR2004  (an id)
            return key, name_shown(name)
        case _:
            raise _malformed("a device's name")


def read_held(rows: Sequence[Value]) -> tuple[Held, ...]:
    """What is held of spaces, in rows; those after which it would be too much are passed over: packs bring the same."""
    held = []
    room = MAX_HELD_BYTES
    for row in rows:
        match row:
            case [bytes(space), bytes(names)] if len(space) == 32:  # noqa: PLR2004  (an id)
                room -= len(names)
                if room >= 0:
                    held.append(Held(space, names))
            case _:
                raise _malformed("what is held of a space")
    return tuple(held)


def read_refusal(row: Value) -> Refusal:
    """The refusal in a row; a code that is not known is a malformed entry."""
    match row:
        case [bytes(refused), str(code)] if len(refused) == 32:  # noqa: PLR2004  (an id)
            try:
                return Refusal(refused, Code(code))
            except ValueError:
                return Refusal(refused, Code.MALFORMED)
        case _:
            raise _malformed("a refusal")


def read_registers(rows: Sequence[Value]) -> tuple[bytes, ...]:
    """The registers in the rows, not yet looked into."""
    if any(type(row) is not bytes or len(row) > MAX_REGISTER_BYTES for row in rows):
        raise _malformed("a register")
    return cast("tuple[bytes, ...]", tuple(rows))


def _is_pack(space: bytes, pack: bytes, size: int) -> bool:
    return len(space) == len(pack) == 32 and 0 <= size <= MAX_PACK_BYTES  # noqa: PLR2004  (ids)


def _malformed(what: str) -> PeerFault:
    return PeerFault(Code.MALFORMED, f"{what} has the wrong form")
