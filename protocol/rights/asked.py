"""Who is asked about which return of a person's devices, for all of them in one walk ("Confirmed devices", C23 to C25).

To follow what was said for each return by itself costs its square: a stolen head's laptop lets thousands of laptops of
one teacher in again, each linked with all the others.

Rules:
- asked is each device of the person's that was never away, and to which the returned one leads by what it had said
  before, or that spoke for it before; past such a one nobody is: either that leads to who says so, or it is missing;
- who leads to who says so does by words of devices that were never away when they said them;
- what a device says leads to nobody who speaks for a return of its own, whatever it says: so it is left out of the way
  for these, and for no other;
- a head's device leads on as in `Voices.circle`.

Pure; a part of `letting_back`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from protocol.rights.reachability import carried
from protocol.rights.vouching import Device, Word

Place: TypeAlias = tuple[Device, bool]
"""A device as the person's own; or as a head's for which one of the person's spoke."""
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

    def add(self, by: Hashable, words: Iterable[Word]) -> None:
        """What is said from the one end alone: it leads on, and nobody is led back by it."""
        for word in words:
            self._of[by, word.person].append(word)
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

    def onward(self, by: Hashable, person: bytes, *, is_head: bool) -> Iterable[Place]:
        """To which places what was said leads, of the person's own device or of a head's."""
        for word in self._of_heads.get(by, ()):
            if is_head or (word.by == person and not word.is_own):
                yield word.device, True
        for word in self._of.get((by, person), ()):
            if is_head or word.is_own:
                yield word.device, False

    def back(self, device: Device, person: bytes, *, is_head: bool) -> Iterable[Place]:
        """Which places lead to one: the same from its end."""
        if not is_head:
            for voice, word in self._about.get((device, person), ()):
                yield from self.led_by(voice, word, person)
            return
        for voice, word in self._by.get((device, person), ()):
            if not word.is_own:
                yield voice, False
        for voice in self._heads.get(device, ()):
            if voice in self._heads:
                yield voice, True

    def led_by(self, voice: Device, word: Word, person: bytes) -> Iterable[Place]:
        """As what a voice leads by its word to a person's own device: as theirs, and as a head's that was shown it."""
        if word.person == person:
            if word.is_own:
                yield voice, False
            if voice in self._heads:
                yield voice, True


@dataclass(frozen=True, slots=True)
class Asking:
    """Returns of a person, each with a bit."""

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
    """What was said while never away of grants that hold; and of those that are over too, to be followed back.

    Onward `ever` leads by all that was said, since returns too.
    """

    now: Words = field(default_factory=Words)
    ever: Words = field(default_factory=Words)


def lacked_by(
    asking: Asking,
    heard: Heard,
    vouched: Mapping[Device, Iterable[tuple[Device, Word, Bits]]],
    was_never_away: Callable[[Device], bool],
) -> dict[Device, Bits]:
    """Which returns lack each device that was never away: asked, it neither speaks for them nor leads to who does.

    One word of one of them is not enough.
    """
    asked, leading = asked_about(asking, heard.ever, was_never_away), leading_to(asking, heard, vouched)
    return {device: bits & ~leading.get(device, 0) for device, bits in asked.items() if was_never_away(device)}


def asked_about(asking: Asking, said: Words, was_never_away: Callable[[Device], bool]) -> dict[Device, Bits]:
    """About which of the returns each device is asked, if it was never away: others are on the way to these."""
    person = asking.person

    def onward(place: Place) -> Iterable[tuple[Place, Bits]]:
        device, is_head = place
        own = asking.own.get(device, 0)
        if is_head or not was_never_away(device):
            for after in said.onward(device, person, is_head=is_head):
                yield after, ~own
        for name, bits in asking.before.get(device, ()):
            for after in said.onward((device, name), person, is_head=is_head):
                yield after, bits

    found = _own_of(carried(_starts(asking.own), onward))
    for voice, bits in asking.spoke.items():
        found[voice] = found.get(voice, 0) | bits
    return found


def leading_to(
    asking: Asking, heard: Heard, vouched: Mapping[Device, Iterable[tuple[Device, Word, Bits]]]
) -> dict[Device, Bits]:
    """To which of the returns each device leads, by those that have `vouched` for them, whatever the returned say."""
    found: dict[Device, Bits] = {}
    for words, some in ((heard.now, ~asking.over), (heard.ever, asking.over)):
        for device, bits in _leading_by(words, asking, some, vouched).items():
            found[device] = found.get(device, 0) | bits
    return found


def _leading_by(
    words: Words, asking: Asking, some: Bits, vouched: Mapping[Device, Iterable[tuple[Device, Word, Bits]]]
) -> dict[Device, Bits]:
    person = asking.person

    def onward(place: Place) -> Iterable[tuple[Place, Bits]]:
        device, is_head = place
        others = ~asking.own.get(device, 0)
        for before in words.back(device, person, is_head=is_head):
            yield before, others & ~asking.own.get(before[0], 0)
        for voice, word, bits in () if is_head else vouched.get(device, ()):
            for before in words.led_by(voice, word, person):
                yield before, bits & ~asking.own.get(voice, 0)

    starts = {device: bits & some for device, bits in asking.own.items() if bits & some}
    return _own_of(carried(_starts(starts), onward))


def _starts(own: Mapping[Device, Bits]) -> dict[Place, Bits]:
    return {(device, False): bits for device, bits in own.items()}


def _own_of(found: Mapping[Place, Bits]) -> dict[Device, Bits]:
    return {device: bits for (device, is_head), bits in found.items() if not is_head}
