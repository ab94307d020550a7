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
- to be met so takes a word about a reading key in this class: who is granted there and says nothing is the
  laptop of before, perhaps, which lies in a drawer;
- who was let back and waits to be confirmed gives nothing: past such a one it goes on, but only to whom it has noted,
  for whoever has the server makes anybody wait; and so where another id of theirs has one in use (docs/adr/0246);
- that lists call two ids one makes nobody silent, and nobody the other: each goes on under the name of its own id until
  words lead from the devices of the id under which both are listed (docs/adr/0164): of whom this replica knows by an
  id, in whatever space but this one, that begins as if no list said so (docs/adr/0441, 0459); and of what speaks for
  its own id words lead back as well: the devices of the listed id may be a stranger's, who says that all are his
  (docs/adr/0189);
- whom this replica has heard in a class before one came there whom it knew is shown for a while yet, beside that one,
  and is given nothing: neither is confirmed, and words that stood there for days are hers as likely as not
  (docs/adr/0400);
- any other teacher's grant whose device is not among those says nothing; that it is over makes it no more than it was:
  of a grant that gives nothing any more, also what was said while it did leads to its device (docs/adr/0161).

Pure; called by the roster alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from protocol.limits import MAX_IDS_OF_ONE
from protocol.rights.circles import Circle, Circles
from protocol.rights.door import Authority
from protocol.rights.vouching import Device, Voices
from protocol.roles import HAS_READING_KEYS, Role


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a replica remembers of each person where it looks at one space, by the ids alone that grants give them.

    `firsts` are the devices that it saw first there, and believes whatever comes later; `met_ms` is when it met each
    there that has said a reading key: the same for those that it met in one look. `anywhere` is the order in which it
    met them in whatever space, right behind who had led to them: later by `GONE` of those that are cut off wherever it
    met them, and by `DOUBTED` of those that it only heard, before whom it knew; and from `UNMET` on of those whom it
    does not know. `since_ms` is the same, cut off or not, but for the doubted. `strangers` are devices that grants call
    theirs and from which no voice starts.
    `heard_on` are devices whose words go on being shown as this person's beside those of whoever speaks for them.
    """

    firsts: Mapping[bytes, Sequence[Device]] = field(default_factory=dict)
    met_ms: Mapping[bytes, Mapping[Device, int]] = field(default_factory=dict)
    anywhere: Mapping[bytes, Mapping[Device, int]] = field(default_factory=dict)
    since_ms: Mapping[bytes, Mapping[Device, int]] = field(default_factory=dict)
    strangers: Mapping[bytes, frozenset[Device]] = field(default_factory=dict)
    heard_on: Mapping[bytes, frozenset[Device]] = field(default_factory=dict)

    def met(self, person: bytes, device: Device) -> int:
        """When it met a device as this person's, if it knows it; in which order it comes, if it does not."""
        return self.anywhere.get(person, self.met_ms.get(person, {})).get(device, _LAST)

    def knows(self, person: bytes) -> bool:
        """Whether it knows any device as this person's, in whatever space, gone or doubted or not."""
        return any(order < UNMET for order in self.anywhere.get(person, {}).values())

    def has_met(self, person: bytes, device: Device) -> bool:
        """Whether it knows a device as this person's, and it is not gone wherever that is."""
        order = self.met(person, device)
        return order < UNMET and not order & GONE

    def has_noted(self, person: bytes, device: Device) -> bool:
        """Whether it knows a device so, or has met it with a reading key in this space."""
        return device in self.met_ms.get(person, ()) or self.has_met(person, device)

    def before_a_cut(self, person: bytes, device: Device) -> int:
        """In which order it would come if nobody had cut it off."""
        return self.since_ms.get(person, {}).get(device, self.met(person, device))


