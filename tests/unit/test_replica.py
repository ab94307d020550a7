"""A replica at work: admission in batches, quarantine, failures and interruptions (R1, R4)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import Code, LocalFailure
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure
from protocol.replica.interfaces import Held, Stored
from protocol.replica.storage.memory import MemoryStore
from protocol.rights.door import Door
from protocol.roles import PersonRole, Role
from tests.harness.entries import SOME_WORK, bare
from tests.harness.history import NOW_MS, YEAR_MS, World, Writer, random_history
from tests.harness.small_replica import SOURCE, Marks, Store, admit, ids, members, opened, quarantine, successors


@pytest.fixture
def world() -> World:
    return World(Random(21))


# --- admission in whatever order and in whatever batches --------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9), order=st.randoms(use_true_random=False), sources=st.integers(1, 3))
def test_every_order_and_every_cut_into_batches_gives_the_same_set(seed: int, order: Random, sources: int) -> None:
    world = random_history(seed, steps=12)
    successors(world, world.enrol(Role.MACHINE, world.classes[0]), 4)
    arrivals = list(world.entries)
    order.shuffle(arrivals)

    async def bring() -> None:
        replica = await opened(world)
        rest = arrivals
        while rest:
            size = order.randrange(1, 8)
            batch, rest = rest[:size], rest[size:]
            await admit(replica, *batch, source=bytes([order.randrange(sources)]))
        assert await members(replica) == set(ids(world.entries))
        assert await quarantine(replica) == []

    asyncio.run(bring())


async def test_what_waits_for_something_that_waited_itself_comes_in_with_it(world: World) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    work = world.say(machine, machine.space, Kind.HAND_IN, SOME_WORK)
    replica = await opened(world)
    certificate, *rest = world.entries
    await admit(replica, *[entry for entry in rest if entry is not work])
    assert not {work.id, machine.grant} & await members(replica)
    await admit(replica, work, certificate)
    assert await members(replica) == set(ids(world.entries))


async def test_a_long_line_of_clones_that_comes_in_backwards_costs_no_more_than_forwards(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = successors(world, world.enrol(Role.MACHINE, world.classes[0]), 400)
    replica = await opened(world)
    looks = 0
    examine = Door.examine

    def counted(door: Door, entry: Entry, *, signed: bool | None = None) -> object:
        nonlocal looks
        looks += 1
        return examine(door, entry, signed=signed)

    monkeypatch.setattr(Door, "examine", counted)
    assert len((await admit(replica, *reversed(world.entries))).admitted) == len(world.entries)
    assert looks <= 4 * len(world.entries)
    assert await members(replica) >= set(ids(line))


async def test_what_waited_and_then_came_another_way_leaves_the_quarantine(world: World) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    work = world.say(machine, machine.space, Kind.HAND_IN, SOME_WORK)
    replica = await opened(world)
    await admit(replica, work, source=b"one")
    admission = await admit(replica, *world.entries, source=b"another")
    assert set(ids(admission.admitted)) == set(ids(world.entries))
    assert await quarantine(replica) == []


async def test_a_payload_is_not_lost_because_the_bare_header_came_beside_it(world: World) -> None:
    pupil = world.person(world.classes[0], PersonRole.PUPIL, "Léa")
    named = world.entries[-1]
    for pair in ((named, bare(named)), (bare(named), named)):
        replica = await opened(world)
        await admit(replica, *world.entries[:-1], *pair)
        assert (await replica.store.get([named.id]))[named.id].payload is not None
        assert pupil in (await replica.view(world.classes[0])).roster.persons


async def test_a_bare_header_comes_in_once_its_erasure_does_and_not_before(world: World) -> None:
    room = world.classes[0]
    pupil = world.person(room, PersonRole.PUPIL, "Léa")
    named = world.entries[-1]
    other = world.say(world.server, room, Kind.ERASE, Erasure(bytes(16)).encode())
    erased = world.say(world.server, world.school, Kind.ERASE, Erasure(pupil).encode())
    replica = await opened(world)
    known = [entry for entry in world.entries if entry.id not in {named.id, other.id, erased.id}]
    await admit(replica, *known, bare(named))
    assert await quarantine(replica) == [named.id]
    await admit(replica, other)
    assert await quarantine(replica) == [named.id]
    await admit(replica, erased)
    assert named.id in await members(replica)


async def test_a_bare_header_of_a_class_that_is_not_known_yet_waits_for_the_class_too(world: World) -> None:
    room = world.classes[0]
    pupil = world.person(room, PersonRole.PUPIL, "Léa")
    named = world.entries[-1]
    world.say(world.server, world.school, Kind.ERASE, Erasure(pupil).encode())
    replica = await opened(world)
    without = [entry for entry in world.entries if entry.id not in {named.id, room}]
    await admit(replica, *without)
    await admit(replica, bare(named))
    reopened = await opened(world, replica.store)  # type: ignore[arg-type]
    await admit(reopened, *[entry for entry in world.entries if entry.id == room])
    assert named.id in await members(reopened)


async def test_what_is_refused_is_told_to_who_brought_it_and_to_nobody_else(world: World) -> None:
    thief = Writer(world.new_key(), Role.MACHINE, world.classes[0], None)
    machine = world.enrol(Role.MACHINE, world.classes[0])
    grant = world.entries[-1]
    thief.grant = machine.grant
    stolen = world.say(thief, machine.space, Kind.HAND_IN, SOME_WORK)
    replica = await opened(world)
    await admit(replica, *[entry for entry in world.entries if entry.id not in {grant.id, stolen.id}])
    assert (await admit(replica, stolen, source=b"thief")).waiting == (stolen.id,)
    admission = await admit(replica, grant, source=b"honest")
    assert admission.refused == ()
    assert await quarantine(replica) == []
    again = await admit(replica, stolen, source=b"thief")
    assert [(refusal.id, refusal.code) for refusal in again.refused] == [(stolen.id, Code.FOREIGN_GRANT)]


async def test_a_full_quarantine_refuses_nothing_for_good(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.replica.at_work.quarantine.MAX_WAITING_ENTRIES", 2)
    machine = world.enrol(Role.MACHINE, world.classes[0])
    grant = world.entries[-1]
    works = [world.say(machine, machine.space, Kind.HAND_IN, SOME_WORK) for _ in range(4)]
    replica = await opened(world)
    await admit(replica, *[entry for entry in world.entries if entry is not grant and entry not in works])
    admission = await admit(replica, *works)
    assert admission.refused == ()
    assert admission.waiting == tuple(ids(works[:2]))
    assert admission.unheld == tuple(ids(works[2:]))
    other = await admit(replica, works[3], source=b"another carrier")
    assert other.waiting == (works[3].id,), "each source has its own room"
    released = await admit(replica, grant)
    assert {entry.id for entry in released.released} == {works[0].id, works[1].id, works[3].id}
    assert (await admit(replica, works[2])).admitted == (works[2],)


async def test_who_is_only_shown_something_keeps_nothing_that_waits(world: World) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    work = world.say(machine, machine.space, Kind.HAND_IN, SOME_WORK)
    replica = await opened(world)
    admission = await replica.admit([work], source=SOURCE, now_ms=NOW_MS, hold=False)
    assert (admission.waiting, admission.unheld) == ((), (work.id,))
    assert await quarantine(replica) == []


async def test_what_waits_is_safe_before_the_mark_that_says_so(world: World) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    work = world.say(machine, machine.space, Kind.HAND_IN, SOME_WORK)
    store = Store()
    replica = await opened(world, store)
    await replica.admit([work], source=SOURCE, now_ms=NOW_MS, marks={"cursor": b"1"})
    assert store.held_at_append == [1]
    assert await store.mark("cursor") == b"1"


async def test_a_replica_opened_again_goes_on_where_it_was(world: World) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    grant = world.entries[-1]
    work = world.say(machine, machine.space, Kind.HAND_IN, SOME_WORK)
    replica = await opened(world)
    await admit(replica, *[entry for entry in world.entries if entry is not grant])
    await replica.prove_time(NOW_MS + 15 * YEAR_MS)
    await replica.prove_time(NOW_MS + 3)  # the server's clock has been put right: what it said before binds nobody
    again = await opened(world, replica.store)  # type: ignore[arg-type]
    await again.recall_time()
    assert again.proven_ms == NOW_MS + 3
    assert again.door.spaces() == replica.door.spaces()
    await admit(again, grant)
    assert work.id in await members(again)
    await again.close()


# --- failures and interruptions ---------------------------------------------------------------------------------------


async def test_after_a_failed_save_the_door_knows_only_what_the_store_holds(world: World) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    grant = world.entries[-1]
    work = world.say(machine, machine.space, Kind.HAND_IN, SOME_WORK)
    store = Store()
    replica = await opened(world, store)
    await admit(replica, *[entry for entry in world.entries if entry not in (grant, work)])
    store.failure = LocalFailure(Code.DISK_FULL, "full")
    with pytest.raises(LocalFailure):
        await admit(replica, grant)
    assert replica.door.authority(grant.id) is None
    assert (await admit(replica, work)).waiting == (work.id,)
    await admit(replica, grant)
    assert await members(replica) == set(ids(world.entries))


async def test_a_view_made_while_a_save_fails_is_not_kept(world: World) -> None:
    room = world.classes[0]
    machine = world.enrol(Role.MACHINE, room)
    grant = world.entries[-1]
    store = Store()
    replica = await opened(world, store)
    await admit(replica, *world.entries[:-1])
    store.gate = asyncio.Event()
    store.failure = LocalFailure(Code.DISK_FULL, "full")
    saving = asyncio.create_task(admit(replica, grant))
    await store.waiting.wait()
    await replica.view(room)
    store.gate.set()
    with pytest.raises(LocalFailure):
        await saving
    assert not (await replica.view(room)).roster.may_read(machine.key.public)


@pytest.mark.parametrize("steps", range(1, 14))
async def test_an_admission_cut_short_anywhere_leaves_no_right_without_its_entry(world: World, steps: int) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    grant = world.entries[-1]
    work = world.say(machine, machine.space, Kind.HAND_IN, SOME_WORK)
    replica = await opened(world, SlowStore())
    await admit(replica, *[entry for entry in world.entries if entry not in (grant, work)], work)
    cut_short = asyncio.create_task(admit(replica, grant))
    for _ in range(steps):
        await asyncio.sleep(0)
    cut_short.cancel()
    await asyncio.gather(cut_short, return_exceptions=True)
    await admit(replica)
    held = grant.id in await members(replica)
    assert (replica.door.authority(grant.id) is not None) == held
    await admit(replica, grant)
    assert await members(replica) == set(ids(world.entries))


class SlowStore(MemoryStore):
    """A store that gives way to others before it answers, as one with a thread of its own does."""

    async def append(
        self,
        entries: Sequence[Entry],
        *,
        unsent: bool = False,
        marks: Marks | None = None,
        release: Iterable[bytes] = (),
    ) -> list[Stored]:
        await asyncio.sleep(0)
        return await super().append(entries, unsent=unsent, marks=marks, release=release)

    async def held(self, ids: Collection[bytes] | None = None) -> list[Held]:
        await asyncio.sleep(0)
        return await super().held(ids)

    async def present(self, ids: Sequence[bytes]) -> set[bytes]:
        await asyncio.sleep(0)
        return await super().present(ids)

    async def scan_kinds(self, kinds: Sequence[int], after: int = 0) -> list[Entry]:
        await asyncio.sleep(0)
        return await super().scan_kinds(kinds, after)


async def test_a_door_that_could_not_be_made_anew_is_made_before_anything_more_comes_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    grant = world.entries[-1]
    work = world.say(machine, machine.space, Kind.HAND_IN, SOME_WORK)
    store = Store()
    replica = await opened(world, store)
    await admit(replica, *[entry for entry in world.entries if entry not in (grant, work)])

    async def broken(_: Sequence[int]) -> list[Entry]:
        raise LocalFailure(Code.STORAGE_FAILED, "not readable either")

    monkeypatch.setattr(store, "scan_kinds", broken)
    store.failure = LocalFailure(Code.DISK_FULL, "full")
    with pytest.raises(LocalFailure):
        await admit(replica, grant)
    with pytest.raises(LocalFailure):
        await admit(replica, work)
    monkeypatch.undo()
    assert (await admit(replica, work)).waiting == (work.id,)


async def test_nobody_is_unknown_while_the_door_is_made_anew(world: World) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    replica = await opened(world, SlowStore())
    await admit(replica, *world.entries)
    reloading = asyncio.create_task(replica.reload())
    for _ in range(6):
        await asyncio.sleep(0)
        assert replica.door.authority(machine.grant) is not None
    await reloading
