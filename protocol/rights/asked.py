"""Who is asked about which return of a person's devices, for all of them in one walk ("Confirmed devices", C25, C30).

To follow what was said for each return by itself costs its square: a stolen head's laptop lets thousands of laptops of
one teacher in again, each linked with all the others.

Rules:
- asked is each device of the person's to which the returned one leads by what it had said before, and each that spoke
  for it before; past one in use nobody is: either that one leads to who says so, or it is missing;
- what a device says leads to nobody who speaks for a return of its own, whatever it says: so it is left out of the way
  for these, and for no other;
- a head's device leads on as in `Voices.circle`.

Pure; a part of `letting_back`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from protocol.rights.reachability import carried
from protocol.rights.vouching import Device, Word

Place: TypeAlias = tuple[Device, bytes | None]
"""A device as the person's own; or, as a head's, as who one of the person's spoke for it."""
Bits: TypeAlias = int
"""A bit for each return of a person that is weighed together with others."""


class Words:
    """What was said, by who said it (or since which return of theirs) and of whom, to be followed for one person."""

    def __init__(self) -> None:
        self._of: defaultdict[tuple[Hashable, bytes], list[Word]] = defaultdict(list)
        self._of_heads: defaultdict[Hashable, list[Word]] = defaultdict(list)
        self._about: defaultdict[tuple[Device, bytes], list[tuple[Device, Word]]] = defaultdict(list)
        self._by: defaultdict[tuple[Device, bytes], list[tuple[Device, Word]]] = defaultdict(list)
        self._heads: dict[Device, dict[Device, None]] = {}
        self._shown: defaultdict[bytes, set[bytes]] = defaultdict(set)

    def add(self, by: Hashable, words: Iterable[Word]) -> None:
        """What is said from the one end alone: it leads on, and nobody is led back by it."""
        for word in words:
            self._of[by, word.person].append(word)
            self._shown[word.person].add(word.shown)
            if word.head:
                self._of_heads[by].append(word)

    def hear(self, voice: Device, words: Iterable[Word]) -> None:
        """What a device says."""
        said = list(words)
        self.add(voice, said)
        for word in said:
            self._about[word.device, word.person].append((voice, word))
            if word.head:
                self._heads.setdefault(word.device, {})[voice] = None
                if word.by is not None:
                    self._by[word.device, word.by].append((voice, word))

    def shown(self, person: bytes) -> frozenset[bytes]:
        """As whose any device was shown that somebody spoke of as the person's."""
        return frozenset(self._shown.get(person, ()))

    def onward(self, by: Hashable, person: bytes, spoken_as: bytes | None, shown: Container[bytes]) -> Iterable[Place]:
        """To which places what was said leads, of the person's own device (`spoken_as` None) or of a head's.

        A head's leads to the person's under an id as which one of theirs was `shown`, and under no other: who speaks
        for one head as thousands would lead to each further one as often.
        """
        for word in self._of_heads.get(by, ()):
            if spoken_as is not None:
                yield word.device, spoken_as
            elif word.by in shown and not (word.is_own and word.person == person):
                yield word.device, word.by
        for word in self._of.get((by, person), ()):
            if word.is_own if spoken_as is None else word.shown == spoken_as:
                yield word.device, None

    def back(self, device: Device, person: bytes, spoken_as: bytes | None) -> Iterable[Place]:
        """Which places lead to one: the same from its end."""
        if spoken_as is None:
            for voice, word in self._about.get((device, person), ()):
                yield from self.led_by(voice, word, person)
            return
        for voice, word in self._by.get((device, spoken_as), ()):
            if not (word.is_own and word.person == person):
                yield voice, None
        for voice in self._heads.get(device, ()):
            if voice in self._heads:
                yield voice, spoken_as

    def led_by(self, voice: Device, word: Word, person: bytes) -> Iterable[Place]:
        """As what a voice leads by its word to a person's own device: as theirs, and as a head's that was shown it."""
        if word.person == person:
            if word.is_own:
                yield voice, None
            if voice in self._heads:
                yield voice, word.shown


