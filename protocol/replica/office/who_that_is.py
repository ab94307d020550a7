"""Who that is whom an order is about, so that a human can tell: of two of one name a name says nothing.

Rules (docs/adr/0523):
- beside what lists call somebody, and where (`described`), stand the number by which each list tells them from others
  of their name, the first one too where that is another; since when they are known here, by the word that came first,
  whatever came later with an earlier date; and how much work hangs on the id, class by class.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from protocol.replica.at_work.replica import Replica
from protocol.replica.office.bureau import Office
from protocol.replica.office.doubles import described_along, others_called
from protocol.replica.office.heard import heard_first
from protocol.replica.office.mentioned import day_of, mentioned
from protocol.replica.office.namesakes import called_in, numbers_in
from protocol.replica.office.people import described_in
from protocol.replica.office.renumbered import renumbered_in
from protocol.replica.office.spaces import records_in


async def who_that_is(replica: Replica, person: bytes) -> str:
    """Somebody for who orders something about them: “Léa”, pupil, CM1, and the id; then what tells them from others."""
    first = (await heard_first(replica)).get(person)
    known = [] if first is None else [f"first heard of here by a word of {day_of(first.timestamp_ms)}"]
    numbers = await _numbers(replica, person)
    return "; ".join([await described_in(replica, person), *numbers, *known, await _works(replica, person)])


async def described_with_doubles(office: Office, persons: Sequence[bytes], along: Collection[bytes] = ()) -> list[str]:
    """These people so, then who goes `along`, then whom lists call the same, and who does not."""
    lines = [await who_that_is(office.replica, person) for person in persons]
    lines += await described_along(office, along)
    return lines + list((await others_called(office, persons, along)).values())


async def works_of(replica: Replica, person: bytes) -> dict[bytes, int]:
    """How much work of somebody is shown, by the class in which it was handed in."""
    spaces = (await mentioned(replica, [person]))[person].spaces
    views = {space: await replica.view(space) for space in spaces}
    counted = {
        space: sum(work.person == person for work in view.coursework.hand_ins.values()) for space, view in views.items()
    }
    return {space: many for space, many in counted.items() if many}


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


async def _works(replica: Replica, person: bytes) -> str:
    works = [f"{many} in “{await _name(replica, space)}”" for space, many in (await works_of(replica, person)).items()]
    return f"hand-ins: {', '.join(works)}" if works else "no hand-in of theirs is shown here"


async def _name(replica: Replica, space: bytes) -> str:
    record = (await records_in(replica)).get(space)
    return space.hex() if record is None else record.name
