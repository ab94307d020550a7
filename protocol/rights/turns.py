"""In which turns returns count: who is let in again, and waits for whom ("Confirmed devices", C30 to C33).

The fold has no memory: at first all that ever came back wait, those that were confirmed again years ago too. A return
*lacks* each device that is asked about it (`asked`) and that neither speaks for it nor leads to who does.

Rules (docs/adr/0265): in each turn count
- those that lack nobody: who was found and confirmed again is in use before anybody else goes;
- where there are none, those of former times, as many as there are that lack none in use and none that goes on, but
  devices of which any return is among them: what a laptop said before it was lost once more may confirm another one of
  hers, which is asked about it then. Of one device the earliest of these, by the reports that they name;
- where there are none, as many as there are that lack nobody but devices whose present return is among them, and none
  that goes on or may yet: who lacks one that waits for somebody in use waits as well;
- where there are none, as many of those that *go on* as lack none in use, and none that goes on but one another: a
  laptop that was reported holds up none that was not.
A device *may yet go on* while a return of former times by which it would (`letting_back`) waits: until that is known,
what it has now goes with none that it might be asked about.
Of those that lack one another go first that lack none but who lacks them too (`innermost`): a third one that waits for
two that wait for each other alone is asked about at these.
Of each kind there are so many turns, and a line of those that server and thief invent takes none from the others, nor
its place in the order from any: those of a kind that has no turn left go along with the next kind that has, and who
lacks one of them does not.

Pure; a part of `letting_back`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from protocol.limits import MAX_CONFIRMED_AGAIN_STEPS
from protocol.rights.asked import Asking, Bits
from protocol.rights.innermost import Walk, innermost
from protocol.rights.reachability import bits_among, places_of, union
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
        return bits_among(self.returns, those)

    def of(self, bits: Bits) -> Iterable[tuple[Bits, Return]]:
        """Those that have these bits, each with its own."""
        for place in places_of(bits):
            yield 1 << place, self.returns[place]


class Lacking(NamedTuple):
    """Which returns of a walk lack each device: one `in_use`, one that waits but is `going_on`, another `waiting`."""

    together: Together
    in_use: Mapping[Device, Bits]
    going_on: Mapping[Device, Bits]
    waiting: Mapping[Device, Bits]
    on: Bits
    """The returns of devices that go on."""
    unsure: Bits
    """What those have now that may yet go on."""

    def of_anybody(self) -> Bits:
        """Those that lack somebody."""
        return union((*self.in_use.values(), *self.going_on.values(), *self.waiting.values()))

    def held(self) -> Bits:
        """Those that lack one in use, or one that goes on; and what those have now that may yet go on."""
        return union((*self.in_use.values(), *self.going_on.values(), self.unsure))

    def held_or_not_on(self) -> Bits:
        """Those that lack one in use; and those that do not go on, and lack somebody."""
        return union(self.in_use.values()) | self.of_anybody() & ~self.on

    def behind(self, devices: Container[Device]) -> Bits:
        """Those that lack one of these, which waits."""
        return union(
            bits for some in (self.going_on, self.waiting) for device, bits in some.items() if device in devices
        )

    def held_by(self) -> Iterable[tuple[Device, Bits]]:
        """Whom each device holds up, those in use first: who goes on waits for none that does not."""
        for some, those in ((self.in_use, ~0), (self.going_on, ~0), (self.waiting, ~self.on)):
            for device, bits in sorted(some.items()):
                yield device, bits & those


class Turns:
    """Which returns count next, as long as there are any; `reports` are those that a return names, a bit for each."""

    def __init__(self, reports: Callable[[Return], Bits]) -> None:
        self._reports = reports
        kinds = (alone, self._former_ones_together, together, together_of_those_that_go_on)
        self._left = dict.fromkeys(kinds, MAX_CONFIRMED_AGAIN_STEPS)

    def next(self, waiting: Sequence[Return], lacking: Sequence[Lacking]) -> Sequence[Return]:
        """Those of the next turn, of the first kind of which there are any; none once nobody is left."""
        first: list[Return] = []
        for kind, left in self._left.items():
            behind = _behind(first, lacking)
            again = [*first, *kind([one for one in waiting if one not in behind], lacking)]
            if again and left:
                self._left[kind] -= 1
                return list(dict.fromkeys(again))
            first = again
        return ()

    def _former_ones_together(self, waiting: Sequence[Return], lacking: Sequence[Lacking]) -> Sequence[Return]:
        return _earliest(former_ones_together(waiting, lacking), self._reports)


def alone(waiting: Sequence[Return], lacking: Sequence[Lacking]) -> Sequence[Return]:
    """Those that lack nobody."""
    held = _those(lacking, Lacking.of_anybody)
    return [one for one in waiting if one not in held]


def former_ones_together(waiting: Sequence[Return], lacking: Sequence[Lacking]) -> Sequence[Return]:
    """Of former times as many as lack nobody but devices of which any return is among these, or could be.

    What those have now may be held by another one: their word of former times counts all the same.
    """
    behind = [(each.together, each.waiting) for each in lacking]
    going = _first_of(waiting, _those(lacking, Lacking.held), behind, lambda _: True)
    return [one for one in going if one.named is not None]


def together(waiting: Sequence[Return], lacking: Sequence[Lacking]) -> Sequence[Return]:
    """As many as lack nobody but one another."""
    behind = [(each.together, each.waiting) for each in lacking]
    return _first_of(waiting, _those(lacking, Lacking.held), behind, _is_present)


def together_of_those_that_go_on(waiting: Sequence[Return], lacking: Sequence[Lacking]) -> Sequence[Return]:
    """As many as go on, and of who is in use or goes on lack one another alone."""
    behind = [(each.together, each.going_on) for each in lacking]
    return _first_of(waiting, _those(lacking, Lacking.held_or_not_on), behind, _is_present)


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


def _is_present(one: Return) -> bool:
    return one.named is None


def _behind(first: Iterable[Return], lacking: Iterable[Lacking]) -> Container[Return]:
    """Who lacks a device of these."""
    devices = {one.device for one in first}
    return _those(lacking, lambda each: each.behind(devices)) if devices else ()


def _earliest(returns: Sequence[Return], reports: Callable[[Return], Bits]) -> Sequence[Return]:
    """Of each device those of which none names fewer of the same reports, but some: a later one names more."""
    named: defaultdict[Device, set[Bits]] = defaultdict(set)
    for one in returns:
        named[one.device].add(reports(one))
    return [
        one
        for one in returns
        if not any(other and other & reports(one) == other != reports(one) for other in named[one.device])
    ]


def _most(
    waiting: Sequence[Return],
    held: Container[Return],
    behind: Iterable[tuple[Together, Mapping[Device, Bits]]],
    carries: Callable[[Return], bool],
) -> Sequence[Return]:
    """The most that are not held, and of whom for each of those devices that they are behind one goes that `carries`.

    Each device is looked at once, and each return of a walk.
    """
    places: defaultdict[Device, list[tuple[int, Together, Bits]]] = defaultdict(list)
    for number, (some, devices) in enumerate(behind):
        for device, bits in devices.items():
            places[device].append((number, some, bits))
    going = {one for one in waiting if one not in held}
    carrying = Counter(one.device for one in going if carries(one))
    staying = [device for device in places if not carrying[device]]
    seen: Counter[int] = Counter()
    while staying:
        for number, some, bits in places[staying.pop()]:
            for _, one in some.of(bits & ~seen[number]):
                if one in going:
                    going.remove(one)
                    carrying[one.device] -= carries(one)
                    staying += [one.device] if one.device in places and not carrying[one.device] else []
            seen[number] |= bits
    return [one for one in waiting if one in going]


def _first_of(
    waiting: Sequence[Return],
    held: Container[Return],
    behind: Sequence[tuple[Together, Mapping[Device, Bits]]],
    carries: Callable[[Return], bool],
) -> Sequence[Return]:
    """Of the most those that go before the others: of devices that lack none but who lacks them too."""
    going = _most(waiting, held, behind, carries)
    if not going:
        return ()
    those = frozenset(going)
    inner = innermost(
        [Walk([one.device for one in some.returns], some.bits_of(those), lacked) for some, lacked in behind]
    )
    return _most([one for one in going if one.device in inner], (), behind, carries)
