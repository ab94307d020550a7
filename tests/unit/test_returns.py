"""A teacher's laptops that are lost and found: whose word is what was said since, by the set alone (docs/adr/0251)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from random import Random

import pytest

from protocol.folds.growth import fold_space
from protocol.limits import MAX_PARENTS
from protocol.model.entry import Kind
from protocol.model.structure import Grant, PersonKey, Revocation
from protocol.rights.door import Door
from protocol.rights.roster import Roster
from protocol.rights.speaking import Remembered
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


def test_whose_access_had_ended_in_good_order_waits_for_nobody_once_it_is_granted_anew_and_is_asked() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    end = life.loses(first, ends=first.writer.grant)
    assert first.writer.key.public in life.roster().cut
    life.finds(first, end)
    assert life.speaks(first)
    life.finds(second, life.loses(second))
    assert life.waits_for(second) == {first.device}


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


@pytest.mark.parametrize("invented", [2, 40])
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
    for _ in range(40):
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


def test_a_reported_laptop_waits_though_it_had_been_let_in_as_somebody_elses_too() -> None:
    life = Life()
    stolen = life.buys()
    second = life.buys(stolen)
    report = life.loses(stolen)
    other = replace(stolen.given, person=life.world.person(life.room, PersonRole.TEACHER, "M. X"))
    as_other = life.lets_in(Laptop(stolen.writer, other), report, by=life.world.server)
    life.finds(stolen, report)
    life.loses(stolen, by=life.world.server, ends=as_other)
    assert life.waits_for(stolen) == {second.device}


def test_of_two_that_were_lost_together_neither_waits_for_the_other_one() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    drawer = life.buys()
    life.confirms(drawer, second)
    for laptop, lost in [(each, life.loses(each)) for each in (first, second)]:
        life.finds(laptop, lost)
    assert life.speaks(first), "nobody is left to ask"
    assert life.waits_for(second) == {drawer.device}


def test_one_that_was_found_and_confirmed_again_is_asked_about_no_other_one() -> None:
    """What is not promised: who finds a laptop again gives it new keys instead."""
    life = Life()
    first = life.buys()
    second = life.buys(first)
    life.finds(second, life.loses(second), asked=(first,))
    life.confirms(second, first)
    life.finds(first, life.loses(first))
    assert life.speaks(first)
    assert life.speaks(second)


def test_what_one_that_was_found_says_of_another_one_is_no_word_for_its_return() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    third = life.buys(first, second)
    life.finds(second, life.loses(second), asked=(first, third))
    life.confirms(first, second)
    life.finds(third, life.loses(third), asked=(second,))
    assert life.waits_for(third) == {first.device}, "though that one leads to the second one"
    life.confirms(first, third)
    assert life.speaks(third)


def test_whom_a_lost_laptop_leads_to_through_one_that_is_lost_as_well_is_asked() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    third = life.buys(second)
    life.loses(second)
    life.finds(first, life.loses(first))
    assert life.waits_for(first) == {third.device}


def test_a_new_one_that_was_confirmed_on_one_of_two_that_were_found_is_asked_about_the_other_one() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    for laptop, lost in [(each, life.loses(each)) for each in (first, second)]:
        life.finds(laptop, lost)
    assert not life.roster().voices.let_back
    third = life.buys(second)
    assert life.waits_for(first) == {third.device}
    life.confirms(third, first)
    assert life.speaks(first)


def test_what_was_said_for_a_found_laptop_stays_said_once_who_said_it_is_lost_and_found_too() -> None:
    life = Life()
    first = life.buys()
    second = life.buys(first)
    third = life.buys(second)
    life.confirms(third, first)
    life.finds(first, life.loses(first), asked=(second, third))
    report = life.loses(second)
    assert life.speaks(first)
    life.finds(second, report)
    assert life.waits_for(second) == {third.device}
    assert life.speaks(first)


class AnyDay:
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
def test_who_waits_waits_for_one_in_use_whatever_has_happened(seed: int) -> None:
    """So that somebody can always answer: each page names whom its laptop waits for."""
    days = AnyDay(seed)
    for _ in range(14):
        days.happens()
        roster = days.life.roster()
        assert roster.voices.let_back == roster.voices.waits_for.keys()
        for others in (*roster.voices.waits_for.values(), *roster.voices.unheard_by.values()):
            assert others
            assert not {key for key, _ in others} & (roster.cut | roster.reported)
