"""What was said about a thing before, and is not shown: a further word about that thing follows on it too.

Rules (docs/protocol.md, "Conflicts"; docs/adr/0561):
- a word names as its parents what is shown, so that it takes the place of that. What is held back, or waits for another
  device to confirm who said it, is not shown, and who says it anew while that is so does not name it: once it counts,
  by whoever's word, the earlier one may have the longer line, and stands before the later one;
- so a word names as well the foremost of what its own device said about the same thing, and each device that rights
  call the same teacher's: those first that speak for that one. Of others' words that are not shown it knows nothing
  that it could take the place of;
- so long as there is such a word nothing “is so already”: what a person says is said, though the same is shown;
- what a program says of itself follows on nothing that is not shown: it would end, unasked, what she was to be told of;
- but on a list, and of what a class is called: that is one word for all, and the latest is meant, whoever said it. What
  an office says there follows on each author's foremost word that is held back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from protocol.limits import MAX_PARENTS
from protocol.model.ancestry import in_order_of_showing
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Draft, Replica
from protocol.rights.roster import Roster

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
ONE_FOR_ALL: Final = frozenset({Kind.PERSON, Kind.SPACE_CHANGE})
"""What a list says of somebody, and what a class is called: of these one word stands for all."""
_MOST: Final = 8
_Topic: TypeAlias = tuple[str, bytes | None, bytes | None]


async def following(replica: Replica, author: bytes, drafts: Sequence[Draft]) -> list[Draft]:
    """These drafts of an author's, each naming beside what it names what was said of the same and is not shown."""
    lying = _Lying(replica)
    return [await _following(lying, author, draft) for draft in drafts]


async def overlooks(replica: Replica, author: bytes, draft: Draft) -> bool:
    """Whether a draft follows on something that is not shown."""
    (said,) = await following(replica, author, [draft])
    return said != draft


class _Lying:
    """What lies in spaces: read once, however many drafts are about it."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._read: dict[tuple[bytes, bytes | Kind], Sequence[Entry]] = {}

    async def of_kind(self, space: bytes, kind: Kind) -> Sequence[Entry]:
        if (space, kind) not in self._read:
            self._read[space, kind] = [each.entry for each in await self.replica.store.of_kinds(space, (kind,))]
        return self._read[space, kind]

    async def authored(self, space: bytes, keys: Sequence[bytes]) -> Sequence[Entry]:
        for key in keys:
            if (space, key) not in self._read:
                self._read[space, key] = await self.replica.store.authored(space, key)
        return [entry for key in keys for entry in self._read[space, key]]


async def _following(lying: _Lying, author: bytes, draft: Draft) -> Draft:
    topic = _topic(draft.kind, draft.subject, draft.target)
    if topic is None:
        return draft
    roster = (await lying.replica.view(draft.space)).roster
    is_silent = not roster.speaks(draft.grant)
    if not roster.held_back and not is_silent:
        return draft
    keys = [] if draft.kind in ONE_FOR_ALL else _keys_of(lying.replica, roster, author, draft.grant)
    here = await (lying.authored(draft.space, keys) if keys else lying.of_kind(draft.space, draft.kind))
    said = [one for one in here if _of(one) == topic and not roster.is_erased(one)]
    unseen = [one for one in said if is_silent or one.id in roster.held_back]
    if not unseen:
        return draft
    beside = [] if is_silent else [one for one in said if one.id not in roster.held_back]
    named = _foremost(unseen, beside, keys)
    first, rest = draft.parents[:1], draft.parents[1:]
    return replace(draft, parents=tuple(dict.fromkeys((*first, *named, *rest)))[:MAX_PARENTS])


def _keys_of(replica: Replica, roster: Roster, author: bytes, grant: bytes | None) -> list[bytes]:
    """The author's key, those that speak for the same teacher, and whichever else rights call that one's."""
    given = replica.door.authority(grant)
    if given is None or given.person is None or given.grant not in roster.granted:
        return [author]
    speaking = sorted(key for key, _ in roster.speaking.get(given.person, ()))
    called = sorted({each.key for each in roster.granted.values() if each.person == given.person})
    return list(dict.fromkeys((author, *speaking, *called)))


def _foremost(unseen: Sequence[Entry], beside: Iterable[Entry], keys: Sequence[bytes]) -> list[bytes]:
    """Of each author the foremost word, those of these keys in their order before all others."""
    found: dict[bytes, bytes] = {}
    for entry in in_order_of_showing({one.id: one for one in unseen}, beside):
        found.setdefault(entry.header.author, entry.id)
    return [found[key] for key in (keys or found) if key in found][:_MOST]


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
