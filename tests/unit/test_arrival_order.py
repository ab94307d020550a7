"""Admission and folds do not depend on the order of arrival (R1, R4, R7)."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.folds.coursework import Coursework, fold_coursework
from protocol.model.entry import Entry, Kind, signature_holds
from protocol.model.structure import Grant, Revocation
from protocol.rights.door import Door, Outcome
from protocol.rights.revocations import cuts_of
from protocol.rights.roster import Roster, fold_roster
from protocol.roles import RANK, Role
from tests.harness.history import World, Writer, random_history

MANY = settings(max_examples=120, deadline=None)


def through_the_door(world: World, arrivals: list[Entry]) -> tuple[set[bytes], Door]:
    """Let everything in that may come in, retrying what waits, as a replica does."""
    door = Door(world.root.key.public)
    admitted: set[bytes] = set()
    pending = arrivals
    moved = True
    while moved:
        moved = False
        still = []
        for entry in pending:
            outcome = door.examine(entry, signed=True).outcome
            if outcome is Outcome.ADMIT:
                door.learn(entry)
                admitted.add(entry.id)
                moved = True
            elif outcome is Outcome.WAIT:
                still.append(entry)
        pending = still
    return admitted, door


def folds(world: World, arrivals: list[Entry], space: bytes) -> tuple[Roster, Coursework]:
    admitted, door = through_the_door(world, arrivals)
    kept = [entry for entry in arrivals if entry.id in admitted]
    line = door.lineage(space)
    own = [entry for entry in kept if entry.header.space == space]
    above = [entry for entry in kept if entry.header.space in line[1:]]
    roster = fold_roster(space, own, above, door)
    return roster, fold_coursework(space, own, roster)


def comparable(roster: Roster, coursework: Coursework) -> tuple[object, ...]:
    authorities = frozenset(roster.authorities)
    held = roster.held_back, roster.doubtful
    return (roster.persons, roster.reading_keys, authorities, roster.cut, *held, roster.erased, coursework)


@MANY
@given(seed=st.integers(0, 10**9), order=st.randoms(use_true_random=False))
def test_every_order_of_arrival_admits_the_same_set_and_folds_to_the_same_state(seed: int, order: Random) -> None:
    world = random_history(seed)
    shuffled = list(world.entries)
    order.shuffle(shuffled)
    assert through_the_door(world, shuffled)[0] == through_the_door(world, world.entries)[0]
    for space in world.classes:
        assert comparable(*folds(world, shuffled, space)) == comparable(*folds(world, world.entries, space))


@MANY
@given(seed=st.integers(0, 10**9))
def test_all_that_honest_devices_write_is_admitted_whatever_their_clocks_say(seed: int) -> None:
    world = random_history(seed)
    assert through_the_door(world, world.entries)[0] == {entry.id for entry in world.entries}


@pytest.mark.parametrize("seed", range(5))
def test_histories_are_signed_for_real_and_repeat_byte_for_byte(seed: int) -> None:
    world = random_history(seed)
    assert all(signature_holds(entry) for entry in world.entries)
    assert [entry.id for entry in world.entries] == [entry.id for entry in random_history(seed).entries]


def test_histories_reach_conflicts_cuts_receipts_and_withdrawals() -> None:
    seen = {"conflict": 0, "withdrawn": 0, "held back": 0, "handed in": 0, "marked": 0, "erased": 0}
    for seed in range(40):
        world = random_history(seed)
        roster, coursework = folds(world, world.entries, world.classes[0])
        seen["conflict"] += any(item.conflict for item in coursework.items.values())
        seen["withdrawn"] += any(item.withdrawn for item in coursework.items.values())
        seen["held back"] += bool(roster.held_back)
        seen["handed in"] += bool(coursework.hand_ins)
        seen["marked"] += any(work.feedback for work in coursework.hand_ins.values())
        seen["erased"] += any(entry.header.kind == Kind.ERASE for entry in world.entries)
    assert min(seen.values()) > 0, seen


@MANY
@given(seed=st.integers(0, 10**9))
def test_who_holds_only_a_class_and_what_lies_above_it_sees_what_the_server_sees(seed: int) -> None:
    world = random_history(seed)
    room, other = world.classes
    keys = {entry.header.author for entry in world.entries if entry.header.space == room}
    for key in sorted(keys):
        role = world.random.choice([Role.ADMIN, Role.TEACHER, Role.MACHINE])
        world.say(world.server, other, Kind.GRANT, Grant(key, bytes(32), None, role, None, None).encode())
    near = [entry for entry in world.entries if entry.header.space != other]
    assert comparable(*folds(world, near, room)) == comparable(*folds(world, world.entries, room))


# --- rights given, taken and given again ------------------------------------------------------------------------------


def quarrels(seed: int, steps: int = 25) -> World:
    """People of every rank give each other rights and take them, thieves among them; in the end, perhaps, the kit."""
    world = World(Random(seed))
    random, room = world.random, world.classes[0]
    roles = (Role.ADMIN, Role.HEAD, Role.HEAD, Role.TEACHER, Role.TEACHER)
    writers = [world.server, *(world.enrol(role, world.school) for role in roles)]
    revoked: dict[bytes, list[bytes]] = {}

    def heads_of(writer: Writer) -> tuple[bytes, ...]:
        said = [entry.id for entry in world.entries if entry.header.author == writer.key.public]
        return tuple(random.sample(said, min(len(said), random.randrange(4))))

    def revoke(by: Writer, whom: Writer) -> None:
        where = random.choice([world.school, room]) if by.grant else world.territory
        said = world.say(by, where, Kind.REVOKE, Revocation(whom.key.public, heads_of(whom)).encode())
        revoked.setdefault(whom.key.public, []).append(said.id)

    def end(by: Writer, whom: Writer) -> None:
        if whom.grant is not None:
            payload = Revocation(whom.key.public, heads_of(whom)).encode()
            said = world.say(by, random.choice([world.school, room]), Kind.REVOKE, payload, target=whom.grant)
            revoked.setdefault(whom.key.public, []).append(said.id)

    def grant(by: Writer, whom: Writer) -> None:
        lower = [role for role in (Role.ADMIN, Role.HEAD, Role.TEACHER, Role.MACHINE) if RANK[role] < RANK[by.role]]
        if not lower or whom is world.server:
            return
        given, names = random.choice(lower), revoked.get(whom.key.public, [])
        payload = Grant(whom.key.public, bytes(32), bytes(32), given, None, None).encode()
        parents = tuple(random.sample(names, random.randrange(len(names) + 1)))
        said = world.say(by, random.choice([world.school, room]), Kind.GRANT, payload, parents=parents)
        if random.random() < 0.5:
            whom.grant, whom.role, whom.space = said.id, given, said.header.space

    for _ in range(steps):
        by = random.choice([writer for writer in writers if RANK[writer.role] >= RANK[Role.TEACHER]])
        other = random.choice([writer for writer in writers if writer is not by])
        if RANK[by.role] > RANK[Role.TEACHER] and by.space in (world.territory, world.school):
            random.choice([revoke, revoke, grant, end])(by, other)
        else:
            world.say(by, room, Kind.REVISION, b"\x80")
    if random.random() < 0.5:
        revoke(world.root, world.server)
    return world


@MANY
@given(seed=st.integers(0, 10**9), order=st.randoms(use_true_random=False))
def test_who_has_been_cut_off_does_not_hang_on_what_came_first(seed: int, order: Random) -> None:
    world = quarrels(seed)
    shuffled = list(world.entries)
    order.shuffle(shuffled)
    for space in world.classes:
        assert comparable(*folds(world, shuffled, space)) == comparable(*folds(world, world.entries, space))


@MANY
@given(seed=st.integers(0, 10**9))
def test_nobody_takes_back_what_was_said_at_their_own_rank_nor_cuts_off_who_has_it(seed: int) -> None:
    world = quarrels(seed)
    admitted, door = through_the_door(world, world.entries)
    room = world.classes[0]
    line = door.lineage(room)
    entries = {entry.id: entry for entry in world.entries if entry.id in admitted and entry.header.space in line}
    cuts = cuts_of(list(entries.values()), [each for space in line for each in door.authorities_in(space)], door)
    assert all(door.rank_of(entries[name].header) < rank for name, rank in cuts.held.items() if rank)
    roster = folds(world, world.entries, room)[0]
    for name, key in roster.revocations.items():
        if entries[name].header.target is not None:
            continue  # ends one grant, whatever else the key has
        left = roster.authority_of(key)
        assert left is None or left.rank < door.rank_of(entries[name].header)
    for entry in entries.values():
        if entry.header.kind == Kind.REVOKE and entry.header.target is None and entry.id not in roster.held_back:
            left = roster.authority_of(Revocation.parse(entry.payload or b"").key)
            is_outranked = left is None or left.rank >= door.rank_of(entry.header)
            assert entry.id in roster.revocations or is_outranked, "what outranks a key's right cuts it off"
