"""What was said on this device and is held back: words that count for nobody until a human says so (docs/adr/0273).

Rules (docs/protocol.md, "Roster"):
- a revocation that names what a device had said by then holds back what it said since, and whoever has the server's key
  lets the device in again in the same breath: her last word is gone everywhere, and the one before is in force again;
- so each device tells of its own words, and of no other's: what a thief said on a lost laptop is no news on the next
  one, and she alone knows which words were hers;
- told is what people said: answers, lessons, work, by what pupils sign in, and what runs a school but for drills,
  which are over by themselves. Keys, wraps and receipts of programs are said again by programs;
- what this device has said about the same since, and counts, is no news any more: since by what its own words follow
  on, and for others' in the order of arrival, never by a date (docs/adr/0311);
- what somebody has refused is news: a thief would refuse it; where a school is run it is told apart from what waits,
  but for what a root has refused (docs/adr/0552);
- who has looked is told no more of these words on the first page, by a mark of this device that says by which cuts of
  it they are held back, and by which ruling they were refused, if any: once another cut, or ruling, does so, that is
  news. The mark goes once they count, or were said again; `status` counts them on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from protocol.clock import rfc3339
from protocol.folds.sign_in import lets_try_again
from protocol.model.ancestry import marked
from protocol.model.entry import Entry, Kind, kind_name, parsed
from protocol.model.structure import Erasure, Revocation, Ruling
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.operation import JSON
from protocol.replica.left_due import LeftDue
from protocol.replica.office.erasures import in_force
from protocol.replica.office.held_in_space import held_by_space
from protocol.replica.office.words_of_office import binding, said_again, still_says
from protocol.rights.door import Door
from protocol.rights.roster import Roster, is_acceptable
from sync_agent.app import Agent
from sync_agent.machine.beginnings import noting
from sync_agent.machine.marks import HELD_BACK_SEEN_MARKS

_LISTED: Final = 20
_FEW: Final = 200
_MOST_NAMED: Final = 64
_TOPICS_AT_ONCE: Final = 1_024
"""Of so many things it is found out in one pass what was said of them since: a thief speaks of thousands."""

_Topic: TypeAlias = tuple[str, bytes | None, bytes | None, bytes | None]

TOPICS: Final[Mapping[int, str]] = {
    Kind.FEEDBACK: "answer",
    Kind.RECEIPT_TEACHER: "opened",
    Kind.REVISION: "version",
    Kind.WITHDRAW: "shown",
    Kind.RESTORE: "shown",
    Kind.HAND_IN: "work",
    Kind.PERSON: "list",
    Kind.SPACE_CHANGE: "list",
    Kind.GRANT: "right",
    Kind.INVITE: "right",
    Kind.REVOKE: "right",
    Kind.ERASE: "erasure",
    Kind.RULING: "right",
    Kind.SIGN_IN: "sign_in",
    Kind.QUARANTINE: "quarantine",
}
"""What people say, by kind, and what it is about."""
_SAID_BY_HER_ALONE: Final = frozenset({Kind.SIGN_IN, Kind.QUARANTINE})
"""Of these nobody can say that they count: they wait for nobody, and are said again."""
_BY_WORDS: Final = frozenset({"right", "erasure"})
"""Of these the same is said again only by the very same words."""


@dataclass(frozen=True, slots=True)
class HeldWord:
    """A word of this device's that is held back; whether it is `refused`, `by` what, and whether that was `seen`."""

    entry: Entry
    refused: bool
    by: bytes
    seen: bool

    @property
    def topic(self) -> str:
        """What it is about, in a word."""
        return TOPICS[self.entry.header.kind]


async def own_held_back(agent: Agent) -> list[HeldWord]:
    """What this device said in the spaces that it has, and is held back; newest first."""
    found: list[HeldWord] = []
    authors: dict[bytes, bytes] = {}
    seen = await agent.replica.store.marks(HELD_BACK_SEEN_MARKS)
    for space in await agent.spaces():
        roster = (await agent.replica.view(space)).roster
        if await _may_hold_own(agent, roster.held_back, authors):
            said = await agent.replica.store.authored(space, agent.device)
            held = await _not_said_by_others(agent, _not_said_since(said, roster), roster)
            found += [_held_word(entry, _held_by(entry, roster, agent.device), seen) for entry in held]
    await _let_go_of(agent, seen, {_seen_mark(word.entry) for word in found})
    return sorted(found, key=lambda word: (word.entry.header.at, word.entry.id), reverse=True)


