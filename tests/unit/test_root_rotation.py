"""What an old and a new root say of each other."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from random import Random

import pytest

from protocol.errors import Code, PeerFault
from protocol.identity import SigningKey
from protocol.limits import MAX_ROTATION_HEADS
from protocol.model.entry import Entry, Kind, compose
from protocol.rights.door import Door, Outcome
from protocol.rights.revocations import cuts_of
from protocol.rights.root_rotation import RootRotation, rotations_in
from tests.harness.history import World

DRAW = Random(17).randbytes


@pytest.fixture
def world() -> World:
    return World(Random(4))


def rotation(
    world: World, new: SigningKey, old: SigningKey | None = None, version: int = 1, at: int = 1 << 16
) -> Entry:
    old = old or world.root.key
    said = RootRotation.agreed(new, world.territory, old.public, version, (world.entries[0].id,))
    return by_root(world, old, said.encode(), at=at)


def by_root(
    world: World, root: SigningKey, payload: bytes, kind: Kind = Kind.ROOT_ROTATION, at: int = 1 << 16
) -> Entry:
    return compose(author=root, space=world.territory, kind=kind, grant=None, at=at, payload=payload, salt=DRAW(16))


def test_the_vector_of_the_specification() -> None:
    known = json.loads((Path(__file__).parent.parent / "vectors" / "root_rotation.json").read_text())
    territory, old = bytes.fromhex(known["territory"]), bytes.fromhex(known["old_root"])
    heads = tuple(bytes.fromhex(head) for head in known["heads"])
    new = SigningKey(bytes.fromhex(known["new_root_seed"]))
    made = RootRotation.agreed(new, territory, old, known["version"], heads)
    assert made.proof.hex() == known["proof"]
    assert made.encode().hex() == known["payload"]
    assert RootRotation.parse(made.encode()) == made
    assert made.holds(territory, old)


def test_the_new_root_agrees_to_exactly_this(world: World) -> None:
    made = RootRotation.agreed(SigningKey(DRAW(32)), world.territory, world.root.key.public, 1, ())
    other = DRAW(32)
    assert not made.holds(other, world.root.key.public)
    assert not made.holds(world.territory, other)
    for changed in (replace(made, version=2), replace(made, heads=(other,)), replace(made, root=other)):
        assert not changed.holds(world.territory, world.root.key.public)


def test_the_door_refuses_a_rotation_to_which_the_new_root_did_not_agree(world: World) -> None:
    door = Door(world.root.key.public)
    forged = RootRotation(SigningKey(DRAW(32)).public, 1, (), bytes(64))
    for payload, code in ((forged.encode(), Code.BAD_SIGNATURE), (b"\x80", Code.MALFORMED)):
        assert door.examine(by_root(world, world.root.key, payload)).code is code


def test_the_door_follows_one_rotation_of_each_root_and_no_other(world: World) -> None:
    door = Door(world.root.key.public)
    second, third, thief = (SigningKey(DRAW(32)) for _ in range(3))
    steps = [
        rotation(world, second),
        rotation(world, thief, at=2 << 16),
        rotation(world, third, second, version=5),
        rotation(world, third, second, version=2),
    ]
    waiting = door.examine(steps[3])
    assert (waiting.outcome, waiting.missing) == (Outcome.WAIT, second.public)
    for step in steps:
        assert door.examine(step).outcome is Outcome.ADMIT
        door.learn(step)
    assert door.roots == (world.root.key.public, second.public, third.public)
    assert door.is_false_root(rotation(world, second, thief).header)
    assert not door.is_false_root(steps[0].header)


def test_which_of_several_rotations_is_followed_does_not_depend_on_which_came_first(world: World) -> None:
    second, other, third, fourth = (SigningKey(DRAW(32)) for _ in range(4))
    steps = [
        rotation(world, second, at=7 << 16),
        rotation(world, other, at=9 << 16),
        rotation(world, third, second, version=2, at=10 << 16),
        rotation(world, fourth, other, version=2, at=8 << 16),
        rotation(world, world.root.key, third, version=3, at=11 << 16),
    ]
    for order in permutations(steps):
        door = Door(world.root.key.public)
        for step in order:
            door.learn(step)
        assert door.roots == (world.root.key.public, second.public, third.public), "and never in a ring"
        assert door.contested_roots == (world.root.key.public,)


def test_of_rotations_to_one_root_all_count_and_one_of_them_proves_it(world: World) -> None:
    second, third, other = (SigningKey(DRAW(32)) for _ in range(3))
    said = [rotation(world, second, at=at << 16) for at in (7, 12)]
    to_another = rotation(world, other, at=9 << 16)
    follows = rotation(world, third, second, version=2, at=10 << 16)
    for order in permutations([*said, follows]):
        door = Door(world.root.key.public)
        for step in order:
            door.learn(step)
        assert door.roots == (world.root.key.public, second.public, third.public)
        assert not door.contested_roots, "said twice, of the same root"
        assert all(door.is_followed(each.id) for each in (*said, follows))
        assert door.steps == (said[0].id, follows.id)
        door.learn(to_another)
        assert not door.is_followed(to_another.id)
        assert door.contested_roots == (world.root.key.public,)


def test_what_any_rotation_to_the_next_root_names_stays_and_nothing_else(world: World) -> None:
    old, new, space = world.root.key, SigningKey(DRAW(32)), world.territory
    early, late, neither = [by_root(world, old, b"\x80", Kind.REWRAP, at=at) for at in (1, 2, 3)]
    said = [
        by_root(world, old, RootRotation.agreed(new, space, old.public, 1, (named.id,)).encode(), at=at)
        for named, at in ((early, 7), (late, 12))
    ]
    for order in permutations(said):
        door = Door(old.public)
        for count, step in enumerate(order, 1):
            door.learn(step)
            entries = [early, late, neither, *order[:count]]
            held = cuts_of(entries, (), door).held
            named = {name for each in order[:count] for name in _named(each)}
            assert set(held) == {early.id, late.id, neither.id} - named
    assert set(cuts_of(entries, (), door).in_force.values()) == {old.public}


def _named(step: Entry) -> set[bytes]:
    return set(RootRotation.parse(step.payload or b"").heads)


def test_only_rotations_that_hold_on_both_sides_are_followed_in_a_chain(world: World) -> None:
    new = SigningKey(DRAW(32))
    good = rotation(world, new)
    bad = [
        replace(good, signature=bytes(64)),
        by_root(world, world.root.key, RootRotation(new.public, 1, (), bytes(64)).encode()),
        by_root(world, world.root.key, b"\xc0"),
        by_root(world, world.root.key, good.payload or b"", Kind.GENERATION),
    ]
    assert [entry for entry, _ in rotations_in([*bad, good])] == [good]


def test_a_rotation_names_a_bounded_number_of_heads(world: World) -> None:
    heads = tuple(DRAW(32) for _ in range(MAX_ROTATION_HEADS + 1))
    made = RootRotation.agreed(SigningKey(DRAW(32)), world.territory, world.root.key.public, 1, heads)
    with pytest.raises(PeerFault):
        RootRotation.parse(made.encode())
