"""« Peut-être ajoutés deux fois », on the page of a class: two of one name, who may be one, and what speaks for it.

Rules (docs/adr/0516):
- what stands beside the button is about this list: who put either on it, and what either has here. On which other lists
  either is, or was, stands there too, and what else either was ever called; either has a box of its own;
- what was shown of the two is sent along with the yes, which is about that alone: shown by a digest, and compared. What
  has changed meanwhile is shown again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from protocol.replica.office.heard import Known, Word, known_of
from protocol.replica.office.mentioned import MAX_NAMES_SHOWN
from protocol.replica.office.other_lists import names_of_lists, other_lists
from protocol.replica.office.people import duplicates_in
from protocol.replica.office.taken_names import once_otherwise
from protocol.rights.roster import Person
from protocol.roles import PersonRole
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.shown.shelf import Room
from sync_agent.school.office import SchoolOffice

MAX_DEVICES_NAMED: Final = 5
Called = Callable[[bytes, bytes | None], str]
"""What people know a device by, as this person's."""
By = Callable[[bytes, bytes | None], str]
"""Whose word something is, by its author and the grant."""


@dataclass(frozen=True, slots=True)
class One:
    """One of two: what they are called, what they have here, and since when they are on this list, by whose word.

    `once` is what else they were ever called, `elsewhere` the other lists that have, or had, them.
    """

    id: bytes
    called: str
    has: str
    since: tuple[str, ...]
    once: tuple[str, ...]
    elsewhere: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two who may be one; whom to `keep` was here first, or has what the other lacks."""

    kept: One
    other: One
    is_kept_first: bool
    is_teacher: bool

    def is_of(self, kept: bytes, other: bytes) -> bool:
        """Whether it is these two, in this order."""
        return (self.kept.id, self.other.id) == (kept, other)

    @property
    def seen(self) -> str:
        """What of them a yes is about."""
        said = repr([(one.id, one.called, one.once, one.elsewhere) for one in (self.kept, self.other)])
        return blake3(said.encode()).hexdigest(length=16)


async def pairs_of(visit: Visit, office: SchoolOffice, room: Room, called: Called, by: By) -> list[Pair]:
    """Who may have been added twice to a class.

    And since when each is there, and by whose word: whoever adds a second one may mean to pass for the first.
    """
    replica = office.replica
    groups = await duplicates_in(replica, room.space)
    everybody = {person.id for group in groups for person in group}
    known, once = await known_of(replica, everybody, room.space), await once_otherwise(replica, everybody)
    others = await other_lists(replica, everybody, [room.space])
    names = await names_of_lists(office, {space for spaces in others.values() for space in spaces})

    def shown(person: Person) -> One:
        return One(
            person.id,
            room.called(person.id) or person.name,
            _has(visit, room, person),
            tuple(_since(visit, known[person.id], lambda device: called(device, person.id), by)),
            tuple(once.get(person.id, ())[:MAX_NAMES_SHOWN]),
            tuple(names[space] for space in others.get(person.id, ())),
        )

    return [
        Pair(
            shown(group[0]),
            shown(other),
            known[group[0].id].place < known[other.id].place,
            group[0].role is not PersonRole.PUPIL,
        )
        for group in groups
        for other in group[1:]
    ]


def _has(visit: Visit, room: Room, person: Person) -> str:
    if person.role is PersonRole.PUPIL:
        works = sum(work.person == person.id for work in room.coursework.hand_ins.values())
        return visit.say.count("school.has_works", works)
    devices = {grant.key for grant in room.roster.authorities if grant.person == person.id}
    return visit.say.count("school.has_devices", len(devices))


def _since(visit: Visit, known: Known, called: Callable[[bytes], str], by: By) -> list[str]:
    say = visit.say

    def said(key: str, word: Word, **facts: str) -> str:
        return say(key, day=say.day(word.at_ms, visit.now_ms), by=by(word.by, word.grant), **facts)

    lines = [] if known.listed is None else [said("school.double_listed", known.listed)]
    devices = list(known.devices.items())
    lines += [said("school.double_device", word, name=called(device)) for device, word in devices[:MAX_DEVICES_NAMED]]
    more = len(devices) - MAX_DEVICES_NAMED
    return [*lines, say.count("school.double_more", more)] if more > 0 else lines
