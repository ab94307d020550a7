"""Whose devices speak for somebody, and under which grants nobody does ("Confirmed devices", C31 to C37).

Rules:
- what speaks starts from the devices that this replica saw first, and goes where their words lead; where that is to
  none in use, from the one that it met next, by its own note: who says a thing chooses its date, and who may cut
  devices off chooses of which no word leads on any more (docs/adr/0246);
- whom it met in whatever class goes before whom it has not: a class begins each year, and with it no new memory
  (docs/adr/0389), and whom it met where they are cut off after the others: a cut is anybody's word, and makes nobody a
  stranger. After these comes who was only heard in a class before whom it knew: a newcomer's hour is the weaker claim;
- that holds of what is said anew: who is cut off here says nothing more, and stands where it stood, so that what it had
  said before stays whose it was (docs/adr/0414);
- in a space above one in which it knows a device of somebody's, neither cut off nor let back, none begins their voice
  but one that it has met, and that is neither gone nor doubted: who writes for a whole school does so on a computer
  that its machines know from a class, or to which the words of such a one lead there (docs/adr/0527);
- to be met so takes a word about a reading key in this class: who is granted there and says nothing is the
  laptop of before, perhaps, which lies in a drawer;
- whom only grants that the root's own word holds back ever called somebody's was never first as that one: that is no
  server's doing (docs/adr/0470);
- who was let back and waits to be confirmed gives nothing: past such a one it goes on, but only to whom it has noted,
  for whoever has the server makes anybody wait (docs/adr/0246);
- each id is a person of its own: that a list calls two ids one joins no voices, gives no keys and silences nobody
  (docs/adr/0461);
- whom this replica has heard in a class before one came there whom it knew is shown for a while yet, beside that one,
  and is given nothing: neither is confirmed, and words that stood there for days are hers as likely as not
  (docs/adr/0400);
- any other teacher's grant whose device is not among those says nothing; that it is over makes it no more than it was:
  of a grant that gives nothing any more, also what was said while it did leads to its device (docs/adr/0161).

Pure; called by the roster alone.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from protocol.rights.circles import Circles
from protocol.rights.door import Authority
from protocol.rights.vouching import Device, Standing, Voices
from protocol.roles import HAS_READING_KEYS, Role


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a replica remembers of each person where it looks at one space.

    `firsts` are the devices that it saw first there, and believes whatever comes later; `met_ms` is when it met each
    there that has said a reading key: the same for those that it met in one look. `anywhere` is the order in which it
    met them in whatever space, right behind who had led to them: later by `GONE` of those that are cut off wherever it
    met them, and by `DOUBTED` of those that it only heard, before whom it knew; and from `UNMET` on of those whom it
    does not know. `since_ms` is the same, cut off or not, but for the doubted. `strangers` are devices that grants call
    theirs and from which no voice starts.
    `known_below` are those of whom it knows a device, neither cut off nor let back, in a space below this one.
    `heard_on` are devices whose words go on being shown as this person's beside those of whoever speaks for them.
    """

    firsts: Mapping[bytes, Sequence[Device]] = field(default_factory=dict)
    met_ms: Mapping[bytes, Mapping[Device, int]] = field(default_factory=dict)
    anywhere: Mapping[bytes, Mapping[Device, int]] = field(default_factory=dict)
    since_ms: Mapping[bytes, Mapping[Device, int]] = field(default_factory=dict)
    strangers: Mapping[bytes, frozenset[Device]] = field(default_factory=dict)
    heard_on: Mapping[bytes, frozenset[Device]] = field(default_factory=dict)
    known_below: frozenset[bytes] = frozenset()

    def but_for(self, undone: Container[Standing]) -> Remembered:
        """The same, of a replica that saw none of these first."""
        if not undone:
            return self
        return replace(
            self,
            firsts={
                person: tuple(each for each in devices if (each, person) not in undone)
                for person, devices in self.firsts.items()
            },
        )

    def met(self, person: bytes, device: Device) -> int:
        """When it met a device as this person's, if it knows it; in which order it comes, if it does not."""
        return self.anywhere.get(person, self.met_ms.get(person, {})).get(device, _LAST)

    def has_met(self, person: bytes, device: Device) -> bool:
        """Whether it knows a device as this person's, and it is not gone wherever that is."""
        order = self.met(person, device)
        return order < UNMET and not order & GONE

    def has_noted(self, person: bytes, device: Device) -> bool:
        """Whether it knows a device so, or has met it with a reading key in this space."""
        return device in self.met_ms.get(person, ()) or self.has_met(person, device)

    def knows_below(self, person: bytes) -> bool:
        """Whether whoever speaks for a person here is to be known to it."""
        return person in self.known_below

    def before_a_cut(self, person: bytes, device: Device) -> int:
        """In which order it would come if nobody had cut it off."""
        return self.since_ms.get(person, {}).get(device, self.met(person, device))


Speaking: TypeAlias = Mapping[bytes, frozenset[Device]]
"""The devices that speak for each person: those to which their own lead."""
Starts: TypeAlias = Mapping[bytes, tuple[Device, ...]]
"""From which devices each person's voice starts."""

GONE: Final = 1 << 62
"""Added to when somebody was met: later than whoever is not gone."""
DOUBTED: Final = 1 << 63
"""Likewise: later than whoever is not doubted, gone or not."""
UNMET: Final = 1 << 64
"""Later than whoever was met."""
_LAST, _ANYBODY = 1 << 65, 1 << 66


