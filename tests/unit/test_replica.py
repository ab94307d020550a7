"""A replica at work: admission in batches, quarantine, own entries, clock, views, who may read (R1, R4, R6–R8)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.clock import at_from, milliseconds_of
from protocol.entry import Entry, Kind, compose
from protocol.errors import Code, LocalFailure
from protocol.limits import MAX_PREV
from protocol.replica.interfaces import Stored
from protocol.replica.memory import MemoryPacks, MemoryStore
from protocol.replica.replica import Admission, Draft, Replica
from protocol.rights import Door
from protocol.roles import PersonRole, Role
from protocol.structure import Erasure, Grant, Revocation, SpaceRecord, Successor
from protocol.work import ContentRef, ItemKind, Revision
from tests.harness.entries import SOME_WORK, bare
from tests.harness.history import NOW_MS, YEAR_MS, World, Writer, random_history

HOUR_MS = 3600 * 1000
SOURCE = b"a carrier"
Marks = Mapping[str, bytes | None]


class Store(MemoryStore):
    """A store that can be told to fail, or to be slow, at its next `append`."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: BaseException | None = None
        self.gate: asyncio.Event | None = None
        self.waiting = asyncio.Event()
        self.held_at_append: list[int] = []

    async def append(
        self,
        entries: Sequence[Entry],
        *,
        unsent: bool = False,
        marks: Marks | None = None,
        release: Iterable[bytes] = (),
    ) -> list[Stored]:
        self.held_at_append.append(len(self._held))
        if self.gate is not None:
            self.waiting.set()
            await self.gate.wait()
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return await super().append(entries, unsent=unsent, marks=marks, release=release)


async def opened(world: World, store: MemoryStore | None = None) -> Replica:
    return await Replica.open(world.root.key.public, store or Store(), MemoryPacks())


async def admit(replica: Replica, *entries: Entry, source: bytes = SOURCE) -> Admission:
    return await replica.admit(entries, source=source, now_ms=NOW_MS)


async def members(replica: Replica) -> set[bytes]:
    return {stored.entry.id for space in await replica.store.spaces() for stored in await replica.store.scan(space)}


async def quarantine(replica: Replica) -> list[bytes]:
    return [held.entry.id for held in await replica.store.held()]


def ids(entries: Sequence[Entry]) -> list[bytes]:
    return [entry.id for entry in entries]


def lesson(title: str = "Leçon") -> bytes:
    return Revision(ItemKind.LESSON, title, None, None, ContentRef(bytes(32), 1, 1)).encode()


def draft(writer: Writer, title: str = "Leçon", *, space: bytes | None = None, kind: Kind = Kind.REVISION) -> Draft:
    return Draft(space or writer.space, kind, writer.grant, lesson(title))


async def say(
    replica: Replica, writer: Writer, *titles: str, now_ms: int = NOW_MS, seed: int = 1, space: bytes | None = None
) -> list[Entry]:
    drafts = [draft(writer, title, space=space) for title in titles]
    return await replica.write(drafts, author=writer.key, now_ms=now_ms, entropy=Random(seed).randbytes)


def successors(world: World, first: Writer, count: int) -> list[Entry]:
    """A line of clones, each let in by the one before."""
    made = []
    for _ in range(count):
        key = world.new_key()
        payload = Successor.agreed(key, bytes(32), None, first.space, first.key.public).encode()
        made.append(world.say(first, first.space, Kind.SUCCESSOR, payload))
        first = Writer(key, Role.MACHINE, first.space, made[-1].id)
    return made


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
    monkeypatch.setattr("protocol.replica.replica.MAX_WAITING_ENTRIES", 2)
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

    async def held(self) -> list[object]:  # type: ignore[override]
        await asyncio.sleep(0)
        return list(await super().held())

    async def present(self, ids: Sequence[bytes]) -> set[bytes]:
        await asyncio.sleep(0)
        return await super().present(ids)

    async def scan_kinds(self, kinds: Sequence[int]) -> list[Entry]:
        await asyncio.sleep(0)
        return await super().scan_kinds(kinds)


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


# --- what this device writes ------------------------------------------------------------------------------------------


async def at_work(world: World) -> tuple[Replica, Writer]:
    teacher = world.enrol(Role.TEACHER, world.classes[0])
    replica = await opened(world)
    await admit(replica, *world.entries)
    return replica, teacher


