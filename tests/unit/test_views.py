"""The folds that a replica keeps: always those that the whole set would give, and made anew only when they must be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.folds.coursework import fold_coursework
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, PersonRecord, Revocation, SpaceRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.views import Basis, SpaceView, Views
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.interfaces import Stored
from protocol.replica.storage.memory import MemoryStore
from protocol.rights.roster import fold_roster
from protocol.roles import PersonRole, Role
from tests.harness.history import NOW_MS, World, random_history


class CountingStore(MemoryStore):
    """A store that counts how many entries were read in scans."""

    scanned = 0

    async def scan(self, space: bytes, after: int = 0) -> list[Stored]:
        found = await super().scan(space, after)
        self.scanned += len(found)
        await asyncio.sleep(0)
        return found


async def replica_of(world: World) -> tuple[Replica, CountingStore]:
    store = CountingStore()
    return await Replica.open(world.root.key.public, store, MemoryPacks()), store


async def bring(replica: Replica, entries: Sequence[Entry]) -> None:
    await replica.admit(entries, source=b"somebody", now_ms=NOW_MS)


async def entries_of(replica: Replica, space: bytes) -> list[Entry]:
    return [stored.entry for stored in await replica.store.scan(space)]


@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(1, 60), max_size=4))
@settings(max_examples=60, deadline=None)
async def test_what_is_kept_is_what_the_whole_sets_would_give_whatever_came_in_between(
    seed: int, cuts: list[int]
) -> None:
    world = random_history(seed, 40)
    replica, _ = await replica_of(world)
    pending = list(world.entries)
    for size in [*cuts, len(pending)]:
        batch, pending = pending[:size], pending[size:]
        Random(seed).shuffle(batch)
        await bring(replica, batch)
        for space in replica.door.spaces():
            view = await replica.view(space)
            own = await entries_of(replica, space)
            line = replica.door.lineage(space)[1:]
            above = [entry for member in line for entry in await entries_of(replica, member)]
            roster = fold_roster(space, own, above, replica.door)
            assert view.roster == roster
            assert view.coursework == fold_coursework(space, own, roster)


async def test_of_many_who_ask_for_a_class_that_has_grown_one_folds_it() -> None:
    world = World(Random(1))
    replica, store = await replica_of(world)
    await bring(replica, world.entries)
    (room, *_) = world.classes
    await replica.view(room)
    await bring(replica, [world.say(world.server, room, Kind.PERSON, PersonRecord("Léa", PersonRole.PUPIL).encode())])
    before = store.scanned
    views = await asyncio.gather(*[replica.view(room) for _ in range(8)])
    assert store.scanned - before == (await replica.position(room)).count
    assert all(view is views[0] for view in views)


async def test_a_new_school_makes_no_class_be_folded_again() -> None:
    world = World(Random(1))
    replica, store = await replica_of(world)
    await bring(replica, world.entries)
    (room, *_) = world.classes
    view = await replica.view(room)
    await bring(
        replica, [world.say(world.server, world.territory, Kind.SPACE, SpaceRecord("X", uai="0180002Y").encode())]
    )
    before = store.scanned
    assert await replica.view(room) is view
    assert store.scanned - before == 1  # the new school alone


async def test_once_a_revocation_is_to_be_weighed_everything_above_counts() -> None:
    world = World(Random(2))
    lost = world.enrol(Role.MACHINE, world.classes[0])
    replica, _ = await replica_of(world)
    await bring(replica, world.entries)
    (room, *_) = world.classes
    assert (await replica.view(room)).roster.may_read(lost.key.public)
    await bring(replica, [world.say(world.server, world.school, Kind.REVOKE, Revocation(lost.key.public, ()).encode())])
    view = await replica.view(room)
    assert not view.roster.may_read(lost.key.public)
    name = PersonRecord("Nadia", PersonRole.TEACHER)
    await bring(replica, [world.say(world.server, world.school, Kind.PERSON, name.encode(), subject=b"p" * 16)])
    assert await replica.view(room) is not view


async def test_what_lies_above_hundreds_of_classes_is_read_and_weighed_once_for_all_of_them() -> None:
    world = World(Random(2))
    lost, machine = world.enrol(Role.HEAD, world.school), world.enrol(Role.MACHINE, world.classes[0])
    world.say(world.server, world.school, Kind.REVOKE, Revocation(lost.key.public, ()).encode())
    payloads = [SpaceRecord(f"C{number}", year="2026-2027").encode() for number in range(200)]
    rooms = [world.say(world.server, world.school, Kind.SPACE, payload).id for payload in payloads]
    said = Grant(machine.key.public, world.random.randbytes(32), bytes(32), Role.MACHINE, None, None).encode()
    for room in rooms:
        world.say(world.server, room, Kind.GRANT, said)
    replica, store = await replica_of(world)
    await bring(replica, world.entries)
    before = store.scanned
    for room in rooms:
        roster = (await replica.view(room)).roster
        assert roster.may_read(machine.key.public)
        assert not roster.may_read(lost.key.public)
    held = sum((await store.spaces()).values())
    assert store.scanned - before < 3 * held


async def test_who_looks_at_very_many_spaces_is_told_whether_anything_changed() -> None:
    world = World(Random(3))
    replica, _ = await replica_of(world)
    await bring(replica, world.entries)
    (room, *_) = world.classes
    view = await replica.changed_view(room, None)
    assert view is not None
    assert await replica.changed_view(room, view.basis) is None
    name = PersonRecord("Léa", PersonRole.PUPIL)
    await bring(replica, [world.say(world.server, room, Kind.PERSON, name.encode(), subject=b"p" * 16)])
    changed = await replica.changed_view(room, view.basis)
    assert changed is not None
    assert [person.name for person in changed.roster.persons.values()] == ["Léa"]


async def test_folds_that_others_make_go_while_somebody_asks_for_them_are_given_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(Random(1))
    replica, _ = await replica_of(world)
    await bring(replica, [entry for entry in world.entries if entry.header.space == world.territory])
    before = await replica.view(world.territory)
    changed = Views.changed

    async def meanwhile(views: Views, space: bytes, basis: Basis | None) -> SpaceView | None:
        found = await changed(views, space, basis)
        views._kept.clear()
        return found

    monkeypatch.setattr(Views, "changed", meanwhile)
    assert await replica.view(world.territory) is before
