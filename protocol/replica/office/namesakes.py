"""Who of a class list are called alike, and the number by which each of them is known there.

Rules:
- two names are alike where people would take one for the other, whichever part of it stands first (MARTIN Léa);
- a number says which of all whom the list ever called so came first: whoever comes later changes nobody's number, nor
  does who leaves, is called something else by now, or turns out to be somebody else of the list;
- dates say who came first, and the id where they are the same: so it is the same on every machine;
- of whom somebody has had erased nothing is counted: a gap would tell what they were called. Numbers behind move down.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.by_name import compared
from protocol.replica.office.bureau import Office
from protocol.replica.office.mentioned import mentioned
from protocol.replica.office.spaces import space_records
from protocol.rights.roster import Person, Roster
from protocol.roles import PersonRole

_LEFT: Final = " (no longer on the list)"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where somebody stands among those whom a list ever called alike: their number, and since when it lists them."""

    number: int
    since: int


def first_and_family(name: str) -> tuple[str, str]:
    """The two parts of a name; the second is empty where there is only one."""
    parts = name.split()
    capitals = [part for part in parts if len(part) > 1 and part.isupper()]
    if capitals and len(capitals) < len(parts):
        return " ".join(part for part in parts if part not in capitals), " ".join(capitals)
    return (parts[0], " ".join(parts[1:])) if parts else (name, "")


def spelt(name: str) -> str:
    """A name in the order in which it is said: Léa MARTIN."""
    return " ".join(filter(None, first_and_family(name)))


def alike(persons: Iterable[Person]) -> list[list[Person]]:
    """Pupils whom nothing in their names tells apart."""
    groups: defaultdict[str, dict[bytes, Person]] = defaultdict(dict)
    for person in persons:
        if person.role is PersonRole.PUPIL:
            groups[heard(person.name)].setdefault(person.id, person)
    return [list(group.values()) for group in groups.values() if len(group) > 1]


def heard(name: str) -> str:
    """A name as it is compared with others of a list."""
    return compared(spelt(name))


def pupils_called(entries: Iterable[Entry]) -> Iterator[tuple[bytes, str, int]]:
    """Which pupil each of these entries of a list calls what, as names are compared, and its date (`at`)."""
    for entry in entries:
        record, person = parsed(entry, PersonRecord.parse), entry.header.subject
        if record is not None and person is not None and record.role is PersonRole.PUPIL:
            yield person, heard(record.name), entry.header.at


def places(entries: Iterable[Entry], persons: Collection[Person]) -> dict[bytes, Place]:
    """The place of each of these pupils of one list, by the entries of it that count."""
    names = {person.id: heard(person.name) for person in persons}
    called: defaultdict[str, dict[bytes, int]] = defaultdict(dict)
    for person, name, at in pupils_called(entries):
        called[name][person] = min(at, called[name].get(person, at))
    numbers = {name: _numbers(called[name]) for name in set(names.values())}
    return {
        person: Place(numbers[name][person], called[name][person])
        for person, name in names.items()
        if person in called[name]
    }


def _numbers(since: Mapping[bytes, int]) -> dict[bytes, int]:
    return {one: number for number, one in enumerate(sorted(since, key=lambda one: (since[one], one)), 1)}


async def places_in(
    replica: Replica, roster: Roster, persons: Collection[Person], without: Collection[bytes] = ()
) -> dict[bytes, Place]:
    """The place of each of these pupils of a roster's list; of those `without` nothing is counted."""
    said = (one.entry for one in await replica.store.of_kinds(roster.space, [Kind.PERSON]))
    return places((one for one in said if not roster.hides(one) and one.header.subject not in without), persons)


async def numbers_in(replica: Replica, roster: Roster, without: Collection[bytes] = ()) -> dict[bytes, Place]:
    """The place of each who shares a name with somebody on a roster's list, or who has left it with somebody like them.

    `without` are those of whom nothing is counted, as if they had been erased.
    """
    persons, left = ([one for one in each.values() if one.id not in without] for each in (roster.persons, roster.left))
    shared = [one for listed in (persons, left) for group in alike(listed) for one in group]
    return await places_in(replica, roster, shared, without) if shared else {}


async def called_in(replica: Replica, roster: Roster, without: Collection[bytes] = ()) -> dict[bytes, str]:
    """What everybody on a roster's list is called: by their name, and the number where they share it.

    Who has left it is called as it called them last, and so that nobody takes them for somebody who is there. `without`
    as for `numbers_in`.
    """
    found = await numbers_in(replica, roster, without)
    left = [one for one in roster.left.values() if one.id not in without]
    named = {
        one.id: numbered(one.name, found[one.id].number) if one.id in found else one.name
        for one in (*roster.persons.values(), *left)
        if one.id not in without
    }
    return named | {one.id: f"{named[one.id]}{_LEFT}" for one in left}


def numbered(name: str, number: int) -> str:
    """Somebody by their number among those of one name."""
    return f"{name} ({number})"


async def told_of_numbers(office: Office, erased: Collection[bytes]) -> list[str]:
    """What to say to whoever has these erased: who of their namesakes is called something else then."""
    told = []
    records = await space_records(office)
    # who has left a list keeps their place there, too
    for space in {space for each in (await mentioned(office.replica, erased)).values() for space in each.spaces}:
        roster = (await office.replica.view(space)).roster
        after = await called_in(office.replica, roster, erased)
        changed = [
            f"“{was}” as “{after[one]}”"
            for one, was in (await called_in(office.replica, roster)).items()
            if one in after and after[one] != was
        ]
        if changed:
            name = records[space].name if space in records else space.hex()
            told.append(f"then known in “{name}”, so that no gap tells of whom that was: {', '.join(sorted(changed))}")
    return told
