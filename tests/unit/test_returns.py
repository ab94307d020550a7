"""A teacher's laptops that are lost and found: whose word is what was said since, by the set alone (docs/adr/0251)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import pytest

from protocol.folds.growth import fold_space
from protocol.limits import MAX_CONFIRMED_AGAIN_STEPS, MAX_PARENTS, MAX_RETURNS_WEIGHED
from protocol.model.entry import Kind
from protocol.model.structure import Grant, PersonKey, Revocation
from protocol.rights.asked import Asking
from protocol.rights.door import Door
from protocol.rights.roster import Roster
from protocol.rights.speaking import Remembered
from protocol.rights.turns import Lacking, Return, Together, Turns
from protocol.rights.vouching import Device, Vouch
from protocol.roles import PersonRole, Role
from tests.harness.history import World, Writer


@dataclass
class Laptop:
    """One of hers: what writes for it, and what it was granted."""

    writer: Writer
    given: Grant

    @property
    def device(self) -> Device:
        return self.given.signing, self.given.agreement


class Life:
    """A teacher and her laptops, in a class in which a head's computer has a say."""

    def __init__(self) -> None:
        self.world = World(Random(1))
        self.room = self.world.classes[0]
        self.hers = self.world.person(self.room, PersonRole.TEACHER, "Mme Petit")
        self.head = self.head_of_the_school()
        self.door = Door(self.world.root.key.public)
        self.seen = 0
        self.met: list[Device] = []

    def head_of_the_school(self) -> Writer:
        head = self.world.enrol(Role.HEAD, self.world.school, person=self.world.random.randbytes(16))
        head.skew_ms = 0
        return head

    def buys(self, *beside: Laptop) -> Laptop:
        """A further laptop; it and those beside it confirm each other."""
        writer = self.world.enrol(Role.TEACHER, self.room, by=self.world.server, person=self.hers)
        writer.skew_ms = 0
        new = Laptop(writer, Grant.parse(self.world.entries[-1].payload or b""))
        self.met.append(new.device)
        self.says_a_key(new)
        for other in beside:
            self.confirms(other, new)
            self.confirms(new, other)
        return new

    def says_a_key(self, laptop: Laptop) -> None:
        key = PersonKey(self.world.random.randbytes(32)).encode()
        self.world.say(laptop.writer, self.room, Kind.PERSON_KEY, key, subject=self.hers)

    def confirms(self, one: Laptop, other: Laptop) -> None:
        said = Vouch().encode()
        self.world.say(one.writer, self.room, Kind.VOUCH, said, subject=self.hers, target=other.writer.grant)

    def loses(self, laptop: Laptop, by: Writer | None = None, ends: bytes | None = None) -> bytes:
        """It is reported, or one of its grants ended, with all that it has said."""
        tips = tuple(self.world.tips.get((self.room, laptop.writer.key.public), ())[:1])
        cut = Revocation(laptop.writer.key.public, tips).encode()
        return self.world.say(by or self.head, self.room, Kind.REVOKE, cut, target=ends).id

    def lets_in(self, laptop: Laptop, *cuts: bytes, by: Writer | None = None) -> bytes:
        return self.world.say(by or self.head, self.room, Kind.GRANT, laptop.given.encode(), parents=cuts).id

    def finds(self, laptop: Laptop, *cuts: bytes, asked: tuple[Laptop, ...] = ()) -> bytes:
        """It is let in again; those who are asked say that it is hers."""
        laptop.writer.grant = self.lets_in(laptop, *cuts)
        self.says_a_key(laptop)
        for other in asked:
            self.confirms(other, laptop)
        return laptop.writer.grant

    def is_reported(self, head: Writer) -> None:
        """A head's computer was in wrong hands: nothing that it said counts."""
        cut = Revocation(head.key.public, ()).encode()
        self.world.say(self.world.server, self.world.school, Kind.REVOKE, cut)

    def roster(self) -> Roster:
        for entry in self.world.entries[self.seen :]:
            self.door.learn(entry)
        self.seen = len(self.world.entries)
        line = self.door.lineage(self.room)[1:]
        own = [entry for entry in self.world.entries if entry.header.space == self.room]
        above = [entry for entry in self.world.entries if entry.header.space in line]
        met = dict.fromkeys(self.met, 0) | {device: place for place, device in enumerate(self.met)}
        remembered = Remembered({self.hers: tuple(self.met[:1])}, {self.hers: met})
        return fold_space(self.room, own, above, self.door, remembered, frozenset()).roster

    def speaks(self, laptop: Laptop) -> bool:
        return laptop.device in self.roster().speaking.get(self.hers, ())

    def waits_for(self, laptop: Laptop) -> frozenset[Device]:
        return self.roster().voices.waits_for.get(laptop.device, frozenset())


