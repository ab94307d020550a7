"""Whom a work's key waits for, whoever says that it was opened (docs/protocol.md, "Sealed hand-ins"; docs/adr/0256).

Rules:
- a PC lets go of no key of a work while a teacher's device that it met first in the class has no wrap of it from here:
  whoever has the server shuts her out for ten minutes, by an end that is past or an erasure, has what is handed in
  meanwhile sealed to somebody it named a week ago, and says that it was opened;
- so it is with one that it knew from another class before it met anybody in this one, and had met here before the work
  was made: somebody of the server's may have been here an hour before her; who comes after the work was nobody's whom
  it waits for, wherever they were met (docs/adr/0415);
- what she reads by another laptop that hers lead to, she has;
- so is who was cut off: that takes a server as long as an end does, and is taken back as easily (docs/adr/0263);
- after a week that this PC has watched nobody waits for who has no right, is cut off, or is back and not confirmed
  again: a teacher who has left, or lost a laptop, keeps no keys on PCs for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from protocol.limits import ACQUAINTANCE_MS, MAX_READERS_OF_ONE_WORK
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonKey
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device, device_id
from protocol.roles import HAS_READING_KEYS
from sync_agent.app import Agent
from sync_agent.keys.acquaintances import Start, began_at_ms, there_at_first
from sync_agent.machine.marks import GONE_MARKS

_TIME_BYTES: Final = 8


class FirstReaders:
    """The teachers' devices that were met first in one class, and are waited for."""

    def __init__(self, agent: Agent, roster: Roster, first: Iterable[Start]) -> None:
        """`first` are they, and those known before that came since."""
        self._agent = agent
        self._roster = roster
        self._first = list(first)
        self._began_ms = began_at_ms(agent, roster.space)
        self._keys: list[tuple[int, frozenset[bytes]]] | None = None

    @classmethod
    async def of(cls, agent: Agent, roster: Roster) -> FirstReaders:
        """Those of one class. Notes who is gone from it, since when: to be called at each look."""
        prefix = f"{GONE_MARKS}{roster.space.hex()}/"
        noted = {name: int.from_bytes(mark, "big") for name, mark in (await agent.replica.store.marks(prefix)).items()}
        now_ms, living = agent.watched.now_ms(), set(_living(roster))
        first = there_at_first(agent, roster.space)[:MAX_READERS_OF_ONE_WORK]
        gone = {
            name: noted.get(name, now_ms)
            for each in first
            if each.device not in living or roster.is_away(each.device, each.person)
            for name in [f"{prefix}{device_id(each.device).hex()}"]
        }
        if gone != noted:
            marks: dict[str, bytes | None] = dict.fromkeys(noted)
            marks |= {name: at_ms.to_bytes(_TIME_BYTES, "big") for name, at_ms in gone.items()}
            await agent.replica.store.set_marks({**marks, **agent.watched.marks()})
        long_gone = {name for name, at_ms in gone.items() if now_ms - at_ms >= ACQUAINTANCE_MS}
        return cls(
            agent, roster, [each for each in first if f"{prefix}{device_id(each.device).hex()}" not in long_gone]
        )

    async def have(self, wrapped: Iterable[bytes], made_ms: int | None) -> bool:
        """Whether each of them reads by one of the keys that this device has wrapped a work for, which it made then."""
        done = frozenset(wrapped)
        return not any(done.isdisjoint(keys) for keys in await self._all_keys(made_ms))

    async def of_these(self, readers: Iterable[bytes], made_ms: int | None) -> list[bytes]:
        """Those of some reading keys that are theirs: for these, and nobody else, a work waits that was opened."""
        theirs = frozenset().union(*await self._all_keys(made_ms))
        return [reader for reader in readers if reader in theirs]

    async def _all_keys(self, made_ms: int | None) -> list[frozenset[bytes]]:
        """Of each for whom a work of that time waits; an earlier version noted none."""
        if self._keys is None:
            said = await self._agent.replica.store.scan_kinds([Kind.PERSON_KEY]) if self._first else []
            found = [(each.here_ms, self._keys_of(each.person, each.device, said)) for each in self._first]
            self._keys = [(here_ms, keys) for here_ms, keys in found if keys]
        before_ms = max(self._began_ms + 1, made_ms or 0)
        return [keys for here_ms, keys in self._keys if here_ms < before_ms]

    def _keys_of(self, person: bytes, device: Device, said: Iterable[Entry]) -> frozenset[bytes]:
        """The reading keys that it, or another of hers to which it leads, has said here: also what is hidden now."""
        who = self._roster.who(person)
        others = self._roster.voices.circle(who, device).own
        by = {device[0], *(each[0] for each in others if not self._roster.is_away(each, who))}
        mine = (each for each in said if each.header.space == self._roster.space and each.header.author in by)
        return frozenset(key.agreement for each in mine if (key := parsed(each, PersonKey.parse)) is not None)


def _living(roster: Roster) -> Iterator[Device]:
    """The devices that a grant makes a teacher's here, whether its end is past or not."""
    for each in roster.authorities:
        if each.role in HAS_READING_KEYS:
            yield each.pair
