"""What a school is told to do for a while: an outage drill, a quarantine (docs/protocol.md, "Measures").

A pure function of the school's set, of its roster and of who holds which rank; when a drill runs on one machine is
another pure function, of that machine's clock.

Rules:
- a drill ends by itself: `minutes` after it began, or after it reached a machine whose clock is behind; a machine that
  hears of it too late, or long before it is to begin, does not begin;
- whoever may order a drill can order any number: what one machine plays within a day is bounded by its own count;
- a quarantine lasts until it is lifted, by somebody of no lower rank than who ordered it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final, Self

from protocol.canonical import encode
from protocol.clock import milliseconds_of
from protocol.fields import Fields, compact
from protocol.limits import DRILL_DAY_MS, MAX_DRILL_LEAD_MS, MAX_DRILL_MINUTES, MIN_DRILL_COUNTED_MINUTES
from protocol.model.entry import Entry, Kind, parsed
from protocol.rights.door import Door
from protocol.rights.roster import Roster
from protocol.roles import RANK, Role

MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class DrillOrder:
    """The payload of a drill: how long it lasts. Without, and with a target, it ends that drill."""

    minutes: int | None = None

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        return cls(Fields.of_payload(payload, "a drill").count_or_none("minutes", MAX_DRILL_MINUTES))

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(compact(minutes=self.minutes))


@dataclass(frozen=True, slots=True)
class QuarantineOrder:
    """The payload of a quarantine: whether it begins; otherwise its parents are those that it lifts."""

    on: bool

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        return cls(Fields.of_payload(payload, "a quarantine").flag("on"))

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(compact(on=self.on))


@dataclass(frozen=True, slots=True)
class Drill:
    """A drill: who ordered it, under which grant, when, for how long, and when it was ended before its time, if so."""

    id: bytes
    space: bytes
    by: bytes
    start_ms: int
    minutes: int
    stopped_ms: int | None
    grant: bytes | None = None

    @property
    def planned_ms(self) -> int:
        """When it was to be over, and is wherever nobody hears that it was stopped."""
        return self.start_ms + self.minutes * MINUTE_MS

    @property
    def end_ms(self) -> int:
        """When it is over, by the time of who ordered it."""
        planned_ms, stopped_ms = self.planned_ms, self.stopped_ms
        return planned_ms if stopped_ms is None else min(planned_ms, max(stopped_ms, self.start_ms))

    def end_here_ms(self, seen_ms: int) -> int:
        """When it is over on a machine that has known of it since `seen_ms`."""
        return min(self.start_ms, seen_ms) + self.minutes * MINUTE_MS

    def runs(self, seen_ms: int, now_ms: int) -> bool:
        """Whether it is running on a machine that has known of it since `seen_ms`; a clock set back ends it."""
        if self.stopped_ms is not None or is_early(self, seen_ms):
            return False
        return seen_ms <= now_ms < self.end_here_ms(seen_ms)


def is_early(drill: Drill, now_ms: int) -> bool:
    """Whether whoever hears of a drill now hears of it too long before its time to begin it, then or later."""
    return drill.start_ms > now_ms + MAX_DRILL_LEAD_MS


@dataclass(frozen=True, slots=True)
class Played:
    """A drill that began on this machine.

    `seen_ms` is when it was heard of, by the clock as the server last set it right; `began_ms` the same by the clock of
    the machine itself, which no server moves.
    """

    id: bytes
    seen_ms: int
    began_ms: int
    minutes: int

    def lasts(self, own_ms: int) -> bool:
        """Whether it may still run by the machine's own clock."""
        return own_ms < self.began_ms + self.minutes * MINUTE_MS


def of_last_day(played: Iterable[Played], own_ms: int) -> tuple[Played, ...]:
    """Those that began within a day of now by the machine's own clock; one that was set back forgets none of them."""
    return tuple(one for one in played if one.began_ms > own_ms - DRILL_DAY_MS)


