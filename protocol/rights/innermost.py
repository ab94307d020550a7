"""Of devices that lack one another, those that lack none but who lacks them too ("Confirmed devices", C32).

Two of hers that wait for each other alone go before a third one that waits for them: they are asked about it then
(docs/adr/0265). In words of graphs: the strong components from which nothing leads on (S. R. Kosaraju; M. Sharir,
1981). Whoever invents some invents thousands that all lack all others: each device and each bit of a walk is looked at
once, twice over. From those found it goes on for so many steps; a longer circle, as nobody has so many laptops, is left
out in part.

Pure; a part of `turns`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from protocol.limits import MAX_CONFIRMED_AGAIN_STEPS
from protocol.rights.asked import Bits
from protocol.rights.reachability import bits_among, places_of
from protocol.rights.vouching import Device


class Walk(NamedTuple):
    """Whose each bit is, which of them are `going`, and which of these lack each device."""

    devices: Sequence[Device]
    going: Bits
    lacked: Mapping[Device, Bits]


def innermost(walks: Sequence[Walk]) -> frozenset[Device]:
    """Those devices of which none lacks one that does not lack it, be it through others."""
    going = dict.fromkeys(device for walk in walks for device in _of(walk, walk.going))
    behind, seen = _Behind(walks), set[Device]()
    finished = [device for start in going for device in behind.reached_from(start, seen)]
    behind, seen = _Behind(walks), set()
    # whoever finished last lacks none, or lacks those alone that lack it as well; and so on without all that lack it
    first = [start for start in reversed(finished) if behind.reached_from(start, seen)]
    return _with_whom_they_lack(walks, first)


class _Behind:
    """Who lacks each device, each bit of a walk once."""

    def __init__(self, walks: Sequence[Walk]) -> None:
        self._walks = walks
        self._left = [walk.going for walk in walks]
        self._places: defaultdict[Device, list[int]] = defaultdict(list)
        for number, walk in enumerate(walks):
            for device in walk.lacked:
                self._places[device].append(number)

    def next_of(self, device: Device) -> Device | None:
        """One that lacks this one, and that nobody was told of yet; none if there is none left."""
        places = self._places.get(device, [])
        while places:
            walk = self._walks[places[-1]]
            if bits := walk.lacked[device] & self._left[places[-1]]:
                place = next(places_of(bits))
                self._left[places[-1]] ^= 1 << place
                return walk.devices[place]
            places.pop()
        return None

    def reached_from(self, start: Device, seen: set[Device]) -> Sequence[Device]:
        """Those that lack it, be it through others, and were not `seen`: each after those that it led to."""
        path, finished = [] if start in seen else [start], list[Device]()
        seen.add(start)
        while path:
            following = self.next_of(path[-1])
            if following is None:
                finished.append(path.pop())
            elif following not in seen:
                seen.add(following)
                path.append(following)
        return finished


def _with_whom_they_lack(walks: Sequence[Walk], first: Iterable[Device]) -> frozenset[Device]:
    """These, and all whom they lack, through so many others."""
    found = set(first)
    step = frozenset(found)
    for _ in range(MAX_CONFIRMED_AGAIN_STEPS):
        further: set[Device] = set()
        for walk in walks:
            bits = walk.going & bits_among(walk.devices, step)
            further.update(device for device, those in walk.lacked.items() if those & bits)
        step = frozenset(further - found)
        if not step:
            break
        found |= step
    return frozenset(found)


def _of(walk: Walk, bits: Bits) -> Iterable[Device]:
    return (walk.devices[place] for place in places_of(bits))
