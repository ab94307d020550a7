"""Who was cut off and let in again, and what such a device says since ("Confirmed devices", C19 to C29).

Whoever has the server lets a reported laptop in again. What it says then is weighed by what others say of that.

Rules:
- what is said under a grant that let a device in again counts once each other device in use of its person's that it is
  linked with has spoken for that grant, or leads to who has, whatever it says; there may be none (docs/adr/0250);
- past one that is in use and says so nobody is asked: whom that one confirmed came by its word (docs/adr/0257);
- who waits itself is asked as well, and who all wait for one another alone wait for nobody: in `turns` (docs/adr/0265);
- a device *goes on*, and counts as in use for others, though it waits itself, that held one grant while another was
  ended, and was never reported, or counted again since it was reported last: by the parents of what it holds. Where it
  would, if one of its returns that wait counted, what it has now waits until that is known;
- that stays so once the grant is over, or the device cut off again: else whoever has the server lets it say what he
  likes, and cuts it off with all that it said (docs/adr/0251);
- returns of one device come one after another, by the reports that they name: a later one names what an earlier one
  did, and what cut it off since, and what it has now comes last, whatever it names: a server ends what named more.
  Linked is who was so before or since an earlier one, never since a later one alone;
- a confirmation that a phrase proves was said under the grant under which the phrase was drawn.

Pure; a part of `voices`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from protocol.limits import MAX_RETURNS_WEIGHED
from protocol.model.ancestry import marked
from protocol.model.entry import Entry, Kind
from protocol.rights.asked import Asking, Bits, Heard, asked_about, leading_to, missing_of
from protocol.rights.door import Authority, Door
from protocol.rights.turns import Lacking, Return, Together, Turns, held_by
from protocol.rights.vouching import Device, Standing, Voices, Word

LetInAgain: TypeAlias = Mapping[bytes, int]
"""The grants by which a device was let in again, those that are over included, with a bit for each revocation that they
name, by themselves or through others of the same key: those of reports are the lowest."""
MAX_REVOCATIONS_TOLD_APART: Final = 4_096
"""So many revocations of one key that are in force are told apart."""
_NO_WORDS: Final = frozenset[Word]()
_WEIGHED_AT_ONCE: Final = 1_024


def let_in_again(
    entries: Iterable[Entry], door: Door, reports: Mapping[bytes, bytes], ends: Container[bytes] = ()
) -> LetInAgain:
    """The grants that name reports of their own key, by themselves or through what else the key was given.

    `reports` are the revocations in force, each with its key: those that end one grant are named as well, and part what
    was said before from what is said since. What leads to a grant does so where rights are weighed (`revocations`),
    what is held back included.
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
        names = sorted(named_by.keys() & of_key[key], key=lambda name: (name in ends, name))
        bits = marked(
            {name: 1 << min(place, MAX_REVOCATIONS_TOLD_APART - 1) for place, name in enumerate(names)}, named_by
        )
        found.update((grant, bits[grant]) for grant in grants.keys() & bits.keys())
    return found


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
    not cut off now, each with the bits of its `reports`; `held_on` are those of them that hold a grant that does not
    name all that was ended of them, and so held it while another one was ended.
    """

    def __init__(
        self,
        holding: Mapping[bytes, Authority],
        came_back: Container[bytes],
        again: LetInAgain,
        held_on: Container[bytes],
        reports: Mapping[bytes, int],
    ) -> None:
        self._holding = holding
        self._came_back = came_back
        self._again = again
        self._held_on = held_on
        self._reports = reports
        self._now: defaultdict[Device, int] = defaultdict(int)
        for grant, named in again.items():
            if (held := holding.get(grant)) is not None and held.key in came_back:
                self._now[held.pair] |= named
        self._said: defaultdict[Device, defaultdict[Return, _Said]] = defaultdict(lambda: defaultdict(_Said))
        self._vouched: defaultdict[Return, list[Vouched]] = defaultdict(list)
        self._spoke: defaultdict[Standing, defaultdict[Device, set[Return | None]]] = defaultdict(
            lambda: defaultdict(set)
        )

    def of(self, under: Authority) -> Return | None:
        """As which return something was said under a grant; None where that let nobody in again."""
        device = under.pair
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
        if not whose:
            return voices
        waiting, weighed = set(whose), self._weighed(whose)
        together, heard = list(self._together(weighed, whose)), self._heard(voices, whose)
        turns = Turns(self._reports_of)
        while True:
            left = [one for one in weighed if one in waiting]
            on, unsure = self._going_on(whose, waiting), self._that_may_go_on(whose, left)
            lacking = [
                self._lacking(some, heard, waiting, _Use(some.asking.person, voices, cut, on, unsure - on))
                for some in together
            ]
            again = turns.next(left, lacking)
            if not again:
                break
            waiting.difference_update(again)
            voices = self._with_said(voices, again, heard)
        missing = held_by(left, lacking)
        return replace(
            voices,
            unheard=frozenset(grant for one in waiting for grant in grants.get(one, ())),
            unheard_by={grant: others for one, others in missing.items() for grant in grants.get(one, ())},
            waits_for={one.device: others for one, others in missing.items() if one.named is None},
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
        """Those that are: of each device's returns that are over the earliest, which name the fewest.

        Those that name all its reports, by which it may go on, are counted by themselves: invented ones that name less
        stand before them.
        """
        found: list[Return] = []
        over: Counter[tuple[Device, bool]] = Counter()
        for one in sorted(returns, key=lambda one: (self._named(one).bit_count(), self._named(one), one.device)):
            kind = one.device, self._names_all_reports(one)
            over[kind] += one.named is not None
            if one.named is None or over[kind] <= MAX_RETURNS_WEIGHED:
                found.append(one)
        return found

    def _named(self, one: Return) -> int:
        return self._now.get(one.device, 0) if one.named is None else one.named

    def _is_before(self, one: Return | None, back: Return) -> bool:
        """Whether a device was what it was, or had returned, before it returned so: not after it, and not so."""
        if one is None or one == back:
            return one is None
        names, earlier = self._named(one), self._named(back)
        if one.named is None or back.named is None:  # what it has now came last: what named more was ended
            return back.named is None or names == earlier
        return names == earlier or names & earlier != earlier

    def _with_said(self, voices: Voices, again: Collection[Return], heard: Heard) -> Voices:
        words, over = dict(voices.words), dict(voices.over)
        for one in again:
            if (said := self._since(one.device).get(one)) is not None:
                heard.now.hear(one.device, said.words)
                heard.ever.hear(one.device, said.words | said.over)
                for into, more in ((words, said.words), (over, said.over)):
                    if more:
                        into[one.device] = into.get(one.device, _NO_WORDS) | more
        let_back = voices.let_back.difference(one.device for one in again if one.named is None)
        return replace(voices, let_back=let_back, words=words, over=over)

    def _heard(self, voices: Voices, returns: Iterable[Return]) -> Heard:
        """What counts before any return does; and what those who returned had said before each."""
        heard = Heard()
        for words, somebody in ((heard.now, voices), (heard.ever, voices.with_over())):
            for voice, said in somebody.words.items():
                words.hear(voice, said)
        for device in {one.device for one in returns}:
            ever = (voices.words.get(device, _NO_WORDS), voices.over.get(device, _NO_WORDS))
            heard.said.add((device, None), _NO_WORDS.union(*ever))
            for since, more in self._since(device).items():
                heard.said.add((device, since), more.words | more.over)
        return heard

    def _together(self, weighed: Iterable[Return], whose: Mapping[Return, Iterable[bytes]]) -> Iterable[Together]:
        """Those that are weighed, by whose they are, so many at once."""
        of_person: defaultdict[bytes, list[Return]] = defaultdict(list)
        for one in weighed:
            for person in sorted(whose[one]):
                of_person[person].append(one)
        for person, returns in of_person.items():
            for first in range(0, len(returns), _WEIGHED_AT_ONCE):
                some = returns[first : first + _WEIGHED_AT_ONCE]
                yield Together(some, self._asking(person, some))

    def _asking(self, person: bytes, returns: Sequence[Return]) -> Asking:
        """Who is asked about returns, whatever counts by now.

        Each of those in use: whoever has the server names a device that speaks for a lost laptop, or has that call it
        its own, and what one can tell from words is the same for that as for an honest one. That somebody grants one
        makes it no linked one. Linked is also by what was said since a return that nobody confirmed, and by words about
        grants that are over, since a server gives anew what words were about: more are asked then, and never fewer.
        """
        own: defaultdict[Device, Bits] = defaultdict(int)
        before: defaultdict[Device, defaultdict[Return | None, Bits]] = defaultdict(lambda: defaultdict(int))
        spoke: defaultdict[Device, Bits] = defaultdict(int)
        over = 0
        for place, back in enumerate(returns):
            bit, device = 1 << place, back.device
            own[device] |= bit
            over |= bit if back.named is not None else 0
            for one in (None, *self._since(device)):
                if self._is_before(one, back):
                    before[device][one] |= bit
            for voice, about in self._spoke.get((device, person), {}).items():
                if any(self._is_before(one, back) for one in about):
                    spoke[voice] |= bit
        return Asking(person, own, {device: list(bits.items()) for device, bits in before.items()}, spoke, over)

    def _going_on(self, whose: Mapping[Return, Collection[bytes]], waiting: Container[Return]) -> frozenset[Standing]:
        """Who goes on, as whose, by what counts so far."""
        return frozenset(
            (one.device, person)
            for one, persons in whose.items()
            if self._lets_go_on(one) and (one.named is None or one not in waiting)
            for person in persons
        )

    def _that_may_go_on(self, whose: Mapping[Return, Collection[bytes]], left: Iterable[Return]) -> frozenset[Standing]:
        """Who would go on, as whose, if one that waits still counted."""
        return frozenset((one.device, person) for one in left if self._lets_go_on(one) for person in whose[one])

    def _lets_go_on(self, one: Return) -> bool:
        """Whether its device goes on by it: what it has now where it was never reported, else by one that is over."""
        key = one.device[0]
        if key not in self._held_on or (one.named is None and self._reports.get(key, 0)):
            return False
        return self._names_all_reports(one)

    def _lacking(self, some: Together, heard: Heard, waiting: AbstractSet[Return], use: _Use) -> Lacking:
        """Whom the returns lack that wait still, by what counts so far."""
        bits, vouched = some.bits_of(waiting), self._vouched_for(some, waiting)
        asked = asked_about(some.asking, heard, bits, use.is_in_use)
        lacked = missing_of(asked, leading_to(some.asking, heard, bits, vouched))
        on = some.bits_of({one for one in some.returns if use.goes_on(one.device) and self._names_all_reports(one)})
        in_use: dict[Device, Bits] = {}
        going_on: dict[Device, Bits] = {}
        waiting_too: dict[Device, Bits] = {}
        for device, those in lacked.items():
            if those and use.stands(device):
                waits = going_on if use.goes_on(device) else waiting_too
                (waits if use.waits(device) else in_use)[device] = those
        unsure = some.bits_of(
            {one for one in some.returns if one.named is None and use.may_go_on(one.device)} & waiting
        )
        return Lacking(some, in_use, going_on, waiting_too, on, unsure)

    def _reports_of(self, one: Return) -> Bits:
        return self._named(one) & self._reports.get(one.device[0], 0)

    def _names_all_reports(self, one: Return) -> bool:
        """Whether it names all reports of a key that may go on; all do of one that may not."""
        key = one.device[0]
        return one.named is None or key not in self._held_on or self._reports_of(one) == self._reports.get(key, 0)

    def _vouched_for(
        self, some: Together, waiting: Container[Return]
    ) -> Mapping[Device, Sequence[tuple[Device, Word, Bits]]]:
        """Who has spoken for which of the returns that wait, and waits for nobody with that."""
        found: defaultdict[Device, list[tuple[Device, Word, Bits]]] = defaultdict(list)
        for place, back in enumerate(some.returns):
            if back in waiting:
                # what lets it in now may name the same as what did once: who spoke for the one has for the other
                alike = [back] if self._now.get(back.device) != back.named else [back, Return(back.device)]
                for each in (each for one in alike for each in self._vouched.get(one, ())):
                    if each.since not in waiting:
                        found[back.device].append((each.voice, each.word, 1 << place))
        return found


class _Use(NamedTuple):
    """Which devices of a person's are in use, by what counts so far."""

    person: bytes
    voices: Voices
    cut: Container[bytes]
    on: Container[Standing]
    unsure: Container[Standing]

    def is_in_use(self, device: Device) -> bool:
        """Whether it waits for nobody, or goes on.

        Whoever has the server's key grants her laptop once more and ends what it had: it goes on all the while, and
        would be asked about nobody if that made it wait.
        """
        return self.stands(device) and (not self.waits(device) or self.goes_on(device))

    def stands(self, device: Device) -> bool:
        """Whether nothing has cut it off."""
        return device[0] not in self.cut and (device, self.person) in self.voices.standings

    def waits(self, device: Device) -> bool:
        """Whether it waits for others itself."""
        return device in self.voices.let_back

    def goes_on(self, device: Device) -> bool:
        """Whether it had come back or was never away, and nothing but grants of it was ended since, beside others."""
        return (device, self.person) in self.on

    def may_go_on(self, device: Device) -> bool:
        """Whether it does if one of its returns that are over, and wait, counts."""
        return (device, self.person) in self.unsure