def may_begin(drill: Drill, played: Iterable[Played], own_ms: int) -> bool:
    """Whether a machine may begin this one too: drills take from it no more than `MAX_DRILL_MINUTES` of a day."""
    return fit_a_day([drill.minutes, *(one.minutes for one in of_last_day(played, own_ms))])


def fit_a_day(minutes: Iterable[int]) -> bool:
    """Whether drills of these lengths are no more than a machine plays in a day."""
    return sum(map(_counted, minutes)) <= MAX_DRILL_MINUTES


def _counted(minutes: int) -> int:
    """What a drill counts of a day, however soon it is over: many short ones tear as much as a long one."""
    return max(minutes, MIN_DRILL_COUNTED_MINUTES)


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A quarantine in force: the entry that ordered it, by whom, when, and with which rank."""

    id: bytes
    by: bytes
    at_ms: int
    rank: int

    @property
    def is_by_head(self) -> bool:
        """Whether the school itself ordered it, and not who runs the system."""
        return self.rank <= RANK[Role.HEAD]


@dataclass(frozen=True, slots=True)
class Measures:
    """What was ordered in a school: drills, the newest first, and the quarantines in force, the oldest first.

    `doubted` are those that are held back and that nobody has lifted: machines that meet nobody who could tell them so
    still keep to them.
    """

    drills: tuple[Drill, ...] = ()
    quarantines: tuple[Quarantine, ...] = ()
    doubted: tuple[Quarantine, ...] = ()


def fold_measures(own: Iterable[Entry], roster: Roster, door: Door) -> Measures:
    """The measures of a school, from its own entries."""
    said = [entry for entry in own if entry.header.kind in _KINDS and not roster.is_erased(entry)]
    if not said:
        return Measures()
    ever = _not_lifted(said, roster.held_back, door)
    return Measures(
        _drills(entry for entry in said if entry.id not in roster.held_back),
        tuple(each for each in ever if each.id not in roster.held_back),
        tuple(each for each in ever if each.id in roster.held_back),
    )


_KINDS: Final = frozenset({Kind.DRILL, Kind.QUARANTINE})


def _drills(orders: Iterable[Entry]) -> tuple[Drill, ...]:
    begun: list[tuple[Entry, int]] = []
    stopped: dict[bytes, int] = {}
    for entry in orders:
        order = parsed(entry, DrillOrder.parse) if entry.header.kind == Kind.DRILL else None
        if order is None:
            continue
        minutes, target, at_ms = order.minutes, entry.header.target, milliseconds_of(entry.header.at)
        if target is not None:
            stopped[target] = min(stopped.get(target, at_ms), at_ms)
        elif minutes:
            begun.append((entry, minutes))
    begun.sort(key=lambda pair: (pair[0].header.at, pair[0].id), reverse=True)
    return tuple(
        Drill(
            entry.id,
            entry.header.space,
            entry.header.author,
            milliseconds_of(entry.header.at),
            minutes,
            stopped.get(entry.id),
            entry.header.grant,
        )
        for entry, minutes in begun
    )


def _not_lifted(orders: Iterable[Entry], held_back: Container[bytes], door: Door) -> list[Quarantine]:
    """The quarantines, held back or not, that nobody of their rank whose word counts has lifted; the oldest first."""
    imposed: list[Quarantine] = []
    lifts: dict[bytes, int] = {}
    for entry in orders:
        order = parsed(entry, QuarantineOrder.parse) if entry.header.kind == Kind.QUARANTINE else None
        header, rank = entry.header, door.rank_of(entry.header)
        if order is not None and order.on:
            imposed.append(Quarantine(entry.id, header.author, milliseconds_of(header.at), rank))
        elif order is not None and entry.id not in held_back:
            lifts |= {parent: max(rank, lifts.get(parent, 0)) for parent in header.parents}
    left = (each for each in imposed if lifts.get(each.id, -1) < each.rank)
    return sorted(left, key=lambda each: (each.at_ms, each.id))
