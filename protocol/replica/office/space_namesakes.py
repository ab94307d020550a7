"""Classes of which one has by now a name that another has, or had: whoever chooses one on a page is told (0533).

Rules:
- whoever has a copy of the server's key makes a class, gives it pupils and a teacher, and calls another otherwise, so
  that a list of names leads into the thief's. They choose what is shown, and every date; not what came here first;
- every class counts that was ever made here, hidden by now or held back, by every name that it ever had here: what is
  not shown for a moment is neither gone nor closed (docs/adr/0596);
- two names are one where people say the same words, written together or apart, or where they look alike;
- a class of a past year, as it was made, has given its name to the next one, and so has one that the kit has closed;
- two schools each have a CM2, so that only classes of one school are told; but one that lies outside the `home` of
  whoever asks is told from all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container
from dataclasses import dataclass
from typing import TypeAlias

from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import SpaceRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.space_names import changes_shown
from protocol.replica.console.by_name import plain
from protocol.replica.office.erasures import closed_by_kit
from protocol.replica.office.look_alikes import READINGS
from protocol.replica.office.spaces import pasts
from protocol.school_years import past_from_ms

Reading: TypeAlias = tuple[int, str]
"""A way in which people read a name, and what it says so."""


@dataclass(frozen=True, slots=True)
class NamedClass:
    """A class, or a school, as it is called `now`, and `once` was otherwise, in the order in which that came here.

    `made` says that it is there, and of which `year`, `said` what it is called; `place` counts up with who came here
    first.
    """

    id: bytes
    now: str
    once: tuple[str, ...]
    made: Entry
    said: Entry
    place: int
    year: str | None
    is_school: bool

    def readings(self) -> set[Reading]:
        """What every name that it ever had is read as."""
        return {key for name in (self.now, *self.once) for key in readings(name)}


@dataclass(frozen=True, slots=True)
class SharedName:
    """A class, and those others that have its name, or had it."""

    this: NamedClass
    others: tuple[NamedClass, ...]


async def shared_names(
    replica: Replica,
    shown: Collection[bytes],
    now_ms: int,
    home: bytes | None = None,
    among: Container[bytes] | None = None,
) -> dict[bytes, SharedName]:
    """Which of the classes `shown` have by now a name that another has, or had; with `among`, one of those alone."""
    classes = [each for each in await spaces_ever_named(replica) if not each.is_school]
    ends = {each.id: past_from_ms(each.year) for each in classes}
    over = {one for one, end_ms in ends.items() if end_ms is not None and end_ms <= now_ms}
    over |= set(await closed_by_kit(replica))
    called: defaultdict[Reading, dict[bytes, NamedClass]] = defaultdict(dict)
    for each in classes:
        if each.id not in over and (among is None or each.id in among):
            for key in each.readings():
                called[key][each.id] = each
    found = {}
    for this in classes:
        if this.id not in shown:
            continue
        alike = {one: other for key in readings(this.now) for one, other in called[key].items() if one != this.id}
        others = [other for other in alike.values() if _may_be_meant(replica, this.id, other.id, home)]
        if others:
            found[this.id] = SharedName(this, tuple(sorted(others, key=lambda other: other.place)))
    return found


async def spaces_ever_named(replica: Replica) -> list[NamedClass]:
    """All schools and classes that were ever made here, in the order in which that came."""
    changed, names = await changes_shown(replica), await pasts(replica)
    said = await replica.store.get([entry for _, entry in changed.values()])
    found: dict[bytes, NamedClass] = {}
    for place, entry in enumerate(await replica.store.scan_kinds([Kind.SPACE])):
        record = parsed(entry, SpaceRecord.parse)
        if record is None:
            continue
        space = record.space_of(entry, replica.territory)
        name, change = changed.get(space, (record.name, entry.id))
        past, named = names[space], said.get(change, entry)
        once = tuple(each for each in past.names.names if each != name)
        is_school = record.uai is not None
        found.setdefault(space, NamedClass(space, name, once, entry, named, place, past.year, is_school))
    return list(found.values())


def _may_be_meant(replica: Replica, this: bytes, other: bytes, home: bytes | None) -> bool:
    door = replica.door
    is_of_home = home is not None and home in door.lineage(this)
    return not is_of_home or door.parent(this) == door.parent(other)


def readings(name: str) -> set[Reading]:
    """Two names of classes are one where they have one of these in common; of a picture there are no words."""
    return {each for each in enumerate([*(as_(name) for as_ in READINGS), _together(name), plain(name)]) if each[1]}


def _together(name: str) -> str:
    return "".join(char for char in plain(name) if char.isalnum())
