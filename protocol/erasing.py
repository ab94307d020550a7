"""When what an erasure covers is destroyed: a decision of each replica, by its own clock (docs/protocol.md, "Erasure").

Hiding is the fold's, at once, and ends if the erasure is revoked. Destroying is for ever, so it waits, and it is slow:
whoever steals a server can hide a school, which the kit undoes, but cannot wipe it.

Rules:
- nothing is destroyed before `ERASURE_DELAY_MS` after the erasure arrived at this replica;
- of persons and items whose erasure the kit has not signed, at most `MAX_ERASED_PER_DAY` a day, the oldest first;
- a whole space is destroyed only if the kit signed;
- what was ordered only by devices that were cut off since waits until somebody else orders it too;
- what was destroyed once is destroyed again whenever it comes back, without being counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from protocol.entry import Entry
from protocol.limits import ERASURE_DELAY_MS, MAX_ERASED_PER_DAY
from protocol.rights import erasable_names, is_erasable


@dataclass(frozen=True, slots=True)
class Order:
    """An erasure in force: what it covers, when this replica first saw it, who signed, whether it names a space.

    `in_doubt` says that whoever ordered it has been cut off since.
    """

    covers: bytes
    seen_ms: int
    by_kit: bool
    of_space: bool
    in_doubt: bool = False


def due(orders: Iterable[Order], done: Collection[bytes], now_ms: int, done_today: int) -> list[bytes]:
    """What may be destroyed now, in order: all of `done`, and what has waited long enough, within the day's number.

    `done` are the names destroyed before and `done_today` how many of them today, those that the kit signed left out.
    A clock that jumps back destroys nothing earlier; `now_ms` is this replica's own time.
    """
    found = []
    room = max(0, MAX_ERASED_PER_DAY - done_today)
    for order in sorted(orders, key=lambda order: (order.seen_ms, order.covers)):
        if order.covers in done:
            found.append(order.covers)
        elif now_ms - order.seen_ms < ERASURE_DELAY_MS or (order.of_space and not order.by_kit) or order.in_doubt:
            continue
        elif order.by_kit:
            found.append(order.covers)
        elif room:
            room -= 1
            found.append(order.covers)
    return list(dict.fromkeys(found))


def is_destroyed_by(entry: Entry, covers: Collection[bytes]) -> bool:
    """Whether the payload of `entry` goes with what is in `covers`."""
    if entry.payload is None or not is_erasable(entry.header):
        return False
    return any(name in covers for name in erasable_names(entry))
