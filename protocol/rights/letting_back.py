"""Who was reported and let in again, and what such a device says since ("Confirmed devices", C19 to C26).

Whoever has the server lets a reported laptop in again. What it says then is weighed by what others say of that.

Rules (docs/adr/0462):
- what is said under a grant that let a device in again counts once each device of its person's that was never away, and
  that it is linked with, has spoken for that grant, or leads to who has, whatever it says; there may be none;
- never away is who stands, and of whose key no report is in force. What one that was reported says of another, before
  or after it was confirmed again, is asked of nobody: so each is weighed by itself, and waits for none that waits;
- that stays so once the grant is over, or the device cut off again: else whoever has the server lets it say what he
  likes, and cuts it off with all that it said (docs/adr/0251);
- returns of one device come one after another, by how many reports they name: a later one names what an earlier one
  did, and what cut it off since. Linked is who was so before or since an earlier one, never since a later one alone;
- of one key so many reports are told apart; a return that names others besides is the same as none, so that what others
  say of one is no word for it (docs/adr/0562);
- a confirmation that a phrase proves was said under the grant under which the phrase was drawn.

Pure; a part of `voices`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from operator import or_
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from protocol.model.ancestry import marked
from protocol.model.entry import Entry, Kind
from protocol.rights.asked import Asking, Bits, Heard, lacked_by
from protocol.rights.door import Authority, Door
from protocol.rights.reachability import places_of
from protocol.rights.vouching import Device, Standing, Voices, Word

LetInAgain: TypeAlias = Mapping[bytes, int]
"""The grants by which a device was let in again, those that are over included, with a bit for each report that they
name, by themselves or through others of the same key; of all beyond `MAX_REPORTS_TOLD_APART` one, which tells none."""
MAX_REPORTS_TOLD_APART: Final = 4_096
"""So many reports of one key that are in force, and that its grants name, are told apart."""
_NO_WORDS: Final = frozenset[Word]()
_NAMED_AS_MISSING: Final = 16
_WEIGHED_AT_ONCE: Final = 4_096


class Return(NamedTuple):
    """That a device was let in again: by what it has now, or by grants of former times that `named` the same.

    `alone` is the grant where more is named than is told apart: that is nobody else's return (docs/adr/0562).
    """

    device: Device
    named: int | None = None
    alone: bytes | None = None


def let_in_again(entries: Iterable[Entry], door: Door, reports: Mapping[bytes, bytes]) -> LetInAgain:
    """The grants that name reports of their own key, by themselves or through what else the key was given.

    `reports` are those in force, each with its key. What leads to a grant does so where rights are weighed
    (`revocations`), what is held back included.
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
        bits = marked({name: 1 << min(place, MAX_REPORTS_TOLD_APART) for place, name in enumerate(names)}, named_by)
        found.update((grant, bits[grant]) for grant in grants.keys() & bits.keys())
    return found


@dataclass(slots=True)
class _Said:
    """What a device has said since it was let in again: of grants that hold, and of others."""

    words: set[Word] = field(default_factory=set)
    over: set[Word] = field(default_factory=set)


_NOTHING_SAID: Final[Mapping[Return, _Said]] = MappingProxyType({})


