"""What a kit remembers of what its root has said: whom it cut off and had forgotten, and what it took back of that.

Rules:
- it is what lies in the set as well, as it was signed: who brings it again says nothing new, in whatever order, from
  whichever copy of the kit;
- a server that is made anew believes it before anybody has called: a thief's laptop that is first is cut off;
- room is short, and what is oldest any backup holds: the newest stays. What cuts keys off has half of it, whatever else
  is said; of what the root has said for one command all that fits.

docs/protocol.md, "Recovery kit"; docs/adr/0327.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from protocol.canonical import decode, encode
from protocol.errors import PeerFault, TooLarge
from protocol.limits import MAX_KIT_BYTES
from protocol.messages.parts import read_entries, wire_rows
from protocol.model.entry import Entry, Kind
from protocol.trust.kit_memory import room_for_memory, with_memory

_OF_KEYS: Final = frozenset({Kind.CERTIFICATE, Kind.REVOKE, Kind.ROOT_ACCOUNT})
_AROUND_BYTES: Final = 16
REMEMBERED: Final = _OF_KEYS | {Kind.ERASE, Kind.RULING}


def encode_memory(said: Iterable[Entry], room_bytes: int) -> bytes:
    """What has room of what a root has said, as a kit keeps it; nothing where nothing has."""
    kept = _with_room({each.id: each for each in said if is_remembered(each)}.values(), room_bytes - _AROUND_BYTES)
    return encode({"said": wire_rows(kept)}) if kept else b""


def with_said(text: str, said: Iterable[Entry]) -> str:
    """The text of a kit that remembers of these words what has room."""
    return with_memory(text, encode_memory(said, room_for_memory(text)))


def parse_memory(data: bytes) -> tuple[Entry, ...]:
    """What a kit remembers, whoever said it; what cannot be read is nothing."""
    with suppress(PeerFault, TooLarge):
        match decode(data, max_bytes=MAX_KIT_BYTES):
            case {"said": list(rows)}:
                entries, _ = read_entries(rows)
                return tuple(each for each in entries if is_remembered(each))
    return ()


def is_remembered(entry: Entry) -> bool:
    """Whether this is something of a root's that a kit keeps: it cuts off, forgets, or takes that back."""
    return entry.header.kind in REMEMBERED and entry.header.grant is None and entry.payload is not None


def _with_room(said: Iterable[Entry], room_bytes: int) -> list[Entry]:
    newest_first = sorted(said, key=lambda each: (each.header.at, each.id), reverse=True)
    of_keys = [each for each in newest_first if each.header.kind in _OF_KEYS]
    kept, left = _filled(of_keys, room_bytes // 2)
    names = {each.id for each in kept}
    rest = [each for each in newest_first if each.id not in names]
    more, _ = _filled(rest, left + room_bytes - room_bytes // 2)
    return sorted([*kept, *more], key=lambda each: (each.header.at, each.id))


def _filled(entries: Iterable[Entry], room_bytes: int) -> tuple[list[Entry], int]:
    """Of these the first that have room, and what that leaves."""
    kept = []
    for entry in entries:
        if entry.wire_bytes <= room_bytes:
            kept.append(entry)
            room_bytes -= entry.wire_bytes
    return kept, room_bytes
