"""Of which work this device has heard that it was opened: its key goes ("Sealed hand-ins", W9; docs/adr/0449).

Whose word counts for that says `protocol.folds.openers`; what lets its content go is another matter (`for_good`).
A receipt is about work of the class in which it lies: whoever has the server names any work in a class of their own.
What the root's own word holds back is no server's doing, and counts for nothing (docs/adr/0469).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from protocol.folds.coursework import Work
from protocol.folds.openers import Openers, openers_of
from protocol.model.entry import Kind
from protocol.replica.at_work.destroyed import destroyed_key_words
from protocol.replica.at_work.keyring import recovery_keys_ever
from protocol.replica.at_work.replica import Replica
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device
from sync_agent.app import Agent
from sync_agent.keys.acquaintances import heard_for_long, known_devices

_OF_WHOM: Final = (Kind.PERSON_KEY, Kind.PHRASE, Kind.VOUCH)


@dataclass(slots=True)
class _Read:
    """Who has said of which work, by class and id, that it was opened, and by which entry, read up to an arrival.

    `openers` are, of each class, those whose word that may be, with what they were found by: a receipt that counts for
    nothing is looked at with each news.
    """

    after: int = 0
    said: defaultdict[tuple[bytes, bytes], dict[bytes, bytes]] = field(default_factory=lambda: defaultdict(dict))
    openers: dict[bytes, tuple[_FoundBy, Openers]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _FoundBy:
    roster: Roster
    words: int
    known: frozenset[Device]

    def is_same(self, other: _FoundBy) -> bool:
        return self.roster is other.roster and (self.words, self.known) == (other.words, other.known)


_READ: Final[WeakKeyDictionary[Replica, _Read]] = WeakKeyDictionary()


async def read_receipts(agent: Agent, works: Container[bytes]) -> None:
    """Read what has come of such words about these works; of others nothing is kept.

    Whoever handed a work in asks about it before anybody can have said so.
    """
    latest = await agent.replica.store.latest()
    read = _READ.setdefault(agent.replica, _Read())
    if latest is None or latest[0] == read.after:
        return
    for entry in await agent.replica.store.scan_kinds([Kind.RECEIPT_TEACHER], read.after):
        if entry.header.target is not None and entry.header.target in works:
            read.said[entry.header.space, entry.header.target][entry.id] = entry.header.author
    read.after = max(read.after, latest[0])


async def has_heard_opened(agent: Agent, hand_in: bytes, work: Work | None, roster: Roster) -> bool:
    """Whether somebody who could have opened a work has ever said so; `read_receipts` comes first.

    `work` is None where it is not shown.
    """
    read = _READ.setdefault(agent.replica, _Read())
    said = _authors(read.said.get((roster.space, hand_in), {}), roster)
    if not said:
        return False
    openers = await _openers(agent, read, roster)
    return openers.have_opened(work, frozenset(map(agent.replica.door.began_as, said)))


def _authors(receipts: Mapping[bytes, bytes], roster: Roster) -> set[bytes]:
    """Whose the receipts are, but for those that the root's own word holds back."""
    return {author for receipt, author in receipts.items() if receipt not in roster.held_by_root}


async def _openers(agent: Agent, read: _Read, roster: Roster) -> Openers:
    space = roster.space
    known = known_devices(agent, space) | heard_for_long(agent, space)
    said = [one.entry for one in await agent.replica.store.of_kinds(space, _OF_WHOM)]
    by = _FoundBy(roster, len(said), known)
    before = read.openers.get(space)
    if before is not None and before[0].is_same(by):
        return before[1]
    recovery, destroyed = await recovery_keys_ever(agent.replica), await destroyed_key_words(agent.replica.store)
    openers = openers_of(roster, agent.replica.door, said, known, recovery, destroyed)
    read.openers[space] = by, openers
    return openers
