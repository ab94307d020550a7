"""What leads to what, for all places of a graph in one pass: who confirmed whom, which grant names which revocation.

To follow each place by itself costs its square, and whoever may write at all writes graphs for which it does.

Rules:
- what is looked for is a bit of a number, so that a step costs the same for one as for hundreds;
- a place leads to itself; places that lead to one another lead to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import reduce
from operator import or_
from typing import TypeVar

Place = TypeVar("Place", bound=Hashable)


def places_of(bits: int) -> Iterator[int]:
    """The places of the bits that are set, the lowest first."""
    while bits:
        yield (bits & -bits).bit_length() - 1
        bits &= bits - 1


def union(those: Iterable[int]) -> int:
    """The bits that any of them has."""
    return reduce(or_, those, 0)


def bits_led_to(
    places: Iterable[Place], leads_to: Callable[[Place], Iterable[Place]], bits_of: Callable[[Place], int]
) -> dict[Place, int]:
    """The bits of all that each place leads to, itself included: Tarjan's strongly connected components, iteratively.

    Those that a component leads to are found before it is (R. Tarjan, Depth-first search and linear graph algorithms,
    1972). What the places lead to is among the answer.
    """
    found: dict[Place, int] = {}
    number: dict[Place, int] = {}
    lowest: dict[Place, int] = {}
    open_places: list[Place] = []
    for first in places:
        if first in number:
            continue
        number[first] = lowest[first] = len(number)
        open_places.append(first)
        walk = [(first, iter(leads_to(first)))]
        while walk:
            here, following = walk[-1]
            for after in following:
                if after not in number:
                    number[after] = lowest[after] = len(number)
                    open_places.append(after)
                    walk.append((after, iter(leads_to(after))))
                    break
                if after not in found:
                    lowest[here] = min(lowest[here], number[after])
            else:
                walk.pop()
                if walk:
                    lowest[walk[-1][0]] = min(lowest[walk[-1][0]], lowest[here])
                if lowest[here] == number[here]:
                    _close(open_places, here, found, leads_to, bits_of)
    return found


def _close(
    open_places: list[Place],
    here: Place,
    found: dict[Place, int],
    leads_to: Callable[[Place], Iterable[Place]],
    bits_of: Callable[[Place], int],
) -> None:
    at = len(open_places) - 1
    while open_places[at] != here:
        at -= 1
    together = open_places[at:]
    del open_places[at:]
    bits = 0
    for place in together:
        bits |= bits_of(place)
        for after in leads_to(place):
            bits |= found.get(after, 0)
    found.update(dict.fromkeys(together, bits))


def carried(starts: Mapping[Place, int], onward: Callable[[Place], Iterable[tuple[Place, int]]]) -> dict[Place, int]:
    """Which bits come to each place from where they start, where each way lets so many of them pass.

    A way that is closed to some is why places that lead to one another need not lead to the same. All ways are gone
    through to and fro, in the order in which one comes along them, until nothing moves any more: seldom more than a few
    times, and for all bits together.
    """
    found = dict(starts)
    ways: list[tuple[Place, Place, int]] = []
    gone_from: set[Place] = set()
    pending = list(starts)
    while pending:
        here = pending.pop()
        if here in gone_from:
            continue
        gone_from.add(here)
        for after, passing in onward(here):
            ways.append((here, after, passing))
            found.setdefault(after, 0)
            pending.append(after)
    moved = True
    while moved:
        moved = False
        for here, after, passing in ways:
            more = found[here] & passing & ~found[after]
            if more:
                found[after] |= more
                moved = True
        ways.reverse()
    return found
