"""By which number a list here first told somebody from those of one name, where it is another by now (docs/adr/0523).

Rules:
- a number goes by the dates of a list's words, the same on every machine (`namesakes`): whoever writes a list, or has
  the server's key, exchanges two by one word that is dated back, or holds one back; not what had come here before;
- words that are held back by now count for what was first, and those of who is erased and not destroyed yet;
- who was the only one of a name had no number: whom another office had listed before, and of whom this one hears later,
  changes nobody's, nor does who comes from another class, or is called so later;
- where all of one name are named, whatever their numbers are, all of them are meant.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.mentioned import mentioned
from protocol.replica.office.namesakes import alike, heard, numbered, numbers_in, pupils_called
from protocol.replica.office.spaces import records_in
from protocol.rights.roster import Roster

_FIRST_TOLD_APART: Final = 2
"""So many of one name have numbers, and not fewer."""


@dataclass(frozen=True, slots=True)
class Renumbered:
    """Somebody who is called `now` on the list of a class, by another number than the first one, which was `before`."""

    person: bytes
    space: bytes
    now: str
    before: str

    def sentence(self, place: str) -> str:
        """For whoever asked for it, on the list of what is called `place`."""
        return (
            f"{self.person.hex()}, “{self.now}” on the list of “{place}” by now, was “{self.before}” here until a word "
            "came that is dated before others, or one was held back. Whoever writes a list, or has the server's key, "
            "can exchange the numbers of two of one name: find out which id is whose, by their work (an initial for "
            "each, by `person rename`, puts an end to it)"
        )


def first_numbers(entries: Iterable[Entry]) -> dict[tuple[str, bytes], int]:
    """By name, as names are compared, and person, of these entries of a list in the order in which they came here."""
    since: dict[tuple[str, bytes], int] = {}
    called: defaultdict[str, list[tuple[int, bytes]]] = defaultdict(list)
    found: dict[tuple[str, bytes], int] = {}
    for person, name, at in pupils_called(entries):
        before, group = since.get((name, person)), called[name]
        if before is not None and before <= at:
            continue
        if before is not None:
            del group[bisect_left(group, (before, person))]
        since[name, person] = at
        insort(group, (at, person))
        if before is None and len(group) == _FIRST_TOLD_APART:
            found |= {(name, one): number for number, (_, one) in enumerate(group, 1)}
        elif before is None:
            found[name, person] = bisect_left(group, (at, person)) + 1
    return found


async def renumbered_in(replica: Replica, roster: Roster, named: Collection[bytes] = ()) -> dict[bytes, Renumbered]:
    """Who on a roster's list has by now another number than the first one, unless all of that name are `named`."""
    places = await numbers_in(replica, roster)
    if not places:
        return {}
    first = first_numbers(one.entry for one in await replica.store.of_kinds(roster.space, [Kind.PERSON]))
    groups = [group for listed in (roster.persons, roster.left) for group in alike(listed.values())]
    found = {}
    for one in (one for group in groups if not {each.id for each in group} <= {*named} for one in group):
        place, before = places.get(one.id), first.get((heard(one.name), one.id))
        if place is not None and before is not None and place.number != before:
            now, then = (numbered(one.name, number) for number in (place.number, before))
            found[one.id] = Renumbered(one.id, roster.space, now, then)
    return found


async def renumbered_of(
    replica: Replica, persons: Collection[bytes], named: Collection[bytes] = ()
) -> list[tuple[Renumbered, str]]:
    """Of these people who has another number by now, on whatever list, with what people call its class."""
    spaces = {space: None for each in (await mentioned(replica, persons)).values() for space in each.spaces}
    records, found = await records_in(replica), []
    for space in spaces:
        roster = (await replica.view(space)).roster
        by_person: Mapping[bytes, Renumbered] = await renumbered_in(replica, roster, named)
        place = records[space].name if space in records else space.hex()
        found += [(by_person[person], place) for person in persons if person in by_person]
    return found
