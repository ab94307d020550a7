"""In which turns returns count: who is let in again, and waits for whom (docs/protocol.md, "Confirmed devices").

The fold has no memory: at first all that ever came back wait, those that were confirmed again years ago too. A return
*lacks* each device that is asked about it (`asked`) and that neither speaks for it nor leads to who does.

Rules (docs/adr/0265): in each turn count
- those that lack nobody: who was found and confirmed again is in use before anybody else goes;
- where there are none, as many as there are that lack nobody but one another, and none that goes on: who lacks one that
  waits for somebody in use waits as well. Those of former times go first: what a laptop said before it was lost once
  more may confirm another one of hers, which is asked about it then;
- where there are none, as many of those that *go on* as lack none in use, and none that goes on but one another: a
  laptop that was reported holds up none that was not.
Of each kind there are so many turns: a line of those that server and thief invent takes none from the others.

Pure; a part of `letting_back`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from protocol.limits import MAX_CONFIRMED_AGAIN_STEPS
from protocol.rights.asked import Asking, Bits
from protocol.rights.reachability import union
from protocol.rights.vouching import Device

_NAMED_AS_MISSING: Final = 16


class Return(NamedTuple):
    """That a device was let in again: by what it has now, or by grants of former times that `named` the same."""

    device: Device
    named: int | None = None


class Together(NamedTuple):
    """Returns of a person that are weighed in one walk, the first with the lowest bit."""

    returns: Sequence[Return]
    asking: Asking

    def bits_of(self, those: Container[Return]) -> Bits:
        """The bits of some."""
        return union(1 << place for place, one in enumerate(self.returns) if one in those)

    def of(self, bits: Bits) -> Iterable[tuple[Bits, Return]]:
        """Those that have these bits, each with its own."""
        while bits:
            bit = bits & -bits
            yield bit, self.returns[bit.bit_length() - 1]
            bits ^= bit


class Lacking(NamedTuple):
    """Which returns of a walk lack each device: one `in_use`, one that waits but is `going_on`, another `waiting`."""

    together: Together
    in_use: Mapping[Device, Bits]
    going_on: Mapping[Device, Bits]
    waiting: Mapping[Device, Bits]
    on: Bits
    """The returns of devices that go on."""

    def of_anybody(self) -> Bits:
        """Those that lack somebody."""
        return union((*self.in_use.values(), *self.going_on.values(), *self.waiting.values()))

    def of_holding(self) -> Bits:
        """Those that lack one in use, or one that goes on."""
        return union((*self.in_use.values(), *self.going_on.values()))

    def of_holding_who_goes_on(self) -> Bits:
        """Those that lack one in use; and those that do not go on, and lack somebody."""
        return union(self.in_use.values()) | self.of_anybody() & ~self.on

    def held_by(self) -> Iterable[tuple[Device, Bits]]:
        """Whom each device holds up, those in use first: who goes on waits for none that does not."""
        for some, those in ((self.in_use, ~0), (self.going_on, ~0), (self.waiting, ~self.on)):
            for device, bits in sorted(some.items()):
                yield device, bits & those


class Turns:
    """Which returns count next, as long as there are any."""

    def __init__(self) -> None:
        kinds = (alone, former_ones_together, together, together_of_those_that_go_on)
        self._left = dict.fromkeys(kinds, MAX_CONFIRMED_AGAIN_STEPS)

    def next(self, waiting: Sequence[Return], lacking: Sequence[Lacking]) -> Sequence[Return]:
        """Those of the next turn, of the first kind of which there are any; none once nobody is left."""
        for kind, left in self._left.items():
            if left and (again := kind(waiting, lacking)):
                self._left[kind] -= 1
                return again
        return ()


def alone(waiting: Sequence[Return], lacking: Sequence[Lacking]) -> Sequence[Return]:
    """Those that lack nobody."""
    held = _those(lacking, Lacking.of_anybody)
    return [one for one in waiting if one not in held]


def together(waiting: Sequence[Return], lacking: Sequence[Lacking]) -> Sequence[Return]:
    """As many as lack nobody but one another."""
    return _most(waiting, _those(lacking, Lacking.of_holding), [(each.together, each.waiting) for each in lacking])


def former_ones_together(waiting: Sequence[Return], lacking: Sequence[Lacking]) -> Sequence[Return]:
    """Of those the ones of former times."""
    return [one for one in together(waiting, lacking) if one.named is not None]


def together_of_those_that_go_on(waiting: Sequence[Return], lacking: Sequence[Lacking]) -> Sequence[Return]:
    """As many as go on, and of who is in use or goes on lack one another alone."""
    held = _those(lacking, Lacking.of_holding_who_goes_on)
    return _most(waiting, held, [(each.together, each.going_on) for each in lacking])


def held_by(waiting: Sequence[Return], lacking: Sequence[Lacking]) -> Mapping[Return, frozenset[Device]]:
    """For whom each of those left waits; for some, where there are many: who invents some invents thousands."""
    found: defaultdict[Return, set[Device]] = defaultdict(set)
    for each in lacking:
        full = 0
        for device, bits in each.held_by():
            for bit, one in each.together.of(bits & ~full):
                found[one].add(device)
                full |= bit if len(found[one]) >= _NAMED_AS_MISSING else 0
    return {one: frozenset(found[one]) for one in waiting if one in found}


def _those(lacking: Iterable[Lacking], which: Callable[[Lacking], Bits]) -> set[Return]:
    return {one for each in lacking for _, one in each.together.of(which(each))}


def _most(
    waiting: Sequence[Return], held: Container[Return], behind: Iterable[tuple[Together, Mapping[Device, Bits]]]
) -> Sequence[Return]:
    """The most that are not held, and of whom each of those devices goes that they are behind.

    Each device is looked at once, and each return of a walk.
    """
    places: defaultdict[Device, list[tuple[int, Together, Bits]]] = defaultdict(list)
    for number, (some, devices) in enumerate(behind):
        for device, bits in devices.items():
            places[device].append((number, some, bits))
    going = {one for one in waiting if one not in held}
    staying = [device for device in places if Return(device) not in going]
    seen: Counter[int] = Counter()
    while staying:
        for number, some, bits in places[staying.pop()]:
            for _, one in some.of(bits & ~seen[number]):
                if one in going:
                    going.remove(one)
                    staying += [one.device] if one.named is None and one.device in places else []
            seen[number] |= bits
    return [one for one in waiting if one in going]
