"""What is held back without some words: read once for each set of them, as long as nothing comes."""

from __future__ import annotations

from random import Random

from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.replica.office.held_without import _MOST_KEPT, found_without
from protocol.roles import Role
from tests.harness.history import World
from tests.unit.test_views import bring, replica_of


async def test_a_class_is_read_once_for_each_of_those_who_doubt_other_words_however_often_they_ask_in_turn() -> None:
    world = World(Random(2))
    (room, *_) = world.classes
    lost = world.enrol(Role.MACHINE, room)
    cuts = [world.say(world.server, room, Kind.REVOKE, Revocation(lost.key.public, ()).encode()) for _ in range(2)]
    replica, store = await replica_of(world)
    await bring(replica, world.entries)
    once = store.scanned
    found = [(await found_without(replica, room, doubted)).out for doubted in ([], cuts)]
    assert [lost.key.public in out for out in found] == [True, False]
    read = store.scanned - once
    again = [(await found_without(replica, room, doubted)).out for doubted in ([], cuts, [], cuts)]
    assert again == [*found, *found]
    assert store.scanned == once + read


async def test_what_comes_is_counted_by_each_of_them_and_of_many_sets_the_first_is_let_go_of() -> None:
    world = World(Random(2))
    (room, *_) = world.classes
    lost, others = world.enrol(Role.MACHINE, room), [world.enrol(Role.MACHINE, room) for _ in range(_MOST_KEPT)]
    said = [world.say(world.server, room, Kind.REVOKE, Revocation(one.key.public, ()).encode()) for one in others]
    replica, store = await replica_of(world)
    await bring(replica, world.entries)
    for doubted in ([], *([one] for one in said)):
        assert lost.key.public not in (await found_without(replica, room, doubted)).out
    before = store.scanned
    await found_without(replica, room, [])
    assert store.scanned > before
    await bring(replica, [world.say(world.server, room, Kind.REVOKE, Revocation(lost.key.public, ()).encode())])
    for doubted in ([], *([one] for one in said)):
        assert lost.key.public in (await found_without(replica, room, doubted)).out