Led: TypeAlias = Mapping[bytes, frozenset[Device]]
"""To which devices each id's own ones lead."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """Which devices speak for whom.

    `listed` are those that speak for somebody under the id under which they are listed, whichever of their ids it was
    to which they belong; `own` are, of each id, those that speak for it without that a list has to call two ids one:
    of one that is listed, to which its own devices lead. `through` is, of who has several ids, from the devices of
    which id words lead to each, where it is one alone. `led` are, of each id that has devices of its own, those to
    which these lead, by what they said of others of its ids too: whatever else is granted as, or listed as, the same;
    of who has more than `MAX_IDS_OF_ONE`, as no list of people has it, by what they said under that id alone.
    `apart` are, of each other id of theirs, the devices that are its own without a list, those let back included, as
    long as none of them has called one of the listed id's its own.
    """

    listed: Mapping[bytes, frozenset[Device]]
    own: Mapping[bytes, frozenset[Device]]
    through: Mapping[bytes, Mapping[Device, bytes]]
    led: Led
    apart: Mapping[bytes, frozenset[Device]]


GONE: Final = 1 << 62
"""Added to when somebody was met: later than whoever is not gone."""
DOUBTED: Final = 1 << 63
"""Likewise: later than whoever is not doubted, gone or not."""
UNMET: Final = 1 << 64
"""Later than whoever was met."""
_LAST, _ANYBODY = 1 << 65, 1 << 66
_NOBODY: Final = Spoken({}, {}, {}, {}, {})
Starts: TypeAlias = Mapping[bytes, tuple[Device, ...]]
"""From which devices each id's voice starts."""


@dataclass(frozen=True, slots=True)
class Said:
    """What was said of whose devices are whose: as lists have it, and `apart`, as if no list called two ids one."""

    voices: Voices
    apart: Voices
    aliases: Mapping[bytes, bytes]

    def who(self, person: bytes) -> bytes:
        """The one id under which a person is listed."""
        return self.aliases.get(person, person)

    def by_listed(self, persons: Iterable[bytes]) -> dict[bytes, list[bytes]]:
        """These ids, under those under which they are listed."""
        found: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for person in sorted(set(persons)):
            found[self.who(person)].append(person)
        return found


def speaking_devices(said: Said, cut: frozenset[bytes], remembered: Remembered) -> tuple[Spoken, Starts]:
    """Who speaks for each person, and from which devices that starts.

    From those that are remembered of any of the person's ids, else of each id from the one met earliest that leads to
    one in use. Those that were cut off stay among them: what they said before stays said.
    """
    alone, together = _circles(said)
    ids = said.by_listed((*said.apart.firsts, *remembered.firsts))
    starts: dict[bytes, tuple[Device, ...]] = {}
    for one in said.voices.firsts:
        begun = {person: remembered.firsts.get(person, ()) for person in ids[one]}
        led = _led_by_each(begun, one, together)
        there = {each for each in frozenset().union(*led.values()) if _is_in_use(each, one, said.voices, cut)}
        new_here = begun.keys() - remembered.firsts.keys()
        noted = {person for person in new_here if _has_noted_one_in_use(said.apart, cut, person, remembered)}
        for person, firsts in begun.items():
            starts[person] = tuple(dict.fromkeys((*firsts, *_gone_before(firsts, said.apart, cut, person, remembered))))
            # whom this replica knows by an id, and not in this space, begins as if no list said whose else it is
            heeds_lists = bool(firsts) or not remembered.knows(person)
            beside, waiting = (there, noted) if heeds_lists else (frozenset(), noted & {person})
            own = beside & led[person] if firsts else beside
            if own <= said.voices.let_back:
                before = GONE if own else DOUBTED if beside else UNMET if waiting else _ANYBODY
                following = _until_one_is_in_use(said.apart, cut, alone, person, remembered, before=before)
                starts[person] = tuple(dict.fromkeys((*starts[person], *following)))
    return _led_to(said, starts, alone, together), starts


def _led_by_each(begun: Mapping[bytes, Sequence[Device]], one: bytes, together: Circles) -> dict[bytes, set[Device]]:
    """To which devices, of those listed as one, the first ones of each of these ids lead.

    Of so many ids that none of them speaks for another those are counted for the first of them alone: it would cost
    whoever looks the square of what a list says.
    """
    all_of_them = together.of(one) if len(begun) > MAX_IDS_OF_ONE else None
    return {
        person: {each for start in firsts for each in circle.start(start)}
        for person, firsts in begun.items()
        for circle in [all_of_them or together.of(one)]
    }


def _is_in_use(device: Device, person: bytes, voices: Voices, cut: frozenset[bytes]) -> bool:
    return device[0] not in cut and (device, person) in voices.standings


