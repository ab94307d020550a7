"""Replicas with one set show one state: where an order of arrival, or what lies elsewhere, could have slipped in."""

from __future__ import annotations

import os
from random import Random

from protocol.identity import AgreementKey
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, PersonKey, Revocation, SpaceChange, SpaceRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.space_names import changed_names, made_spaces
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.storage.memory import MemoryStore
from protocol.roles import Role
from protocol.trust.person_keys import KeyWraps
from tests.harness.history import NOW_MS, World


async def holding(world: World, entries: list[Entry]) -> Replica:
    replica = await Replica.open(world.root.key.public, MemoryStore(), MemoryPacks())
    await replica.admit(entries, source=b"x", now_ms=NOW_MS)
    return replica


async def test_a_school_that_was_made_twice_has_one_name_whichever_came_first() -> None:
    world = World(Random(3))
    world.say(world.server, world.territory, Kind.SPACE, SpaceRecord("Autre", uai="0180001X").encode())
    for order in (world.entries, world.entries[::-1]):
        assert (await made_spaces(await holding(world, order)))[world.school].name == "École"


async def test_who_was_cut_off_takes_no_name_of_a_school_by_dating_another_back() -> None:
    world = World(Random(3))
    admin = world.enrol(Role.ADMIN, world.territory)
    admin.skew_ms = -(10**9)
    world.say(admin, world.territory, Kind.SPACE, SpaceRecord("Autre", uai="0180001X").encode())
    world.say(world.server, world.territory, Kind.REVOKE, Revocation(admin.key.public, ()).encode())
    assert (await made_spaces(await holding(world, world.entries)))[world.school].name == "École"


async def test_a_name_that_took_the_place_of_a_thiefs_stays_once_that_is_held_back() -> None:
    world = World(Random(3))
    room, _ = world.classes
    thief = world.enrol(Role.ADMIN, world.territory)
    first = world.say(world.server, room, Kind.SPACE_CHANGE, SpaceChange("Un").encode())
    second = world.say(world.server, room, Kind.SPACE_CHANGE, SpaceChange("Deux").encode(), parents=(first.id,))
    thief.skew_ms = 10**12
    stolen = world.say(thief, room, Kind.SPACE_CHANGE, SpaceChange("Volé").encode(), parents=(second.id,))
    world.say(world.server, room, Kind.SPACE_CHANGE, SpaceChange("Trois").encode(), parents=(stolen.id,))
    for order in (world.entries, world.entries[::-1]):
        assert await changed_names(await holding(world, order)) == {room: "Trois"}
    world.say(world.server, world.territory, Kind.REVOKE, Revocation(thief.key.public, ()).encode())
    for order in (world.entries, world.entries[::-1]):
        assert await changed_names(await holding(world, order)) == {room: "Trois"}


async def test_a_name_by_a_clock_that_was_years_ahead_comes_back_with_no_thief_that_is_cut_off() -> None:
    world = World(Random(3))
    room, _ = world.classes
    thief = world.enrol(Role.ADMIN, world.territory)
    usual_ms, world.server.skew_ms = world.server.skew_ms, 10**12
    ahead = world.say(world.server, room, Kind.SPACE_CHANGE, SpaceChange("Un").encode())
    world.server.skew_ms = usual_ms
    stolen = world.say(thief, room, Kind.SPACE_CHANGE, SpaceChange("Volé").encode(), parents=(ahead.id,))
    world.say(world.server, room, Kind.SPACE_CHANGE, SpaceChange("Deux").encode(), parents=(stolen.id,))
    world.say(world.server, world.territory, Kind.REVOKE, Revocation(thief.key.public, ()).encode())
    for order in (world.entries, world.entries[::-1]):
        assert await changed_names(await holding(world, order)) == {room: "Deux"}


async def test_which_reading_keys_are_spent_does_not_hang_on_another_class() -> None:
    world = World(Random(3))
    room, other = world.classes
    teacher = world.enrol(Role.TEACHER, room, person=bytes(16))
    mine, elsewhere = AgreementKey(os.urandom(32)), AgreementKey(os.urandom(32))
    world.say(teacher, room, Kind.PERSON_KEY, PersonKey(mine.public).encode(), subject=bytes(16))
    wraps = KeyWraps(mine.public, ((elsewhere.public, bytes(80)),)).encode()
    world.say(teacher, room, Kind.KEY_WRAP, wraps, subject=bytes(16))
    cut = world.new_key()
    for space, agreement in ((room, bytes([9]) * 32), (other, elsewhere.public)):
        given = Grant(cut.public, agreement, None, Role.MACHINE, None, None).encode()
        world.say(world.server, space, Kind.GRANT, given)
    world.say(world.server, room, Kind.REVOKE, Revocation(cut.public, ()).encode())
    here = [entry for entry in world.entries if entry.header.space != other]
    for entries in (world.entries, here):
        roster = (await (await holding(world, entries)).view(room)).roster
        assert roster.reading_keys == {bytes(16): (mine.public,)}


async def test_a_heads_grant_is_nobodys_word_whichever_of_her_own_grants_came_first() -> None:
    world = World(Random(23))
    room, director, teacher = world.classes[0], b"d" * 16, b"t" * 16
    head = world.enrol(Role.HEAD, world.school, person=director)
    first = world.entries[-1]
    again = Grant(head.key.public, b"x" * 32, None, Role.HEAD, director, None)
    second = world.say(world.server, world.school, Kind.GRANT, again.encode())
    laptop = world.enrol(Role.TEACHER, room, by=head, person=teacher)
    world.say(laptop, room, Kind.PERSON_KEY, PersonKey(b"k" * 32).encode(), subject=teacher)
    others = [entry for entry in world.entries if entry.id not in (first.id, second.id)]
    at = next(place for place, entry in enumerate(others) if entry.header.author == head.key.public)
    found = []
    for grants in ([first, second], [second, first]):
        replica = await Replica.open(world.root.key.public, MemoryStore(), MemoryPacks())
        await replica.admit([*others[:at], *grants, *others[at:]], source=b"x", now_ms=NOW_MS)
        found.append((await replica.view(room)).roster.voices)
    assert found[0] == found[1]
    assert not found[0].words
