"""What is said of a hand-in in the name of this device's teacher: in whose place a further word said here would be.

Rules (docs/adr/0395):
- in the place of what this device said, and of what computers said that lead to it by words of confirmation: what an
  earlier laptop said that never led here stays beside, and so does what somebody says whom a server named as hers;
- a form holds of that what this device said, or one that a human confirmed on it: nobody else's is signed unread, nor
  what another one said that was held back, and that a ruling lets count (docs/adr/0493).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.errors import BadInput, Refused
from protocol.folds.coursework import Work
from protocol.folds.remarks import FeedbackNote, Remarks
from protocol.model.entry import Kind
from protocol.rights.roster import Roster
from sync_agent.app import Agent
from sync_agent.keys.confirming import circle_ever, own_device


@dataclass(frozen=True, slots=True)
class OwnWords:
    """`replaced` and `beside` are what is said in this teacher's name, the newest first, as a further word finds it.

    `known` is what of the replaced was said here, or on a computer that was confirmed here: a form holds the first.
    `by_ruling` says whether some of the replaced count by a ruling alone, which may end: they can be said once more.
    """

    replaced: Sequence[FeedbackNote] = ()
    beside: Sequence[FeedbackNote] = ()
    known: Sequence[FeedbackNote] = ()
    by_ruling: bool = False


async def own_words(agent: Agent, work: Work) -> OwnWords:
    """See `OwnWords`; nothing is, where this device may say nothing."""
    try:
        given = await agent.right(work.space, Kind.FEEDBACK)
    except (BadInput, Refused):
        return OwnWords()
    roster, device = (await agent.replica.view(work.space)).roster, own_device(agent)
    voice = roster.voice(given.grant) or agent.device
    replaced = Remarks(roster).replaced_by(device, voice, work.remarks)
    beside = [note for note in work.remarks if note.voice == voice and note not in replaced]
    circle = {device} if given.person is None else circle_ever(agent, roster, given.person).own
    known = [note for note in replaced if note.device in circle and not _is_let_count(note, roster, agent.device)]
    return OwnWords(replaced, beside, known, any(note.id in roster.let_count for note in replaced))


def _is_let_count(note: FeedbackNote, roster: Roster, own: bytes) -> bool:
    """Whether a ruling alone lets count what another device said: what this very one said, it knows."""
    return note.id in roster.let_count and note.author != own