def speaking_devices(voices: Voices, cut: frozenset[bytes], remembered: Remembered) -> tuple[Speaking, Starts]:
    """Who speaks for each person, and from which devices that starts.

    From those that are remembered, else from the one met earliest that leads to one in use. Those that were cut off
    stay among them: what they said before stays said.
    """
    circles = Circles(voices)
    starts: dict[bytes, tuple[Device, ...]] = {}
    for person in voices.firsts:
        firsts = remembered.firsts.get(person, ())
        begun = (*firsts, *_gone_before(firsts, voices, cut, person, remembered))
        there = {each for each in _led_by(circles, person, firsts) if _is_in_use(each, person, voices, cut)}
        if there <= voices.let_back:
            waits = not firsts and _has_noted_one_in_use(voices, cut, person, remembered)
            before = GONE if there or remembered.knows_below(person) else UNMET if waits else _ANYBODY
            begun = (*begun, *_until_one_is_in_use(voices, cut, circles, person, remembered, before=before))
        starts[person] = tuple(dict.fromkeys(begun))
    return _led_to(circles, starts, voices.let_back), starts


def _led_by(circles: Circles, person: bytes, starts: Iterable[Device]) -> frozenset[Device]:
    circle = circles.of(person)
    for start in starts:
        circle.start(start)
    return frozenset(circle.own)


def _led_to(circles: Circles, starts: Starts, let_back: frozenset[Device]) -> Speaking:
    return {person: _led_by(circles, person, begun) - let_back for person, begun in starts.items()}


def _is_in_use(device: Device, person: bytes, voices: Voices, cut: frozenset[bytes]) -> bool:
    return device[0] not in cut and (device, person) in voices.standings


def _has_noted_one_in_use(voices: Voices, cut: frozenset[bytes], person: bytes, remembered: Remembered) -> bool:
    """Whether a device that says a key here, or was met here, is noted, in use, and waits for nobody."""
    called = dict.fromkeys((*remembered.met_ms.get(person, ()), *voices.firsts.get(person, ())))
    in_use = (each for each in called if _is_in_use(each, person, voices, cut) and each not in voices.let_back)
    return any(remembered.has_noted(person, each) for each in in_use)


def _gone_before(
    firsts: Sequence[Device], voices: Voices, cut: frozenset[bytes], person: bytes, remembered: Remembered
) -> Iterable[Device]:
    """Those not in use here that this replica met before all whom it believes here: what they had said is theirs."""
    since_ms = min((remembered.before_a_cut(person, first) for first in firsts), default=0)
    for device in voices.firsts.get(person, ()):
        is_earlier = remembered.before_a_cut(person, device) < min(since_ms, GONE)
        if is_earlier and not _is_in_use(device, person, voices, cut):
            yield device


def _until_one_is_in_use(
    voices: Voices,
    cut: frozenset[bytes],
    circles: Circles,
    person: bytes,
    remembered: Remembered,
    *,
    before: int,
) -> Iterable[Device]:
    """Those met earliest, of those met at once the earliest by date, until one leads to a device in use.

    Of who was met and is in use also if all that it has said is held back: a thief would hold that back for a moment.
    None that stands at `before` or later; past one that waits none but whom this replica has noted, and doubts not.
    """
    said, here = voices.firsts.get(person, ()), remembered.met_ms.get(person, ())
    silent = [device for device in here if device not in said and _is_in_use(device, person, voices, cut)]
    circle, strangers = circles.of(person), remembered.strangers.get(person, ())

    def place(device: Device) -> int:
        is_in_use = _is_in_use(device, person, voices, cut)
        return remembered.met(person, device) if is_in_use else remembered.before_a_cut(person, device)

    for start in sorted((*said, *silent), key=place):
        if start in strangers:
            continue
        if place(start) >= before:
            return
        yield start
        there = [device for device in circle.start(start) if _is_in_use(device, person, voices, cut)]
        if not voices.let_back.issuperset(there):
            return
        before = GONE if there else before


def unconfirmed(authorities: Iterable[Authority], speaking: Speaking) -> Iterable[bytes]:
    """Those of devices that are nobody's, or whose person no device of theirs has said so of.

    Where a person's devices have said no key yet, none of them speaks: whoever has the server grants what it likes.
    """
    for authority in authorities:
        if authority.role in HAS_READING_KEYS:
            is_nameless_head = authority.person is None and authority.role is Role.HEAD
            if authority.pair not in speaking.get(authority.person or b"", ()) and not is_nameless_head:
                yield authority.grant


def heard_on(
    living: Iterable[Authority], silent: Container[bytes], voices: Voices, cut: Container[bytes], remembered: Remembered
) -> Iterable[bytes]:
    """The grants, of those that speak for nobody, whose devices' words go on being shown (docs/adr/0400).

    A device that was cut off is doubted by somebody, and so is one that was let back: those are heard no more.
    """
    heard = {
        person: devices.intersection(voices.firsts.get(person, ())) - voices.let_back
        for person, devices in remembered.heard_on.items()
    }
    for each in living if heard else ():
        if each.grant in silent and each.pair in heard.get(each.person or b"", ()) and each.key not in cut:
            yield each.grant


def over(ever: Iterable[Authority], living: Iterable[Authority]) -> list[Authority]:
    """The teachers' grants that give nothing any more."""
    left = {each.grant for each in living}
    return [each for each in ever if each.grant not in left and each.role in HAS_READING_KEYS]


def once_led_to(over: Iterable[Authority], voices: Voices, starts: Starts) -> Speaking:
    """Which devices of the persons of grants that are over theirs lead to, by what was said of such grants too.

    A grant ends by the word of whoever has the server: that makes nothing hers that was not hers before.
    """
    persons = {each.person for each in over if each.person is not None}
    begun = {person: starts[person] for person in persons if person in starts}
    return _led_to(Circles(voices.with_over()), begun, frozenset()) if begun else {}
