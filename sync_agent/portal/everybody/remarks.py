"""What is said of a hand-in, as pages show it: of each person what they said last, with whose word it is.

Nobody's word takes the place of another's (docs/adr/0360). Of very many those are shown of whom this device heard
first: whoever has the server lists as many teachers as they like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocol.folds.coursework import FeedbackNote, Work
from protocol.replica.office.heard import heard_first
from protocol.transfer.manifest import ManifestEntry
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.shown.shelf import Room, Shelf

MAX_SHOWN_REMARKS: Final = 20


@dataclass(frozen=True, slots=True)
class Remark:
    """What one person says, by which name, with which files."""

    said: FeedbackNote
    who: str
    files: Sequence[ManifestEntry]


@dataclass(frozen=True, slots=True)
class Remarks:
    """What whoever sits at a teacher's device says, what others say, and how much of that is not shown."""

    own: Remark | None = None
    others: Sequence[Remark] = ()
    more: int = 0


async def remarks_on(visit: Visit, shelf: Shelf, room: Room, work: Work) -> Remarks:
    """What is said of a hand-in, for whoever may see all of it; nobody's own on a pupils' machine."""

    async def remark(said: FeedbackNote) -> Remark:
        return Remark(said, visit.who_said(shelf, room, said.grant), await shelf.files(said.record.content))

    eyes = visit.eyes.get(work.space)
    own = None if eyes is None else eyes.own_remark(work)
    said = [note for note in work.remarks if note is not own and not note.record.says_nothing]
    shown = await _known_first(shelf, said)
    return Remarks(
        None if own is None else await remark(own), [await remark(note) for note in shown], len(said) - len(shown)
    )


async def _known_first(shelf: Shelf, said: Sequence[FeedbackNote]) -> Sequence[FeedbackNote]:
    """As many of these as a page shows, in their order."""
    if len(said) <= MAX_SHOWN_REMARKS:
        return said
    places = {person: place for place, person in enumerate(await heard_first(shelf.agent.replica))}
    known = sorted(said, key=lambda note: places.get(note.voice, len(places)))[:MAX_SHOWN_REMARKS]
    return [note for note in said if note in known]