async def _let_go_of(agent: Agent, seen: Mapping[str, bytes], lying: Container[str]) -> None:
    """That a word was seen ends with what was seen: it counts by now, or was said again."""
    if over := {mark: value for mark, value in seen.items() if mark not in lying}:
        with LeftDue().where_there_is_room():
            await agent.replica.store.drop_marks(over)


async def _may_hold_own(agent: Agent, held_back: Collection[bytes], authors: dict[bytes, bytes]) -> bool:
    """Whether some of these may be this device's: of few it is looked at, before all that it ever said is read.

    `authors` are those that are known by now: what is held back in a school is so in each of its classes.
    """
    if not 0 < len(held_back) <= _FEW:
        return bool(held_back)
    fresh = sorted(name for name in held_back if name not in authors)
    authors |= {name: entry.header.author for name, entry in (await agent.replica.store.get(fresh)).items()}
    return any(authors.get(name) == agent.device for name in held_back)


async def acknowledge_held_back(agent: Agent, shown: Container[bytes]) -> None:
    """Tell no more on the first page of these of what is held back: somebody has looked at them."""
    words = [word for word in await own_held_back(agent) if not word.seen and word.entry.id in shown]
    if words:
        await agent.replica.store.set_marks({_seen_mark(word.entry): word.by for word in words})


def _held_word(entry: Entry, by: _HeldBy, seen: Mapping[str, bytes]) -> HeldWord:
    return HeldWord(entry, by.is_refused, by.names, seen.get(_seen_mark(entry)) == by.names)


class _HeldBy(NamedTuple):
    is_refused: bool
    names: bytes
    """The beginnings of the cuts, and of the ruling."""


def _held_by(entry: Entry, roster: Roster, device: bytes) -> _HeldBy:
    cuts = sorted(name for name, key in roster.revocations.items() if key == device)
    refused = roster.refused.get(entry.id)
    names = cuts if refused is None else [*cuts, refused]
    return _HeldBy(refused is not None, noting(names[-_MOST_NAMED:]))


def _seen_mark(word: Entry) -> str:
    return HELD_BACK_SEEN_MARKS + word.id.hex()


async def held_back_status(agent: Agent) -> dict[str, JSON]:
    """For `status`: how many words, of which kinds, the last of them, and what to do about it."""
    words = await own_held_back(agent)
    kinds = Counter(kind_name(word.entry.header.kind) for word in words)
    return {
        "count": len(words),
        "refused": sum(word.refused for word in words),
        "kinds": dict(sorted(kinds.items())),
        "words": [
            {
                "id": word.entry.id.hex(),
                "kind": kind_name(word.entry.header.kind),
                "space": word.entry.header.space.hex(),
                "target": None if word.entry.header.target is None else word.entry.header.target.hex(),
                "at": rfc3339(word.entry.timestamp_ms),
                "refused": word.refused,
            }
            for word in words[:_LISTED]
        ],
        "message": _sentence(kinds) if words else None,
    }


@dataclass(frozen=True, slots=True)
class HeldInSchool:
    """How many words of each device are held back in a school: those that wait, and those that a server has refused.

    Devices in the order in which they came here.
    """

    waiting: Mapping[bytes, int]
    refused: Mapping[bytes, int]


async def held_back_in_school(replica: Replica, school: bytes) -> HeldInSchool:
    """What in the spaces of a school waits for somebody who says whether it counts, or was refused by no root."""
    waiting, refused = Counter[bytes](), Counter[bytes]()
    spaces, kinds = replica.door.below(school), TOPICS.keys() - _SAID_BY_HER_ALONE
    async for roster, held in held_by_space(replica, spaces, kinds, refused_by_root=False):
        rulings = {one.id for one in held if one.header.kind == Kind.RULING}
        over = rulings - await _bearing_on_erasures(replica, (one for one in held if one.id in rulings))
        for entry in held:
            counts = refused if entry.id in roster.refused else waiting
            counts[entry.header.author] += entry.id not in over and _waits(entry, roster)
    return HeldInSchool(_as_met(waiting, replica.door), _as_met(refused, replica.door))


def _as_met(counts: Mapping[bytes, int], door: Door) -> dict[bytes, int]:
    """In the order in which the devices came here: a thief invents any number, with words many or few, after others."""
    met = dict.fromkeys(each.key for each in door.authorities())
    return {device: counts[device] for device in [*met, *(counts.keys() - met)] if counts.get(device)}


async def _bearing_on_erasures(replica: Replica, rulings: Iterable[Entry]) -> set[bytes]:
    """Those of these that would show somebody again who is hidden now: else it was said anew, or is about no more."""
    said = {one.id: found for one in rulings if (found := parsed(one, Ruling.parse)) is not None}
    standing = await in_force(replica) if said else []
    names = {entry.id for entry, _ in standing} | {covers for _, covers in standing}
    return {one for one, found in said.items() if not names.isdisjoint((*found.refused, found.covers))}