async def test_what_is_written_together_is_kept_together_or_not_at_all(world: World) -> None:
    replica, teacher = await at_work(world)
    drafts = [draft(teacher), Draft(teacher.space, Kind.SPACE, teacher.grant, SpaceRecord("CE1").encode())]
    before = await members(replica)
    with pytest.raises(LocalFailure) as caught:
        await replica.write(drafts, author=teacher.key, now_ms=NOW_MS, entropy=Random(1).randbytes)
    assert caught.value.code is Code.INTERNAL
    assert await members(replica) == before
    assert await replica.store.unsent_totals() == (0, 0)
    waiting = Draft(bytes(32), Kind.REVISION, teacher.grant, lesson())
    with pytest.raises(LocalFailure):
        await replica.write([draft(teacher), waiting], author=teacher.key, now_ms=NOW_MS, entropy=Random(1).randbytes)
    assert await members(replica) == before
    assert await quarantine(replica) == []


async def test_own_entries_follow_one_another(world: World) -> None:
    replica, teacher = await at_work(world)
    one, two = await say(replica, teacher, "un", "deux")
    (three,) = await say(replica, teacher, "trois", seed=2)
    assert (one.header.prev, two.header.prev, three.header.prev) == ((), (one.id,), (two.id,))
    assert one.header.at < two.header.at < three.header.at
    assert await replica.tips(teacher.space, teacher.key.public) == [three.id]
    assert ids(await replica.store.unsent(10**6)) == [one.id, two.id, three.id]


async def test_a_draft_about_the_one_before_it_names_it(world: World) -> None:
    replica, teacher = await at_work(world)
    item, switch = await replica.write(
        [draft(teacher), Draft(teacher.space, Kind.WITHDRAW, teacher.grant, b"\x80", of_previous=True)],
        author=teacher.key,
        now_ms=NOW_MS,
        entropy=Random(1).randbytes,
        unsent=False,
        marks=lambda entries: {"first": entries[0].id},
    )
    assert switch.header.target == item.id
    assert await replica.store.mark("first") == item.id
    assert await replica.store.unsent_totals() == (0, 0)


async def test_many_who_write_at_once_make_one_line(world: World) -> None:
    replica, teacher = await at_work(world)
    written = await asyncio.gather(*(say(replica, teacher, str(n), seed=n) for n in range(20)))
    entries = sorted((entries[0] for entries in written), key=lambda entry: entry.header.at)
    assert [entry.header.prev for entry in entries] == [(), *((entry.id,) for entry in entries[:-1])]


async def test_a_machine_that_forgot_names_both_branches_once_its_lost_entries_are_back(world: World) -> None:
    replica, teacher = await at_work(world)
    before = list(world.entries)
    lost = await say(replica, teacher, "perdu 1", "perdu 2")
    frozen = await opened(world)
    await admit(frozen, *before)
    (fork,) = await say(frozen, teacher, "après", seed=3, now_ms=NOW_MS + 9)
    assert fork.header.prev == ()
    await admit(frozen, *lost)
    (joined,) = await say(frozen, teacher, "les deux", seed=4, now_ms=NOW_MS + 99)
    assert set(joined.header.prev) == {fork.id, lost[-1].id}
    assert await frozen.tips(teacher.space, teacher.key.public) == [joined.id]


async def test_lost_entries_that_come_back_in_disorder_are_no_sign_of_a_clone(world: World) -> None:
    replica, teacher = await at_work(world)
    before = list(world.entries)
    first, middle, last = await say(replica, teacher, "1", "2", "3")
    for order in ([first, last, middle], [last, first, middle], [last, middle, first], [middle, last, first]):
        frozen = await opened(world)
        await admit(frozen, *before)
        for entry in order:
            await frozen.tips(teacher.space, teacher.key.public)
            await admit(frozen, entry)
        assert await frozen.tips(teacher.space, teacher.key.public) == [last.id], order


async def test_more_branches_than_an_entry_can_name_are_named_by_and_by(world: World) -> None:
    replica, teacher = await at_work(world)
    branches = [
        compose(
            author=teacher.key, space=teacher.space, kind=Kind.REVISION, grant=teacher.grant,
            at=at_from(NOW_MS + n), payload=lesson(), salt=bytes(16), prev=(),
        )
        for n in range(MAX_PREV + 3)
    ]  # fmt: skip
    await admit(replica, *branches)
    one, two = await say(replica, teacher, "un", "deux")
    newest = ids(branches)[::-1]
    assert one.header.prev == tuple(newest[:MAX_PREV])
    assert two.header.prev == (one.id, *newest[MAX_PREV:])
    again = await opened(world, replica.store)  # type: ignore[arg-type]
    assert await again.tips(teacher.space, teacher.key.public) == [two.id]
    assert await replica.tips(teacher.space, teacher.key.public) == [two.id]


