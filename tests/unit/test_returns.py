"""A teacher's laptops that are lost and found: whose word is what was said since, by the set alone (docs/adr/0251)."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import pytest

from protocol.folds.growth import fold_space
from protocol.limits import MAX_CONFIRMED_AGAIN_STEPS, MAX_RETURNS_WEIGHED
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
