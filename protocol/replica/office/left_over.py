"""What nobody has ended though its time is over: classes of past years, and pupils who are on no list any more.

Nothing ends by itself (docs/privacy.md, "How long"): whoever may end it is told that it is there.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from protocol.clock import rfc3339
from protocol.model.entry import Kind, parsed
from protocol.model.structure import PersonRecord, SpaceRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.operation import JSON
from protocol.replica.office.bureau import Office
from protocol.replica.office.erasures import closed_by_kit
from protocol.replica.office.frozen import freezing_words
from protocol.replica.office.leaving import Parting, partings
from protocol.replica.office.people import listings_of
from protocol.roles import ARE_TAUGHT
from protocol.school_years import past_from_ms


@dataclass(frozen=True, slots=True)
class NotClosed:
    """A class of a past year that the kit has not closed; `school` is the space that it lies in."""

    space: bytes
    name: str
    school: bytes | None
    year: str
    past_ms: int

    @property
    def past_day(self) -> str:
        """The day from which it is past, as pages show it."""
        return f"{dt.datetime.fromtimestamp(self.past_ms / 1000, dt.UTC):%d/%m/%Y}"

    def row(self) -> JSON:
        """As `status` has it."""
        since: dict[str, JSON] = {"year": self.year, "since": rfc3339(self.past_ms)}
        return {"space": self.space.hex(), "name": self.name, **since}


@dataclass(frozen=True, slots=True)
class Left:
    """A pupil, or a pupil's guardian, whom no list shows any more, and whom nobody has erased; since when.

    `off` is by whose word each list does not, as far as the kit has not closed it.
    """

    person: bytes
    since_ms: int
    off: tuple[Parting, ...]

    @property
    def is_sure(self) -> bool:
        """Whether nobody who has a copied key can have made it look so."""
        return all(each.is_sure for each in self.off)

    def row(self) -> JSON:
        """As `status` has it: no name, which is looked for with the id."""
        lists: list[JSON] = [each.row() for each in self.off]
        return {"person": self.person.hex(), "since": rfc3339(self.since_ms), "lists": lists}


async def classes_not_closed(replica: Replica, records: Mapping[bytes, SpaceRecord], now_ms: int) -> list[NotClosed]:
    """The classes among `records` that are past, and were not closed: the longest past first."""
    door = replica.door
    past = [
        NotClosed(space, record.name, door.parent(space), record.year, over_ms)
        for space, record in records.items()
        if record.uai is None and record.year is not None
        if (over_ms := past_from_ms(record.year)) is not None and over_ms <= now_ms
    ]
    closed = await closed_by_kit(replica) if past else ()
    return sorted(
        (each for each in past if each.space not in closed), key=lambda each: (each.past_ms, each.name, each.space)
    )


async def left_pupils(office: Office) -> list[Left]:
    """Whom no list shows any more: they left every class that is still there. Who has been gone for longest first.

    Whom a list calls the same as another is not among them: no such word takes anybody off it.
    """
    replica = office.replica
    said = {
        entry.header.subject
        for entry in await replica.store.scan_kinds([Kind.PERSON])
        if (record := parsed(entry, PersonRecord.parse)) is not None and record.left and record.role in ARE_TAUGHT
    }
    lists = await listings_of(replica, [person for person in said if person is not None])
    freezing = await freezing_words(replica)
    left = {
        one: listed
        for one, listed in lists.items()
        if one not in freezing
        and listed
        and all(each.leaves for each in listed.values())
        and not any(each.frozen for each in listed.values())
    }
    off = await partings(office, left)
    found = list[Left]()
    for person, listed in left.items():
        dates = [each.said.timestamp_ms for each in off[person] if each.space in listed]
        found += [Left(person, max(dates), tuple(off[person]))] if dates else []
    return sorted(found, key=lambda left: (left.since_ms, left.person))