# --- the clock (R6) ---------------------------------------------------------------------------------------------------


async def at_of_next(replica: Replica, teacher: Writer, now_ms: int) -> int:
    (entry,) = await say(replica, teacher, "heure", now_ms=now_ms, seed=now_ms)
    return milliseconds_of(entry.header.at)


async def test_a_clock_that_stood_still_follows_what_others_wrote(world: World) -> None:
    replica, teacher = await at_work(world)
    other = world.enrol(Role.TEACHER, world.classes[0])
    other.skew_ms = HOUR_MS
    await admit(replica, *world.entries, world.say(other, other.space, Kind.REVISION, lesson()))
    assert await at_of_next(replica, teacher, NOW_MS) >= NOW_MS + HOUR_MS


async def test_a_time_from_2040_moves_nobodys_clock(world: World) -> None:
    replica, teacher = await at_work(world)
    other = world.enrol(Role.TEACHER, world.classes[0])
    other.skew_ms = 14 * YEAR_MS
    await replica.prove_time(NOW_MS)
    await admit(replica, *world.entries, world.say(other, other.space, Kind.REVISION, lesson()))
    assert await at_of_next(replica, teacher, NOW_MS + HOUR_MS) == NOW_MS + HOUR_MS


@pytest.mark.parametrize("proven", [True, False])
async def test_a_machine_whose_own_clock_said_2040_is_back_in_the_present_once_it_is_set_right(
    world: World, proven: bool
) -> None:
    replica, teacher = await at_work(world)
    assert await at_of_next(replica, teacher, NOW_MS + 14 * YEAR_MS) == NOW_MS + 14 * YEAR_MS
    if proven:
        await replica.prove_time(NOW_MS)
    assert await at_of_next(replica, teacher, NOW_MS + HOUR_MS) == NOW_MS + HOUR_MS
    again = await opened(world, replica.store)  # type: ignore[arg-type]
    assert await at_of_next(again, teacher, NOW_MS + 2 * HOUR_MS) == NOW_MS + 2 * HOUR_MS


async def test_a_machine_that_boots_in_2009_goes_on_after_its_last_entry(world: World) -> None:
    replica, teacher = await at_work(world)
    await replica.prove_time(NOW_MS)
    last = await at_of_next(replica, teacher, NOW_MS + HOUR_MS)
    again = await opened(world, replica.store)  # type: ignore[arg-type]
    assert await at_of_next(again, teacher, NOW_MS - 17 * YEAR_MS) == last


# --- views ------------------------------------------------------------------------------------------------------------


async def test_a_view_is_kept_until_its_set_or_one_above_it_grows(world: World) -> None:
    replica, teacher = await at_work(world)
    room, other = world.classes
    view, elsewhere = await replica.view(room), await replica.view(other)
    assert await replica.view(room) is view
    await say(replica, teacher, "nouveau")
    renewed = await replica.view(room)
    assert len(renewed.coursework.items) == len(view.coursework.items) + 1
    assert await replica.view(other) is elsewhere
    await admit(replica, world.say(world.server, world.school, Kind.PERSON, b"\x80"))
    assert await replica.view(room) is renewed
    world.enrol(Role.RELAY, world.school)
    await admit(replica, *world.entries)
    assert await replica.view(room) is not renewed
    assert await replica.view(other) is not elsewhere


async def test_only_so_many_views_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.replica.views.KEPT_BYTES", 1)
    replica, _ = await at_work(world)
    view = await replica.view(world.classes[0])
    await replica.view(world.classes[1])
    assert await replica.view(world.classes[0]) is not view


async def test_the_fingerprint_follows_the_set_and_nothing_else(world: World) -> None:
    replica, teacher = await at_work(world)
    await replica.fingerprint(teacher.space)
    await say(replica, teacher, "un", "deux")
    other = await opened(world)
    entries = [stored.entry for space in await replica.store.spaces() for stored in await replica.store.scan(space)]
    await admit(other, *reversed(entries))
    assert await other.fingerprint(teacher.space) == await replica.fingerprint(teacher.space)
    assert len(await replica.records(teacher.space)) == (await replica.position(teacher.space)).count
    await replica.reload()
    assert await other.fingerprint(teacher.space) == await replica.fingerprint(teacher.space)


# --- who may read -----------------------------------------------------------------------------------------------------


