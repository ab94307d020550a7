"""Folds that are kept grow by what comes in: to what the whole set gives, and reading only what is touched."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.model.entry import Entry, Kind
from protocol.model.structure import PersonKey, PersonRecord, Revocation
from protocol.model.work import ContentRef, Feedback, HandIn, ItemKind, Receipt, Revision, Wraps
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.views import SpaceView, Views
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.interfaces import Stored
from protocol.replica.storage.memory import MemoryStore
from protocol.rights.vouching import Vouch
from protocol.roles import PersonRole, Role
from tests.harness.history import NOW_MS, YEAR_MS, World, Writer
from tests.harness.long_year import long_year
from tests.harness.whole_sets import folded_from_nothing

MANY = settings(max_examples=40, deadline=None)


class CountingStore(MemoryStore):
    """A store that counts how many entries are read."""

    read = 0

    async def scan(self, space: bytes, after: int = 0) -> list[Stored]:
        found = await super().scan(space, after)
        self.read += len(found)
        return found

    async def get(self, ids: Sequence[bytes]) -> dict[bytes, Entry]:
        found = await super().get(ids)
        self.read += len(found)
        return found


async def opened(world: World, store: MemoryStore | None = None) -> Replica:
    return await Replica.open(world.root.key.public, store or MemoryStore(), MemoryPacks())


async def bring(replica: Replica, *entries: Entry) -> None:
    await replica.admit(entries, source=b"somebody", now_ms=NOW_MS)


async def assert_like_the_whole_set(replica: Replica, space: bytes, view: SpaceView) -> None:
    anew = await folded_from_nothing(replica.store, replica.door, space)
    assert view.roster == anew.roster
    assert view.coursework == anew.coursework
    assert view.measures == anew.measures
    assert view.basis == (await Views(replica.store, replica.door).view(space)).basis
    assert list(view.coursework.hand_ins) == list(anew.coursework.hand_ins), "whose work was here first"


@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=40), shuffled=st.booleans())
@MANY
async def test_a_fold_grows_to_what_the_whole_set_gives_whatever_the_order_and_the_pieces(
    seed: int, sizes: list[int], shuffled: bool
) -> None:
    world = long_year(seed)
    pending = list(world.entries)
    if shuffled:
        Random(seed).shuffle(pending)
    replica = await opened(world)
    for size in [*sizes, len(pending)]:
        batch, pending = pending[:size], pending[size:]
        await bring(replica, *batch)
        for space in replica.door.spaces():
            await assert_like_the_whole_set(replica, space, await replica.view(space))


@given(seed=st.integers(0, 2**32), last=st.integers(1, 30))
@MANY
async def test_what_comes_one_by_one_after_a_busy_year_grows_like_the_rest(seed: int, last: int) -> None:
    world = long_year(seed, steps=80)
    replica = await opened(world)
    await bring(replica, *world.entries[:-last])
    for entry in world.entries[-last:]:
        for space in (world.territory, world.school, *world.classes):
            await replica.view(space)
        await bring(replica, entry)
        for space in (world.territory, world.school, *world.classes):
            await assert_like_the_whole_set(replica, space, await replica.view(space))


@given(seed=st.integers(0, 2**32), missing=st.integers(0, 30))
@MANY
async def test_after_a_start_each_class_is_folded_from_its_school_to_what_the_whole_set_gives(
    seed: int, missing: int
) -> None:
    world = long_year(seed, steps=80)
    replica = await opened(world)
    await bring(replica, *world.entries[: len(world.entries) - missing])
    views = Views(replica.store, replica.door)
    for space in reversed(replica.door.spaces()):
        await assert_like_the_whole_set(replica, space, await views.view(space))


async def test_an_end_that_came_before_the_grant_that_it_ends_is_carried_out_when_that_comes() -> None:
    world = World(Random(4))
    room = world.classes[0]
    head = world.enrol(Role.HEAD, world.school)
    substitute = world.enrol(Role.TEACHER, room)
    end = Revocation(substitute.key.public, ()).encode()
    ended = world.say(head, room, Kind.REVOKE, end, target=substitute.grant)
    replica = await opened(world)
    await bring(replica, *(entry for entry in world.entries if entry.id != substitute.grant))
    assert not (await replica.view(room)).roster.revocations
    await bring(replica, *(entry for entry in world.entries if entry.id == substitute.grant))
    view = await replica.view(room)
    assert view.roster.revocations.keys() == {ended.id}
    assert not view.roster.may_read(substitute.key.public)
    await assert_like_the_whole_set(replica, room, view)


class BusyClass:
    """A class with many names, an assignment and work that was handed in, whose folds are kept."""

    def __init__(self) -> None:
        self.world = World(Random(7))
        self.room = self.world.classes[0]
        self.adult = self.world.person(self.room, PersonRole.TEACHER, "Mme Petit")
        self.teacher = self.world.enrol(Role.TEACHER, self.room, person=self.adult)
        self.machine = self.world.enrol(Role.MACHINE, self.room)
        key = PersonKey(bytes(32)).encode()
        self.world.say(self.teacher, self.room, Kind.PERSON_KEY, key, subject=self.adult)
        self.pupils = [self.world.person(self.room, PersonRole.PUPIL, f"Élève {number}") for number in range(60)]
        content = ContentRef(bytes(32), 10, 1)
        revision = Revision(ItemKind.ASSIGNMENT, "Devoir", None, None, content).encode()
        self.item = self.world.say(self.teacher, self.room, Kind.REVISION, revision).id
        self.works = [self.hand_in(pupil) for pupil in self.pupils]
        self.store = CountingStore()

    def hand_in(self, pupil: bytes) -> Entry:
        payload = HandIn(ContentRef(self.world.random.randbytes(32), 100, 0), None).encode()
        return self.world.say(self.machine, self.room, Kind.HAND_IN, payload, subject=pupil, target=self.item)

    def about(self, writer: Writer, kind: Kind, payload: bytes, work: Entry) -> Entry:
        return self.world.say(writer, self.room, kind, payload, subject=work.header.subject, target=work.id)

    async def replica(self) -> Replica:
        """One that holds it all and has folded it."""
        replica = await opened(self.world, self.store)
        await bring(replica, *self.world.entries)
        await replica.view(self.room)
        return replica

    async def reads(self, replica: Replica, *entries: Entry) -> int:
        """How many entries a replica reads for its folds once these have come in."""
        await bring(replica, *entries)
        before = self.store.read
        await replica.view(self.room)
        return self.store.read - before


async def test_what_is_held_back_keeps_its_place_in_a_fold_that_grows() -> None:
    busy = BusyClass()
    spy = busy.world.enrol(Role.TEACHER, busy.room)
    work, note = busy.works[3], Feedback("Bien", "12", False, None).encode()

    def says(writer: Writer, *parents: Entry) -> Entry:
        names = tuple(one.id for one in parents)
        subject = work.header.subject
        return busy.world.say(writer, busy.room, Kind.FEEDBACK, note, subject=subject, target=work.id, parents=names)

    first = says(busy.teacher)
    before = says(busy.teacher, first)
    right = says(busy.teacher, says(spy, before))
    head = busy.world.enrol(Role.HEAD, busy.world.school)
    busy.world.say(head, busy.room, Kind.REVOKE, Revocation(spy.key.public, ()).encode())
    replica = await busy.replica()
    late = says(busy.teacher, before)
    await bring(replica, late)
    view = await replica.view(busy.room)
    await assert_like_the_whole_set(replica, busy.room, view)
    (said,) = view.coursework.hand_ins[work.id].remarks
    assert said.id == right.id, "it knew of more, though what it knew of is held back"


async def test_what_came_before_an_items_first_version_is_shown_in_a_fold_that_grows_once_that_comes() -> None:
    busy = BusyClass()
    (first,) = (one for one in busy.world.entries if one.id == busy.item)
    said = first.payload or b""
    later = busy.world.say(busy.teacher, busy.room, Kind.REVISION, said, target=first.id, parents=(first.id,))
    replica = await opened(busy.world, busy.store)
    await bring(replica, *(one for one in busy.world.entries if one.id != first.id))
    assert first.id not in (await replica.view(busy.room)).coursework.items
    await bring(replica, first)
    view = await replica.view(busy.room)
    assert view.coursework.items[first.id].shown.id == later.id
    await assert_like_the_whole_set(replica, busy.room, view)


async def test_a_second_laptops_word_takes_the_firsts_place_in_a_fold_that_grows_once_the_first_confirms_it() -> None:
    busy = BusyClass()
    second = busy.world.enrol(Role.TEACHER, busy.room, person=busy.adult)
    busy.world.say(second, busy.room, Kind.PERSON_KEY, PersonKey(bytes([2] * 32)).encode(), subject=busy.adult)
    third = busy.world.enrol(Role.TEACHER, busy.room, person=busy.adult)
    busy.world.say(third, busy.room, Kind.PERSON_KEY, PersonKey(bytes([3] * 32)).encode(), subject=busy.adult)

    def confirms(writer: Writer, other: Writer) -> Entry:
        said = Vouch().encode()
        return busy.world.say(writer, busy.room, Kind.VOUCH, said, subject=busy.adult, target=other.grant)

    confirms(busy.teacher, second)
    confirms(busy.teacher, third)
    work = busy.works[3]
    for writer in (second, third):
        busy.about(writer, Kind.FEEDBACK, Feedback("Bien", "12", False, None).encode(), work)
    replica = await busy.replica()
    assert len((await replica.view(busy.room)).coursework.hand_ins[work.id].remarks) == 2
    await bring(replica, confirms(second, third), confirms(third, second))
    view = await replica.view(busy.room)
    await assert_like_the_whole_set(replica, busy.room, view)
    assert len(view.coursework.hand_ins[work.id].remarks) == 1


async def test_an_answer_to_one_pupil_reads_what_is_about_that_work_and_nothing_else() -> None:
    busy = BusyClass()
    replica = await busy.replica()
    work = busy.works[30]
    stream = HandIn.parse(work.payload or b"").content.stream
    receipt = busy.about(busy.teacher, Kind.RECEIPT_TEACHER, Receipt(stream).encode(), work)
    assert await busy.reads(replica, receipt) == 2  # the receipt, the hand-in
    note = Feedback("Très bien", "A", redo=False, content=None).encode()
    marked = busy.about(busy.teacher, Kind.FEEDBACK, note, work)
    assert await busy.reads(replica, marked) == 3
    shown = (await replica.view(busy.room)).coursework.hand_ins[work.id]
    assert shown.opened
    assert shown.feedback is not None
    assert shown.feedback.record.text == "Très bien"


async def test_for_whom_a_work_was_stands_as_it_grows_though_the_wrap_that_says_so_is_held_back() -> None:
    busy = BusyClass()
    work = busy.hand_in(busy.pupils[0])
    wraps = Wraps(((bytes([1]) * 32, bytes(80)),)).encode()
    busy.about(busy.machine, Kind.WRAP, wraps, work)
    cut = Revocation(busy.machine.key.public, (work.id,)).encode()
    busy.world.say(busy.world.server, busy.room, Kind.REVOKE, cut)
    replica = await busy.replica()
    receipt = Receipt(HandIn.parse(work.payload or b"").content.stream).encode()
    for _ in range(2):
        assert await busy.reads(replica, busy.about(busy.teacher, Kind.RECEIPT_TEACHER, receipt, work)) < 10
        found = (await replica.view(busy.room)).coursework.hand_ins[work.id]
        assert (found.opened, set(found.meant_for), len(found.readers)) == (True, {bytes([1]) * 32}, 0)


async def test_a_name_more_on_a_long_list_reads_that_name_alone() -> None:
    busy = BusyClass()
    replica = await busy.replica()
    name = PersonRecord("Nadia", PersonRole.PUPIL).encode()
    said = busy.world.say(busy.world.server, busy.room, Kind.PERSON, name, subject=b"n" * 16)
    assert await busy.reads(replica, said) == 1
    corrected = PersonRecord("Nadia B.", PersonRole.PUPIL).encode()
    again = busy.world.say(busy.world.server, busy.room, Kind.PERSON, corrected, subject=b"n" * 16, parents=(said.id,))
    assert await busy.reads(replica, again) == 2
    assert (await replica.view(busy.room)).roster.persons[b"n" * 16].name == "Nadia B."


async def test_a_due_date_that_moves_is_heeded_by_all_work_that_was_handed_in_though_none_is_read_again() -> None:
    busy = BusyClass()
    replica = await busy.replica()
    assert not any(work.late for work in (await replica.view(busy.room)).coursework.hand_ins.values())
    earlier = Revision(ItemKind.ASSIGNMENT, "Devoir", None, 1, ContentRef(bytes(32), 10, 1)).encode()
    moved = busy.world.say(busy.teacher, busy.room, Kind.REVISION, earlier, target=busy.item, parents=(busy.item,))
    assert await busy.reads(replica, moved) == 2
    assert all(work.late for work in (await replica.view(busy.room)).coursework.hand_ins.values())


def handed_in_with_wrong_clocks(due_ms: int | None) -> tuple[World, list[Entry]]:
    """An assignment, what becomes of it, and work for it and receipts by clocks that are right, ahead and behind."""
    world = World(Random(11))
    room = world.classes[0]
    teachers = [world.enrol(Role.TEACHER, room) for _ in range(2)]
    machines = [world.enrol(Role.MACHINE, room) for _ in range(3)]
    for skew_ms, writer in zip([0, 14 * YEAR_MS, 0, 14 * YEAR_MS, -17 * YEAR_MS], teachers + machines, strict=True):
        writer.skew_ms = skew_ms
    pupil = world.person(room, PersonRole.PUPIL, "Léa")
    known = len(world.entries)
    for teacher in teachers:
        first, later = (
            Revision(ItemKind.ASSIGNMENT, "Devoir", None, at_ms, ContentRef(world.random.randbytes(32), 10, 1)).encode()
            for at_ms in (None, due_ms)
        )
        item = world.say(teacher, room, Kind.REVISION, first)
        for machine in machines:
            content = ContentRef(world.random.randbytes(32), 100, 0)
            work = world.say(machine, room, Kind.HAND_IN, HandIn(content, None).encode(), subject=pupil, target=item.id)
            receipt = Receipt(content.stream).encode()
            world.say(world.server, room, Kind.RECEIPT_SERVER, receipt, subject=pupil, target=work.id)
        world.say(teacher, room, Kind.REVISION, later, target=item.id, parents=(item.id,))
    return world, world.entries[known:]


@given(order=st.randoms(use_true_random=False), due_ms=st.sampled_from([None, NOW_MS, NOW_MS + YEAR_MS]))
@MANY
async def test_whatever_the_clocks_say_and_whatever_comes_first_times_are_judged_as_in_the_whole_set(
    order: Random, due_ms: int | None
) -> None:
    world, news = handed_in_with_wrong_clocks(due_ms)
    replica = await opened(world)
    await bring(replica, *(entry for entry in world.entries if entry not in news))
    order.shuffle(news)
    for entry in news:
        await bring(replica, entry)
        await assert_like_the_whole_set(replica, world.classes[0], await replica.view(world.classes[0]))


async def test_a_device_that_is_let_in_above_makes_no_class_be_read_again() -> None:
    busy = BusyClass()
    replica = await busy.replica()
    relay = busy.world.enrol(Role.RELAY, busy.world.school)
    # the grant itself, and the teacher's one word about a key
    assert await busy.reads(replica, busy.world.entries[-1]) == 2
    assert (await replica.view(busy.room)).roster.may_read(relay.key.public)


async def test_a_teacher_who_says_a_first_key_is_heard_and_no_class_is_read_again() -> None:
    busy = BusyClass()
    person = busy.world.person(busy.room, PersonRole.TEACHER, "M. Diallo")
    laptop = busy.world.enrol(Role.TEACHER, busy.room, person=person)
    replica = await busy.replica()
    assert not (await replica.view(busy.room)).roster.speaks(laptop.grant)
    said = busy.world.say(laptop, busy.room, Kind.PERSON_KEY, PersonKey(b"k" * 32).encode(), subject=person)
    assert await busy.reads(replica, said) == 2  # that key, and the one of Mme Petit
    assert (await replica.view(busy.room)).roster.speaks(laptop.grant)


async def test_a_key_that_comes_after_what_replaced_it_and_is_held_back_is_over_as_in_the_whole_set() -> None:
    world = World(Random(3))
    room = world.classes[0]
    adult = world.person(room, PersonRole.TEACHER, "Mme Petit")
    head, laptop = world.enrol(Role.HEAD, world.school), world.enrol(Role.TEACHER, room, person=adult)
    own = next(entry for entry in world.entries if entry.id == laptop.grant)
    first = world.say(laptop, room, Kind.PERSON_KEY, PersonKey(b"1" * 32).encode(), subject=adult)
    laptop.grant = world.say(head, room, Kind.GRANT, own.payload or b"").id
    second = PersonKey(b"2" * 32).encode()
    held_back = world.say(laptop, room, Kind.PERSON_KEY, second, subject=adult, parents=(first.id,))
    world.say(world.server, world.school, Kind.REVOKE, Revocation(head.key.public, ()).encode())
    replica = await opened(world)
    await bring(replica, *(entry for entry in world.entries if entry != first))
    assert held_back.id in (await replica.view(room)).roster.held_back
    await bring(replica, first)
    view = await replica.view(room)
    assert view.roster.reading_keys == {}
    await assert_like_the_whole_set(replica, room, view)


async def test_a_teacher_who_is_confirmed_is_heard_at_once_also_in_what_was_said_before() -> None:
    busy = BusyClass()
    second = busy.world.enrol(Role.TEACHER, busy.room, person=busy.adult)
    work = busy.works[0]
    note = Feedback("Vu", None, redo=False, content=None).encode()
    busy.about(second, Kind.FEEDBACK, note, work)
    replica = await busy.replica()
    assert (await replica.view(busy.room)).coursework.hand_ins[work.id].feedback is None
    word = busy.world.say(
        busy.teacher, busy.room, Kind.VOUCH, Vouch().encode(), subject=busy.adult, target=second.grant
    )
    await bring(replica, word)
    found = (await replica.view(busy.room)).coursework.hand_ins[work.id].feedback
    assert found is not None
    assert found.record.text == "Vu"
