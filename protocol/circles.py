"""Whom a person's devices lead to among the person's own, for all persons of a space in one pass over what was said.

The same as `Voices.circle(person, start).own` for each, which walks all words again for each person: whoever may let
laptops in names thousands of people whose laptops all confirm one another.

Rules:
- outside a person's own devices only head teachers' lead back to them: so of what somebody else's device leads to,
  which heads' there are is all that matters, and that is the same for everybody; it is kept as bits;
- devices that confirm one another lead to the same.

docs/protocol.md, "Confirmed devices".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from protocol.vouching import Device, Voices

_Place: TypeAlias = tuple[Device, bytes | None]
"""A device as somebody's; a head's as whoever they are."""


class Circles:
    """What was said in a space, sorted so that it can be followed for each person by itself."""

    def __init__(self, voices: Voices) -> None:
        """Follow all words once."""
        self._named: defaultdict[Device, defaultdict[bytes, list[Device]]] = defaultdict(lambda: defaultdict(list))
        for voice, words in voices.words.items():
            for device, whose in words:
                self._named[voice][whose].append(device)
        self._heads: Final = tuple(voices.heads)
        self._bits: Final = {head: 1 << place for place, head in enumerate(self._heads)}
        self._naming: defaultdict[bytes, int] = defaultdict(int)
        for head, bit in self._bits.items():
            for whose in self._named.get(head, ()):
                self._naming[whose] |= bit
        places: list[_Place] = [(device, whose) for words in voices.words.values() for device, whose in words]
        self._led_to: Final = _bits_led_to(
            places, self._leads_to, lambda one: self._bits[one[0]] if one[1] is None else 0
        )

    def of(self, person: bytes) -> Circle:
        """Those of a person, from nothing."""
        return Circle(self, person)

    def _leads_to(self, place: _Place) -> Iterable[_Place]:
        device, whose = place
        named: Mapping[bytes, list[Device]] = self._named.get(device, {})
        if whose is None:
            return [(other, of) for of, others in named.items() for other in others]
        if device in self._bits:
            return [(device, None)]
        return [(other, whose) for other in named.get(whose, ())]

    def _bits_of(self, place: _Place) -> int:
        return self._bits[place[0]] if place[1] is None else 0

    def named_by(self, device: Device, person: bytes) -> tuple[list[Device], int]:
        """Which of a person's devices one of theirs has confirmed; and to which heads the others that it has lead."""
        own: list[Device] = []
        heads = self._bits.get(device, 0)
        for whose, devices in self._named.get(device, {}).items():
            if whose == person:
                own += devices
            else:
                for other in devices:
                    heads |= self._led_to.get((other, whose), 0)
        return own, heads

    def named_by_heads(self, heads: int, person: bytes) -> Iterable[Device]:
        """The devices that these heads have confirmed as a person's."""
        heads &= self._naming.get(person, 0)
        while heads:
            head = self._heads[(heads & -heads).bit_length() - 1]
            yield from self._named[head][person]
            heads &= heads - 1


class Circle:
    """The devices to which some of a person's lead, of that person: more with each from which it starts."""

    def __init__(self, circles: Circles, person: bytes) -> None:
        self._circles = circles
        self._person = person
        self._heads = 0
        self.own: set[Device] = set()

    def start(self, device: Device) -> list[Device]:
        """Start from one more; those that are new."""
        fresh = [] if device in self.own else [device]
        self.own.update(fresh)
        for one in fresh:
            named, heads = self._circles.named_by(one, self._person)
            named += self._circles.named_by_heads(heads & ~self._heads, self._person)
            self._heads |= heads
            later = [other for other in dict.fromkeys(named) if other not in self.own]
            self.own.update(later)
            fresh += later
        return fresh


def _bits_led_to(
    places: Iterable[_Place], leads_to: Callable[[_Place], Iterable[_Place]], bits_of: Callable[[_Place], int]
) -> dict[_Place, int]:
    """The bits of all that each place leads to, itself included: Tarjan's strongly connected components, iteratively.

    Whatever leads to one another has the same bits; those that a component leads to are found before it is.
    """
    found: dict[_Place, int] = {}
    number: dict[_Place, int] = {}
    lowest: dict[_Place, int] = {}
    open_places: list[_Place] = []
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
    open_places: list[_Place],
    here: _Place,
    found: dict[_Place, int],
    leads_to: Callable[[_Place], Iterable[_Place]],
    bits_of: Callable[[_Place], int],
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
