"""Who of a class has handed in, as a teacher's pages list it."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from protocol.folds.coursework import Work
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.shown.shelf import Piece, Shelf

MAX_EARLIER: Final = 3


async def rows_of(visit: Visit, shelf: Shelf, piece: Piece) -> list[dict[str, object]]:
    """A row for each pupil of an assignment's class, with what they handed in last and a few versions before it."""
    if not (visit.teaches and piece.is_assignment):
        return []
    persons = piece.room.whole_names
    by_person: defaultdict[bytes, list[Work]] = defaultdict(list)
    for work in piece.works_of(None):
        by_person[visit.owner(work)].append(work)
    unknown = [person for person in by_person if person not in persons]
    rows = [(persons[person], by_person.get(person, [])) for person in persons]
    rows += [(piece.room.name_of(person) or visit.say("unknown.person"), by_person[person]) for person in unknown]
    return [
        {
            "name": name,
            "work": works[0] if works else None,
            "earlier": works[1 : MAX_EARLIER + 1],
            "still_earlier": max(0, len(works) - 1 - MAX_EARLIER),
            "key": await teacher_key(visit, shelf, works[0]) if works else "not_handed",
        }
        for name, works in rows
    ]


async def teacher_key(visit: Visit, shelf: Shelf, work: Work) -> str:
    """The key `teach.…` of what a hand-in is at a teacher's device, or at one of the direction that reads none."""
    if work.feedback is not None:
        return "redo" if work.feedback.record.redo else "marked"
    if work.opened:
        return "opened"
    if not await shelf.is_here(work.space, work.record.content, sealed=True):
        return "coming"
    return "new" if visit.reads else "handed"
