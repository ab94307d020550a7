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
- after a week that this PC has watched nobody waits for who has no right as that person's that holds by its clock, is
  cut off, or is back and not confirmed again: a teacher who has left, or lost a laptop, keeps no keys on PCs for ever;
- who comes back after such a week is met anew: what was made before waits for them no more than for a newcomer.
  Whoever has a copy of the server's key is in a class for an hour in September, and back for one in June
  (docs/adr/0436).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Self

from protocol.limits import ACQUAINTANCE_MS, MAX_READERS_OF_ONE_WORK
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonKey
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device, device_id
from protocol.roles import HAS_READING_KEYS
from sync_agent.app import Agent
from sync_agent.keys.acquaintances import Start, began_at_ms, meeting_ms, there_at_first
from sync_agent.machine.marks import GONE_MARKS

_TIME_BYTES: Final = 8
_NOT_GONE_MS: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class _Stay:
    """How it stands with one of them, as `watched` counts: gone since when, and since when back from a week or more."""

    gone_ms: int | None = None
    back_ms: int | None = None

    @classmethod
    def parse(cls, mark: bytes) -> Self:
        """From the store; an earlier version noted how long somebody was gone alone."""
        gone_ms, *back_ms = (int.from_bytes(mark[at : at + _TIME_BYTES]) for at in range(0, len(mark), _TIME_BYTES))
        return cls(None if gone_ms == _NOT_GONE_MS else gone_ms, *back_ms)

    def encode(self) -> bytes:
        """For the store."""
        times = [_NOT_GONE_MS if self.gone_ms is None else self.gone_ms]
        times += [] if self.back_ms is None else [self.back_ms]
        return b"".join(each.to_bytes(_TIME_BYTES) for each in times)

    def is_over(self, now_ms: int) -> bool:
        """Whether nobody waits for who is gone."""
        return self.gone_ms is not None and now_ms - self.gone_ms >= ACQUAINTANCE_MS

    def seen_gone(self, now_ms: int) -> _Stay:
        """As it stands when this device finds them gone."""
        return self if self.gone_ms is not None else replace(self, gone_ms=now_ms)

    def seen_here(self, now_ms: int, met_ms: int) -> _Stay:
        """As it stands when this device finds them here; whom it meets anew it meets at `met_ms`."""
        return _Stay(None, met_ms if self.is_over(now_ms) else self.back_ms)


async def note_stays(agent: Agent) -> None:
    """Note who is gone from each class, and who is back: at each look, whether or not any work waits there by then."""
    noted = {name: _Stay.parse(mark) for name, mark in (await agent.replica.store.marks(GONE_MARKS)).items()}
    of_classes = {name.rpartition("/")[0] for name in noted}
    now_ms, met_ms = agent.watched.now_ms(), meeting_ms(agent)
    changed: dict[str, bytes | None] = {}
    for space in await agent.spaces():
        roster = (await agent.replica.view(space)).roster
        met = list(_met_in(agent, space))
        living = set(_living(roster, agent.now_ms()))
        here = {each for each in met if _as_listed(roster, each) in living and not roster.is_away(each[1], each[0])}
        # whom work waits for is dear to ask, and a class that nobody ever left has nothing to note
        if here.issuperset(met) and _marks_of(space).rstrip("/") not in of_classes:
            continue
        for each in _first(agent, roster):
            name = f"{_marks_of(space)}{device_id(each.device).hex()}"
            was = noted.get(name, _Stay())
            is_here = (each.person, each.device) in here
            stay = was.seen_here(now_ms, met_ms) if is_here else was.seen_gone(now_ms)
            if stay != was:
                changed[name] = None if stay == _Stay() else stay.encode()
    if changed:
        await agent.replica.store.set_marks({**changed, **agent.watched.marks()})


def _met_in(agent: Agent, space: bytes) -> Iterator[tuple[bytes, Device]]:
    """Whoever this device believes, or has heard, as whose in a class."""
    for each in (agent.acquainted.first.get(space, {}), agent.acquainted.heard.get(space, {})):
        for person, devices in each.items():
            yield from ((person, device) for device in devices)


def _marks_of(space: bytes) -> str:
    return f"{GONE_MARKS}{space.hex()}/"


def _first(agent: Agent, roster: Roster) -> list[Start]:
    return there_at_first(agent, roster.space)[:MAX_READERS_OF_ONE_WORK]


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
        """Those of one class, as far as was noted who is gone from it (`note_stays`)."""
        prefix, now_ms = _marks_of(roster.space), agent.watched.now_ms()
        noted = {name: _Stay.parse(mark) for name, mark in (await agent.replica.store.marks(prefix)).items()}
        waited_for = []
        for each in _first(agent, roster):
            stay = noted.get(f"{prefix}{device_id(each.device).hex()}", _Stay())
            if not stay.is_over(now_ms):
                waited_for.append(each if stay.back_ms is None else replace(each, here_ms=stay.back_ms))
        return cls(agent, roster, waited_for)

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


def _living(roster: Roster, now_ms: int) -> Iterator[tuple[bytes, Device]]:
    """The devices that a grant makes somebody's here whose end is not past: as another's, or nobody's, they are not."""
    for each in roster.authorities:
        is_over = each.until_ms is not None and each.until_ms <= now_ms
        if each.role in HAS_READING_KEYS and each.person is not None and not is_over:
            yield roster.who(each.person), each.pair


def _as_listed(roster: Roster, met: tuple[bytes, Device]) -> tuple[bytes, Device]:
    person, device = met
    return roster.who(person), device
