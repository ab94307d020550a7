"""Whom a person's devices lead to among the person's own, for all persons of a space in one pass over what was said.

The same as `Voices.circle(person, start).own` for each, which walks all words again for each person: whoever may let
laptops in names thousands of people whose laptops all confirm one another.

Rules:
- outside a person's own devices only head teachers' lead back to them: so of what somebody else's device leads to,
  which heads' there are is all that matters, and that is the same for everybody; it is kept as bits;
- a device speaks as a head's where all words that lead to it have shown it as one;
- a head's word of a device makes it one's own where that is as who one spoke for that head;
- devices that confirm one another lead to the same.

docs/protocol.md, "Confirmed devices", C14.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, TypeAlias

from protocol.rights.reachability import bits_led_to, places_of
from protocol.rights.vouching import Device, Voices, Word

_Place: TypeAlias = tuple[Device, bytes | None]
"""A device as somebody's; one that was confirmed as a head's as whoever they are."""


class Circles:
    """What was said in a space, sorted so that it can be followed for each person by itself."""

    def __init__(self, voices: Voices) -> None:
        """Follow all words once."""
        self._words: Final = voices.words
        self._own: defaultdict[_Place, list[Device]] = defaultdict(list)
        for voice, words in voices.words.items():
            for word in words:
                if word.is_own:
                    self._own[voice, word.person].append(word.device)
        named = (word.device for words in voices.words.values() for word in words if word.head)
        self._heads: Final = tuple(dict.fromkeys(named))
        self._bits: Final = {head: 1 << place for place, head in enumerate(self._heads)}
        self._named: defaultdict[bytes, defaultdict[Device, list[Device]]] = defaultdict(lambda: defaultdict(list))
        self._naming: defaultdict[bytes, int] = defaultdict(int)
        for head, bit in self._bits.items():
            for word in voices.words.get(head, ()):
                self._named[word.person][head].append(word.device)
                self._naming[word.person] |= bit
        places = [_place_of(word) for words in voices.words.values() for word in words]
        self._led_to: Final = bits_led_to(
            places, self._leads_to, lambda one: self._bits[one[0]] if one[1] is None else 0
        )
        self._spoken_for: defaultdict[tuple[Device, bytes], int] = defaultdict(int)
        for voice, words in voices.words.items():
            for word in words:
                if word.by is not None and not word.is_own:
                    self._spoken_for[voice, word.by] |= self._led_to.get(_place_of(word), 0)

    def of(self, person: bytes) -> Circle:
        """Those of a person, from nothing."""
        return Circle(self, person)

    def _leads_to(self, place: _Place) -> Iterable[_Place]:
        device, whose = place
        if whose is None:
            return [_place_of(word) for word in self._words.get(device, ())]
        return [(other, whose) for other in self._own.get(place, ())]

    def named_by(self, device: Device, person: bytes) -> tuple[list[Device], int]:
        """Which of a person's devices one of theirs has confirmed; and to which heads the others that it has lead.

        Of the heads those that name any of the person's.
        """
        heads = self._naming.get(person, 0) & self._spoken_for.get((device, person), 0)
        return list(self._own.get((device, person), ())), heads

    def named_by_heads(self, heads: int, person: bytes) -> Iterable[Device]:
        """The devices that these heads have confirmed as a person's."""
        for place in places_of(heads):
            yield from self._named[person][self._heads[place]]


def _place_of(word: Word) -> _Place:
    return word.device, None if word.head else word.person


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
