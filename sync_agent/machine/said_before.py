"""What this device said about a thing before, and is held back: a further word about that thing follows on it too.

Rules (docs/protocol.md, "Conflicts"; docs/adr/0561):
- a word names as its parents what is shown, so that it takes the place of that. What is held back is not shown, and who
  says it anew while it is does not name it: once the cut counts no more, by whoever's word, the earlier one has the
  longer line, and stands before the later one;
- so what a device says names as well the heads of what it said itself about the same thing, and is held back here: of
  others' words that are held back it knows nothing that it could take the place of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from protocol.limits import MAX_PARENTS
from protocol.model.ancestry import heads
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Draft, Replica

_SAID_OF: Final[Mapping[int, str]] = {
    Kind.REVISION: "version",
    Kind.WITHDRAW: "shown",
    Kind.RESTORE: "shown",
    Kind.FEEDBACK: "answer",
    Kind.HAND_IN: "work",
    Kind.PERSON: "list",
    Kind.SPACE_CHANGE: "name",
}
"""Of what one word takes the place of another through `parents`, and what it is about."""
_MOST_OWN: Final = 4
_Topic: TypeAlias = tuple[str, bytes | None, bytes | None]


async def following_own(replica: Replica, device: bytes, drafts: Sequence[Draft]) -> list[Draft]:
    """These drafts, each naming beside what it names the held back words of the device about the same thing."""
    return [await _following(replica, device, draft) for draft in drafts]


async def _following(replica: Replica, device: bytes, draft: Draft) -> Draft:
    topic = _topic(draft.kind, draft.subject, draft.target)
    if topic is None:
        return draft
    roster = (await replica.view(draft.space)).roster
    if not roster.held_back:
        return draft
    said = [one for one in await replica.store.authored(draft.space, device) if _of(one) == topic]
    held = [one for one in said if one.id in roster.held_back and not roster.is_erased(one)]
    own = [one.id for one in heads(held, (one for one in said if one not in held))][:_MOST_OWN]
    first, rest = draft.parents[:1], draft.parents[1:]
    return replace(draft, parents=tuple(dict.fromkeys((*first, *own, *rest)))[:MAX_PARENTS])


def _of(entry: Entry) -> _Topic | None:
    header = entry.header
    target = header.target or (entry.id if header.kind == Kind.REVISION else None)
    return _topic(header.kind, header.subject, target)


def _topic(kind: int, subject: bytes | None, target: bytes | None) -> _Topic | None:
    """What a word is about; None for what takes no other's place, and for an item that begins with it."""
    about = _SAID_OF.get(kind)
    if about is None or (about == "version" and target is None):
        return None
    return about, subject, target