def test_the_fold_says_whom_a_found_laptop_waits_for() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    drawer = life.buys(first)
    life.finds(first, life.loses(first))
    assert life.waits_for(first) == {second.device, drawer.device}
    life.confirms(second, first)
    assert life.waits_for(first) == {drawer.device}
    life.loses(drawer)
    assert life.speaks(first)
    assert not life.roster().voices.waits_for


def test_a_laptop_that_was_found_and_confirmed_waits_for_no_further_one_that_hers_in_use_confirms() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    grant = life.finds(first, life.loses(first), asked=(second,))
    third = life.buys()
    life.confirms(second, third)
    assert life.speaks(third), "it has confirmed nobody itself yet"
    assert life.speaks(first)
    life.loses(first)
    assert life.roster().speaks(grant)


def test_who_is_granted_anew_where_access_had_ended_waits_whatever_that_grant_names() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    life.loses(first, ends=first.writer.grant)
    life.finds(first)
    assert life.waits_for(first) == {second.device}
    assert first.device in {device for device, _ in life.roster().away.back}


def test_a_line_of_invented_laptops_takes_no_turn_from_two_of_hers_that_wait_for_each_other() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    line = [life.buys()]
    for _ in range(MAX_CONFIRMED_AGAIN_STEPS + 2):
        line.append(life.buys(line[-1]))
        life.finds(line[-2], life.loses(line[-2]), asked=(*line[-3:-2], line[-1]))
    for laptop, lost in [(each, life.loses(each)) for each in (first, second)]:
        life.finds(laptop, lost)
    assert life.speaks(first)
    assert first.device not in life.roster().voices.let_back
    assert line[0].device not in life.roster().voices.let_back


def test_the_fold_says_whose_word_a_return_that_is_over_waits_for() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    third = life.buys(first)
    grant = life.finds(first, life.loses(first), asked=(second,))
    life.loses(first)
    assert dict(life.roster().voices.unheard_by) == {grant: {third.device}}
    said = Vouch().encode()
    life.world.say(third.writer, life.room, Kind.VOUCH, said, subject=life.hers, target=grant)
    assert life.roster().speaks(grant)
    assert not life.roster().voices.unheard_by


def test_what_she_said_after_a_false_report_stays_hers_though_nobody_confirmed_that_return() -> None:
    life = Life()
    stolen = life.head_of_the_school()
    first = life.buys()
    second = life.buys(first)
    report = life.loses(first, by=stolen)
    grant = life.finds(first, report)
    assert not life.speaks(first), "it waits for her second one"
    life.is_reported(stolen)
    third = life.buys(first)
    life.loses(first)
    assert life.roster().speaks(grant)
    assert life.speaks(second)
    assert life.speaks(third)


@pytest.mark.parametrize("invented", [2, MAX_RETURNS_WEIGHED + 8])
def test_returns_that_a_stolen_heads_laptop_invented_crowd_out_none_of_hers_once_it_is_reported(invented: int) -> None:
    life = Life()
    stolen = life.head_of_the_school()
    first = life.buys()
    second = life.buys(first)
    lost = life.loses(first)
    life.finds(first, lost, asked=(second,))
    again = life.loses(first)
    grant = life.finds(first, lost, again, asked=(second,))
    third = life.buys(first)
    life.loses(first)
    for _ in range(invented):
        ended = life.loses(first, by=stolen, ends=life.world.tips[life.room, first.writer.key.public][0])
        life.lets_in(first, ended, by=stolen)
    life.is_reported(stolen)
    assert life.roster().speaks(grant)
    assert life.speaks(third)


def test_who_spoke_for_a_later_return_alone_is_not_asked_about_an_earlier_one() -> None:
    life = Life()
    first = life.buys()
    lost = life.loses(first)
    grant = life.finds(first, lost)
    again = life.loses(first)
    life.finds(first, lost, again)
    life.buys(first)
    assert life.roster().speaks(grant)
    assert life.speaks(first)


def test_whom_a_found_laptop_has_confirmed_is_asked_when_it_is_let_in_once_more() -> None:
    life = Life()
    first = life.buys()
    lost = life.loses(first)
    life.finds(first, lost)
    second = life.buys()
    life.confirms(first, second)
    assert life.speaks(second)
    again = life.loses(first)
    life.finds(first, lost, again)
    assert not life.speaks(first)
    life.confirms(second, first)
    assert life.speaks(first)


