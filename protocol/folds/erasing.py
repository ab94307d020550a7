"""When what an erasure covers is destroyed: a decision of each replica, by its own clock (docs/protocol.md, "Erasure").

Hiding is the fold's, at once, and ends if the erasure is revoked. Destroying is for ever, so it waits, and it is slow:
whoever steals a server can hide a school, which the kit undoes, but cannot wipe it.

Rules:
- an order is an erasure of one name in one space; the same name in a wider space, or erased anew after an erasure was
  taken back, is another order, which waits and is counted like any other;
- nothing is destroyed before `ERASURE_DELAY_MS` after an erasure in no doubt arrived at this replica: that somebody who
  was cut off since said it earlier, or said it without the signature that it takes, shortens nobody's week;
- of persons whose erasure the kit has not signed, at most `MAX_ERASED_PER_DAY` a day, counted once in each class (or
  other space) in which anything of theirs is: first whom its list has shown for longest, up to a week, then the oldest;
  one of whom nothing is here takes no place;
- so one name goes class by class, where it has to over several days: a list may have another child under it in each,
  and the name counts as destroyed when it has gone in all of them (docs/adr/0454);
- all else (items, works, spaces) is destroyed only if the kit signed;
- nothing is destroyed that the folds do not hide (`protocol.rights.door.covering_names`);
- what was ordered only by devices that were cut off since waits until somebody else orders it too;
- what an order destroyed once is destroyed again whenever it comes back, and is not counted where it had gone; in
  another class of the order's it is (docs/adr/0460);
- time over which the clock was set, and did not run, is no time that anything has waited, nor part of a day; of a time
  in which nobody looked, `MAX_UNWATCHED_MS` counts at most;
- clocks are set right by a little all the time: that moves nothing, and counts for nothing, until together it is an
  hour.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from protocol.clock import DAY_MS
from protocol.limits import ERASURE_DELAY_MS, MAX_ERASED_PER_DAY, MAX_UNWATCHED_MS
from protocol.model.entry import PERSON_BYTES, Entry
from protocol.rights.door import covering_names, is_erasable

_LEAP_MS: Final = 3600 * 1000
_DAYS_BEFORE_1970: Final = 719_163
"""Earlier versions counted days of the calendar, from the year 1."""


class Place(NamedTuple):
    """A person in a class, or in another space: what the day's number counts. An empty space: in whichever."""

    name: bytes
    space: bytes


@dataclass(frozen=True, slots=True)
class Order:
    """The erasures in force of one name that reach one space.

    `seen_ms` is when this replica saw the first of them that is in no doubt, `kit_seen_ms` the first that the kit has
    signed; None: there is none such. `by` are those that lie in the space itself and have waited for long enough,
    `reached_by` all, those above it as well; `is_done` says that one of these was obeyed before. It is to be obeyed as
    far as it reaches, or `at` one of those spaces alone, the list of which has shown somebody for `stood_days` here.
    """

    covers: bytes
    seen_ms: int | None
    kit_seen_ms: int | None = None
    space: bytes = b""
    by: frozenset[bytes] = frozenset()
    reached_by: frozenset[bytes] = frozenset()
    is_done: bool = False
    at: bytes = b""
    stood_days: int = 0

    @property
    def of_person(self) -> bool:
        """Whether it covers a person: all other names are longer."""
        return len(self.covers) == PERSON_BYTES

    @property
    def place(self) -> Place:
        """What it takes of the day's number, if it is counted."""
        return Place(self.covers, self.at)

    def reaches(self, line: Sequence[bytes]) -> bool:
        """Whether it is to be obeyed in a space, by the `line` of that one and those above it."""
        return self.space in line and self.at in (b"", line[0])

    def is_signed(self, now_ms: int) -> bool:
        """Whether the kit's word has waited for long enough."""
        return has_waited(self.kit_seen_ms, now_ms)

    def is_counted(self, now_ms: int) -> bool:
        """Whether it takes a place of the day's number, once it is obeyed."""
        return not (self.is_done or self.is_signed(now_ms))

    def is_ready(self, now_ms: int) -> bool:
        """Whether it may be obeyed."""
        return self.is_signed(now_ms) or (self.of_person and has_waited(self.seen_ms, now_ms))


def has_waited(seen_ms: int | None, now_ms: int) -> bool:
    """Whether what was seen then has waited for long enough."""
    return seen_ms is not None and now_ms >= seen_ms + ERASURE_DELAY_MS


def due(orders: Iterable[Order], now_ms: int, today: Collection[Place]) -> list[Order]:
    """What may be destroyed now, in order: all that was before, and what has waited, within the day's number.

    `today` are the places of today's number that are taken: nobody takes one twice. A clock that jumps back destroys
    nothing earlier; `now_ms` is this replica's own time.
    """
    found = []
    counted = set(today)
    for order in sorted(orders, key=lambda one: (-one.stood_days, one.seen_ms or 0, one.covers, one.space, one.at)):
        if not order.is_counted(now_ms):
            found.append(order)
        elif not order.is_ready(now_ms):
            continue
        elif order.place in counted or len(counted) < MAX_ERASED_PER_DAY:
            counted.add(order.place)
            found.append(order)
    return found


def carried_out_whole(orders: Iterable[Order], obeyed: Collection[Order]) -> list[Order]:
    """Those of the `obeyed` of which, with what was obeyed before, no class is left in which they are to be."""
    left = {(order.covers, order.space) for order in set(orders).difference(obeyed)}
    return [order for order in obeyed if (order.covers, order.space) not in left]


def is_destroyed_by(entry: Entry, covers: Collection[bytes]) -> bool:
    """Whether the payload of `entry` goes with what is in `covers`."""
    return entry.payload is not None and is_covered(entry, covers)


def is_covered(entry: Entry, covers: Collection[bytes]) -> bool:
    """Whether what is in `covers` leaves of `entry` a bare header."""
    return is_erasable(entry.header) and any(name in covers for name in covering_names(entry))


def watched_ms(wall_ms: int, steady_ms: int | None) -> int:
    """How much of what passed between two looks counts: by a clock that nobody sets, where a program ran that knows."""
    return min(max(wall_ms if steady_ms is None else steady_ms, 0), MAX_UNWATCHED_MS)


def leap_ms(wall_ms: int, steady_ms: int | None) -> int:
    """Over how much of what passed by the own clock nothing has waited; less than 0 where that was set back.

    `steady_ms` is what passed by a clock that nobody sets; None where no program ran that knows. What is small is none:
    clocks are set right all the time.
    """
    leapt = wall_ms - watched_ms(wall_ms, steady_ms)
    return leapt if abs(leapt) >= _LEAP_MS else 0


def reckoned(before_ms: int, wall_ms: int, steady_ms: int | None) -> tuple[int, int]:
    """The time by which what is due is looked for now that the own clock says `wall_ms`, and over how much it leapt.

    `before_ms` is that time at the last look, `steady_ms` as above. Where it did not leap it goes on by what was
    watched alone: so what a clock is set by at each look, however little, adds up to what counts as a leap.
    """
    leapt = leap_ms(wall_ms - before_ms, steady_ms)
    return (wall_ms if leapt else before_ms + watched_ms(wall_ms - before_ms, steady_ms)), leapt


def day_of(now_ms: int, leapt_ms: int) -> int:
    """A day, of those that have each their number, by what was watched: over `leapt_ms` of all time none has passed.

    By no calendar: a clock that is set before every second look makes a midnight of each two looks.
    """
    return _DAYS_BEFORE_1970 + (now_ms - leapt_ms) // DAY_MS
