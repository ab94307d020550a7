"""What is said of a hand-in, as pages show it: all that stands, with whose word it is.

Nobody's word takes the place of another's (docs/adr/0360), nor of what computers of the same person's said that never
led to it (docs/adr/0395). Of very many those are shown of whose people, and of each of whose computers, this device
heard first: whoever has the server lists as many teachers as they like, with as many computers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from protocol.folds.coursework import Work
from protocol.folds.remarks import FeedbackNote
from protocol.replica.office.heard import heard_first, let_in_first
from protocol.transfer.manifest import ManifestEntry
from sync_agent.hand_ins.own_words import OwnWords, own_words
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.shown.shelf import Room, Shelf

MAX_SHOWN_REMARKS: Final = 20


class Elsewhere(StrEnum):
    """Said in this teacher's name, by another computer: whether a further word said here takes its place."""

    REPLACED = "replaced"
    BESIDE = "beside"


@dataclass(frozen=True, slots=True)
class Remark:
    """What somebody says, by which name, with which files.

    `elsewhere` says in whose place it stands that another computer said it in the name of who sits at this one: whether
    what they say here takes its place. `is_let_count`: it was held back, and counts by a ruling (docs/adr/0493).
    """

    said: FeedbackNote
    who: str
    files: Sequence[ManifestEntry]
    elsewhere: Elsewhere | None = None
    is_let_count: bool = False


@dataclass(frozen=True, slots=True)
class Remarks:
    """What whoever sits at a teacher's device says, what others say, and how much of that is not shown."""

    own: Remark | None = None
    others: Sequence[Remark] = ()
    more: int = 0


async def remarks_on(visit: Visit, shelf: Shelf, room: Room, work: Work) -> Remarks:
    """What is said of a hand-in, for whoever may see all of it; nobody's own on a pupils' machine."""
    own = await own_words(shelf.agent, work) if visit.reads else OwnWords()
    known = next(iter(own.known), None)

    async def remark(said: FeedbackNote) -> Remark:
        elsewhere = Elsewhere.REPLACED if said in own.replaced else Elsewhere.BESIDE if said in own.beside else None
        files = await shelf.files(said.record.content)
        who = visit.who_said(shelf, room, said.grant)
        return Remark(said, who, files, elsewhere, is_let_count=said.id in room.roster.let_count)

    said = [note for note in work.remarks if note is not known and not note.record.says_nothing]
    shown = await _known_first(shelf, said)
    return Remarks(
        None if known is None else await remark(known), [await remark(note) for note in shown], len(said) - len(shown)
    )


async def _known_first(shelf: Shelf, said: Sequence[FeedbackNote]) -> Sequence[FeedbackNote]:
    """As many of these as a page shows, in their order: of each person's computers the first before any second."""
    if len(said) <= MAX_SHOWN_REMARKS:
        return said
    replica = shelf.agent.replica
    persons = {person: place for place, person in enumerate(await heard_first(replica))}
    grants, turns = let_in_first(replica), Counter[bytes]()
    places = dict[FeedbackNote, tuple[int, int]]()
    for note in sorted(said, key=lambda note: grants.get(note.grant, len(grants))):
        places[note] = turns[note.voice], persons.get(note.voice, len(persons))
        turns[note.voice] += 1
    known = sorted(said, key=places.__getitem__)[:MAX_SHOWN_REMARKS]
    return [note for note in said if note in known]
