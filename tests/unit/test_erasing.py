"""When what an erasure covers is destroyed, and what is left then."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.chunking import chunk_list, cut
from protocol.entry import Entry, Kind
from protocol.erasing import Order, due
from protocol.limits import ERASURE_DELAY_MS, MAX_ERASED_PER_DAY
from protocol.manifest import ManifestEntry, encode_manifest
from protocol.replica.eraser import Eraser
from protocol.replica.holdings import Holdings
from protocol.replica.memory import MemoryPacks, MemoryStore
from protocol.replica.replica import Replica
from protocol.roles import PersonRole, Role
from protocol.structure import Erasure, PersonRecord, Revocation, Ruling
from protocol.work import ContentRef, Feedback, HandIn, ItemKind, Revision
from tests.harness.history import NOW_MS, World, Writer, random_history

DAY_MS = 24 * 3600 * 1000
names = st.binary(min_size=16, max_size=16)
orders_st = st.builds(Order, names, st.integers(0, 20 * DAY_MS), st.booleans(), st.booleans())


# --- the rule ---------------------------------------------------------------------------------------------------------


def order(name: int, seen_ms: int = 0, *, by_kit: bool = False, of_space: bool = False) -> Order:
    return Order(bytes([name]) * 16, seen_ms, by_kit, of_space)


def test_nothing_is_destroyed_before_a_week_has_passed_here_whoever_signed() -> None:
    orders = [order(1), order(2, by_kit=True)]
    assert due(orders, (), ERASURE_DELAY_MS - 1, 0) == []
    assert due(orders, (), ERASURE_DELAY_MS, 0) == [order(1).covers, order(2).covers]


def test_a_stolen_server_destroys_five_persons_a_day_and_no_space() -> None:
    orders = [order(name, seen_ms=name) for name in range(12)] + [order(99, of_space=True)]
    first = due(orders, (), 2 * ERASURE_DELAY_MS, 0)
    assert first == [each.covers for each in orders[:MAX_ERASED_PER_DAY]]
    assert due(orders, first, 2 * ERASURE_DELAY_MS, MAX_ERASED_PER_DAY) == first
    tomorrow = due(orders, first, 2 * ERASURE_DELAY_MS + DAY_MS, 0)
    assert len(tomorrow) == 2 * MAX_ERASED_PER_DAY


def test_the_kit_may_erase_many_and_a_whole_space() -> None:
    orders = [*(order(name, by_kit=True) for name in range(40)), order(99, by_kit=True, of_space=True)]
    assert len(due(orders, (), ERASURE_DELAY_MS, MAX_ERASED_PER_DAY)) == 41


@given(st.lists(orders_st, max_size=30), st.integers(0, 40 * DAY_MS), st.integers(0, 9))
def test_without_the_kit_no_more_than_the_days_number_is_ever_new(orders: list[Order], now_ms: int, done: int) -> None:
    found = set(due(orders, (), now_ms, done))
    unsigned = {each.covers for each in orders if not each.by_kit} - {each.covers for each in orders if each.by_kit}
    assert len(found & unsigned) <= max(0, MAX_ERASED_PER_DAY - done)
    assert all(any(each.seen_ms + ERASURE_DELAY_MS <= now_ms for each in orders if each.covers == one) for one in found)


# --- the sweep --------------------------------------------------------------------------------------------------------


class Class:
    """A class with two pupils, whose hand-ins have content, and a replica that holds all of it."""

    def __init__(self) -> None:
        self.world = World(Random(7))
        self.room = self.world.classes[0]
        self.pupils = [self.world.person(self.room, PersonRole.PUPIL, name) for name in ("Léa", "Karim")]
        self.teacher = self.world.enrol(Role.TEACHER, self.room)
        self.machine = self.world.enrol(Role.MACHINE, self.room)
        self.store, self.content = MemoryStore(), MemoryPacks()
        self.holdings = Holdings(self.store, self.content)

    async def open(self) -> None:
        self.replica = await Replica.open(self.world.root.key.public, self.store, self.content)
        lesson = await self.keep(b"la lecon")
        self.item = self.world.say(
            self.teacher,
            self.room,
            Kind.REVISION,
            Revision(ItemKind.ASSIGNMENT, "Volcans", None, None, lesson).encode(),
        ).id
        self.works = [await self.hand_in(pupil) for pupil in self.pupils]
        await self.bring()

    async def keep(self, data: bytes, *, sealed: bool = False) -> ContentRef:
        build = await self.content.build(self.room, unsent=False, sealed=sealed)
        stream = await self.stream(build, data)
        if sealed:
            await build.finish()
            return ContentRef(stream, len(data), 0)
        manifest = encode_manifest([ManifestEntry("page.html", len(data), stream)])
        name = await self.stream(build, manifest)
        await build.finish()
        return ContentRef(name, len(data), 1)

    @staticmethod
    async def stream(build: object, data: bytes) -> bytes:
        chunks = cut(data)
        for chunk in chunks:
            await build.chunk(chunk)  # type: ignore[attr-defined]
        return await build.stream(chunk_list(chunks))  # type: ignore[attr-defined,no-any-return]

    async def hand_in(self, pupil: bytes) -> Entry:
        content = await self.keep(b"sealed for " + pupil * 40, sealed=True)
        work = self.world.say(
            self.machine, self.room, Kind.HAND_IN, HandIn(content, None).encode(), subject=pupil, target=self.item
        )
        files = await self.keep(b"bravo, " + pupil)
        said = Feedback("Bravo", None, redo=False, content=files).encode()
        self.world.say(self.teacher, self.room, Kind.FEEDBACK, said, subject=pupil, target=work.id)
        return work

    async def bring(self) -> None:
        await self.replica.admit(self.world.entries, source=b"somebody", now_ms=NOW_MS)

    async def erase(self, covers: bytes, by: Writer | None = None) -> Entry:
        by = by or self.world.server
        entry = self.world.say(by, self.world.territory, Kind.ERASE, Erasure(covers).encode())
        await self.bring()
        return entry

    async def sweep(self, after_ms: int) -> tuple[bytes, ...]:
        return (await Eraser(self.replica, self.holdings).sweep(NOW_MS + after_ms)).entries

    async def about(self, pupil: bytes) -> list[Entry]:
        return [stored.entry for stored in await self.store.scan(self.room) if stored.entry.header.subject == pupil]


@pytest.fixture
async def room() -> Class:
    made = Class()
    await made.open()
    return made


async def test_an_erased_pupil_is_hidden_at_once_and_destroyed_after_a_week(room: Class) -> None:
    lea, karim = room.pupils
    before = await room.replica.fingerprint(room.room)
    await room.erase(lea)
    view = await room.replica.view(room.room)
    assert [person.name for person in view.roster.persons.values()] == ["Karim"]
    assert [work.person for work in view.coursework.hand_ins.values()] == [karim]
    assert await room.sweep(0) == ()
    assert all(entry.payload for entry in await room.about(lea))
    destroyed = await room.sweep(ERASURE_DELAY_MS)
    assert {entry.id for entry in await room.about(lea)} == set(destroyed)
    assert not any(entry.payload or entry.salt for entry in await room.about(lea))
    assert all(entry.payload for entry in await room.about(karim))
    assert await room.replica.fingerprint(room.room) == before


async def test_what_only_an_erased_pupil_needed_leaves_the_disk_and_nothing_else(room: Class) -> None:
    lea, karim = room.works
    await room.erase(room.pupils[0])
    await room.sweep(0)
    await room.sweep(ERASURE_DELAY_MS)
    known = await room.content.known_streams(
        [HandIn.parse(work.payload or b"").content.stream for work in (lea, karim)]
    )
    assert known == {HandIn.parse(karim.payload or b"").content.stream}
    item = (await room.replica.view(room.room)).coursework.items[room.item]
    assert await room.holdings.manifest(item.shown.record.content.stream)


async def test_what_comes_back_late_is_destroyed_again(room: Class) -> None:
    lea = room.pupils[0]
    await room.erase(lea)
    await room.sweep(0)
    await room.sweep(ERASURE_DELAY_MS)
    late = await room.hand_in(lea)
    await room.bring()
    assert late.id in await room.sweep(ERASURE_DELAY_MS + 1)
    assert not any(entry.payload for entry in await room.about(lea))


async def test_a_sweep_that_was_cut_off_is_finished_by_the_next(room: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    lea = room.pupils[0]
    await room.erase(lea)
    await room.sweep(0)

    async def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(room.store, "erase", cut_off)
        with pytest.raises(KeyboardInterrupt):
            await room.sweep(ERASURE_DELAY_MS)
    await room.sweep(ERASURE_DELAY_MS)
    assert not any(entry.payload for entry in await room.about(lea))


async def test_the_kit_undoes_a_thiefs_erasures_before_anything_is_destroyed(room: Class) -> None:
    lea = room.pupils[0]
    await room.erase(lea)
    await room.sweep(0)
    server = room.world.server
    cut = Revocation(server.key.public, ()).encode()
    room.world.say(room.world.root, room.world.territory, Kind.REVOKE, cut)
    await room.bring()
    assert await room.sweep(ERASURE_DELAY_MS) == ()
    assert all(entry.payload for entry in await room.about(lea))


async def shows(room: Class, pupil: bytes) -> bool:
    return pupil in (await room.replica.view(room.room)).roster.persons


async def refuse(room: Class, erasure: Entry, by: Writer) -> None:
    """A ruling that takes an erasure back comes, and with it, from an old backup, all that was ever said."""
    room.world.say(by, room.world.territory, Kind.RULING, Ruling((), (erasure.id,)).encode())
    await room.bring()
    await room.bring()


async def test_what_was_destroyed_here_stays_so_when_who_erased_it_takes_that_back(room: Class) -> None:
    lea = room.pupils[0]
    erasure = await room.erase(lea)
    await room.sweep(0)
    await room.sweep(ERASURE_DELAY_MS)
    await refuse(room, erasure, room.world.server)
    assert not await shows(room, lea)
    assert await room.replica.bare.lacking() == ()
    assert not any(entry.payload for entry in await room.about(lea))
    listed = PersonRecord("Léa", PersonRole.PUPIL).encode()
    room.world.say(room.world.server, room.room, Kind.PERSON, listed, subject=lea)
    await room.bring()
    assert not await shows(room, lea)
    await room.sweep(ERASURE_DELAY_MS + 1)
    assert not any(entry.payload for entry in await room.about(lea))


async def test_what_was_only_hidden_is_shown_again_by_whoever_may_take_it_back(room: Class) -> None:
    lea = room.pupils[0]
    erasure = await room.erase(lea)
    await room.sweep(ERASURE_DELAY_MS - 1)
    await refuse(room, erasure, room.world.server)
    assert await shows(room, lea)


async def test_a_replica_that_is_opened_anew_knows_what_it_has_destroyed(room: Class) -> None:
    lea = room.pupils[0]
    erasure = await room.erase(lea)
    await room.sweep(0)
    await room.sweep(ERASURE_DELAY_MS)
    room.replica = await Replica.open(room.world.root.key.public, room.store, room.content)
    await refuse(room, erasure, room.world.server)
    assert not await shows(room, lea)


async def test_cutting_off_who_erased_somebody_brings_nobody_back_unless_the_kit_does_it(room: Class) -> None:
    lea, world = room.pupils[0], room.world
    head = world.enrol(Role.HEAD, world.school)
    erasure = world.say(head, world.school, Kind.ERASE, Erasure(lea).encode())
    await room.bring()
    await room.sweep(0)
    await room.sweep(ERASURE_DELAY_MS)
    world.say(world.server, world.school, Kind.REVOKE, Revocation(head.key.public, ()).encode())
    await room.bring()
    await room.bring()
    assert erasure.id in (await room.replica.view(room.room)).roster.held_back
    assert not await shows(room, lea)
    world.say(world.root, world.school, Kind.REVOKE, Revocation(head.key.public, ()).encode())
    await room.bring()
    await room.bring()
    assert await shows(room, lea)


async def test_after_the_kits_word_another_erasure_waits_its_week_again(room: Class) -> None:
    lea = room.pupils[0]
    erasure = await room.erase(lea)
    await room.sweep(0)
    await room.sweep(ERASURE_DELAY_MS)
    await refuse(room, erasure, room.world.root)
    assert await shows(room, lea)
    await room.sweep(ERASURE_DELAY_MS + 1)
    await room.erase(lea)
    assert await room.sweep(ERASURE_DELAY_MS + 2) == ()
    assert await room.sweep(2 * ERASURE_DELAY_MS + 2)


@pytest.mark.parametrize("seed", range(20))
async def test_sweeping_never_changes_a_set_nor_what_anybody_is_shown(seed: int) -> None:
    world = random_history(seed, 60)
    replica = await Replica.open(world.root.key.public, MemoryStore(), MemoryPacks())
    await replica.admit(world.entries, source=b"somebody", now_ms=NOW_MS)
    before = [(await replica.fingerprint(space), await replica.view(space)) for space in replica.door.spaces()]
    eraser = Eraser(replica, Holdings(replica.store, replica.content))
    await eraser.sweep(NOW_MS)
    await eraser.sweep(NOW_MS + ERASURE_DELAY_MS)
    await replica.reload()
    for space, (fingerprint, view) in zip(replica.door.spaces(), before, strict=True):
        assert await replica.fingerprint(space) == fingerprint
        again = await replica.view(space)
        assert again.coursework == view.coursework
        assert again.roster == view.roster