def _waits(entry: Entry, roster: Roster) -> bool:
    """Whether a word is held back with who said it: the grants from before somebody was let in again are so as well."""
    if entry.id not in roster.held_back or entry.header.kind not in TOPICS or roster.is_erased(entry):
        return False
    if lets_try_again(entry):  # who is locked again by it stands on the class's page
        return False
    return is_acceptable(entry.header.kind) or roster.is_held_with_its_author(entry)


def _not_said_since(said: Sequence[Entry], roster: Roster) -> list[Entry]:
    """Of what one device said in a space the words that are held back, but where it spoke of the same since."""
    held = [entry for entry in said if _waits(entry, roster)]
    counting = (entry for entry in said if entry.header.kind in TOPICS and entry.id not in roster.held_back)
    again = _said_again(said, held, counting) if held else ()
    return [entry for entry in held if entry.id not in again]


def _said_again(said: Iterable[Entry], held: Iterable[Entry], counting: Iterable[Entry]) -> set[bytes]:
    """Of what one device said and is held back that to which a later word of its own about the same leads by `prev`.

    Never by date: whoever has the server moves clocks, and what was said first bears the later one.
    """
    about = {entry.id: {_topic(entry), *_answered(entry)} for entry in held}
    asked = set[_Topic]().union(*about.values())
    words = [(entry.id, topic) for entry in counting if (topic := _topic(entry)) in asked]
    topics = list(dict.fromkeys(topic for _, topic in words))
    earlier = {entry.id: entry.header.prev for entry in said}
    found = set[bytes]()
    for start in range(0, len(topics), _TOPICS_AT_ONCE):
        bits = {topic: 1 << number for number, topic in enumerate(topics[start : start + _TOPICS_AT_ONCE])}
        led_to = marked({word: bits[topic] for word, topic in words if topic in bits}, earlier)
        wanted = {name: sum(bits.get(topic, 0) for topic in its) for name, its in about.items()}
        found |= {name for name, mask in wanted.items() if led_to.get(name, 0) & mask}
    return found


async def _not_said_by_others(agent: Agent, held: Sequence[Entry], roster: Roster) -> list[Entry]:
    """These without what runs a school and somebody else has said since: that is how it is let count."""
    kinds = {entry.header.kind for entry in held if not is_acceptable(entry.header.kind)}
    said = await agent.replica.store.scan_kinds(sorted(kinds)) if kinds else ()
    here = [one for one in said if one.header.space == roster.space]
    counting = [one for one in here if still_says(roster, one, agent.now_ms())]
    again = said_again(here, await binding(agent.replica, counting), _words)
    return [entry for entry in held if not _is_so(entry, roster, again)]


def _is_so(entry: Entry, roster: Roster, again: Container[bytes]) -> bool:
    """Whether what a word says is so by another one: of an erasure, and a report, whatever was said since.

    Whoever has a copy of the server's key says the same and takes it back in one breath.
    """
    if (erasure := parsed(entry, Erasure.parse) if entry.header.kind == Kind.ERASE else None) is not None:
        return erasure.covers in roster.erased
    if (cut := parsed(entry, Revocation.parse) if entry.header.kind == Kind.REVOKE else None) is not None:
        return cut.key in roster.cut if entry.header.target is None else entry.header.target in roster.void
    return entry.id in again


def _words(entry: Entry) -> tuple[object, ...]:
    return entry.header.kind, entry.header.subject, entry.header.target, entry.payload


def _topic(entry: Entry) -> _Topic:
    """What a word is about: an answer about a work, a version of an item, somebody on a list."""
    header, topic = entry.header, TOPICS[entry.header.kind]
    target = header.target or (entry.id if header.kind == Kind.REVISION else None)
    return topic, header.subject, target, entry.payload if topic in _BY_WORDS else None


def _answered(entry: Entry) -> tuple[_Topic, ...]:
    """An answer says as well that a work was opened."""
    header = entry.header
    return (("answer", header.subject, header.target, None),) if header.kind == Kind.RECEIPT_TEACHER else ()


def _sentence(kinds: Mapping[str, int]) -> str:
    told = ", ".join(f"{count} × {kind}" for kind, count in sorted(kinds.items()))
    return (
        f"said on this device and held back: {told}. The access of this device was cut off meanwhile, and these words "
        "count for nobody; what was said before them counts. If they are yours, say them again, or ask who looks "
        "after the server to let them count (`sync-server waiting`, `sync-server accept ID`); by what pupils sign in, "
        "and a quarantine, count once they are said again"
    )
