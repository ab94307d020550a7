"""What was held back and counts by a ruling: told until somebody has looked (docs/adr/0493).

Rules (docs/protocol.md, "Roster"):
- an office's report holds back what a thief said on a lost laptop, and whoever has the server's key lets each word of
  it count, as hers: nothing waits then, and nobody is asked;
- so it is told wherever the one works whose word it is called, and where her school is run: an honest ruling, of what
  she asked for, is looked at once;
- told are words of people; what the root let count is not: that was typed beside the kit;
- who has looked has seen that ruling: another one, after somebody has refused the word, is told anew;
- of a word of which the header alone is here nobody has seen what it says: it is told anew once it is whole;
- of very many, those of the devices that came here first stand in front, one of each before a second of any: whoever
  has the server's key lets in, cuts off and rules as they like.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.clock import rfc3339
from protocol.errors import Refused
from protocol.model.entry import ID_BYTES, Entry, kind_name
from protocol.replica.console.operation import JSON
from protocol.rights.roster import LetCount, is_acceptable
from sync_agent.app import Agent
from sync_agent.keys.confirming import own_grants
from sync_agent.machine.marks import LET_COUNT_SEEN_MARKS
from sync_agent.school.held_back import TOPICS
from sync_agent.school.office import SchoolOffice

_LISTED: Final = 20
_HEADER_ALONE: Final = b"\0"
"""Behind the ruling in a mark: what the word says was not here when somebody looked."""
_TOLD: Final = frozenset(kind for kind in TOPICS if is_acceptable(kind))


@dataclass(frozen=True, slots=True)
class LetCountWord:
    """A word that counts by a ruling, and that ruling."""

    entry: Entry
    ruling: Entry


async def let_count_here(agent: Agent) -> Mapping[bytes, LetCount]:
    """The words that count by a ruling at which nobody has looked here: of this device's teacher, of its school."""
    rosters = {space: (await agent.replica.view(space)).roster for space in await agent.spaces()}
    let_count = [(space, word, each) for space, roster in rosters.items() for word, each in roster.let_count.items()]
    if not let_count:  # as on nearly every device: whose they are is asked of all rights that were ever given
        return {}
    school, own = await _school(agent), await _called_own(agent)
    seen = await _seen(agent)
    found = {
        word: each
        for space, word, each in let_count
        if each.kind in _TOLD and (space in school or each.author in own) and not _is_seen(seen, word, each.ruling)
    }
    return _in_turns(agent, found)


async def _seen(agent: Agent) -> Mapping[str, bytes]:
    """The rulings that were seen, by mark; without those of words that were a header then, and are whole by now."""
    marks = await agent.replica.store.marks(LET_COUNT_SEEN_MARKS)
    looked = {mark: ruling for mark, ruling in marks.items() if len(ruling) > ID_BYTES}
    alone = {mark: bytes.fromhex(mark.removeprefix(LET_COUNT_SEEN_MARKS)) for mark in looked}
    said = await agent.replica.store.get(list(alone.values()))
    whole = {mark for mark, word in alone.items() if word in said and said[word].payload is not None}
    return {mark: ruling[:ID_BYTES] for mark, ruling in marks.items() if mark not in whole}


def _is_seen(seen: Mapping[str, bytes], word: bytes, ruling: bytes) -> bool:
    return seen.get(LET_COUNT_SEEN_MARKS + word.hex()) == ruling


async def first_let_count(agent: Agent, words: Mapping[bytes, LetCount], most: int) -> Sequence[LetCountWord]:
    """The first of these words, as they were said."""
    first = dict(list(words.items())[:most])
    said = await agent.replica.store.get([*first, *(each.ruling for each in first.values())])
    pairs = ((said.get(word), said.get(each.ruling)) for word, each in first.items())
    return [LetCountWord(entry, ruling) for entry, ruling in pairs if entry is not None and ruling is not None]


async def acknowledge_let_count(agent: Agent, shown: Collection[tuple[bytes, bytes]]) -> None:
    """Tell no more of these words by these rulings: somebody has looked at them."""
    words = await let_count_here(agent)
    seen = {word: each.ruling for word, each in words.items() if (word, each.ruling) in shown}
    said = await agent.replica.store.get(list(seen))
    marks: dict[str, bytes | None] = {
        LET_COUNT_SEEN_MARKS + name.hex(): seen[name] + (_HEADER_ALONE if word.payload is None else b"")
        for name, word in said.items()
    }
    await agent.replica.store.set_marks(marks)


async def let_count_status(agent: Agent) -> dict[str, JSON]:
    """For `status`: how many words, the first of them, and what to do about it."""
    words = await let_count_here(agent)
    return {
        "count": len(words),
        "words": [
            {
                "id": word.entry.id.hex(),
                "kind": kind_name(word.entry.header.kind),
                "space": word.entry.header.space.hex(),
                "device": word.entry.header.author.hex(),
                "at": rfc3339(word.entry.timestamp_ms),
                "ruling": word.ruling.id.hex(),
                "ruled_by": word.ruling.header.author.hex(),
                "ruled_at": rfc3339(word.ruling.timestamp_ms),
            }
            for word in await first_let_count(agent, words, _LISTED)
        ],
        "message": _MESSAGE if words else None,
    }


_MESSAGE: Final = (
    "said on a computer whose access was cut off, held back, and counting by somebody's ruling (`sync-server accept`): "
    "pupils read it as its teacher's. The pages show it (« Compte de nouveau »). If nobody who knows it as hers asked "
    "for that, `sync-server refuse ID --kit KIT` ends it, and the server's keys may be stolen"
)


async def _school(agent: Agent) -> Collection[bytes]:
    """The spaces of the school that this device runs."""
    try:
        office = await SchoolOffice.of(agent)
    except Refused:
        return ()
    return frozenset(agent.replica.door.below(office.home))


async def _called_own(agent: Agent) -> Collection[bytes]:
    """The keys of the devices that were ever let in as this device's teacher's."""
    persons = {given.person for given in await own_grants(agent)}
    return {given.key for given in agent.replica.door.authorities() if given.person in persons}


def _in_turns(agent: Agent, words: Mapping[bytes, LetCount]) -> Mapping[bytes, LetCount]:
    places = dict[bytes, int]()
    for place, given in enumerate(agent.replica.door.authorities() if words else ()):
        places.setdefault(given.key, place)
    turns, keyed = Counter[bytes](), list[tuple[int, int, bytes]]()
    for word, each in sorted(words.items()):
        keyed.append((turns[each.author], places.get(each.author, len(places)), word))
        turns[each.author] += 1
    return {word: words[word] for *_, word in sorted(keyed)}
