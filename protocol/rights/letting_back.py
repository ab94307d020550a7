"""Who was cut off and let in again, and what such a device says since (docs/protocol.md, "Confirmed devices").

Whoever has the server lets a reported laptop in again. What it says then is weighed by what others say of that.

Rules:
- what is said under a grant that let a device in again counts once each other device in use of its person's that it is
  linked with has spoken for that grant, or leads to who has, whatever it says; there may be none (docs/adr/0250);
- that stays so once the grant is over, or the device cut off again: else whoever has the server lets it say what he
  likes, and cuts it off with all that it said (docs/adr/0251);
- a confirmation that a phrase proves was said under the grant under which the phrase was drawn.

Pure; a part of `voices`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, TypeAlias

from protocol.limits import MAX_CONFIRMED_AGAIN_STEPS
from protocol.model.entry import Entry, Kind
from protocol.rights.door import Authority, Door
from protocol.rights.vouching import Device, Standing, Voices, Word

_NAMED: Final = frozenset({Kind.REVOKE, Kind.GRANT, Kind.CERTIFICATE})
LetInAgain: TypeAlias = Mapping[bytes, frozenset[bytes]]
"""The grants by which a device was let in again, those that are over included, each with what it names for that."""


def let_in_again(entries: Iterable[Entry], door: Door, reported: Container[bytes]) -> LetInAgain:
    """Of these `reported` keys the grants that name a revocation, by themselves or through others that they name."""
    named = [entry for entry in entries if entry.header.kind in _NAMED]
    granted = {each.grant: each.key for entry in named if (each := door.authority(entry.id)) is not None}
    grants = {entry.id: entry.header.parents for entry in named if granted.get(entry.id) in reported}
    named_by: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for grant, parents in grants.items():
        for name in parents:
            named_by[name].append(grant)
    found: dict[bytes, frozenset[bytes]] = {}
    pending = [entry.id for entry in named if entry.header.kind == Kind.REVOKE]
    while pending:
        name = pending.pop()
        for grant in named_by.pop(name, ()):
            if grant not in found and granted.get(name, granted[grant]) == granted[grant]:
                found[grant] = frozenset(grants[grant])
                pending.append(grant)
    return found


class Return(NamedTuple):
    """That a device was let in again: by what holds now, or once, by grants that `named` the same for it."""

    device: Device
    named: frozenset[bytes] | None = None


_OfOneAlone: TypeAlias = Mapping[tuple[Return, bytes], set[Device]]
"""Who has spoken for a device as one return of it, and otherwise never, by that and the person."""


class Vouched(NamedTuple):
    """That one device spoke for another, and as which return of its own: None where it was never away."""

    voice: Device
    word: Word
    since: Return | None


@dataclass(slots=True)
class _Said:
    """What a device has said since it was let in again: of grants that hold, and of others."""

    words: set[Word] = field(default_factory=set)
    over: set[Word] = field(default_factory=set)


class Returns:
    """The returns of a space, and what was said of them and since.

    `holding` are the grants that hold; `came_back` are the keys that were cut off once, and are not now.
    """

    def __init__(self, holding: Mapping[bytes, Authority], came_back: Container[bytes], again: LetInAgain) -> None:
        self._holding = holding
        self._came_back = came_back
        self._again = again
        self._said: defaultdict[Return, _Said] = defaultdict(_Said)
        self._vouched: defaultdict[Return, list[Vouched]] = defaultdict(list)
        self._spoke: defaultdict[Standing, defaultdict[Device, set[Return | None]]] = defaultdict(
            lambda: defaultdict(set)
        )

    def of(self, under: Authority) -> Return | None:
        """As which return something was said under a grant; None where that let nobody in again."""
        device = under.key, under.agreement
        if under.key in self._came_back and under.grant in self._holding:
            return Return(device)
        named = self._again.get(under.grant)
        return None if named is None else Return(device, named)

    def note(self, vouched: Vouched, target: Authority) -> None:
        """Note who spoke for the device of a grant; what was said since a return is kept until others confirm that."""
        about, word = self.of(target), vouched.word
        if about is not None:
            self._vouched[about].append(vouched)
        if word.is_own:
            self._spoke[word.device, word.person][vouched.voice].add(about)
        if vouched.since is not None:
            said = self._said[vouched.since]
            (said.words if target.grant in self._holding else said.over).add(word)

    def joined(
        self, voices: Voices, former: Iterable[Authority], aliases: Mapping[bytes, bytes], cut: Container[bytes]
    ) -> Voices:
        """The voices with what was said since the returns that others have confirmed.

        `former` are the teachers' grants of `LetInAgain`.
        """
        whose: dict[Return, set[bytes]] = {Return(device): set() for device in voices.let_back}
        grants: defaultdict[Return, set[bytes]] = defaultdict(set)
        for device, person in voices.standings:
            if device in voices.let_back:
                whose[Return(device)].add(person)
        for each in former:
            back = self.of(each)
            if back is not None and back.named is not None:
                persons = () if each.person is None else (aliases.get(each.person, each.person),)
                whose.setdefault(back, set()).update(persons)
                grants[back].add(each.grant)
        waiting = set(whose)
        of_one_alone = self._spoke_of_one_alone()
        for _ in range(MAX_CONFIRMED_AGAIN_STEPS if waiting else 0):
            round_ = Round(voices, of_one_alone)
            again = {one for one in waiting if self._is_confirmed(round_, one, whose[one], waiting, cut)}
            if not again:
                break
            waiting -= again
            voices = self._with_said(voices, again)
        return replace(voices, unheard=frozenset(grant for one in waiting for grant in grants.get(one, ())))

    def _with_said(self, voices: Voices, again: Collection[Return]) -> Voices:
        words, over = dict(voices.words), dict(voices.over)
        for one in again & self._said.keys():
            said = self._said[one]
            for into, more in ((words, said.words), (over, said.over)):
                if more:
                    into[one.device] = into.get(one.device, frozenset()) | more
        let_back = voices.let_back.difference(one.device for one in again if one.named is None)
        return replace(voices, let_back=let_back, words=words, over=over)

    def _is_confirmed(
        self, round_: Round, back: Return, whose: Iterable[bytes], waiting: Container[Return], cut: Container[bytes]
    ) -> bool:
        """Whether each device of theirs in use that it is linked with says so, or leads to who does; there may be none.

        Each: whoever has the server names a device that speaks for a lost laptop, or has that call it its own, and what
        one can tell from words is the same for that as for an honest one. That somebody grants one makes it no linked
        one; nor does that it has spoken for this return alone.
        """
        vouched = [(each.voice, each.word) for each in self._vouched.get(back, ()) if each.since not in waiting]
        for person in whose:
            led_to, spoke = self._others(round_, back.device, person, cut)
            of_this_alone = round_.of_one_alone.get((back, person), set())
            if not led_to and len(spoke) <= len(of_this_alone & spoke):
                continue
            agree = round_.leading_to(back.device, person, vouched)
            # the sizes first: who lets one in a thousand times has a thousand devices speak for it
            if len(spoke) > len(agree) + len(of_this_alone) or not (led_to <= agree and spoke <= agree | of_this_alone):
                return False
        return True

    def _others(
        self, round_: Round, device: Device, person: bytes, cut: Container[bytes]
    ) -> tuple[frozenset[Device], frozenset[Device]]:
        """The person's other devices in use to which one leads; and those that ever spoke for it."""
        if (device, person) not in round_.others:
            voices = round_.voices

            def in_use(those: Iterable[Device]) -> frozenset[Device]:
                others = (one for one in those if one != device and one[0] not in cut)
                return frozenset(one for one in others if (one, person) in voices.standings) - voices.let_back

            led_to = voices.circle(person, device).own
            round_.others[device, person] = in_use(led_to), in_use(self._spoke[device, person])
        return round_.others[device, person]

    def _spoke_of_one_alone(self) -> _OfOneAlone:
        """Who has spoken for a device as one return of it, and otherwise never, by that return and the person."""
        found: defaultdict[tuple[Return, bytes], set[Device]] = defaultdict(set)
        for (_, person), spoke in self._spoke.items():
            for voice, about in spoke.items():
                one = next(iter(about))
                if one is not None and len(about) == 1:
                    found[one, person].add(voice)
        return found