def _stolen_after_it_was_found_twice(life: Life) -> tuple[Laptop, Laptop, bytes, tuple[bytes, ...]]:
    """Her first laptop, which has confirmed her second one since it was found, is lost once more."""
    first = life.buys()
    original = first.writer.grant or b""
    lost = life.loses(first)
    life.finds(first, lost)
    again = life.loses(first)
    life.finds(first, lost, again)
    second = life.buys()
    life.confirms(first, second)
    reports = (lost, again, life.loses(first))
    assert life.speaks(second)
    return first, second, original, reports


def test_returns_that_a_stolen_heads_laptop_invented_have_nobody_left_out_who_is_asked() -> None:
    life = Life()
    stolen = life.head_of_the_school()
    first, _, original, reports = _stolen_after_it_was_found_twice(life)
    for _ in range(MAX_RETURNS_WEIGHED + 8):
        life.lets_in(first, life.loses(first, by=stolen, ends=original), by=stolen)
    spy = life.buys()
    first.writer.grant = life.lets_in(first, *reports, by=stolen)
    life.says_a_key(first)
    life.confirms(first, spy)
    assert not life.speaks(first)
    assert not life.speaks(spy)


def test_a_device_that_disagrees_with_an_earlier_return_leaves_out_nobody_who_is_asked_about_a_later_one() -> None:
    life = Life()
    first, _, original, reports = _stolen_after_it_was_found_twice(life)
    spy = life.buys()
    first.writer.grant = life.lets_in(first, *reports, by=life.world.server)
    for grant in (original, first.writer.grant):
        said = Vouch().encode()
        life.world.say(spy.writer, life.room, Kind.VOUCH, said, subject=life.hers, target=grant)
    life.says_a_key(first)
    life.confirms(first, spy)
    assert not life.speaks(first)
    assert not life.speaks(spy)


def _has_it_replaced(life: Life, laptop: Laptop, *named: bytes) -> bytes:
    """It is granted once more, and what it had ends."""
    had = laptop.writer.grant
    laptop.writer.grant = life.lets_in(laptop, *named, by=life.world.server)
    life.says_a_key(laptop)
    return life.loses(laptop, by=life.world.server, ends=had)


def test_two_of_hers_of_which_only_rights_have_ended_go_on() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    for laptop in (first, second):
        _has_it_replaced(life, laptop)
    assert not life.roster().voices.let_back, "neither waits for the other one"
    life.confirms(first, second)
    assert life.speaks(first)
    assert life.speaks(second)


def test_so_do_two_that_were_found_and_confirmed_again_before() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    reports = []
    for found, other in ((first, second), (second, first)):
        reports.append(life.loses(found))
        life.finds(found, reports[-1], asked=(other,))
        life.confirms(found, other)
    for laptop, report in zip((first, second), reports, strict=True):
        _has_it_replaced(life, laptop, report)
    assert not life.roster().voices.let_back
    life.confirms(first, second)
    assert life.speaks(first)
    assert life.speaks(second)


def test_one_of_which_only_a_right_has_ended_waits_for_none_that_was_reported() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    report = life.loses(first)
    _has_it_replaced(life, second)
    life.finds(first, report)
    assert life.speaks(second)
    assert life.waits_for(first) == {second.device}


def test_whose_access_had_ended_is_asked_about_again_though_it_was_found_and_confirmed_once() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    report = life.loses(first)
    life.finds(first, report, asked=(second,))
    life.loses(first, ends=first.writer.grant)
    first.writer.grant = life.lets_in(first, report, by=life.world.server)
    life.says_a_key(first)
    assert life.waits_for(first) == {second.device}


def test_what_a_laptop_was_as_somebody_elses_makes_it_none_that_goes_on() -> None:
    life = Life()
    stolen = life.buys()
    second = life.buys(stolen)
    report = life.loses(stolen)
    _has_it_replaced(life, second)
    other = replace(stolen.given, person=life.world.person(life.room, PersonRole.TEACHER, "M. X"))
    as_other = life.lets_in(Laptop(stolen.writer, other), report, by=life.world.server)
    life.finds(stolen, report)
    life.loses(stolen, by=life.world.server, ends=as_other)
    assert stolen.device in life.roster().voices.let_back
    assert life.speaks(second)


def test_returns_that_a_server_invented_crowd_out_none_by_which_hers_goes_on() -> None:
    life = Life()
    stolen = life.buys()
    second = life.buys(stolen)
    reports = []
    for _ in range(2):
        reports.append(life.loses(second))
        life.finds(second, *reports, asked=(stolen,))
        life.confirms(second, stolen)
    report = life.loses(stolen)
    for _ in range(MAX_RETURNS_WEIGHED + 8):
        extra = life.lets_in(second, *reports, by=life.world.server)
        ended = life.loses(second, by=life.world.server, ends=extra)
        life.loses(second, by=life.world.server, ends=life.lets_in(second, ended, by=life.world.server))
    _has_it_replaced(life, second, *reports)
    life.finds(stolen, report)
    assert life.waits_for(stolen) == {second.device}


