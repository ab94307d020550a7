"""To whom a hand-in is sealed, and by whom: its wraps (docs/protocol.md, "Coursework", "Sealed hand-ins").

Rules:
- wraps of whom to believe are tried first: the author's, those of keys that came of its key, the root's and teachers';
- a work was meant for whom that wrap names which its author wrote with it: its own entry that says, by `prev`, that the
  work is what it said right before. Neither dates nor what is held back by now decide that: whoever has the server
  chooses what is held back, and tells machines the time (docs/adr/0309);
- where that wrap is not here, or its author wrote several that differ, nobody knows for whom the work was meant.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from protocol.limits import MAX_FORMER_KEYS, MAX_WRAPS_BY_ONE, MAX_WRAPS_BY_OTHERS
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.work import Wraps
from protocol.rights.roster import Roster
from protocol.roles import HAS_READING_KEYS


def _believed(roster: Roster) -> frozenset[bytes]:
    """The keys of teachers' devices that speak for them."""
    return frozenset(
        authority.key
        for authority in roster.authorities
        if authority.key not in roster.cut and authority.role in HAS_READING_KEYS and roster.speaks(authority.grant)
    )


class Place(IntEnum):
    """Whose wraps of a work are tried first."""

    AUTHOR = 0
    LATER_KEY = 1
    BELIEVED = 2
    OTHERS = 3


@dataclass(frozen=True, slots=True)
class Sealers:
    """Who owes wraps, found once for all that was handed in.

    `believed` are the keys of teachers' devices that speak for them; `before` is, of each key that came of another by a
    successor whose right holds, that other one: a PC that has taken new keys still owes wraps of what it made before.
    """

    believed: frozenset[bytes] = frozenset()
    before: Mapping[bytes, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, roster: Roster) -> Sealers:
        """Those of a space."""
        later = (each for each in roster.authorities if each.predecessor is not None and each.key not in roster.cut)
        came = sorted(later, key=lambda each: (each.at, each.grant), reverse=True)
        return cls(_believed(roster), {each.key: each.predecessor for each in came if each.predecessor is not None})

    def place(self, entry: Entry, author: bytes) -> Place:
        """Where a wrap of a work of this author's stands."""
        by = key = entry.header.author
        if by == author:
            return Place.AUTHOR
        for _ in range(MAX_FORMER_KEYS):
            if (before := self.before.get(key)) is None:
                break
            if before == author:
                return Place.LATER_KEY
            key = before
        return Place.BELIEVED if entry.header.grant is None or by in self.believed else Place.OTHERS


def came_with_its_work(entry: Entry) -> bool:
    """Whether a wrap says that it was written right behind the hand-in that it is of; by whom, its readers look at."""
    return entry.header.kind == Kind.WRAP and entry.header.target in entry.header.prev


def first_readers(author: bytes, wraps: Iterable[Entry]) -> frozenset[bytes]:
    """Whom the author of a hand-in sealed it to as it was handed in, by all wraps of it, held back or not.

    Nobody where that is not known: whoever has its author's key, too, writes no second one that counts more.
    """
    said = {
        frozenset(reader for reader, _ in record.wraps)
        for entry in wraps
        if entry.header.author == author and came_with_its_work(entry)
        if (record := parsed(entry, Wraps.parse)) is not None
    }
    return said.pop() if len(said) == 1 else frozenset()


def readers_of(
    author: bytes, wraps: Iterable[Entry], sealers: Sealers
) -> tuple[dict[bytes, tuple[bytes, ...]], frozenset[bytes], dict[bytes, frozenset[bytes]]]:
    """Whose keys open it; which of them were given it by somebody to believe; and who wrapped for whom.

    Nobody can hide a good wrap behind bad ones: those of whom to believe come first, the author, with its later keys,
    then the root and teachers. Nor can anybody have thousands tried: of each device of these a few count for a reader,
    and of all later keys of its author, and of all others, together.
    """
    readers: defaultdict[bytes, list[bytes]] = defaultdict(list)
    wrapped_by: defaultdict[bytes, set[bytes]] = defaultdict(set)
    counted: Counter[tuple[bytes, bytes | Place]] = Counter()
    given: set[bytes] = set()

    def turn(entry: Entry) -> tuple[int, bool, int, bytes]:
        """Of the author's own first what came with the work, then by date."""
        place = sealers.place(entry, author)
        is_later = place > Place.AUTHOR or not came_with_its_work(entry)
        return place, is_later, entry.header.at if place <= Place.LATER_KEY else 0, entry.id

    def has_room(reader: bytes, by: bytes, place: Place) -> bool:
        """Whether another wrap counts; it takes its place then."""
        most: dict[bytes | Place, int] = {by: MAX_WRAPS_BY_ONE} if place is not Place.OTHERS else {}
        if place in (Place.LATER_KEY, Place.OTHERS):
            most[place] = MAX_WRAPS_BY_OTHERS
        if any(counted[reader, name] >= number for name, number in most.items()):
            return False
        counted.update((reader, name) for name in most)
        return True

    placed = [(turn(entry), entry) for entry in wraps]
    for (place, *_), entry in sorted(placed, key=lambda each: each[0]):
        record = parsed(entry, Wraps.parse)
        for reader, sealed in () if record is None else record.wraps:
            if has_room(reader, entry.header.author, Place(place)):
                readers[reader].append(sealed)
                wrapped_by[reader].add(entry.header.author)
                if place != Place.OTHERS:
                    given.add(reader)
    return (
        {reader: tuple(sealed) for reader, sealed in readers.items()},
        frozenset(given),
        {reader: frozenset(devices) for reader, devices in wrapped_by.items()},
    )
