"""Of whom work lies in a class whose list has them as a pupil no more: before families get it, and before it goes.

Rules (docs/adr/0295):
- whoever writes a list, or has the server's key, takes somebody off it by one word, makes a teacher of them, or
  somebody else who is no pupil of it. What they handed in stays where it is, and what goes through the list would pass
  it over;
- who ever stood on the list is a pupil to a portfolio, and is named to whoever closes the class. Of ids that never did,
  of which whoever brings work makes up any number, it is said how many they are;
- names and order are those of what came here, held back or not: the first that came first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from protocol.model.entry import Kind, parsed
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.text import many_of
from protocol.replica.office.mentioned import Mentioned, day_of, mentioned
from protocol.roles import PersonRole


@dataclass(frozen=True, slots=True)
class Gone:
    """Somebody who was a pupil of the class, with work in it; `said_ms` is when the list last said something of them.

    `name` is what it called them last, or first where it makes somebody else of them.
    """

    person: bytes
    name: str
    names: Mentioned
    hand_ins: int
    said_ms: int

    def sentence(self) -> str:
        """For whoever hands work out, or closes the class."""
        return (
            f"{self.names.called(self.name)}, {self.person.hex()}, who stands on the list no more "
            f"(it last spoke of them on {day_of(self.said_ms)}): {many_of(self.hand_ins, 'hand-in')}"
        )


@dataclass(frozen=True, slots=True)
class OffTheList:
    """Those, in the order in which they came here; of how many ids that never were pupils there is how much work."""

    gone: tuple[Gone, ...]
    strangers: int
    of_strangers: int


async def off_the_list(replica: Replica, space: bytes) -> OffTheList:
    """Of whom there is work in a class, and who is no pupil of its list by now."""
    view = await replica.view(space)
    pupils = {one.id for one in view.roster.persons.values() if one.role is PersonRole.PUPIL}
    works = Counter(work.person for work in view.coursework.hand_ins.values())
    off = {person for person in works if person not in pupils and view.roster.who(person) not in pupils}
    were = await _were_pupils(replica, space) if off else {}
    names = await mentioned(replica, off & were.keys())
    gone = [
        Gone(
            person,
            names[person].names[0] if person in view.roster.aliases else last.name,
            names[person],
            works[person],
            last.said_ms,
        )
        for person, last in were.items()
        if person in off
    ]
    strangers = off - were.keys()
    return OffTheList(tuple(gone), len(strangers), sum(works[person] for person in strangers))


@dataclass(frozen=True, slots=True)
class _Last:
    name: str
    said_ms: int


async def _were_pupils(replica: Replica, space: bytes) -> Mapping[bytes, _Last]:
    """Whoever was ever a pupil of this list, in the order of arrival, and what it said of them last."""
    last: dict[bytes, _Last] = {}
    pupils: dict[bytes, None] = {}
    for one in await replica.store.of_kinds(space, [Kind.PERSON]):
        person, record = one.entry.header.subject or b"", parsed(one.entry, PersonRecord.parse)
        if record is not None:
            last[person] = _Last(record.name, one.entry.timestamp_ms)
            if record.role is PersonRole.PUPIL:
                pupils.setdefault(person)
    return {person: last[person] for person in pupils}
