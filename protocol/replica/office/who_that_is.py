"""Who that is whom an order is about, so that a human can tell: of two of one name a name says nothing.

Rules (docs/adr/0523):
- beside what lists call somebody, and where (`described`), stand the number by which each list tells them from others
  of their name, the first one too where that is another; since when they are known here, by the word that came first,
  whatever came later with an earlier date; and how much work hangs on the id, class by class;
- all classes are said whose lists ever had the id, or in which it has work, hidden or not, and whichever the one is at
  which somebody looks: it goes wherever it stands, and whoever has the server's key puts a child of one class onto the
  list of another by one word. In the order in which they came here: nobody puts one that they made up in front of
  those that were there (docs/adr/0522).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Final

from protocol.model.entry import Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.bureau import Office
from protocol.replica.office.doubles import described_along, others_called
from protocol.replica.office.heard import heard_first
from protocol.replica.office.mentioned import day_of, mentioned
from protocol.replica.office.namesakes import called_in, numbers_in
from protocol.replica.office.people import described_in
from protocol.replica.office.renumbered import renumbered_in
from protocol.replica.office.spaces import records_in

MAX_CLASSES_SHOWN: Final = 20
"""Of all classes in which there is something about somebody: whoever has the server's key makes up any number."""


async def who_that_is(replica: Replica, person: bytes) -> str:
    """Somebody for who orders something about them: “Léa”, pupil, CM1, and the id; then what tells them from others."""
    return await _told(replica, person, (await classes_of(replica, [person]))[person])


async def described_with_doubles(office: Office, persons: Sequence[bytes], along: Collection[bytes] = ()) -> list[str]:
    """These people so, then who goes `along`, then whom lists call the same, and who does not."""
    lines = [
        await _told(office.replica, each, known) for each, known in (await classes_of(office.replica, persons)).items()
    ]
    lines += await described_along(office, along)
    return lines + list((await others_called(office, persons, along)).values())


async def classes_of(replica: Replica, persons: Collection[bytes]) -> dict[bytes, dict[bytes, int]]:
    """In which classes there is something about each of these people, and how much work of theirs lies here in each.

    Whether it counts or not: whoever hides a word, or work, takes nothing from that. What is destroyed says nothing.
    """
    works: dict[bytes, Counter[bytes]] = {person: Counter() for person in persons}
    for entry in await replica.store.scan_kinds([Kind.HAND_IN]) if persons else ():
        if entry.header.subject in works and entry.payload is not None:
            works[entry.header.subject][entry.header.space] += 1
    listed = await mentioned(replica, works)
    return {
        person: {space: found[space] for space in dict.fromkeys([*listed[person].spaces, *found])}
        for person, found in works.items()
    }


async def _told(replica: Replica, person: bytes, classes: Mapping[bytes, int]) -> str:
    first = (await heard_first(replica)).get(person)
    known = [] if first is None else [f"first heard of here by a word of {day_of(first.timestamp_ms)}"]
    numbers = await _numbers(replica, person)
    return "; ".join([await described_in(replica, person), *numbers, *known, await _works(replica, classes)])


async def _numbers(replica: Replica, person: bytes) -> list[str]:
    found = []
    for space in (await mentioned(replica, [person]))[person].spaces:
        roster = (await replica.view(space)).roster
        if person in await numbers_in(replica, roster):
            called = (await called_in(replica, roster))[person]
            before = (await renumbered_in(replica, roster)).get(person)
            once = "" if before is None else f", first “{before.before}” here"
            found.append(f"“{called}” on the list of “{await _name(replica, space)}”{once}")
    return found


async def _works(replica: Replica, classes: Mapping[bytes, int]) -> str:
    works = [f"{many} in “{await _name(replica, space)}”" for space, many in islice(classes.items(), MAX_CLASSES_SHOWN)]
    more = [f"and {len(classes) - len(works)} more classes"] if len(classes) > len(works) else []
    return f"hand-ins, shown or not: {', '.join([*works, *more]) or 'none'}"


async def _name(replica: Replica, space: bytes) -> str:
    record = (await records_in(replica)).get(space)
    return space.hex() if record is None else record.name
