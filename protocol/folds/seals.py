"""To whom a hand-in is sealed, and by whom: its wraps (docs/protocol.md, "Coursework", "Sealed hand-ins").

Rules:
- wraps of whom to believe are tried first: the author's, those of keys that came of its key, the root's and teachers';
- who is gone was believed when they said theirs: these come next, and no number of others' words crowds them out
  (docs/adr/0555);
- a work was meant for whom that wrap names which its author wrote with it: its own entry that says, by `prev`, that the
  work is what it said right before. Neither dates nor what is held back by now decide that: whoever has the server
  chooses what is held back, and tells machines the time (docs/adr/0309);
- where that wrap is not here, or its author wrote several that differ, nobody knows for whom the work was meant.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from protocol.limits import MAX_FORMER_KEYS, MAX_WRAPS_BY_ONE, MAX_WRAPS_BY_OTHERS
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.work import Wraps
from protocol.rights.door import Authority
from protocol.rights.roster import Roster
from protocol.roles import HAS_READING_KEYS


class Place(IntEnum):
    """Whose wraps of a work are tried first."""

    AUTHOR = 0
    LATER_KEY = 1
    BELIEVED = 2
    FORMER_LATER_KEY = 3
    ONCE_BELIEVED = 4
    OTHERS = 5


_BY_DATE: Final = frozenset({Place.AUTHOR, Place.LATER_KEY, Place.FORMER_LATER_KEY})
_BOUND_TOGETHER: Final = frozenset({Place.LATER_KEY, Place.FORMER_LATER_KEY, Place.OTHERS})


class Owing(NamedTuple):
    """Who owes wraps by some rights.

    `believed` are the keys of teachers' devices that speak for them; `before` is, of each key that came of another by a
    successor, that other one: a PC that has taken new keys still owes wraps of what it made before.
    """

    believed: frozenset[bytes] = frozenset()
    before: Mapping[bytes, bytes] = MappingProxyType({})

    def came_of(self, key: bytes, author: bytes) -> bool:
        """Whether a key is a later one of this author's."""
        for _ in range(MAX_FORMER_KEYS):
            before = self.before.get(key)
            if before is None or before == author:
                return before is not None
            key = before
        return False


_NOBODY: Final = Owing()


@dataclass(frozen=True, slots=True)
class Sealers:
    """Who owes wraps, found once for all that was handed in: by the rights that hold `now`, and that `once` held."""

    now: Owing = _NOBODY
    once: Owing = _NOBODY

    @classmethod
    def of(cls, roster: Roster) -> Sealers:
        """Those of a space."""
        return cls(_owing(_living(roster), roster), _owing(_ever(roster), roster))

    def place(self, entry: Entry, author: bytes) -> Place:
        """Where a wrap of a work of this author's stands."""
        by = entry.header.author
        if by == author:
            return Place.AUTHOR
        if self.now.came_of(by, author):
            return Place.LATER_KEY
        if entry.header.grant is None or by in self.now.believed:
            return Place.BELIEVED
        if self.once.came_of(by, author):
            return Place.FORMER_LATER_KEY
        return Place.ONCE_BELIEVED if by in self.once.believed else Place.OTHERS


def _living(roster: Roster) -> Collection[Authority]:
    return [each for each in roster.authorities if each.key not in roster.cut]


def _ever(roster: Roster) -> Collection[Authority]:
    """Also those of who is gone: what stands of them was said while they were believed."""
    return (*roster.authorities, *roster.former)


def _owing(authorities: Collection[Authority], roster: Roster) -> Owing:
    came = sorted(authorities, key=lambda each: (each.at, each.grant), reverse=True)
    before = {each.key: each.predecessor for each in came if each.predecessor is not None}
    return Owing(_believed(authorities, roster), before)


def _believed(authorities: Iterable[Authority], roster: Roster) -> frozenset[bytes]:
    """The keys of teachers' devices that speak for them."""
    return frozenset(each.key for each in authorities if each.role in HAS_READING_KEYS and roster.speaks(each.grant))


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
) -> tuple[dict[bytes, tuple[bytes, ...]], frozenset[bytes], dict[bytes, tuple[bytes, ...]]]:
    """Whose keys open it; which of them were given it by somebody to believe; and who made each of their wraps.

    Nobody can hide a good wrap behind bad ones: those of whom to believe come first, the author, with its later keys,
    then the root and teachers, then those of these that are gone. Nor can anybody have thousands tried: of each device
    a few count for a reader, and of all later keys of its author, and of all others, together.
    """
    readers: defaultdict[bytes, list[bytes]] = defaultdict(list)
    wrapped_by: defaultdict[bytes, list[bytes]] = defaultdict(list)
    counted: Counter[tuple[bytes, bytes | Place]] = Counter()
    given: set[bytes] = set()

    def turn(entry: Entry) -> tuple[int, bool, int, bytes]:
        """Of the author's own first what came with the work, then by date."""
        place = sealers.place(entry, author)
        is_later = place > Place.AUTHOR or not came_with_its_work(entry)
        return place, is_later, entry.header.at if place in _BY_DATE else 0, entry.id

    def has_room(reader: bytes, by: bytes, place: Place) -> bool:
        """Whether another wrap counts; it takes its place then."""
        most: dict[bytes | Place, int] = {by: MAX_WRAPS_BY_ONE}
        if place in _BOUND_TOGETHER:
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
                wrapped_by[reader].append(entry.header.author)
                if place <= Place.BELIEVED:
                    given.add(reader)
    return (
        {reader: tuple(sealed) for reader, sealed in readers.items()},
        frozenset(given),
        {reader: tuple(devices) for reader, devices in wrapped_by.items()},
    )
