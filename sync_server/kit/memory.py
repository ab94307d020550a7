"""What a kit remembers of what its root has said: whom it cut off and had forgotten, and what it took back of that.

Rules:
- it is what lies in the set as well, as it was signed: who brings it again says nothing new, in whatever order, from
  whichever copy of the kit;
- a server that is made anew believes it before anybody has called: a thief's laptop that is first is cut off;
- room is short, and what is oldest any backup holds: what was noted last stays. But whoever has the server chooses how
  much the kit signs for a command, and people type a name or two. So of each name little comes first, and has most of
  the room: it makes way for as little of other names that were typed, and for nothing else (docs/adr/0341);
- a list of entries says nothing by itself: it is kept with what names it.

docs/protocol.md, "Recovery kit"; docs/adr/0327.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from typing import Final, TypeAlias

from protocol.canonical import decode, encode
from protocol.errors import PeerFault, TooLarge
from protocol.limits import MAX_KIT_BYTES, MAX_KIT_NAME_BYTES
from protocol.messages.parts import read_entries, wire_rows
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import Certificate, Revocation
from protocol.rights.erasures import order_in
from protocol.trust.kit import Kit
from protocol.trust.kit_memory import room_for_memory, with_memory
from sync_server.kit.root_line import may_be_named, named_by_rotations

_AROUND_BYTES: Final = 16
REMEMBERED: Final = frozenset({Kind.CERTIFICATE, Kind.REVOKE, Kind.ROOT_ACCOUNT, Kind.ERASE, Kind.RULING})
_Word: TypeAlias = tuple[Entry, ...]
"""What stays or goes as one: an entry, with the lists that it names and that are here."""


class _Room(IntEnum):
    """Parts of the room. What one leaves empty the others have until it is needed, the first of them first."""

    ORDERS = 0
    """Who is to be forgotten, and whom the root took back by name: of each name the first that it said."""
    CUTS = 1
    """Likewise which keys it cut off, and made a server's."""
    MORE = 2
    """What else it said of such names: the revocation of a server's key is long."""
    LISTS = 3
    """What rotations of the root name by lists."""
    REST = 4
    """Rulings on single entries."""


_SIXTEENTHS: Final = {_Room.ORDERS: 6, _Room.CUTS: 5, _Room.MORE: 3, _Room.LISTS: 1, _Room.REST: 1}


def encode_memory(said: Iterable[Entry], room_bytes: int, named: Iterable[bytes] = ()) -> bytes:
    """What has room of what a root has said, in that order, as a kit keeps it; nothing where nothing has.

    `named` is what rotations name, lists among it.
    """
    words = [*{each.id: each for each in said if is_remembered(each)}.values()]
    kept = _with_room(words, room_bytes - _AROUND_BYTES, frozenset(named))
    return encode({"said": wire_rows(kept)}) if kept else b""


def with_said(text: str, kit: Kit, said: Iterable[Entry]) -> str:
    """The text of a kit that remembers of these words, the oldest first, what has room."""
    named: Iterable[bytes] = ()
    with suppress(PeerFault, TooLarge):
        named = named_by_rotations(kit.chain)
    return with_memory(text, encode_memory(said, room_for_memory(text), named))


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


def without_room(said: Iterable[Entry], kept: Iterable[Entry]) -> list[Entry]:
    """What of these words is not among those that were kept; lists are no words."""
    held = {each.id for each in kept}
    return [each for each in said if is_remembered(each) and may_be_named(each) and each.id not in held]


def name_in(entry: Entry) -> bytes | None:
    """Of whom, or what, a word is: a key, a person, a class. None for what judges entries, or cannot be read."""
    match entry.header.kind:
        case Kind.CERTIFICATE:
            certified = parsed(entry, Certificate.parse)
            return None if certified is None else certified.signing
        case Kind.REVOKE:
            cut = parsed(entry, Revocation.parse)
            return None if cut is None else cut.key
        case _:
            order = order_in(entry)
            return None if order is None else order.covers


def _with_room(said: Sequence[Entry], room_bytes: int, named: frozenset[bytes]) -> list[Entry]:
    """Of each part of the room what was noted last, then what others leave room for."""
    rooms = _rooms(said, named)
    kept, beyond, left_bytes = list[_Word](), list[_Word](), 0
    for room, share in _SIXTEENTHS.items():
        some, others, unused_bytes = _filled(reversed(rooms[room]), room_bytes * share // 16)
        kept += some
        beyond += others
        left_bytes += unused_bytes
    more, _, _ = _filled(beyond, left_bytes)
    names = {each.id for word in (*kept, *more) for each in word}
    return [each for each in said if each.id in names]


def _rooms(said: Sequence[Entry], named: frozenset[bytes]) -> Mapping[_Room, list[_Word]]:
    """Which part of the room each word is for. A list that nothing names is for none."""
    lists = {each.id: each for each in said if each.header.kind == Kind.ROOT_ACCOUNT}
    found: defaultdict[_Room, list[_Word]] = defaultdict(list)
    found[_Room.LISTS] = [(each,) for name, each in lists.items() if name in named]
    spent_bytes: defaultdict[tuple[_Room, bytes], int] = defaultdict(int)
    for each in said:
        if each.id in lists:
            continue
        word = (each, *(lists[name] for name in _lists_of(each) if name in lists))
        name, room = name_in(each), _Room.CUTS if each.header.kind in (Kind.CERTIFICATE, Kind.REVOKE) else _Room.ORDERS
        if name is None:
            room = _Room.REST
        elif spent_bytes[room, name] + _bytes_of(word) <= MAX_KIT_NAME_BYTES:
            spent_bytes[room, name] += _bytes_of(word)
        else:
            room = _Room.MORE
        found[room].append(word)
    return found


def _lists_of(entry: Entry) -> Sequence[bytes]:
    cut = parsed(entry, Revocation.parse) if entry.header.kind == Kind.REVOKE else None
    return () if cut is None else cut.lists


def _filled(words: Iterable[_Word], room_bytes: int) -> tuple[list[_Word], list[_Word], int]:
    """Of these the first that have room, the others, and how much room is left."""
    kept, others = list[_Word](), list[_Word]()
    for word in words:
        if (size := _bytes_of(word)) <= room_bytes:
            kept.append(word)
            room_bytes -= size
        else:
            others.append(word)
    return kept, others, room_bytes


def _bytes_of(word: _Word) -> int:
    return sum(each.wire_bytes for each in word)
