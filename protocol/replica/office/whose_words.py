"""Whose word something is, by the name that stands on pages and in files (docs/protocol.md, "Coursework").

Rules (docs/adr/0360):
- the name is the list's, of who speaks under the grant; of whom a list calls somebody else the one under which they
  came here: a list alone makes nobody another;
- a name is that of whom this replica heard called so on that list first, whatever they are called by now. Who came to
  it later bears it with a number: whoever has the server lists a second “Mme Petit”, or calls the first one something
  else;
- a name is the same where people say the same words, or where it looks the same (docs/adr/0383);
- first is what came first, not what is dated first: whoever writes a list chooses its dates. An entry that is hidden
  counts as well, until it is destroyed;
- two ids that are one person's are counted once; that a list alone calls them one makes them two;
- in files, whose words are in one is said by its name, of which nothing else is a part, and by nothing that is in it:
  whoever writes a text writes another's name below it (docs/adr/0371). Who is called as a file of words is, is called
  otherwise there (docs/adr/0386).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain, count
from typing import Final

from protocol.folds.coursework import Work
from protocol.model.entry import Kind, parsed
from protocol.model.structure import PersonRecord
from protocol.portable_names import portable_name
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.look_alikes import READINGS
from protocol.replica.office.people import first_names
from protocol.rights.roster import Roster

_NUMBER: Final = re.compile(r"[(\[][0-9]+[)\]]")
SAID_ENDING: Final = ".txt"
_AS_A_FILE: Final = re.compile(rf"{re.escape(SAID_ENDING)}$", re.IGNORECASE)
_NAMELESS: Final = "Quelqu'un sans nom ici"
_BEGINNING_CHARS: Final = 35
_END_CHARS: Final = 15
"""Of a name that is too long for a file as much: the number is at its end."""


def speakers(roster: Roster) -> set[bytes]:
    """Everybody whose word something in a space may be, once somebody of theirs has said so."""
    granted = {grant.person for grant in roster.granted.values() if grant.person is not None}
    return granted | {roster.who(one) for one in granted} | set(filter(None, roster.by_a_list_alone.values()))


async def signatures(replica: Replica, roster: Roster, persons: Collection[bytes]) -> dict[bytes, str]:
    """What the words of each of these people are signed with, of those of whom a list has a name."""
    names = {one: roster.persons[one].name for one in persons if one in roster.persons and one not in roster.aliases}
    names |= await first_names(replica, {one for one in persons if one in roster.aliases})
    called = await _ever_called(replica, roster) if names else {}
    apart = set(roster.by_a_list_alone.values())

    def others_before(person: bytes) -> int:
        known: dict[bytes, int] = {}
        for heard in _heard(names[person]):
            for other, place in called.get(heard, {}).items():
                known[other] = min(place, known.get(other, place))
        before = [other for other, place in known.items() if person not in known or place < known[person]]
        return sum(roster.who(other) != person or other in apart for other in before)

    return {one: f"{name} ({before + 1})" if (before := others_before(one)) else name for one, name in names.items()}


async def _ever_called(replica: Replica, roster: Roster) -> Mapping[str, Mapping[bytes, int]]:
    """Whom a list ever called by each name, and in which place of all that came."""
    called: defaultdict[str, dict[bytes, int]] = defaultdict(dict)
    for place, stored in enumerate(await replica.store.of_kinds(roster.space, [Kind.PERSON])):
        record = parsed(stored.entry, PersonRecord.parse)
        if record is not None and stored.entry.header.subject is not None:
            for heard in _heard(record.name):
                called[heard].setdefault(stored.entry.header.subject, place)
    return called


def _heard(name: str) -> set[str]:
    """What is left of a name that is told, and of one that is seen: no order, no accents, and no number of ours."""
    return {as_(_NUMBER.sub(" ", name)) for as_ in READINGS}


async def names_of_words(replica: Replica, roster: Roster, grants: Collection[bytes | None]) -> dict[bytes | None, str]:
    """The name of whose word it is that is written under each of these grants, of those of whom a list has one."""
    persons = {grant: roster.spoken_as(replica.door.authority(grant)) for grant in grants}
    names = await signatures(replica, roster, {person for person in persons.values() if person is not None})
    return {grant: names[person] for grant, person in persons.items() if person is not None and person in names}


async def whose_words(replica: Replica, roster: Roster, works: Iterable[Work]) -> Callable[[Work], str | None]:
    """Whose word made the state of a hand-in, one of these: who answered it, else the first of who opened it.

    Of those of whom a list has a name.
    """
    names = await names_of_words(replica, roster, {grant for work in works for grant in work.said_under})
    return lambda work: next((names[grant] for grant in work.said_under if grant in names), None)


def files_of(whose: Iterable[str | None]) -> list[str]:
    """What the words of each of these are called: as they are signed, and no two the same.

    A folder may be called so, and with `SAID_ENDING` a file beside any of them.
    """
    names: list[str] = []
    for who in whose:
        name = who or _NAMELESS
        if len(name) > _BEGINNING_CHARS + _END_CHARS:
            name = f"{name[:_BEGINNING_CHARS]}…{name[-_END_CHARS:]}"
        wished = (portable_name(f"{name}{again}") for again in chain([""], map(" [{}]".format, count(2))))
        called = (_AS_A_FILE.sub(SAID_ENDING.replace(".", "-"), one) for one in wished)
        names.append(next(one for one in called if one.casefold() not in map(str.casefold, names)))
    return names
