"""What the words of a key lead to and is not here (docs/protocol.md, "Roster"): what of them a revocation names."""

from __future__ import annotations

from random import Random

import pytest

from protocol.model.ancestry import ancestors
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Replica
from protocol.replica.office import absent
from protocol.replica.office.absent import Gaps, gaps_in, named_of
from protocol.roles import Role
from tests.harness.entries import SOME_RECEIPT
from tests.harness.history import World, Writer
from tests.harness.small_replica import admit
from tests.harness.small_replica import opened as replica_of
from tests.unit.test_arrival_order import folds


class Line:
    """Words of one machine; each names what it is told to."""

    def __init__(self) -> None:
        self.world = World(Random(7))
        self.room = self.world.classes[0]
        self.head = self.world.enrol(Role.HEAD, self.world.school)
        self.machine: Writer = self.world.enrol(Role.MACHINE, self.room)
        self.at = 0

    def said(self, *prev: Entry) -> Entry:
        self.at += 1
        return compose(
            author=self.machine.key,
            space=self.room,
            kind=Kind.RECEIPT_SAFE,
            grant=self.machine.grant,
            at=self.at,
            payload=SOME_RECEIPT,
            salt=bytes(16),
            target=bytes(32),
            prev=tuple(one.id for one in prev),
        )

    async def at_the_office(self, *words: Entry) -> Replica:
        replica = await replica_of(self.world)
        await admit(replica, *self.world.entries, *words)
        return replica

    def held_back(self, cut: Revocation, *words: Entry) -> set[Entry]:
        self.world.say(self.head, self.room, Kind.REVOKE, cut.encode())
        roster = folds(self.world, [*self.world.entries, *words], self.room)[0]
        return {word for word in words if word.id in roster.held_back}


def by_id(*words: Entry) -> dict[bytes, Entry]:
    return {word.id: word for word in words}


async def test_what_is_absent_is_held_back_when_it_turns_up_and_what_another_word_leads_to_stays() -> None:
    line = Line()
    honest = line.said()
    before = line.said()
    kept_back = line.said(before, honest)
    shown = line.said(kept_back, honest)
    later = line.said(shown)
    replica = await line.at_the_office(honest, shown, later)
    key = line.machine.key.public
    named = await named_of(key, [line.room], replica.tips, replica.store)
    assert named.gaps == Gaps((kept_back.id,))
    assert named.heads == [later.id]
    cut = Revocation(key, tuple(named.heads), absent=named.gaps.absent)
    assert line.held_back(cut, honest, before, kept_back, shown, later) == {before, kept_back}


async def test_an_honest_line_has_no_gaps_and_is_named_as_before() -> None:
    line = Line()
    words = [line.said()]
    for _ in range(5):
        words.append(line.said(words[-1]))
    replica = await line.at_the_office(*words)
    named = await named_of(line.machine.key.public, [line.room], replica.tips, replica.store)
    assert (named.heads, named.gaps) == ([words[-1].id], Gaps())


async def test_of_a_time_before_what_came_later_was_absent() -> None:
    line = Line()
    honest = line.said()
    kept_back = line.said(honest)
    shown = line.said(kept_back, honest)
    replica = await line.at_the_office(honest, kept_back, shown)
    by_then = {honest.id, shown.id}
    named = await named_of(line.machine.key.public, [line.room], replica.tips, replica.store, known=by_then)
    assert (named.heads, named.gaps.absent) == ([shown.id], (kept_back.id,))


async def test_what_another_device_said_is_here_whoever_names_it() -> None:
    line = Line()
    shown = line.said(line.world.entries[-1])
    replica = await line.at_the_office(shown)
    for known in (None, {shown.id}):
        named = await named_of(line.machine.key.public, [line.room], replica.tips, replica.store, known=known)
        assert named.gaps == Gaps()


def test_words_that_lead_to_more_than_there_is_room_for_do_not_stay_nor_does_what_leads_to_them() -> None:
    line = Line()
    honest = line.said()
    missing = [line.said() for _ in range(3)]
    first = line.said(missing[0], honest)
    flood = line.said(missing[1], missing[2], first)
    again = line.said(missing[0], first)
    built_on = line.said(flood, again)
    gaps = gaps_in(by_id(honest, first, flood, again, built_on), (), most=2)
    assert gaps == Gaps((missing[0].id,), frozenset({flood.id, built_on.id}))


@pytest.mark.parametrize("seed", range(20))
def test_all_that_stays_leads_to_nothing_but_itself_and_what_is_named_absent(seed: int) -> None:
    line, random = Line(), Random(seed)
    words: list[Entry] = []
    for _ in range(60):
        words.append(line.said(*random.sample(words, min(len(words), random.randrange(4)))))
    here = by_id(*random.sample(words, 45))
    gaps = gaps_in(here, (), most=8)
    assert len(gaps.absent) <= 8
    stays = here.keys() - gaps.beyond
    led_to = {name for word in ancestors(stays, here) for name in here[word].header.prev}
    assert led_to <= {*stays, *gaps.absent}


async def test_of_a_key_with_more_gaps_than_room_the_heads_of_what_stays_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Line()
    honest = line.said()
    second = line.said(honest)
    shown = [line.said(line.said(), second) for _ in range(3)]
    built_on = line.said(*shown)
    replica = await line.at_the_office(honest, second, *shown, built_on)
    monkeypatch.setattr(absent, "gaps_in", lambda written, elsewhere: gaps_in(written, elsewhere, most=2))
    named = await named_of(line.machine.key.public, [line.room], replica.tips, replica.store)
    assert set(named.heads) == {shown[0].id, shown[1].id}
    assert named.gaps.beyond == {shown[2].id, built_on.id}