def _has_noted_one_in_use(apart: Voices, cut: frozenset[bytes], person: bytes, remembered: Remembered) -> bool:
    """Whether a device of an id that says a key here, or was met here, is noted, in use, and waits for nobody."""
    called = dict.fromkeys((*remembered.met_ms.get(person, ()), *apart.firsts.get(person, ())))
    in_use = (each for each in called if _is_in_use(each, person, apart, cut) and each not in apart.let_back)
    return any(remembered.has_noted(person, each) for each in in_use)


def _gone_before(
    firsts: Sequence[Device], apart: Voices, cut: frozenset[bytes], person: bytes, remembered: Remembered
) -> Iterable[Device]:
    """Those not in use here that this replica met before all whom it believes here: what they had said is theirs."""
    since_ms = min((remembered.before_a_cut(person, first) for first in firsts), default=0)
    for device in apart.firsts.get(person, ()):
        is_earlier = remembered.before_a_cut(person, device) < min(since_ms, GONE)
        if is_earlier and not _is_in_use(device, person, apart, cut):
            yield device


def _until_one_is_in_use(
    apart: Voices,
    cut: frozenset[bytes],
    alone: Circles,
    person: bytes,
    remembered: Remembered,
    *,
    before: int,
) -> Iterable[Device]:
    """Those met earliest, of those met at once the earliest by date, until one leads to a device in use.

    Of who was met and is in use also if all that it has said is held back: a thief would hold that back for a moment.
    None that stands at `before` or later; past one that waits none but whom this replica has noted, and doubts not.
    """
    said, here = apart.firsts.get(person, ()), remembered.met_ms.get(person, ())
    silent = [device for device in here if device not in said and _is_in_use(device, person, apart, cut)]
    circle, strangers = alone.of(person), remembered.strangers.get(person, ())

    def place(device: Device) -> int:
        is_in_use = _is_in_use(device, person, apart, cut)
        return remembered.met(person, device) if is_in_use else remembered.before_a_cut(person, device)

    for start in sorted((*said, *silent), key=place):
        if start in strangers:
            continue
        if place(start) >= before:
            return
        yield start
        there = [device for device in circle.start(start) if _is_in_use(device, person, apart, cut)]
        if not apart.let_back.issuperset(there):
            return
        before = GONE if there else before


def _circles(said: Said) -> tuple[Circles, Circles]:
    alone = Circles(said.apart)
    return alone, alone if said.apart is said.voices else Circles(said.voices)


def _led_to(said: Said, starts: Starts, alone: Circles, together: Circles) -> Spoken:
    listed, own, through, led, apart = {}, {}, {}, {}, dict[bytes, frozenset[Device]]()
    for one, persons in said.by_listed(starts).items():
        own[one] = frozenset(_led_by(together.of(one), [one], starts)) - said.voices.let_back
        if starts.get(one):
            led[one] = own[one]
        if persons == [one]:
            listed[one] = own[one]
            continue
        by_itself = {person: frozenset(_led_by(alone.of(person), [person], starts)) for person in {*persons, one}}
        # once for all of them: one device may be that of thousands, and call as many its own
        called = {
            device: by_itself[one].intersection(together.called_own(device, one))
            for device in frozenset().union(*by_itself.values())
        }
        for person in persons:
            if person != one:
                own[person] = by_itself[person] - said.apart.let_back
                if starts.get(person) and len(persons) > MAX_IDS_OF_ONE:
                    led[person] = own[person]
                elif starts.get(person):
                    led[person] = frozenset(_led_by(together.of(one), [person], starts)) - said.voices.let_back
                if not _call_own(called, by_itself[person]):
                    apart[person] = by_itself[person]
        first, last = (_led_by(together.of(one), order, starts) for order in (persons, persons[::-1]))
        listed[one] = frozenset(first) - said.voices.let_back
        through[one] = {device: person for device, person in first.items() if last[device] == person}
    return Spoken(listed, own, through, led, apart)


def _call_own(called: Mapping[Device, frozenset[Device]], theirs: frozenset[Device]) -> bool:
    """Whether one of these devices has said that one of the listed id's, which is not among them, is its own too."""
    return any(not called[device] <= theirs for device in theirs)


