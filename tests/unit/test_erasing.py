"""When what an erasure covers is destroyed, and what is left then."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Code, LocalFailure
from protocol.limits import ERASURE_DELAY_MS
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, PersonRecord, Revocation, Ruling
from protocol.model.work import ContentRef, Feedback, HandIn, ItemKind, Revision
from protocol.replica.at_work.destroyed import DONE_MARKS
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.holdings import Holdings
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.interfaces import ERASURE_READ_MARKS
from protocol.replica.storage.memory import MemoryStore
from protocol.replica.upkeep.eraser import LOOKED_MARK, Eraser
from protocol.replica.upkeep.pace import Pace
from protocol.roles import PersonRole, Role
from protocol.transfer.chunking import chunk_list, cut
from protocol.transfer.manifest import ManifestEntry, encode_manifest
from tests.harness.history import NOW_MS, World, Writer, random_history

HOUR_MS = 3_600_000


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


async def test_a_part_that_cannot_be_removed_keeps_no_erasure_from_being_carried_out(
    room: Class, monkeypatch: pytest.MonkeyPatch
) -> None:
    lea, _ = room.pupils
    await room.erase(lea)
    await room.sweep(0)

    async def refused() -> dict[str, int]:
        raise LocalFailure(Code.STORAGE_FAILED, "another account's file")

    monkeypatch.setattr(room.replica.content, "lying_parts", refused)
    with pytest.raises(LocalFailure):
        await room.sweep(ERASURE_DELAY_MS)
    assert not any(entry.payload or entry.salt for entry in await room.about(lea))


async def test_one_remark_is_neither_hidden_nor_destroyed_by_its_own_id_and_work_is_with_all_about_it(
    room: Class,
) -> None:
    lea, karim = room.pupils
    for pupil, kind in ((lea, Kind.FEEDBACK), (karim, Kind.HAND_IN)):
        (named,) = [entry for entry in await room.about(pupil) if entry.header.kind == kind]
        await room.erase(named.id, room.world.root)
    roster = (await room.replica.view(room.room)).roster
    assert not any(map(roster.hides, await room.about(lea)))
    assert {entry.header.kind for entry in filter(roster.hides, await room.about(karim))} == {
        Kind.HAND_IN,
        Kind.FEEDBACK,
    }
    await room.sweep(0)
    await room.sweep(ERASURE_DELAY_MS)
    assert all(entry.payload for entry in await room.about(lea))
    gone = {entry.header.kind for entry in await room.about(karim) if entry.payload is None}
    assert gone == {Kind.HAND_IN, Kind.FEEDBACK}


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


async def test_what_comes_late_is_destroyed_though_arrivals_were_numbered_anew(room: Class) -> None:
    lea, mark = room.pupils[0], ERASURE_READ_MARKS + room.room.hex()
    await room.erase(lea)
    await room.sweep(0)
    await room.sweep(ERASURE_DELAY_MS)
    noted = await room.store.mark(mark) or b""
    # `verify` has moved entries aside since: fewer are here than were looked at
    await room.store.set_marks({mark: (1_000_000).to_bytes(8, "big") + noted[8:]})
    late = await room.hand_in(lea)
    await room.bring()
    assert late.id in await room.sweep(ERASURE_DELAY_MS + 1)


async def test_what_an_earlier_version_destroyed_stays_so_and_is_not_counted_anew(room: Class) -> None:
    lea = room.pupils[0]
    await room.erase(lea)
    await room.sweep(0)
    await room.sweep(ERASURE_DELAY_MS)
    read = ERASURE_READ_MARKS + room.room.hex()
    await room.store.set_marks({DONE_MARKS + lea.hex(): bytes(4), read: (99).to_bytes(8, "big")})
    late = await room.hand_in(lea)
    await room.bring()
    swept = await Eraser(room.replica, room.holdings).sweep(NOW_MS + ERASURE_DELAY_MS + 1)
    assert (swept.names, swept.entries) == (0, (late.id, room.world.entries[-1].id))


async def test_what_came_again_after_an_erasure_was_taken_back_goes_with_the_next_one(room: Class) -> None:
    lea = room.pupils[0]
    whole = await room.about(lea)
    erasure = await room.erase(lea)
    await room.sweep(0)
    await room.sweep(ERASURE_DELAY_MS)
    world = room.world
    world.say(world.root, world.territory, Kind.RULING, Ruling((), (erasure.id,)).encode())
    await room.bring()
    await room.store.fill(whole)
    await room.replica.reload()
    assert all(entry.payload for entry in await room.about(lea))
    await room.erase(lea)
    assert await room.sweep(ERASURE_DELAY_MS + 1) == ()
    assert await room.sweep(2 * ERASURE_DELAY_MS) == ()
    assert len(await room.sweep(2 * ERASURE_DELAY_MS + 1)) == len(whole)


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


async def test_cutting_off_who_erased_somebody_brings_nobody_back_before_the_kits_word_on_that(room: Class) -> None:
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
    assert not await shows(room, lea)
    world.say(world.root, world.school, Kind.RULING, Ruling((), (erasure.id,)).encode())
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


# --- what is no order, or another one ---------------------------------------------------------------------------------


async def with_an_old_mark(room: Class, pupil: bytes) -> None:
    """The replica is that of a version which noted no more than that the pupil was destroyed."""
    await room.store.set_marks({DONE_MARKS + pupil.hex(): (700_000).to_bytes(4, "big")})
    await room.replica.reload()


@pytest.mark.parametrize("how", ["taken back", "held back"])
async def test_who_was_brought_back_before_an_upgrade_stays_whatever_an_old_mark_says(room: Class, how: str) -> None:
    lea, world = room.pupils[0], room.world
    head = world.enrol(Role.HEAD, world.school)
    await room.sweep(0)
    erasure = world.say(head, world.school, Kind.ERASE, Erasure(lea).encode())
    await room.bring()
    await room.sweep(0)
    if how == "taken back":
        world.say(head, world.school, Kind.RULING, Ruling((), (erasure.id,)).encode())
    else:
        world.say(world.server, world.school, Kind.REVOKE, Revocation(head.key.public, ()).encode())
    await room.bring()
    await with_an_old_mark(room, lea)
    assert await shows(room, lea)
    for days in (8, 9):
        assert await room.sweep(days * DAY_MS) == ()
    assert await shows(room, lea)
    assert await room.store.marks(DONE_MARKS) == {}


async def test_an_old_mark_carries_out_nothing_that_is_in_doubt(room: Class) -> None:
    lea, world = room.pupils[0], room.world
    head = world.enrol(Role.HEAD, world.school)
    erasure = world.say(head, world.school, Kind.ERASE, Erasure(lea).encode())
    await room.bring()
    await room.sweep(0)
    world.say(world.server, world.school, Kind.REVOKE, Revocation(head.key.public, (erasure.id,)).encode())
    await room.bring()
    await with_an_old_mark(room, lea)
    assert await room.sweep(8 * DAY_MS) == ()


async def test_an_old_mark_ends_no_week(room: Class) -> None:
    lea = room.pupils[0]
    await with_an_old_mark(room, lea)
    await room.erase(lea)
    for days in (0, 6):
        assert await room.sweep(days * DAY_MS) == ()
    assert await room.sweep(7 * DAY_MS)


async def test_what_a_thief_ordered_long_ago_shortens_nobodys_week(room: Class) -> None:
    lea, world = room.pupils[0], room.world
    head = world.enrol(Role.HEAD, world.school)
    erasure = world.say(head, world.school, Kind.ERASE, Erasure(lea).encode())
    await room.bring()
    await room.sweep(0)
    world.say(world.server, world.school, Kind.REVOKE, Revocation(head.key.public, (erasure.id,)).encode())
    await room.bring()
    assert await room.sweep(20 * DAY_MS) == ()
    world.say(world.server, world.school, Kind.ERASE, Erasure(lea).encode())
    await room.bring()
    for days in (20, 26):
        assert await room.sweep(days * DAY_MS) == ()
    assert await room.sweep(27 * DAY_MS)


async def test_an_erasure_that_was_taken_back_and_is_meant_again_waits_again(room: Class) -> None:
    lea, world = room.pupils[0], room.world
    erasure = await room.erase(lea)
    await room.sweep(0)
    await refuse(room, erasure, world.server)
    await room.sweep(DAY_MS)
    world.say(world.server, world.territory, Kind.RULING, Ruling((erasure.id,), ()).encode())
    await room.bring()
    assert await shows(room, lea), "no word has what was taken back count again"
    await room.sweep(8 * DAY_MS)
    await room.erase(lea)
    assert not await shows(room, lea)
    for days in (8, 14):
        assert await room.sweep(days * DAY_MS) == ()
    assert await room.sweep(15 * DAY_MS)


async def test_an_erasure_that_comes_when_all_is_destroyed_waits_too_once_the_root_lets_go_of_the_first(
    room: Class,
) -> None:
    lea, world = room.pupils[0], room.world
    erasure = await room.erase(lea)
    await room.sweep(0)
    await room.sweep(7 * DAY_MS)
    await room.erase(lea)
    await room.sweep(8 * DAY_MS)
    await refuse(room, erasure, world.root)
    late = await room.hand_in(lea)
    await room.bring()
    for days in (9, 14):
        assert await room.sweep(days * DAY_MS) == ()
    assert late.id in await room.sweep(15 * DAY_MS)


async def test_who_comes_to_be_here_after_the_week_takes_a_place_of_the_day_then(room: Class) -> None:
    stranger = bytes(16)
    await room.erase(stranger)
    await room.sweep(0)
    assert (await Eraser(room.replica, room.holdings).sweep(NOW_MS + 8 * DAY_MS)).names == 0
    listed = PersonRecord("Zoé", PersonRole.PUPIL).encode()
    room.world.say(room.world.server, room.room, Kind.PERSON, listed, subject=stranger)
    await room.bring()
    swept = await Eraser(room.replica, room.holdings).sweep(NOW_MS + 8 * DAY_MS)
    assert (swept.names, len(swept.entries)) == (1, 1)


async def test_one_eraser_finds_who_comes_later_as_another_would(room: Class) -> None:
    eraser, strangers = Eraser(room.replica, room.holdings), [bytes([number]) * 16 for number in range(3)]
    for stranger in strangers:
        await room.erase(stranger)
    await eraser.sweep(NOW_MS)
    assert (await eraser.sweep(NOW_MS + 8 * DAY_MS)).names == 0
    for stranger in strangers[:2]:
        listed = PersonRecord("Zoé", PersonRole.PUPIL).encode()
        room.world.say(room.world.server, room.room, Kind.PERSON, listed, subject=stranger)
        await room.bring()
        assert (await eraser.sweep(NOW_MS + 8 * DAY_MS)).names == 1


# --- looks, by a clock that is set ------------------------------------------------------------------------------------


async def look_at(room: Class, *wall_days: float) -> tuple[bytes, ...]:
    """Programs that look once each, at these days of the own clock; what the last of them destroys."""
    gone: tuple[bytes, ...] = ()
    for day in wall_days:
        now_ms = NOW_MS + int(day * DAY_MS)
        gone = (await Pace(Eraser(room.replica, room.holdings), lambda at=now_ms: (at, at)).look()).entries  # type: ignore[misc]
    return gone


async def test_a_clock_that_was_ahead_when_an_erasure_came_keeps_nobody_for_years(room: Class) -> None:
    await room.erase(room.pupils[0])
    assert await look_at(room, 5_000, *range(7)) == ()
    assert await look_at(room, 7)


async def test_a_clock_that_begins_at_its_first_day_every_morning_keeps_nobody_for_ever(room: Class) -> None:
    await room.erase(room.pupils[0])
    for day in range(40):
        # a battery that is dead: on for some hours, of which the clock is wrong for the first minute
        steady = iter([0, 60_000, DAY_MS // 3])
        walls = iter([DAY_MS, NOW_MS + day * DAY_MS, NOW_MS + day * DAY_MS + DAY_MS // 3])
        pace = Pace(Eraser(room.replica, room.holdings), lambda: (next(walls), next(steady)))  # noqa: B023
        gone = [(await pace.look()).entries for _ in range(3)]
        if any(gone):
            break
    assert 19 <= day < 24, "it was on for a third of each day, and that is what it has watched"


async def test_of_a_long_absence_three_days_count(room: Class) -> None:
    await room.erase(room.pupils[0])
    assert await look_at(room, 0, 100, 103) == ()
    assert await look_at(room, 104)


@pytest.mark.parametrize("wall_days", [(0, 3, 6, 9), (0, 3, 0, 3, 0, 3, 0, 3)], ids=["ahead", "to and fro"])
async def test_whoever_opens_a_store_again_sees_by_how_much_the_clock_was_set_meanwhile(
    room: Class, wall_days: tuple[int, ...]
) -> None:
    await room.erase(room.pupils[0])
    for passed_ms, day in enumerate(wall_days):
        clocks = NOW_MS + day * DAY_MS, passed_ms
        pace = Pace(Eraser(room.replica, room.holdings), lambda clocks=clocks: clocks, bytes(16))  # type: ignore[misc]
        assert not (await pace.look()).entries


@pytest.mark.parametrize("step_ms", [-20_000, 0, 20_000], ids=["slow", "true", "fast"])
async def test_a_clock_that_is_set_right_by_seconds_all_the_time_delays_nothing(room: Class, step_ms: int) -> None:
    await room.erase(room.pupils[0])
    wall_ms, steady_ms = NOW_MS, 0
    pace = Pace(Eraser(room.replica, room.holdings), lambda: (wall_ms, steady_ms))
    while not (await pace.look()).entries:
        steady_ms += HOUR_MS
        wall_ms += HOUR_MS + step_ms
    assert abs(steady_ms - 7 * DAY_MS) <= HOUR_MS


async def test_two_looks_at_once_are_one_after_the_other(room: Class) -> None:
    await room.erase(room.pupils[0])
    day = iter([0, 7, 7])
    pace = Pace(Eraser(room.replica, room.holdings), lambda: (at := NOW_MS + next(day) * DAY_MS, at))
    await pace.look()
    pace._last = None  # a program that begins: both would look the same up
    await room.store.set_marks({LOOKED_MARK: (NOW_MS + 7 * DAY_MS).to_bytes(8, "big")})
    found = await asyncio.gather(pace.look(), pace.look())
    assert min(len(each.entries) for each in found) == 0
    assert sum(each.names for each in found) == 1