async def test_a_grant_opens_its_space_those_below_and_those_above(world: World) -> None:
    relay, machine = world.enrol(Role.RELAY, world.school), world.enrol(Role.MACHINE, world.classes[1])
    replica = await opened(world)
    await admit(replica, *world.entries)
    everything = [world.territory, world.school, *sorted(world.classes)]
    assert list(await replica.readable(relay.key.public)) == everything
    assert list(await replica.readable(machine.key.public)) == [*everything[:2], world.classes[1]]
    assert list(await replica.readable(world.server.key.public)) == everything
    assert await replica.readable(world.new_key().public) == {}


async def test_of_several_grants_the_highest_that_holds_in_a_space_opens_it(world: World) -> None:
    teacher = world.enrol(Role.TEACHER, world.classes[0])
    key = Grant(teacher.key.public, bytes(32), None, Role.MACHINE, None, None)
    below = world.say(world.server, world.school, Kind.GRANT, key.encode())
    replica = await opened(world)
    await admit(replica, *world.entries)
    readable = await replica.readable(teacher.key.public)
    assert readable[world.classes[0]].grant == teacher.grant
    assert {readable[space].grant for space in (world.classes[1], world.school, world.territory)} == {
        below.id,
        teacher.grant,
    }
    assert readable[world.classes[1]].grant == readable[world.school].grant == below.id


async def test_a_key_cut_off_in_a_class_reads_the_others_of_its_school(world: World) -> None:
    relay = world.enrol(Role.RELAY, world.school)
    cut = Revocation(relay.key.public, ()).encode()
    world.say(world.server, world.classes[0], Kind.REVOKE, cut)
    replica = await opened(world)
    await admit(replica, *world.entries)
    assert list(await replica.readable(relay.key.public)) == [world.territory, world.school, world.classes[1]]


async def test_a_grant_that_is_held_back_in_a_class_does_not_open_it_from_above(world: World) -> None:
    admin = world.enrol(Role.ADMIN, world.school)
    relay = world.enrol(Role.RELAY, world.school, by=admin)
    cut = Revocation(admin.key.public, ()).encode()
    world.say(world.server, world.classes[0], Kind.REVOKE, cut)
    replica = await opened(world)
    await admit(replica, *world.entries)
    assert relay.grant in (await replica.view(world.classes[0])).roster.held_back
    assert list(await replica.readable(relay.key.public)) == [world.territory, world.school, world.classes[1]]


async def test_what_a_key_may_read_costs_nothing_for_spaces_that_are_not_its_own(world: World) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    for number in range(300):
        world.say(world.server, world.school, Kind.SPACE, SpaceRecord(f"CE{number}").encode())
    replica = await opened(world)
    await admit(replica, *world.entries)
    asked: list[bytes] = []
    lineage = replica.door.lineage

    def counted(space: bytes) -> tuple[bytes, ...]:
        asked.append(space)
        return lineage(space)

    replica.door.lineage = counted  # type: ignore[method-assign]
    await replica.readable(machine.key.public)
    assert len(asked) < 60


# --- credentials ------------------------------------------------------------------------------------------------------


async def test_credentials_are_all_that_a_stranger_needs_in_an_admissible_order(world: World) -> None:
    admin = world.enrol(Role.ADMIN, world.school)
    machine = world.enrol(Role.MACHINE, world.classes[0], by=admin)
    replica = await opened(world)
    await admit(replica, *world.entries)
    assert machine.grant is not None
    shown = await replica.credentials([machine.grant, bytes(32), machine.grant])
    door = Door(world.root.key.public)
    for entry in shown:
        assert door.examine(entry).outcome == "admit"
        door.learn(entry)
    assert shown[-1].id == machine.grant
    assert len(shown) == 5, "certificate, school, class, the admin's grant, the machine's"


async def test_a_device_that_was_cloned_a_thousand_times_still_has_credentials(world: World) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    line = successors(world, machine, 1_000)
    replica = await opened(world)
    await admit(replica, *world.entries)
    shown = await replica.credentials([line[-1].id])
    assert len(shown) == len(line) + 4
    assert ids(shown)[-1] == line[-1].id


async def test_a_forged_copy_of_what_waits_takes_nobodys_place(world: World) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    grant = world.entries[-1]
    work = world.say(machine, machine.space, Kind.HAND_IN, SOME_WORK)
    forged = replace(work, signature=bytes(64))
    replica = await opened(world)
    await admit(replica, *[entry for entry in world.entries if entry not in (grant, work)])
    admission = await admit(replica, forged, source=b"forger")
    assert [refusal.code for refusal in admission.refused] == [Code.BAD_SIGNATURE]
    await admit(replica, work)
    await admit(replica, forged, grant, source=b"forger")
    assert work.id in await members(replica)