class Round:
    """Who is confirmed by what counts so far."""

    def __init__(self, voices: Voices, of_one_alone: _OfOneAlone) -> None:
        self.voices = voices
        self.of_one_alone = of_one_alone
        self.others: dict[Standing, tuple[frozenset[Device], frozenset[Device]]] = {}
        """Of who returns the others of its person; one that does so often is followed once."""
        self._about: defaultdict[Device, list[tuple[Device, Word]]] = defaultdict(list)
        for voice, said in voices.words.items():
            for word in said:
                self._about[word.device].append((voice, word))

    def about(self, device: Device) -> Sequence[tuple[Device, Word]]:
        """Who has said what of a device."""
        return self._about.get(device, ())

    def leading_to(self, device: Device, person: bytes, vouched: Collection[tuple[Device, Word]]) -> set[Device]:
        """Which of a person's devices have `vouched` that one is theirs, or lead to who has: its own word apart.

        The same as `Voices.circle` for each of them, followed from its end.
        """
        start: tuple[Device, bytes | None] = (device, None)  # as the person's own; a head's: as who one spoke for it
        found, pending = {start}, [start]
        while pending:
            named, spoken_as = pending.pop()
            for voice, word in vouched if named == device else self.about(named):
                for place in _led_from(voice, word, person, spoken_as) if voice != device else ():
                    if place not in found:
                        found.add(place)
                        pending.append(place)
        return {each for each, spoken_as in found if spoken_as is None}


def _led_from(
    voice: Device, word: Word, person: bytes, spoken_as: bytes | None
) -> Iterable[tuple[Device, bytes | None]]:
    """As what a voice leads by its word to a person's own device, or to a head's for which one spoke: see `_led_to`."""
    is_own = word.is_own and word.person == person
    if spoken_as is None:
        if is_own:
            yield voice, None
        if word.person == person:
            yield voice, word.shown
    elif word.head:
        if not is_own and word.by == spoken_as:
            yield voice, None
        yield voice, spoken_as
