"""Whom and what this replica has destroyed: marks of its own, and no part of any set (docs/protocol.md, "Erasure").

Rules:
- what was destroyed once stays destroyed: it is neither shown nor asked for nor kept again here, whoever takes the
  erasure back, until the root itself does (`protocol.rights.roster`);
- so a server in wrong hands brings nobody back where they had been forgotten, whatever backup it has;
- it was destroyed for the erasures that were obeyed, as far as they reach, and for no other: one that reaches further,
  or comes after the root's word, is another order (docs/adr/0105);
- a place of the day's number is taken before anything goes, and stays taken if nothing has: who takes an order back
  while it is carried out would have it begin anew with somebody else, once for each of a class (docs/adr/0411);
- a place is a name in one class; where a name goes class by class, those in which all of it has gone take no other, and
  the name is destroyed once it has gone in the last (docs/adr/0454). What comes later elsewhere is counted
  (docs/adr/0460);
- where it has gone it stays so, in whatever other class it still is (docs/adr/0468);
- of words about keys each that was whole is noted: a header that came later says as little as it says (docs/adr/0620);
- a mark of an earlier version does not say for which: the first sweep makes it one that does, where nothing speaks
  against it, or lets it go (docs/adr/0110). Until then no fold heeds it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from protocol.folds.erasing import Place
from protocol.model.entry import Entry, Kind, ids_in
from protocol.replica.interfaces import EntryStore
from protocol.rights.keys_in_use import says_a_key

DONE_MARKS: Final = "erased/"
"""+ what was destroyed in hex → `Done`."""
PLACE_MARKS: Final = "erasing/"
"""+ a name in hex, "/", and a class in hex → `Taken`. Earlier versions wrote the name alone, and the day."""
KEY_WORD_MARKS: Final = "erased-key-word/"
"""+ the id, in hex, of a word about a key that was whole here, and was destroyed."""
_DAY_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Done:
    """On which day (`day_of`) a name was destroyed last (0: by the kit's word alone), and the erasures obeyed for it.

    Written as 4 bytes of the day, a byte 0, the ids. Marks of earlier versions have the day alone: `by` is None.
    """

    day: int
    by: frozenset[bytes] | None

    def encode(self) -> bytes:
        """To a mark."""
        return self.day.to_bytes(_DAY_BYTES, "big") + b"\0" + b"".join(sorted(self.by or ()))

    @classmethod
    def parse(cls, data: bytes) -> Done:
        """What `encode` wrote, or an earlier version."""
        day = int.from_bytes(data[:_DAY_BYTES], "big")
        return cls(day, None if len(data) <= _DAY_BYTES else frozenset(ids_in(data[_DAY_BYTES + 1 :])))


@dataclass(frozen=True, slots=True)
class Taken:
    """On which day (`day_of`) a place of its number was taken, and the erasures obeyed there since.

    None are: it was taken, and not all has gone there. Written as 4 bytes of the day, then the ids.
    """

    day: int
    by: frozenset[bytes] = frozenset()

    def encode(self) -> bytes:
        """To a mark."""
        return self.day.to_bytes(_DAY_BYTES, "big") + b"".join(sorted(self.by))

    @classmethod
    def parse(cls, data: bytes) -> Taken:
        """What `encode` wrote, or an earlier version."""
        return cls(int.from_bytes(data[:_DAY_BYTES], "big"), frozenset(ids_in(data[_DAY_BYTES:])))


async def destroyed(store: EntryStore) -> dict[bytes, Done]:
    """Each name that was destroyed."""
    marks = await store.marks(DONE_MARKS)
    return {bytes.fromhex(key.removeprefix(DONE_MARKS)): Done.parse(mark) for key, mark in marks.items()}


async def places_taken(store: EntryStore) -> dict[Place, Taken]:
    """Who has taken a place of a day's number where, whether anything has gone by now or not."""
    found = {}
    for key, mark in (await store.marks(PLACE_MARKS)).items():
        name, _, space = key.removeprefix(PLACE_MARKS).partition("/")
        found[Place(bytes.fromhex(name), bytes.fromhex(space))] = Taken.parse(mark)
    return found


def place_mark(place: Place, taken: Taken | None) -> dict[str, bytes | None]:
    """The mark that says so; None lets go of it."""
    where = f"/{place.space.hex()}" if place.space else ""
    return {PLACE_MARKS + place.name.hex() + where: None if taken is None else taken.encode()}


async def destroyed_names(store: EntryStore) -> frozenset[bytes]:
    """Whom and what this replica has destroyed by now."""
    return frozenset(await destroyed(store))


def key_word_marks(gone: Iterable[Entry]) -> dict[str, bytes | None]:
    """The marks to set where these entries are destroyed, which were whole."""
    return {KEY_WORD_MARKS + entry.id.hex(): b"\1" for entry in gone if says_a_key(entry)}


async def destroyed_key_words(store: EntryStore) -> frozenset[bytes]:
    """The words about keys that this replica had whole, and has destroyed."""
    return frozenset(bytes.fromhex(key.removeprefix(KEY_WORD_MARKS)) for key in await store.marks(KEY_WORD_MARKS))


async def forgotten_persons(store: EntryStore) -> frozenset[bytes]:
    """Of whom no name is left here. Who is only hidden may come back."""
    said = await store.scan_kinds([Kind.PERSON])
    named = {entry.header.subject for entry in said if entry.payload is not None}
    return frozenset(person for entry in said if (person := entry.header.subject) is not None and person not in named)


async def carried_out(store: EntryStore) -> frozenset[bytes]:
    """What each fold is told: the erasures that were obeyed here, wherever they reach."""
    found: set[bytes] = set()
    for record in (await destroyed(store)).values():
        found |= record.by or frozenset()
    return frozenset(found)


async def carried_out_at(store: EntryStore) -> dict[bytes, frozenset[bytes]]:
    """What the fold of each of these spaces is told besides: the erasures for which all of a name has gone there."""
    found: defaultdict[bytes, frozenset[bytes]] = defaultdict(frozenset)
    for place, taken in (await places_taken(store)).items():
        if taken.by:
            found[place.space] |= taken.by
    return dict(found)


async def obeyed_alone(store: EntryStore) -> frozenset[bytes]:
    """The erasures that were obeyed in some spaces, and not yet in all: elsewhere they hold while they count."""
    return frozenset[bytes]().union(*(await carried_out_at(store)).values()) - await carried_out(store)