def _led_by(circle: Circle, persons: Sequence[bytes], starts: Starts) -> dict[Device, bytes]:
    """The devices to which those of these ids lead, each with the first of the ids that does."""
    found: dict[Device, bytes] = {}
    for person in persons:
        for start in starts.get(person, ()):
            found.update(dict.fromkeys(circle.start(start), person))
    return found


def joined(starts: Starts, said: Said) -> dict[bytes, tuple[Device, ...]]:
    """From which devices the voice of each person starts, under the one id under which they are listed."""
    return {
        one: tuple(dict.fromkeys(start for person in persons for start in starts[person]))
        for one, persons in said.by_listed(starts).items()
    }


def by_a_list_alone(
    authorities: Iterable[Authority], aliases: Mapping[bytes, bytes], spoken: Spoken
) -> Iterable[tuple[bytes, bytes | None]]:
    """The grants whose devices speak for somebody only because a list calls two ids one, each with whose word that is.

    It is that of the granted id, where the device speaks for it whatever lists say; else that of the one id from which
    words lead to it (a new laptop, let in under the listed id, that was confirmed on the one of the other); if they do
    from several, one cannot tell whose. What the listed id's devices say of another id's own is no more than a list,
    until one of these says so too.
    """
    several = frozenset(aliases.values())
    for each in authorities:
        one = None if each.person is None else aliases.get(each.person, each.person)
        if each.person is None or one not in several or each.role not in HAS_READING_KEYS:
            continue
        device = each.pair
        is_theirs = device in spoken.own.get(one, ()) and device not in spoken.apart.get(each.person, ())
        if device in spoken.listed.get(one, ()) and not is_theirs:
            is_own = device in spoken.own.get(each.person, ())
            yield each.grant, each.person if is_own else spoken.through[one].get(device)


def unconfirmed(
    authorities: Iterable[Authority], aliases: Mapping[bytes, bytes], speaking: Mapping[bytes, frozenset[Device]]
) -> Iterable[bytes]:
    """Those of devices that are nobody's, or whose person no device of theirs has said so of.

    Where a person's devices have said no key yet, none of them speaks: whoever has the server grants what it likes.
    """
    for authority in authorities:
        if authority.role in HAS_READING_KEYS:
            device = authority.pair
            person = None if authority.person is None else aliases.get(authority.person, authority.person)
            is_nameless_head = authority.person is None and authority.role is Role.HEAD
            if device not in speaking.get(person or b"", ()) and not is_nameless_head:
                yield authority.grant


def heard_on(
    living: Iterable[Authority], silent: Container[bytes], apart: Voices, cut: Container[bytes], remembered: Remembered
) -> Iterable[bytes]:
    """The grants, of those that speak for nobody, whose devices' words go on being shown (docs/adr/0400).

    A device that was cut off is doubted by somebody, and so is one that was let back: those are heard no more.
    """
    heard = {
        person: devices.intersection(apart.firsts.get(person, ())) - apart.let_back
        for person, devices in remembered.heard_on.items()
    }
    for each in living if heard else ():
        if each.grant in silent and each.pair in heard.get(each.person or b"", ()) and each.key not in cut:
            yield each.grant


def over(ever: Iterable[Authority], living: Iterable[Authority]) -> list[Authority]:
    """The teachers' grants that give nothing any more."""
    left = {each.grant for each in living}
    return [each for each in ever if each.grant not in left and each.role in HAS_READING_KEYS]


def once_led_to(over: Iterable[Authority], said: Said, starts: Starts) -> Spoken:
    """Which devices of the persons of grants that are over theirs lead to, by what was said of such grants too.

    A grant ends by the word of whoever has the server: that makes nothing hers that was not hers before.
    """
    persons = {said.who(each.person) for each in over if each.person is not None}
    if not persons:
        return _NOBODY
    apart = _with_what_is_over(said.apart)
    ever = replace(said, apart=apart, voices=apart if said.apart is said.voices else _with_what_is_over(said.voices))
    return _led_to(ever, {one: starts[one] for one in starts if said.who(one) in persons}, *_circles(ever))


def _with_what_is_over(voices: Voices) -> Voices:
    return replace(voices.with_over(), let_back=frozenset())