def test_who_waits_for_one_that_waits_itself_is_told_so() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    drawer = life.buys()
    life.confirms(drawer, second)
    for laptop, lost in [(each, life.loses(each)) for each in (first, second)]:
        life.finds(laptop, lost)
    assert life.waits_for(first) == {second.device}
    assert life.waits_for(second) == {drawer.device, first.device}
    life.confirms(drawer, second)
    assert not life.roster().voices.let_back, "the two wait for each other alone"


def test_two_that_were_found_together_and_have_confirmed_each_other_since_are_asked_about_each_other() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    reports = [life.loses(each) for each in (first, second)]
    for laptop, report in zip((first, second), reports, strict=True):
        life.finds(laptop, report)
    life.confirms(first, second)
    life.confirms(second, first)
    life.finds(first, reports[0], life.loses(first))
    assert life.waits_for(first) == {second.device}
    assert second.device not in life.roster().voices.let_back


def _found_together(life: Life) -> tuple[Laptop, Laptop, bytes]:
    """Two of hers, found together, have confirmed each other since; and what had reported the first one."""
    first = life.buys()
    second = life.buys(first)
    reports = [life.loses(each) for each in (first, second)]
    for laptop, report in zip((first, second), reports, strict=True):
        life.finds(laptop, report)
    life.confirms(first, second)
    life.confirms(second, first)
    return first, second, reports[0]


def test_one_of_two_that_were_found_together_speaks_on_though_a_third_one_is_not_asked_yet_about_the_other() -> None:
    life = Life()
    first, second, report = _found_together(life)
    third = life.buys(first, second)
    life.finds(first, report, life.loses(first))
    assert life.speaks(second)
    assert life.speaks(third)
    assert life.waits_for(first) == {second.device, third.device}
    life.confirms(second, first)
    life.confirms(third, first)
    assert not life.roster().voices.let_back


def _lacks(returns: Sequence[Return], lacked: Mapping[Device, int]) -> Lacking:
    """They wait, and some of them lack some of their devices."""
    return Lacking(Together(returns, Asking(b"", {}, {}, {}, 0)), {}, {}, lacked, 0, 0)


def test_who_lacks_one_whose_turn_it_is_goes_after_it_though_no_turn_of_that_kind_is_left() -> None:
    first, second = [Return((name, b"")) for name in (b"a", b"b")]
    turns = Turns(lambda _: 0)
    for _ in range(2 * MAX_CONFIRMED_AGAIN_STEPS):
        assert turns.next([first], [_lacks([first], {})]) == [first]
    assert turns.next([first, second], [_lacks([first, second], {first.device: 0b10})]) == [first]


class _AnyDay:
    """What happens to her laptops: each is bought, lost, found, granted once more, and confirmed or not."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.life = Life()
        self.laptops = [self.life.buys()]
        self.named: defaultdict[Device, list[bytes]] = defaultdict(list)

    def happens(self) -> None:
        what = self.random.choice([self._buys, self._loses, self._finds, self._has_replaced, self._confirms])
        what(self.random.choice(self.laptops))

    def _buys(self, laptop: Laptop) -> None:
        if len(self.laptops) < 5:
            self.laptops.append(self.life.buys(*[laptop][: self.random.randrange(2)]))

    def _loses(self, laptop: Laptop) -> None:
        self.named[laptop.device].append(self.life.loses(laptop))

    def _finds(self, laptop: Laptop) -> None:
        self.life.finds(laptop, *self.named[laptop.device][-MAX_PARENTS:])

    def _has_replaced(self, laptop: Laptop) -> None:
        named = self.named[laptop.device][-MAX_PARENTS:]
        self.named[laptop.device].append(_has_it_replaced(self.life, laptop, *named))

    def _confirms(self, laptop: Laptop) -> None:
        self.life.confirms(self.random.choice(self.laptops), laptop)


@pytest.mark.parametrize("seed", range(24))
def test_who_waits_waits_in_the_end_for_one_in_use_whatever_has_happened(seed: int) -> None:
    """So that somebody can always answer: each page names whom its laptop waits for."""
    days = _AnyDay(seed)
    for _ in range(14):
        days.happens()
        voices = days.life.roster().voices
        for waiting in voices.let_back:
            behind = [waiting]
            for one in behind:
                behind += [other for other in sorted(voices.waits_for.get(one, ())) if other not in behind]
            assert not voices.let_back.issuperset(behind)
