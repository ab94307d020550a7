"""Who was cut off and let in again, and what such a device says since (docs/protocol.md, "Confirmed devices").

Whoever has the server lets a reported laptop in again. What it says then is weighed by what others say of that.

Rules:
- what is said under a grant that let a device in again counts once each other device in use of its person's that it is
  linked with has spoken for that grant, or leads to who has, whatever it says; there may be none (docs/adr/0250);
- past one that is in use and says so nobody is asked: whom that one confirmed came by its word (docs/adr/0257);
- who waits itself is asked as well, until that confirms nobody more: two that wait for each other wait for nobody, but
  who was found and confirmed again, however long ago, is in use before anybody is asked about another;
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


class _Missing(NamedTuple):
    """Of the devices of its person's that a return is linked with, those that neither say so nor lead to who does."""

    in_use: frozenset[Device]
    waiting: frozenset[Device]


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

    `holding` are the grants that hold; `came_back` are the keys that were cut off once, or had a grant ended, and are
    not cut off now; `going_on` are those of them that may never have been: beside what was ended they hold a grant that
    names nothing of it.
    """

    def __init__(
        self,
        holding: Mapping[bytes, Authority],
        came_back: Container[bytes],
        again: LetInAgain,
        going_on: Container[bytes],
    ) -> None:
        self._holding = holding
        self._came_back = came_back
        self._again = again
        self._going_on = going_on
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
        whose, grants = self._whose(voices, former, aliases)
        waiting, weighed, before = set(whose), self._weighed(whose), voices
        missing: dict[Return, _Missing] = {}
        turns = _Turns()
        while waiting:
            step = _Step(voices, before, frozenset(waiting), cut)
            missing = {one: self._missing(one, step, whose[one]) for one in weighed if one in waiting}
            again = turns.confirmed(missing)
            if not again:
                break
            waiting.difference_update(again)
            voices = self._with_said(voices, again)
        left = {one: missing[one].in_use for one in waiting & missing.keys() if missing[one].in_use}
        return replace(
            voices,
            unheard=frozenset(grant for one in waiting for grant in grants.get(one, ())),
            unheard_by={grant: others for one, others in left.items() for grant in grants.get(one, ())},
            waits_for={one.device: others for one, others in left.items() if one.named is None},
        )

    def _whose(
        self, voices: Voices, former: Iterable[Authority], aliases: Mapping[bytes, bytes]
    ) -> tuple[dict[Return, set[bytes]], Mapping[Return, set[bytes]]]:
        """As whose each device returned; and, of the returns that are over, the grants."""
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
        return whose, grants

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

    def _missing(self, back: Return, step: _Step, whose: Iterable[bytes]) -> _Missing:
        """Which devices of theirs that it is linked with neither say so nor lead to who does; there may be none.

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
        missing: set[Device] = set()
        for person in whose:
            spoke = [
                voice
                for voice, about in self._spoke.get((device, person), {}).items()
                if any(self._is_before(one, back) for one in about)
            ]
            leading = round_.leading_to(device, person, vouched)
            # past who says so, and is in use, nobody else is asked: whom that one confirmed came by its word
            past = dict.fromkeys(self._in_use(round_.standing(leading, person, step.cut), round_.voices), _NO_WORDS)
            own = step.ever.voices.circle(person, device, says={**past, **says}).own
            missing |= round_.standing((*own, *spoke), person, step.cut) - leading - {device}
        in_use = self._in_use(missing, round_.voices)
        return _Missing(frozenset(in_use), frozenset(missing - in_use))

    def _in_use(self, those: Iterable[Device], voices: Voices) -> set[Device]:
        """Those that wait for nobody; and those that go on.

        Whoever has the server's key grants her laptop once more and ends that: it goes on all the while, and would be
        asked about nobody if that made it wait.
        """
        return {one for one in those if one not in voices.let_back or one[0] in self._going_on}

    def _said_before(self, back: Return, before: Voices) -> frozenset[Word]:
        """What a device has said before it returned so: ever, and since each return that is not later than this one.

        Also of grants that are over: whoever has the server ends, and gives anew, what words were about. `before` is
        what was said since no return.
        """
        said = [said for one, said in self._since(back.device).items() if self._is_before(one, back)]
        words = before.words.get(back.device, _NO_WORDS).union(*(each.words for each in said))
        return words.union(before.over.get(back.device, _NO_WORDS), *(each.over for each in said))


class _Turns:
    """Which returns are confirmed in each turn: first, as long as there are any, those for which everybody speaks.

    Of either kind there are so many: a line of those that server and thief invent takes no turn from the others.
    """

    def __init__(self) -> None:
        self._by_all = self._by_those_in_use = MAX_CONFIRMED_AGAIN_STEPS

    def confirmed(self, missing: Mapping[Return, _Missing]) -> list[Return]:
        """The next ones; none once nobody is left who waits for nobody."""
        again = by_all(missing) if self._by_all else []
        if again:
            self._by_all -= 1
        elif self._by_those_in_use:
            self._by_those_in_use -= 1
            again = [one for one, left in missing.items() if not left.in_use]
        return again


def by_all(missing: Mapping[Return, _Missing]) -> list[Return]:
    """Those for which everybody speaks that they are linked with, who waits included."""
    return [one for one, left in missing.items() if not left.in_use and not left.waiting]


class _Step:
    """Who is confirmed by what counts so far: `waiting` returns are not; `before` is what was said since none."""

    def __init__(self, voices: Voices, before: Voices, waiting: frozenset[Return], cut: Container[bytes]) -> None:
        self.before, self.waiting, self.cut = before, waiting, cut
        self._now = Round(voices)
        self.ever = Round(voices.with_over())

    def round_of(self, back: Return) -> Round:
        """By what a return is confirmed: one that is over also by what was said of grants that are."""
        return self._now if back.named is None else self.ever


class Round:
    """Who is confirmed by what counts so far."""

    def __init__(self, voices: Voices) -> None:
        self.voices = voices
        self._about: defaultdict[Device, list[tuple[Device, Word]]] = defaultdict(list)
        for voice, said in voices.words.items():
            for word in said:
                self._about[word.device].append((voice, word))

    def standing(self, those: Iterable[Device], person: bytes, cut: Container[bytes]) -> set[Device]:
        """Of some devices the person's that nothing has cut off: in use, or waiting."""
        return {one for one in those if one[0] not in cut and (one, person) in self.voices.standings}

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
