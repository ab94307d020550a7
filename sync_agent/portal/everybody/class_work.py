"""Who of a class has handed in, as a teacher's pages list it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from protocol.folds.coursework import Work, by_turns
from sync_agent.hand_ins.known_machines import known_since
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.shown.shelf import Piece, Room, Shelf

MAX_EARLIER: Final = 3


@dataclass(frozen=True, slots=True)
class Standing:
    """What a hand-in is at a teacher's device: by the name of its mark and of its colour, and in words."""

    key: str
    words: str


async def rows_of(visit: Visit, shelf: Shelf, piece: Piece) -> list[dict[str, object]]:
    """A row for each pupil of an assignment's class, with what they handed in last and a few versions before it."""
    if not (visit.teaches and piece.is_assignment):
        return []
    persons, since = piece.room.whole_names, known_since(shelf.agent)
    by_person: defaultdict[bytes, list[Work]] = defaultdict(list)
    for work in piece.works_of(None):
        by_person[visit.owner(work)].append(work)
    unknown = [person for person in by_person if person not in persons]
    rows = [(person, persons[person], by_person.get(person, [])) for person in persons]
    rows += [(person, visit.pupil(piece.room, person), by_person[person]) for person in unknown]
    return [
        {
            "name": name,
            "listed": person in persons,
            "work": works[0] if works else None,
            "earlier": by_turns(works[1:], MAX_EARLIER, since),
            "still_earlier": max(0, len(works) - 1 - MAX_EARLIER),
            "standing": await standing_of(visit, shelf, piece.room, works[0])
            if works
            else Standing("not_handed", visit.say("teach.not_handed")),
        }
        for person, name, works in rows
    ]


async def standing_of(visit: Visit, shelf: Shelf, room: Room, work: Work) -> Standing:
    """How a hand-in stands at a teacher's device, or at one of the direction that reads none.

    What somebody opened or answered whom nobody of this teacher's has confirmed is shown as theirs, and stays to be
    opened: whoever has the server lets in as many of these as they like.
    """
    say, to_open = visit.say, visit.is_to_open(work)
    key = "opened"
    if work.feedback is not None:
        key = "redo" if work.feedback.record.redo else "marked"
    if work.said_under and visit.counts(work):
        return Standing(key, say(f"teach.{key}"))
    is_answered = work.feedback is not None
    if not is_answered and not await shelf.is_here(work.space, work.record.content, sealed=True):
        return Standing("coming", say("teach.coming"))
    if not work.said_under:
        return Standing("new", say("teach.new")) if visit.reads else Standing("handed", say("teach.handed"))
    said = say.sentence(f"teach.{key}_by", teacher=visit.who_said(shelf, room, *work.said_under))
    return Standing("new", say("teach.still_to_open", said=said)) if to_open else Standing(key, said)