class Returns:
    """The returns of a space, and what was said of them and since.

    `holding` are the grants that hold; `came_back` are the keys that were reported, and are not cut off now.
    """

    def __init__(self, holding: Mapping[bytes, Authority], came_back: Container[bytes], again: LetInAgain) -> None:
        self._holding = holding
        self._came_back = came_back
        self._again = again
        self._now: defaultdict[Device, int] = defaultdict(int)
        for grant, named in again.items():
            if (held := holding.get(grant)) is not None and held.key in came_back:
                self._now[held.pair] |= named
        self._said: defaultdict[Device, defaultdict[Return, _Said]] = defaultdict(lambda: defaultdict(_Said))
        self._vouched: defaultdict[Return, list[tuple[Device, Word]]] = defaultdict(list)
        self._spoke: defaultdict[Standing, defaultdict[Device, set[Return | None]]] = defaultdict(
            lambda: defaultdict(set)
        )

    def of(self, under: Authority) -> Return | None:
        """As which return something was said under a grant; None where that let nobody in again."""
        device = under.pair
        if under.key in self._came_back and under.grant in self._holding:
            return Return(device)
        named = self._again.get(under.grant)
        return None if named is None else Return(device, named, under.grant if _names_others(named) else None)

    def note(self, voice: Device, since: Return | None, word: Word, target: Authority) -> None:
        """Note who spoke for the device of a grant; what was said since a return is kept until others confirm that."""
        if since is not None:
            said = self._said[voice][since]
            (said.words if target.grant in self._holding else said.over).add(word)
            return
        about = self.of(target)
        if about is not None:
            self._vouched[about].append((voice, word))
        if word.is_own:
            self._spoke[word.device, word.person][voice].add(about)

    def joined(self, voices: Voices, former: Iterable[Authority], cut: Container[bytes]) -> Voices:
        """The voices with what was said since the returns that others have confirmed.

        `former` are the teachers' grants of `LetInAgain`.
        """
        whose, grants = self._whose(voices, former)
        if not whose:
            return voices
        missing = self._missing(voices, whose, cut)
        words, over = dict(voices.words), dict(voices.over)
        for one in whose.keys() - missing.keys():
            said = self._since(one.device).get(one, _Said())
            for into, more in ((words, said.words), (over, said.over)):
                if more:
                    into[one.device] = into.get(one.device, _NO_WORDS) | more
        waits_for = {one.device: others for one, others in missing.items() if one.named is None}
        return replace(
            voices,
            words=words,
            over=over,
            let_back=frozenset(waits_for),
            unheard_by={grant: others for one, others in missing.items() for grant in grants.get(one, ())},
            waits_for=waits_for,
        )

    def _whose(
        self, voices: Voices, former: Iterable[Authority]
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
                persons = () if each.person is None else (each.person,)
                whose.setdefault(back, set()).update(persons)
                grants[back].add(each.grant)
        return whose, grants

    def _missing(
        self, voices: Voices, whose: Mapping[Return, Iterable[bytes]], cut: Container[bytes]
    ) -> Mapping[Return, frozenset[Device]]:
        """For whom each return waits that does; for some, where there are many: who invents some invents thousands."""
        of_person: defaultdict[bytes, list[Return]] = defaultdict(list)
        for one, persons in whose.items():
            for person in persons:
                of_person[person].append(one)
        heard, missing = self._heard(voices, {one.device for one in whose}), defaultdict[Return, set[Device]](set)
        for person, returns in sorted(of_person.items()):
            was_never_away = partial(self._was_never_away, voices, cut, person)
            for first in range(0, len(returns), _WEIGHED_AT_ONCE):
                some, full = returns[first : first + _WEIGHED_AT_ONCE], 0
                asking = self._asking(person, some)
                for device, bits in sorted(lacked_by(asking, heard, self._vouched_for(some), was_never_away).items()):
                    for place in places_of(bits & ~full):
                        missing[some[place]].add(device)
                        full |= (len(missing[some[place]]) >= _NAMED_AS_MISSING) << place
        return {one: frozenset(devices) for one, devices in missing.items()}

    def _was_never_away(self, voices: Voices, cut: Container[bytes], person: bytes, device: Device) -> bool:
        """Whether it stands as this person's, and no report of its key is in force."""
        return (device, person) in voices.standings and device[0] not in cut and device[0] not in self._came_back

    def _heard(self, voices: Voices, returned: Iterable[Device]) -> Heard:
        """What was said under no return; and all that was ever said, and of who returned, since when.

        Linked is also by what was said since a return that nobody confirmed, and by words about grants that are over,
        since a server gives anew what words were about: more are asked then, and never fewer.
        """
        heard = Heard()
        ever = voices.with_over().words
        for words, said in ((heard.now, voices.words), (heard.ever, ever)):
            for voice, those in said.items():
                words.hear(voice, those)
        for device in returned:
            heard.ever.add((device, None), ever.get(device, _NO_WORDS))
            for one, since in self._since(device).items():
                for name in (device, (device, one)):
                    heard.ever.add(name, since.words | since.over)
        return heard

    def _since(self, device: Device) -> Mapping[Return, _Said]:
        """What a device has said since each of its returns."""
        return self._said.get(device, _NOTHING_SAID)

    def _asking(self, person: bytes, returns: Sequence[Return]) -> Asking:
        """Who is asked about returns, whatever counts by now.

        Each that was never away: whoever has the server names a device that speaks for a lost laptop, or has that call
        it its own, and what one can tell from words is the same for that as for an honest one. That somebody grants one
        makes it no linked one.
        """
        own: defaultdict[Device, dict[Return, Bits]] = defaultdict(dict)
        for place, back in enumerate(returns):
            own[back.device][back] = 1 << place
        before: dict[Device, Sequence[tuple[Return | None, Bits]]] = {}
        spoke: defaultdict[Device, Bits] = defaultdict(int)
        for device, backs in own.items():
            after = _those_after(backs)
            before[device] = [(one, after(one)) for one in (None, *self._since(device))]
            for voice, about in self._spoke.get((device, person), {}).items():
                for one in about:
                    spoke[voice] |= after(one)
        over = sum(1 << place for place, back in enumerate(returns) if back.named is not None)
        return Asking(person, {device: sum(backs.values()) for device, backs in own.items()}, before, spoke, over)

    def _vouched_for(self, returns: Iterable[Return]) -> Mapping[Device, Sequence[tuple[Device, Word, Bits]]]:
        """Who has spoken for which of these."""
        found: defaultdict[Device, list[tuple[Device, Word, Bits]]] = defaultdict(list)
        for place, back in enumerate(returns):
            # what lets it in now may name the same as what did once: who spoke for the one has for the other
            is_the_same = back == Return(back.device, self._now.get(back.device))
            alike = [back, Return(back.device)] if is_the_same else [back]
            found[back.device] += [(*said, 1 << place) for one in alike for said in self._vouched.get(one, ())]
        return found


def _names_others(named: int) -> bool:
    """Whether a return names reports that are not told apart: what it has in common with others is not known."""
    return bool(named >> MAX_REPORTS_TOLD_APART)


def _those_after(backs: Mapping[Return, Bits]) -> Callable[[Return | None], Bits]:
    """Before which of some returns of a device something was said: since another one, or while it was never away.

    What it has now came last.
    """

    def place_of(one: Return) -> int:
        return MAX_REPORTS_TOLD_APART + 2 if one.named is None else one.named.bit_count()

    at: defaultdict[int, Bits] = defaultdict(int)
    for back, bit in backs.items():
        at[place_of(back)] |= bit
    places = sorted(at)
    after: list[Bits] = [*accumulate((at[place] for place in reversed(places)), or_)][::-1]

    def those_after(one: Return | None) -> Bits:
        if one is None:
            return after[0]
        first = bisect_left(places, place_of(one))
        later = after[first] if first < len(after) else 0
        return later & ~backs.get(one, 0)

    return those_after
