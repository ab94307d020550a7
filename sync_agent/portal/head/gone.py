"""Whom a class's list had, and shows so no more by no sure word: beside the list, and before a namesake is forgotten.

Rules (docs/adr/0530):
- whoever has a copy of the server's key takes a child off a list by one word, and lists another id by their name: so
  the page says whom the list has lost, since when by whose word, and what there is of theirs;
- of whom this computer, or one that it knows, has said that they left, nothing is said any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from protocol.model.structure import PersonRecord
from protocol.replica.office.leaving import Parting, off_in_doubt
from protocol.replica.office.list_words import ListWords
from protocol.replica.office.mentioned import MAX_NAMES_SHOWN, mentioned
from protocol.replica.office.replaced import replaced_of
from protocol.replica.office.spaces import space_records
from protocol.replica.office.who_that_is import MAX_CLASSES_SHOWN, classes_of
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.shown.shelf import Shelf
from sync_agent.school.office import SchoolOffice

MAX_GONE_SHOWN: Final = 20
"""Of more it is told how many they are: whoever has the server's key invents any number."""


@dataclass(frozen=True, slots=True)
class Gone:
    """Somebody by all their names, how a list has them by now, and their classes with how much work."""

    person: bytes
    names: Sequence[str]
    how: str
    classes: Sequence[str]


async def in_whose_place(desk: Desk, visit: Visit, office: SchoolOffice, person: bytes) -> list[Gone]:
    """Whom lists called as they call this person by now, and have otherwise since."""
    found = await replaced_of(office.replica, [person], await ListWords.of(office))
    return await _told(desk, visit, office, [(each.other, each.as_) for each in found])


async def gone_in_doubt(desk: Desk, visit: Visit, office: SchoolOffice, space: bytes) -> list[Gone]:
    """Whom the list of a class has let go by a word that may be a copied key's."""
    found = await off_in_doubt(office, space)
    return await _told(desk, visit, office, list(found.items()))


async def _told(desk: Desk, visit: Visit, office: SchoolOffice, found: Sequence[tuple[bytes, Parting]]) -> list[Gone]:
    persons = dict.fromkeys(person for person, _ in found)
    names, classes = await mentioned(office.replica, persons), await classes_of(office.replica, list(persons))
    rooms = await names_of_rooms(visit, office) if found else {}
    return [
        Gone(
            person,
            names[person].names[:MAX_NAMES_SHOWN],
            _how(desk.shelf, visit, as_, rooms),
            told_classes(visit, classes[person], rooms),
        )
        for person, as_ in found
    ]


def _how(shelf: Shelf, visit: Visit, as_: Parting, rooms: Mapping[bytes, str]) -> str:
    said, say, record = as_.said, visit.say, PersonRecord.parse(as_.said.payload or b"")
    what = "left" if record.left else "hidden" if record.freezes or as_.has_them == said else "renamed"
    return say(
        f"school.gone_{what}",
        room=rooms.get(as_.space) or say("school.erase_no_name"),
        now=record.name,
        day=say.day(said.timestamp_ms, visit.now_ms),
        by=by_whom(shelf, visit, said.header.author, said.header.grant),
    )


def by_whom(shelf: Shelf, visit: Visit, author: bytes, grant: bytes | None) -> str:
    """Whose word something is that was said under a grant."""
    return visit.say("school.by_this") if author == shelf.agent.device else visit.said_by(shelf, author, grant)


async def names_of_rooms(visit: Visit, office: SchoolOffice) -> Mapping[bytes, str]:
    """What every class is called that there ever was, be it hidden, or of a past year."""
    records = await space_records(office)
    return {space: record.name for space, record in records.items()} | {room.space: room.name for room in visit.rooms}


def told_classes(visit: Visit, found: Mapping[bytes, int], rooms: Mapping[bytes, str]) -> list[str]:
    """Classes of somebody, with how much work there is of theirs."""
    say, nameless = visit.say, visit.say("school.erase_no_name")
    return [
        f"{rooms.get(space, nameless)} · {say.count('school.has_works', works)}"
        for space, works in islice(found.items(), MAX_CLASSES_SHOWN)
    ]
