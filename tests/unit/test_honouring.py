"""Who may honour a code: whoever could let others in when it was made, and the server's successors."""

from __future__ import annotations

from random import Random

import pytest

from protocol.limits import MAX_HOSTS_PER_INVITE
from protocol.model.entry import Kind
from protocol.model.structure import Certificate, Hosts
from protocol.rights.door import Door
from protocol.rights.honouring import hosts_of, may_honour, server_in_force
from protocol.roles import Role
from tests.harness.history import World, Writer

NONE: frozenset[bytes] = frozenset()


@pytest.fixture
def world() -> World:
    return World(Random(7))


def door_of(world: World) -> Door:
    door = Door(world.root.key.public)
    for entry in world.entries:
        door.learn(entry)
    return door


def next_server(world: World) -> Writer:
    key = world.new_key()
    payload = Certificate(key.public, world.random.randbytes(32)).encode()
    said = world.say(world.root, world.territory, Kind.CERTIFICATE, payload)
    return Writer(key, Role.SERVER, world.territory, said.id)


def hosts(world: World, own: Writer, *, cut: frozenset[bytes] = NONE, held_back: frozenset[bytes] = NONE) -> Hosts:
    return hosts_of(door_of(world), own.key.public, world.classes[0], cut, held_back)


def test_the_server_and_whoever_runs_the_school_may_honour_a_code_of_its_class(world: World) -> None:
    head, admin = world.enrol(Role.HEAD, world.school), world.enrol(Role.ADMIN, world.territory)
    others = [world.enrol(role, world.classes[0]) for role in (Role.TEACHER, Role.RELAY, Role.MACHINE)]
    named = hosts(world, head)
    assert named.keys[0] == head.key.public
    assert set(named.keys) == {each.key.public for each in (head, admin, world.server)}
    assert named.certificate == world.server.grant
    door = door_of(world)
    assert all(may_honour(door, named, each.key.public) for each in (head, admin, world.server))
    assert not any(may_honour(door, named, each.key.public) for each in others)


def test_who_was_cut_off_or_whose_right_is_held_back_is_none_of_them(world: World) -> None:
    head, lost = world.enrol(Role.HEAD, world.school), world.enrol(Role.HEAD, world.school)
    doubtful = world.enrol(Role.ADMIN, world.school)
    later = next_server(world)
    assert lost.grant is not None
    assert doubtful.grant is not None
    named = hosts(world, head, cut=frozenset({lost.key.public}), held_back=frozenset({doubtful.grant}))
    assert set(named.keys) == {head.key.public, later.key.public}, "the server of before is none of them either"


def test_a_server_that_took_the_place_of_theirs_may_honour_it_and_none_of_before(world: World) -> None:
    middle = next_server(world)
    named = hosts(world, middle)
    latest, head = next_server(world), world.enrol(Role.HEAD, world.school)
    door = door_of(world)
    assert may_honour(door, named, middle.key.public)
    assert may_honour(door, named, latest.key.public)
    assert not may_honour(door, named, world.server.key.public)
    assert not may_honour(door, named, head.key.public), "who may let others in only since makes codes of their own"


def test_a_certificate_that_is_not_shown_makes_nobody_a_successor(world: World) -> None:
    key = world.server.key.public
    door = door_of(world)
    assert not may_honour(door, Hosts((bytes(32),), bytes(32)), key)
    assert not may_honour(door, Hosts((bytes(32),), None), key)
    grant = world.enrol(Role.HEAD, world.school).grant
    assert not may_honour(door_of(world), Hosts((bytes(32),), grant), key), "nor one that is no certificate"


def test_where_all_servers_have_been_cut_off_nobody_takes_their_place(world: World) -> None:
    head = world.enrol(Role.HEAD, world.school)
    named = hosts(world, head, cut=frozenset({world.server.key.public}))
    assert named == Hosts((head.key.public,), None)
    assert server_in_force(door_of(world), {world.server.key.public}, NONE) is None


def test_of_many_the_latest_are_named_and_the_one_that_makes_it_and_the_server_always(world: World) -> None:
    own = world.enrol(Role.HEAD, world.school)
    for _ in range(MAX_HOSTS_PER_INVITE):
        world.enrol(Role.HEAD, world.school)
    named = hosts(world, own)
    assert len(named.keys) == MAX_HOSTS_PER_INVITE
    assert named.keys[:2] == (own.key.public, world.server.key.public)
