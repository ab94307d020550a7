"""Who was cut off and let in again, and what such a device says since (docs/protocol.md, "Confirmed devices").

Whoever has the server lets a reported laptop in again. What it says then is weighed by what others say of that.

Rules:
- what is said under a grant that let a device in again counts once each other device in use of its person's that it is
  linked with has spoken for that grant, or leads to who has, whatever it says; there may be none (docs/adr/0250);
- that stays so once the grant is over, or the device cut off again: else whoever has the server lets it say what he
  likes, and cuts it off with all that it said (docs/adr/0251);
- returns of one device come one after another, by the reports that they name: a later one names what an earlier one
  did, and what cut it off since. Linked is who was so before or since an earlier one, never since a later one alone;
- a confirmation that a phrase proves was said under the grant under which the phrase was drawn.

Pure; a part of `voices`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from protocol.limits import MAX_CONFIRMED_AGAIN_STEPS, MAX_RETURNS_WEIGHED
from protocol.model.ancestry import marked
from protocol.model.entry import Entry, Kind
from protocol.rights.door import Authority, Door
from protocol.rights.vouching import Device, Standing, Voices, Word

LetInAgain: TypeAlias = Mapping[bytes, int]
"""The grants by which a device was let in again, those that are over included, with a bit for each revocation that they
name, by themselves or through others of the same key."""
_NO_WORDS: Final = frozenset[Word]()
_MAX_BITS: Final = 4_096
"""So many revocations of one key that are in force are told apart."""


def let_in_again(entries: Iterable[Entry], door: Door, reports: Mapping[bytes, bytes]) -> LetInAgain:
    """The grants that name reports of their own key, by themselves or through what else the key was given.

    `reports` are the revocations in force, each with its key: those that end one grant are named as well, and part what
    was said before from what is said since. What leads to a grant does so where rights are weighed (`revocations`).
    """
    if not reports:
        return {}
    given: defaultdict[bytes, dict[bytes, Sequence[bytes]]] = defaultdict(dict)
    reported, of_key = frozenset(reports.values()), defaultdict[bytes, set[bytes]](set)
    for entry in entries:
        if entry.header.kind == Kind.REVOKE:
            if entry.id in reports:
                of_key[reports[entry.id]].add(entry.id)
        elif (authority := door.authority(entry.id)) is not None and authority.key in reported:
            given[authority.key][entry.id] = entry.header.parents
    found: dict[bytes, int] = {}
    for key, grants in given.items():
        named_by: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for grant, parents in grants.items():
            for name in parents:
                named_by[name].append(grant)
        names = sorted(named_by.keys() & of_key[key])
        bits = marked({name: 1 << min(place, _MAX_BITS - 1) for place, name in enumerate(names)}, named_by)
        found.update((grant, bits[grant]) for grant in grants.keys() & bits.keys())
    return found


class Return(NamedTuple):
    """That a device was let in again: by what it has now, or by grants of former times that `named` the same."""

    device: Device
    named: int | None = None


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


_NOTHING_SAID: Final[Mapping[Return, _Said]] = MappingProxyType({})


class Returns:
    """The returns of a space, and what was said of them and since.

    `holding` are the grants that hold; `came_back` are the keys that were cut off once, and are not now.
    """

    def __init__(self, holding: Mapping[bytes, Authority], came_back: Container[bytes], again: LetInAgain) -> None:
        self._holding = holding
        self._came_back = came_back
        self._again = again
        self._now: defaultdict[Device, int] = defaultdict(int)
        for grant, named in again.items():
            if (held := holding.get(grant)) is not None and held.key in came_back:
                self._now[held.key, held.agreement] |= named
        self._said: defaultdict[Device, defaultdict[Return, _Said]] = defaultdict(lambda: defaultdict(_Said))
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
            said = self._said[vouched.since.device][vouched.since]
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
        waiting, weighed, before = set(whose), self._weighed(whose), voices
        waits_for: dict[Device, frozenset[Device]] = {}
        for _ in range(MAX_CONFIRMED_AGAIN_STEPS if waiting else 0):
            step = _Step(voices, before, frozenset(waiting), cut)
            asked = {one: self._asked(one, step, whose[one]) for one in weighed if one in waiting}
            waits_for = {one.device: others for one, others in asked.items() if others and one.named is None}
            again = [one for one, others in asked.items() if not others]
            if not again:
                break
            waiting.difference_update(again)
            voices = self._with_said(voices, again)
        unheard = frozenset(grant for one in waiting for grant in grants.get(one, ()))
        return replace(voices, unheard=unheard, waits_for=waits_for)

    def _since(self, device: Device) -> Mapping[Return, _Said]:
        """What a device has said since each of its returns."""
        return self._said.get(device, _NOTHING_SAID)

    def _weighed(self, returns: Iterable[Return]) -> Sequence[Return]:
        """Those that are: of each device's returns that are over the earliest, which name the fewest."""
        found: list[Return] = []
        over: Counter[Device] = Counter()
        for one in sorted(returns, key=lambda one: (self._named(one).bit_count(), self._named(one), one.device)):
            over[one.device] += one.named is not None
            if one.named is None or over[one.device] <= MAX_RETURNS_WEIGHED:
                found.append(one)
        return found

    def _named(self, one: Return) -> int:
        return self._now.get(one.device, 0) if one.named is None else one.named

    def _is_before(self, one: Return | None, back: Return) -> bool:
        """Whether a device was what it was, or had returned, before it returned so: not after it, and not so."""
        if one is None or one == back:
            return one is None
        names, earlier = self._named(one), self._named(back)
        return names == earlier or names & earlier != earlier

    def _with_said(self, voices: Voices, again: Collection[Return]) -> Voices:
        words, over = dict(voices.words), dict(voices.over)
        for one in again:
            if (said := self._since(one.device).get(one)) is not None:
                for into, more in ((words, said.words), (over, said.over)):
                    if more:
                        into[one.device] = into.get(one.device, _NO_WORDS) | more
        let_back = voices.let_back.difference(one.device for one in again if one.named is None)
        return replace(voices, let_back=let_back, words=words, over=over)

    def _asked(self, back: Return, step: _Step, whose: Iterable[bytes]) -> frozenset[Device]:
        """The devices of theirs in use that it is linked with and that neither say so nor lead to who does.

        It is confirmed once there are none.

        Each: whoever has the server names a device that speaks for a lost laptop, or has that call it its own, and what
        one can tell from words is the same for that as for an honest one. That somebody grants one makes it no linked
        one. Linked is also by what was said since a return that nobody confirmed: more are asked then, and never fewer.
        """
        device, round_ = back.device, step.round_of(back)
        says = {device: self._said_before(back, step.before)}
        # what lets it in now may name the same as what did once: who spoke for the one has for the other
        alike = [back] if self._now.get(device) != back.named else [back, Return(device)]
        said = [each for one in alike for each in self._vouched.get(one, ())]
        vouched = [(each.voice, each.word) for each in said if each.since not in step.waiting]
        asked: set[Device] = set()
        for person in whose:
            spoke = [
                voice
                for voice, about in self._spoke.get((device, person), {}).items()
                if any(self._is_before(one, back) for one in about)
            ]
            others = round_.in_use((*round_.voices.circle(person, device, says=says).own, *spoke), person, step.cut)
            others.discard(device)
            if others:
                asked |= others - round_.leading_to(device, person, vouched)
        return frozenset(asked)

    def _said_before(self, back: Return, before: Voices) -> frozenset[Word]:
        """What a device has said before it returned so: ever, and since each return that is not later than this one.

        About a return that is over also what was said of grants that are; `before` is what was said since no return.
        """
        said = [said for one, said in self._since(back.device).items() if self._is_before(one, back)]
        words = before.words.get(back.device, _NO_WORDS).union(*(each.words for each in said))
        if back.named is None:
            return words
        return words.union(before.over.get(back.device, _NO_WORDS), *(each.over for each in said))


class _Step:
    """Who is confirmed by what counts so far: `waiting` returns are not; `before` is what was said since none."""

    def __init__(self, voices: Voices, before: Voices, waiting: frozenset[Return], cut: Container[bytes]) -> None:
        self.before, self.waiting, self.cut = before, waiting, cut
        self._now = Round(voices)
        self._ever: Round | None = None

    def round_of(self, back: Return) -> Round:
        """By what a return is weighed: one that is over also by what was said of grants that are."""
        if back.named is None:
            return self._now
        if self._ever is None:
            self._ever = Round(self._now.voices.with_over())
        return self._ever


class Round:
    """Who is confirmed by what counts so far."""

    def __init__(self, voices: Voices) -> None:
        self.voices = voices
        self._about: defaultdict[Device, list[tuple[Device, Word]]] = defaultdict(list)
        for voice, said in voices.words.items():
            for word in said:
                self._about[word.device].append((voice, word))

    def in_use(self, those: Iterable[Device], person: bytes, cut: Container[bytes]) -> set[Device]:
        """Of some devices the person's that are in use, and wait for nobody."""
        standing = (one for one in those if one[0] not in cut and (one, person) in self.voices.standings)
        return set(standing) - self.voices.let_back

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