@dataclass(frozen=True, slots=True)
class Asking:
    """Returns of a person, each with a bit: what is said of them whatever else counts by now."""

    person: bytes
    own: Mapping[Device, Bits]
    """Which of them are a device's own."""
    before: Mapping[Device, Sequence[tuple[Hashable, Bits]]]
    """Of a device's returns, under which names what it had said before each is found among the words `said`."""
    spoke: Mapping[Device, Bits]
    """Who had spoken for the device before it returned so."""
    over: Bits
    """Which of them are over: of these also words about grants that are over lead to who confirmed them."""


@dataclass(slots=True)
class Heard:
    """What counts by now: of grants that hold, and of those that are over too; and what was `said` before returns."""

    now: Words = field(default_factory=Words)
    ever: Words = field(default_factory=Words)
    said: Words = field(default_factory=Words)


def asked_about(asking: Asking, heard: Heard, waiting: Bits, is_in_use: Callable[[Device], bool]) -> dict[Device, Bits]:
    """About which of the returns that wait each device is asked."""
    person = asking.person
    shown = heard.ever.shown(person) | heard.said.shown(person)

    def onward(place: Place) -> Iterable[tuple[Place, Bits]]:
        device, spoken_as = place
        own = asking.own.get(device, 0)
        if spoken_as is not None or not is_in_use(device):
            for after in heard.ever.onward(device, person, spoken_as, shown):
                yield after, ~own
        for name, bits in asking.before.get(device, ()):
            for after in heard.said.onward((device, name), person, spoken_as, shown):
                yield after, bits

    found = _own_of(carried(_starts(asking, waiting), onward))
    for voice, bits in asking.spoke.items():
        found[voice] = found.get(voice, 0) | bits & waiting
    return {device: bits & ~asking.own.get(device, 0) for device, bits in found.items()}


def leading_to(
    asking: Asking, heard: Heard, waiting: Bits, vouched: Mapping[Device, Iterable[tuple[Device, Word, Bits]]]
) -> dict[Device, Bits]:
    """To which of the returns that wait each device leads, by those that have `vouched` for them."""
    found: dict[Device, Bits] = {}
    for words, some in ((heard.now, waiting & ~asking.over), (heard.ever, waiting & asking.over)):
        for device, bits in _leading_by(words, asking, some, vouched).items() if some else ():
            found[device] = found.get(device, 0) | bits & ~asking.own.get(device, 0)
    return found


def _leading_by(
    words: Words, asking: Asking, some: Bits, vouched: Mapping[Device, Iterable[tuple[Device, Word, Bits]]]
) -> dict[Device, Bits]:
    person = asking.person

    def onward(place: Place) -> Iterable[tuple[Place, Bits]]:
        device, spoken_as = place
        others = ~asking.own.get(device, 0)
        for before in words.back(device, person, spoken_as):
            yield before, others & ~asking.own.get(before[0], 0)
        for voice, word, bits in vouched.get(device, ()) if spoken_as is None else ():
            for before in words.led_by(voice, word, person):
                yield before, bits & ~asking.own.get(voice, 0)

    return _own_of(carried(_starts(asking, some), onward))


def missing_of(asked: Mapping[Device, Bits], leading: Mapping[Device, Bits]) -> Mapping[Device, Bits]:
    """Who neither speaks for a return about which it is asked, nor leads to who does: each has to."""
    return {device: bits & ~leading.get(device, 0) for device, bits in asked.items()}


def _starts(asking: Asking, some: Bits) -> dict[Place, Bits]:
    return {(device, None): bits & some for device, bits in asking.own.items() if bits & some}


def _own_of(found: Mapping[Place, Bits]) -> dict[Device, Bits]:
    return {device: bits for (device, spoken_as), bits in found.items() if spoken_as is None}
