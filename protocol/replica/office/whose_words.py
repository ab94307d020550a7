"""Whose word something is, by the name that stands on pages and in files (docs/protocol.md, "Coursework").

Rules (docs/adr/0360, 0391):
- the name is the list's, of who speaks under the grant; of whom a list calls somebody else the one under which they
  came here: a list alone makes nobody another;
- a name is that of whom this replica heard called so first, whatever they are called by now (`called_here`). Who came
  to it later bears it with a number: whoever has the server lists a second “Mme Petit”, in whichever class, or calls
  the first one something else;
- of a computer that is heard beside whoever speaks for somebody, and that nobody of theirs has confirmed, that is said
  wherever its words are signed: in an archive they stay when its week is over (docs/adr/0400);
- a name is the same where people say the same words, or where it looks the same (docs/adr/0383);
- in files, whose words are in one is said by its name, of which nothing else is a part, and by nothing that is in it:
  whoever writes a text writes another's name below it (docs/adr/0371). Who is called as a file of words is, is called
  otherwise there (docs/adr/0386).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from protocol.folds.coursework import Work
from protocol.portable_names import portable_name
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.called_here import namesakes_before
from protocol.replica.office.people import first_names
from protocol.rights.roster import Roster

SAID_ENDING: Final = ".txt"
_AS_A_FILE: Final = re.compile(rf"{re.escape(SAID_ENDING)}$", re.IGNORECASE)
_NAMELESS: Final = "Quelqu'un sans nom ici"
_NOT_CONFIRMED: Final = " (sur un ordinateur pas encore confirmé)"
"""As the pages say it (docs/adr/0400): what is written into files stays there when the week is over."""
_BEGINNING_CHARS: Final = 35
_END_CHARS: Final = 15
"""Of a name that is too long for a file as much: the number is at its end."""


def speakers(roster: Roster) -> set[bytes]:
    """Everybody whose word something in a space may be, once somebody of theirs has said so."""
    return {grant.person for grant in roster.granted.values() if grant.person is not None}


async def signatures(replica: Replica, roster: Roster, persons: Collection[bytes]) -> dict[bytes, str]:
    """What the words of each of these people are signed with, of those of whom a list has a name."""
    names = {one: roster.persons[one].name for one in persons if one in roster.persons and one not in roster.aliases}
    names |= await first_names(replica, {one for one in persons if one in roster.aliases})
    return _numbered(names, await namesakes_before(replica, roster, names))


async def first_signatures(replica: Replica, rosters: Iterable[Roster], persons: Collection[bytes]) -> dict[bytes, str]:
    """The same by what each was called here first, on whatever list; of who is on none any more, too.

    With the number of those who were called so before in any of these spaces (docs/adr/0507).
    """
    names, before = await first_names(replica, persons), defaultdict[bytes, set[bytes]](set)
    for roster in rosters:
        for person, others in (await namesakes_before(replica, roster, names)).items():
            before[person].update(others)
    return _numbered(names, before)


def _numbered(names: Mapping[bytes, str], before: Mapping[bytes, Collection[bytes]]) -> dict[bytes, str]:
    """Each name as it is signed: with a number where others had it before."""
    return {one: f"{name} ({len(before[one]) + 1})" if before[one] else name for one, name in names.items()}


async def names_of_words(replica: Replica, roster: Roster, grants: Collection[bytes | None]) -> dict[bytes | None, str]:
    """The name of whose word it is that is written under each of these grants, of those of whom a list has one.

    With a word where none of theirs has confirmed the device, and it is heard all the same for now.
    """
    persons = {grant: roster.shown_as(replica.door.authority(grant)) for grant in grants}
    names = await signatures(replica, roster, {person for person in persons.values() if person is not None})
    return {
        grant: f"{names[person]}{_NOT_CONFIRMED}" if grant in roster.heard_on else names[person]
        for grant, person in persons.items()
        if person is not None and person in names
    }


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
    names, taken, numbers = list[str](), set[str](), Counter[str]()
    for who in whose:
        name = who or _NAMELESS
        if len(name) > _BEGINNING_CHARS + _END_CHARS:
            name = f"{name[:_BEGINNING_CHARS]}…{name[-_END_CHARS:]}"
        while (called := _as_a_folder(name, numbers[name])).casefold() in taken:
            numbers[name] += 1
        numbers[name] += 1
        taken.add(called.casefold())
        names.append(called)
    return names


def _as_a_folder(name: str, before: int) -> str:
    """So called where so many were called so before."""
    return _AS_A_FILE.sub(SAID_ENDING.replace(".", "-"), portable_name(f"{name} [{before + 1}]" if before else name))
