"""The folds of rights, names and coursework, case by case (R4–R6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.folds.coursework import Coursework, HandInState, Work, fold_coursework, live_content, sealed_content
from protocol.limits import MAX_PARENTS, MAX_WRAPS_BY_ONE, MAX_WRAPS_BY_OTHERS
from protocol.model.ancestry import heads
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Grant, PersonKey, PersonRecord, Revocation, Ruling, Successor
from protocol.model.work import EMPTY_PAYLOAD, ContentRef, Feedback, HandIn, ItemKind, Receipt, Revision, Wraps
from protocol.rights.door import Door
from protocol.rights.keys_in_use import claimed_keys
from protocol.rights.roster import Roster, fold_roster
from protocol.rights.vouching import Vouch
from protocol.roles import PersonRole, Role
from tests.harness.history import YEAR_MS, World, Writer

Parents = tuple[bytes, ...]


class ClassRoom:
    """A class with a teacher, a machine and a pupil, and short ways to let them act."""

    def __init__(self) -> None:
        self.world = World(Random(11))
        self.room = self.world.classes[0]
        self.adult = self.world.person(self.room, PersonRole.TEACHER, "Mme Petit")
        self.teacher = self.world.enrol(Role.TEACHER, self.room, person=self.adult)
        self.machine = self.world.enrol(Role.MACHINE, self.room)
        self.teacher.skew_ms = self.machine.skew_ms = 0
        self.pupil = self.world.person(self.room, PersonRole.PUPIL, "Léa")

    def say_key(self) -> None:
        """The teacher's device says a reading key, and from then on speaks for her."""
        key = PersonKey(bytes(32)).encode()
        self.world.say(self.teacher, self.room, Kind.PERSON_KEY, key, subject=self.adult)

    def revision(
        self, title: str, item: bytes | None = None, parents: Parents = (), due_ms: int | None = None
    ) -> Entry:
        content = ContentRef(self.world.random.randbytes(32), 10, 1)
        payload = Revision(ItemKind.ASSIGNMENT, title, None, due_ms, content).encode()
        return self.world.say(self.teacher, self.room, Kind.REVISION, payload, target=item, parents=parents)

    def hand_in(self, item: bytes) -> Entry:
        payload = HandIn(ContentRef(self.world.random.randbytes(32), 100, 0), None).encode()
        return self.world.say(self.machine, self.room, Kind.HAND_IN, payload, subject=self.pupil, target=item)

    def about(self, writer: Writer, kind: Kind, payload: bytes, work: Entry, parents: Parents = ()) -> Entry:
        return self.world.say(writer, self.room, kind, payload, subject=self.pupil, target=work.id, parents=parents)

    def folds(self) -> tuple[Roster, Coursework]:
        door = Door(self.world.root.key.public)
        for entry in self.world.entries:
            door.learn(entry)
        above = [entry for entry in self.world.entries if entry.header.space in door.lineage(self.room)[1:]]
        own = self.world.in_space(self.room)
        roster = fold_roster(self.room, own, above, door)
        return roster, fold_coursework(self.room, own, roster)

    @property
    def work(self) -> Coursework:
        return self.folds()[1]


@pytest.fixture
def room() -> ClassRoom:
    return ClassRoom()


def stream_of(work: Entry) -> bytes:
    return HandIn.parse(work.payload or b"").content.stream


def test_an_edit_replaces_what_it_names(room: ClassRoom) -> None:
    first = room.revision("Le cycle de l'eau")
    second = room.revision("Le cycle de l'eau, corrigé", first.id, (first.id,))
    item = room.work.items[first.id]
    assert [head.id for head in item.heads] == [second.id]
    assert not item.conflict
    assert item.shown.record.title == "Le cycle de l'eau, corrigé"


def test_two_edits_of_the_same_revision_are_both_kept_and_the_longer_line_is_shown(room: ClassRoom) -> None:
    first = room.revision("v1")
    short = room.revision("court", first.id, (first.id,))
    middle = room.revision("long 1", first.id, (first.id,))
    longest = room.revision("long 2", first.id, (middle.id,))
    late = room.revision("court, plus tard", first.id, (short.id, first.id))
    item = room.work.items[first.id]
    assert {head.id for head in item.heads} == {longest.id, late.id}
    assert item.conflict
    assert item.shown.id == late.id, "equally long lines: the later one"
    more = room.revision("long 3", first.id, (longest.id,))
    assert room.work.items[first.id].shown.id == more.id


def test_a_revision_of_several_parents_settles_a_conflict(room: ClassRoom) -> None:
    first = room.revision("v1")
    one, two = (room.revision(name, first.id, (first.id,)) for name in ("a", "b"))
    settled = room.revision("a", first.id, (one.id, two.id))
    item = room.work.items[first.id]
    assert [head.id for head in item.heads] == [settled.id]


@given(edits=st.lists(st.sets(st.integers(0, 11), max_size=3), max_size=12))
def test_while_versions_have_not_arrived_as_a_whole_the_one_is_shown_that_would_be_without_them(
    edits: list[set[int]],
) -> None:
    room = ClassRoom()
    said = [room.revision("v0")]
    for number, replaced in enumerate(edits, 1):
        parents = tuple(said[place].id for place in sorted(replaced) if place < number)
        said.append(room.revision(f"v{number}", said[0].id, parents))
    order = list(room.work.items[said[0].id].versions)
    for arrived, name in enumerate(order):
        missing = set(order[:arrived])
        assert heads(entry for entry in said if entry.id not in missing)[0].id == name


def test_a_lesson_withdrawn_and_brought_back_is_back(room: ClassRoom) -> None:
    first = room.revision("v1")
    gone = room.world.say(room.teacher, room.room, Kind.WITHDRAW, EMPTY_PAYLOAD, target=first.id)
    assert room.work.items[first.id].withdrawn
    assert first.payload is not None
    assert not list(live_content(room.work))
    back = room.world.say(room.teacher, room.room, Kind.RESTORE, EMPTY_PAYLOAD, target=first.id, parents=(gone.id,))
    item = room.work.items[first.id]
    assert not item.withdrawn
    assert item.switches == (back.id,), "what a further one replaces: of each author the foremost"


def test_a_revision_that_cannot_be_read_is_passed_over(room: ClassRoom) -> None:
    room.world.say(room.teacher, room.room, Kind.REVISION, b"\x80")
    strange = Revision(ItemKind.LESSON, "t", None, None, ContentRef(bytes(32), 1, 1)).encode()
    room.world.say(room.teacher, room.room, Kind.REVISION, strange.replace(b"lesson", b"wizard"))
    assert not room.work.items


@pytest.mark.parametrize("given", ["Les volcans\nd'Auvergne", "\tLes volcans \r\n\x1b d'Auvergne\u2028"])
def test_a_title_that_holds_line_breaks_is_shown_on_one_line(room: ClassRoom, given: str) -> None:
    first = room.revision(given)
    assert room.work.items[first.id].shown.record.title == "Les volcans d'Auvergne"


def test_a_title_on_one_line_is_shown_to_the_letter(room: ClassRoom) -> None:
    first = room.revision("  Qui\u202fes-tu\xa0?  ")
    assert room.work.items[first.id].shown.record.title == "  Qui\u202fes-tu\xa0?  "


def test_a_child_older_than_its_parent_makes_the_time_doubtful(room: ClassRoom) -> None:
    first = room.revision("v1")
    room.teacher.skew_ms = -17 * YEAR_MS
    room.revision("v2", first.id, (first.id,))
    assert room.work.items[first.id].clock_doubtful


def test_a_hand_in_rises_only_on_signed_statements_about_its_very_content(room: ClassRoom) -> None:
    room.say_key()
    first = room.revision("devoir")
    work = room.hand_in(first.id)

    def state() -> HandInState:
        return room.work.hand_ins[work.id].state

    assert state() is HandInState.LOCAL
    room.about(room.world.server, Kind.RECEIPT_SERVER, Receipt(bytes(32)).encode(), work)
    room.about(room.machine, Kind.RECEIPT_SAFE, Receipt(stream_of(work)).encode(), work)
    assert state() is HandInState.LOCAL, "a receipt for other bytes, and one by the author, prove nothing"
    other = room.world.enrol(Role.MACHINE, room.room)
    room.about(other, Kind.RECEIPT_SAFE, Receipt(stream_of(work)).encode(), work)
    assert state() is HandInState.SAFE
    room.about(room.world.server, Kind.RECEIPT_SERVER, Receipt(stream_of(work)).encode(), work)
    assert state() is HandInState.SERVER
    room.about(room.teacher, Kind.RECEIPT_TEACHER, Receipt(stream_of(work)).encode(), work)
    assert state() is HandInState.TEACHER
    note = room.about(room.teacher, Kind.FEEDBACK, Feedback("Bien", "A", False, None).encode(), work)
    assert state() is HandInState.MARKED
    again = Feedback("Encore", None, True, ContentRef(bytes(32), 1, 1)).encode()
    room.about(room.teacher, Kind.FEEDBACK, again, work, (note.id,))
    assert state() is HandInState.REDO
    assert [ref.stream for ref in live_content(room.work)][1:] == [bytes(32)]


def test_each_persons_last_words_stand_the_newest_first_and_what_was_taken_back_behind(room: ClassRoom) -> None:
    room.say_key()
    adult = room.world.person(room.room, PersonRole.TEACHER, "M. Roy")
    colleague = room.world.enrol(Role.TEACHER, room.room, person=adult)
    key = PersonKey(bytes([1] * 32)).encode()
    room.world.say(colleague, room.room, Kind.PERSON_KEY, key, subject=adult)
    work = room.hand_in(room.revision("devoir").id)

    def say(writer: Writer, text: str, *, redo: bool = False) -> None:
        said = Feedback(text, None, redo, None).encode()
        room.about(writer, Kind.FEEDBACK, said, work, found().remark_ids)

    def found() -> Work:
        return room.work.hand_ins[work.id]

    for writer, text in ((room.teacher, "Bien"), (colleague, "Copié"), (room.teacher, "Très bien")):
        say(writer, text)
    assert [note.record.text for note in found().remarks] == ["Très bien", "Copié"]
    say(colleague, "À refaire", redo=True)
    assert [note.record.text for note in found().remarks] == ["À refaire", "Très bien"]
    assert found().state is HandInState.REDO
    say(colleague, "")
    assert [note.record.text for note in found().remarks] == ["Très bien", ""]
    assert found().state is HandInState.MARKED


def test_what_is_about_a_hand_in_and_cannot_be_read_counts_for_nothing(room: ClassRoom) -> None:
    work = room.hand_in(room.revision("devoir").id)
    for kind in (Kind.FEEDBACK, Kind.WRAP, Kind.RECEIPT_TEACHER):
        room.about(room.teacher, kind, b"\xc0", work)
    found = room.work.hand_ins[work.id]
    assert (found.state, found.feedback, found.readers) == (HandInState.LOCAL, None, {})


def test_a_hand_in_for_nothing_or_by_nobody_is_passed_over(room: ClassRoom) -> None:
    payload = HandIn(ContentRef(bytes(32), 1, 0), None).encode()
    room.world.say(room.machine, room.room, Kind.HAND_IN, payload, subject=room.pupil)
    room.world.say(room.machine, room.room, Kind.HAND_IN, payload, target=bytes(32))
    room.world.say(room.machine, room.room, Kind.HAND_IN, b"\x80", target=bytes(32), subject=room.pupil)
    assert not room.work.hand_ins


def test_late_work_is_marked_and_a_clock_of_2040_is_doubtful(room: ClassRoom) -> None:
    due_ms = room.world.clock_ms + 3600 * 1000
    item = room.revision("devoir", due_ms=due_ms)
    early = room.hand_in(item.id)
    room.machine.skew_ms = 14 * YEAR_MS
    late = room.hand_in(item.id)
    room.about(room.world.server, Kind.RECEIPT_SERVER, Receipt(stream_of(late)).encode(), late)
    found = room.work.hand_ins
    assert (found[early.id].late, found[early.id].clock_doubtful) == (False, False)
    assert (found[late.id].late, found[late.id].clock_doubtful) == (True, True)


def test_work_from_before_there_was_the_assignment_is_of_a_doubtful_time(room: ClassRoom) -> None:
    item = room.revision("devoir")
    room.machine.skew_ms = -17 * YEAR_MS
    old = room.hand_in(item.id)
    assert room.work.hand_ins[old.id].clock_doubtful
    room.about(room.world.server, Kind.RECEIPT_SERVER, Receipt(stream_of(old)).encode(), old)
    assert room.work.hand_ins[old.id].clock_doubtful


def test_where_it_is_the_assignment_that_is_of_2040_work_for_it_is_of_its_own_time(room: ClassRoom) -> None:
    room.teacher.skew_ms = 14 * YEAR_MS
    item = room.revision("devoir")
    work = room.hand_in(item.id)
    room.about(room.world.server, Kind.RECEIPT_SERVER, Receipt(stream_of(work)).encode(), work)
    assert not room.work.hand_ins[work.id].clock_doubtful


def test_nobody_hides_a_good_wrap_behind_a_bad_one(room: ClassRoom) -> None:
    work = room.hand_in(room.revision("devoir").id)
    reader, good, bad = bytes([1]) * 32, bytes([9]) * 80, bytes(80)
    intruder = room.world.enrol(Role.MACHINE, room.room)
    room.about(intruder, Kind.WRAP, Wraps(((reader, bad),)).encode(), work)
    room.about(room.machine, Kind.WRAP, Wraps(((reader, good),)).encode(), work)
    assert room.work.hand_ins[work.id].readers == {reader: (good, bad)}


def test_of_thousands_of_wraps_for_one_reader_a_few_are_ever_tried(room: ClassRoom) -> None:
    work = room.hand_in(room.revision("devoir").id)
    reader, good = bytes([1]) * 32, bytes([9]) * 80
    flood = Wraps(tuple((reader, bytes([8]) * 80) for _ in range(50))).encode()
    intruder, helper = room.world.enrol(Role.MACHINE, room.room), room.teacher
    room.say_key()
    for writer in (intruder, room.machine):
        for _ in range(3):
            room.about(writer, Kind.WRAP, flood, work)
    room.about(helper, Kind.WRAP, Wraps(((reader, good),)).encode(), work)
    tried = room.work.hand_ins[work.id].readers[reader]
    assert good in tried
    assert len(tried) == MAX_WRAPS_BY_ONE + 1 + MAX_WRAPS_BY_OTHERS


def later_key(room: ClassRoom, before: Writer) -> Writer:
    """A key of its own that a machine takes after another."""
    key = room.world.new_key()
    said = Successor.agreed(key, bytes(32), None, room.room, before.key.public)
    return Writer(key, Role.MACHINE, room.room, room.world.say(before, room.room, Kind.SUCCESSOR, said.encode()).id)


def test_later_keys_of_its_author_come_after_it_and_all_of_them_have_few_wraps_tried(room: ClassRoom) -> None:
    work = room.hand_in(room.revision("devoir").id)
    reader = bytes([1]) * 32
    copies = [later_key(room, room.machine) for _ in range(5)]
    next_one = later_key(room, copies[0])
    for number, writer in enumerate((next_one, *copies), 2):
        room.about(writer, Kind.WRAP, Wraps(((reader, bytes([number]) * 80),) * 10).encode(), work)
    room.about(room.machine, Kind.WRAP, Wraps(((reader, bytes([1]) * 80),)).encode(), work)
    found = room.work.hand_ins[work.id]
    counted = [1, *[number for number in range(2, 6) for _ in range(MAX_WRAPS_BY_ONE)]]
    assert [sealed[0] for sealed in found.readers[reader]] == counted
    assert len(counted) == 1 + MAX_WRAPS_BY_OTHERS
    assert found.given == {reader}


def test_a_key_that_came_of_anothers_or_of_one_that_was_cut_off_is_none_of_the_authors(room: ClassRoom) -> None:
    work = room.hand_in(room.revision("devoir").id)
    reader, sealed = bytes([1]) * 32, bytes([9]) * 80
    stranger = later_key(room, room.world.enrol(Role.MACHINE, room.room))
    room.about(stranger, Kind.WRAP, Wraps(((reader, sealed),)).encode(), work)
    assert room.work.hand_ins[work.id].given == frozenset()
    copy = later_key(room, room.machine)
    room.about(copy, Kind.WRAP, Wraps(((reader, sealed),)).encode(), work)
    assert room.work.hand_ins[work.id].given == {reader}
    revoke(room, room.world.server, room.machine, work)
    assert room.work.hand_ins[work.id].given == frozenset()


def sealed_to(room: ClassRoom, work: Entry, *readers: int, by: Writer | None = None) -> Entry:
    wraps = Wraps(tuple((bytes([reader]) * 32, bytes([9]) * 80) for reader in readers)).encode()
    return room.about(by or room.machine, Kind.WRAP, wraps, work)


def meant_for(room: ClassRoom, work: Entry) -> set[int]:
    return {reader[0] for reader in room.work.hand_ins[work.id].meant_for}


def test_a_work_was_meant_for_whom_its_author_sealed_it_to_right_behind_it_whatever_the_dates(room: ClassRoom) -> None:
    work = room.hand_in(room.revision("devoir").id)
    sealed_to(room, work, 1, 2)
    room.machine.skew_ms = -YEAR_MS
    sealed_to(room, work, 3)
    stranger = room.world.enrol(Role.MACHINE, room.room)
    sealed_to(room, work, 4, by=stranger)
    assert meant_for(room, work) == {1, 2}
    assert set(room.work.hand_ins[work.id].readers) == {bytes([reader]) * 32 for reader in (1, 2, 3, 4)}


def test_it_was_meant_for_them_though_that_is_held_back_and_opens_nothing_now(room: ClassRoom) -> None:
    work = room.hand_in(room.revision("devoir").id)
    sealed_to(room, work, 1, 2)
    sealed_to(room, work, 3)
    revoke(room, room.world.server, room.machine, work)
    found = room.work.hand_ins[work.id]
    assert not found.readers
    assert meant_for(room, work) == {1, 2}


def test_for_whom_it_was_meant_nobody_knows_where_that_wrap_is_missing_or_there_are_two(room: ClassRoom) -> None:
    alone = room.hand_in(room.revision("devoir").id)
    room.revision("suite")
    room.hand_in(room.revision("autre").id)
    sealed_to(room, alone, 1)
    assert meant_for(room, alone) == set()
    work = room.hand_in(room.revision("encore").id)
    first = sealed_to(room, work, 1)
    assert meant_for(room, work) == {1}
    room.world.tips[room.room, room.machine.key.public].remove(first.id)
    sealed_to(room, work, 2)
    assert meant_for(room, work) == set()


def test_sealed_content_is_kept_by_its_author_and_by_who_reads_all(room: ClassRoom) -> None:
    work = room.hand_in(room.revision("devoir").id)
    coursework = room.work
    assert [ref.stream for ref in sealed_content(coursework)] == [stream_of(work)]
    assert list(sealed_content(coursework, room.teacher.key.public)) == []
    assert list(sealed_content(coursework, room.machine.key.public)) == list(sealed_content(coursework))


# names and rights


def test_a_renamed_pupil_has_one_name_and_who_left_has_none(room: ClassRoom) -> None:
    first = next(entry for entry in room.world.entries if entry.header.subject == room.pupil)
    say = room.world.say
    renamed = say(
        room.world.server,
        room.room,
        Kind.PERSON,
        PersonRecord("Léa M.", PersonRole.PUPIL).encode(),
        subject=room.pupil,
        parents=(first.id,),
    )
    assert room.folds()[0].persons[room.pupil].name == "Léa M."
    left = PersonRecord("Léa M.", PersonRole.PUPIL, left=True).encode()
    say(room.world.server, room.room, Kind.PERSON, left, subject=room.pupil, parents=(renamed.id,))
    assert room.pupil not in room.folds()[0].persons


def test_a_person_that_cannot_be_read_is_not_on_the_list(room: ClassRoom) -> None:
    strange = PersonRecord("Zoé", PersonRole.PUPIL).encode().replace(b"pupil", b"witch")
    room.world.say(room.world.server, room.room, Kind.PERSON, strange, subject=bytes(16))
    assert bytes(16) not in room.folds()[0].persons


def test_a_reading_key_counts_only_from_the_persons_own_device(room: ClassRoom) -> None:
    say = room.world.say
    own, own2 = bytes([1]) * 32, bytes([2]) * 32
    say(room.teacher, room.room, Kind.PERSON_KEY, PersonKey(own).encode(), subject=room.adult)
    say(room.teacher, room.room, Kind.PERSON_KEY, PersonKey(own).encode(), subject=room.adult)
    say(room.teacher, room.room, Kind.PERSON_KEY, PersonKey(own2).encode(), subject=room.adult)
    say(room.teacher, room.room, Kind.PERSON_KEY, b"\xc0", subject=room.adult)
    colleague = room.world.enrol(Role.TEACHER, room.room, person=bytes(16))
    say(colleague, room.room, Kind.PERSON_KEY, PersonKey(bytes([3]) * 32).encode(), subject=room.adult)
    assert room.folds()[0].reading_keys == {room.adult: (own, own2)}


def test_a_key_that_another_persons_device_says_too_is_claimed_and_one_of_who_was_added_twice_is_not(
    room: ClassRoom,
) -> None:
    world, hers, own = room.world, bytes([1]) * 32, bytes([2]) * 32
    door = Door(world.root.key.public)
    for entry in world.entries:
        door.learn(entry)
    (grant,) = door.authorities_of(room.teacher.key.public)
    again = world.person(room.room, PersonRole.TEACHER, "Petit")
    payload = Grant(grant.key, grant.agreement, grant.tls_sha256, Role.TEACHER, again, None).encode()
    twice = replace(room.teacher, grant=world.say(world.server, room.room, Kind.GRANT, payload).id)
    other = world.enrol(Role.TEACHER, room.room, person=bytes(16))
    for writer, person, key in (
        (room.teacher, room.adult, hers),
        (room.teacher, room.adult, own),
        (twice, again, own),
        (other, bytes(16), hers),
    ):
        world.say(writer, room.room, Kind.PERSON_KEY, PersonKey(key).encode(), subject=person)
    for entry in world.entries:
        door.learn(entry)
    assert claimed_keys(world.entries, door) == {hers}


def test_a_key_that_two_devices_of_one_person_say_is_claimed_unless_one_came_of_the_other(room: ClassRoom) -> None:
    world, copied, taken = room.world, bytes([1]) * 32, bytes([2]) * 32
    twin = later_key(room, room.teacher)
    given = Grant(twin.key.public, bytes([9]) * 32, None, Role.TEACHER, room.adult, None)
    twin = replace(twin, grant=world.say(world.server, room.room, Kind.GRANT, given.encode()).id)
    other = world.enrol(Role.TEACHER, room.room, person=room.adult)
    for writer, key in ((room.teacher, copied), (twin, copied), (room.teacher, taken), (other, taken)):
        world.say(writer, room.room, Kind.PERSON_KEY, PersonKey(key).encode(), subject=room.adult)
    door = Door(world.root.key.public)
    for entry in world.entries:
        door.learn(entry)
    assert claimed_keys(world.entries, door) == {taken}


def test_where_a_word_about_a_key_is_destroyed_every_key_is_claimed_but_that_devices_own(room: ClassRoom) -> None:
    world, hers, its = room.world, bytes([1]) * 32, bytes([2]) * 32
    other = world.enrol(Role.TEACHER, room.room, person=bytes(16))
    said = world.say(room.teacher, room.room, Kind.PERSON_KEY, PersonKey(hers).encode(), subject=room.adult)
    world.say(other, room.room, Kind.PERSON_KEY, PersonKey(its).encode(), subject=bytes(16))
    door = Door(world.root.key.public)
    for entry in world.entries:
        door.learn(entry)
    assert claimed_keys(world.entries, door) == frozenset()
    bare = [replace(entry, payload=None, salt=None) if entry.id == said.id else entry for entry in world.entries]
    assert claimed_keys(bare, door) == {its}
    again = world.say(room.teacher, room.room, Kind.PERSON_KEY, PersonKey(hers).encode(), subject=room.adult)
    assert claimed_keys([*bare, again], door) == frozenset()


def test_a_confirmation_that_was_destroyed_is_its_authors_word_and_none_about_itself(room: ClassRoom) -> None:
    world = room.world
    second = world.enrol(Role.TEACHER, room.room, person=room.adult)
    third = world.enrol(Role.TEACHER, room.room, person=room.adult)
    for writer, key in ((room.teacher, 1), (second, 2), (third, 3)):
        payload = PersonKey(bytes([key]) * 32).encode()
        world.say(writer, room.room, Kind.PERSON_KEY, payload, subject=room.adult)
    proven = Vouch(bytes(64), bytes(32)).encode()
    said = [
        world.say(room.teacher, room.room, Kind.VOUCH, Vouch().encode(), subject=room.adult, target=second.grant),
        world.say(third, room.room, Kind.VOUCH, proven, subject=room.adult, target=third.grant),
    ]
    before = room.folds()[0].speaking[room.adult]
    gone = {entry.id: replace(entry, payload=None, salt=None) for entry in said}
    world.entries[:] = [gone.get(entry.id, entry) for entry in world.entries]
    roster = room.folds()[0]
    assert roster.speaking[room.adult] == before
    assert {key for key, _ in before} == {room.teacher.key.public, second.key.public}
    assert not roster.voices.words.keys() & {device for device in roster.voices.words if device[0] == third.key.public}


def revoke(room: ClassRoom, by: Writer, victim: Writer, *heads: Entry) -> Entry:
    payload = Revocation(victim.key.public, tuple(head.id for head in heads)).encode()
    return room.world.say(by, room.room, Kind.REVOKE, payload)


def test_a_revocation_keeps_what_its_heads_knew_and_holds_back_the_rest(room: ClassRoom) -> None:
    before = room.revision("avant")
    known = room.revision("connu")
    forged = room.revision("antidaté")
    revoke(room, room.world.server, room.teacher, known)
    roster, work = room.folds()
    assert set(work.items) == {before.id, known.id}
    assert roster.held_back == {forged.id}
    assert not roster.may_read(room.teacher.key.public)
    assert roster.authority_of(room.teacher.key.public) is None
    assert roster.may_read(room.machine.key.public)


def test_several_cuts_intersect(room: ClassRoom) -> None:
    one = room.revision("1")
    two = room.revision("2")
    three = room.revision("3")
    revoke(room, room.world.server, room.teacher, two)
    revoke(room, room.world.server, room.teacher, one)
    assert room.folds()[0].held_back == {two.id, three.id}


def test_only_a_strictly_higher_rank_revokes(room: ClassRoom) -> None:
    admins = [room.world.enrol(Role.ADMIN, room.world.school) for _ in range(2)]
    for admin in admins:
        admin.skew_ms = 0
    work = room.revision("1")
    revoke(room, admins[0], admins[1])
    revoke(room, admins[1], admins[0])
    assert room.folds()[0].cut == frozenset()
    revoke(room, admins[0], room.teacher)
    assert room.folds()[0].held_back == {work.id}


def test_a_revocation_by_somebody_cut_before_counts_for_nothing(room: ClassRoom) -> None:
    admin = room.world.enrol(Role.ADMIN, room.world.school)
    room.revision("1")
    revoke(room, admin, room.teacher)
    assert room.teacher.key.public in room.folds()[0].cut
    revoke(room, room.world.server, admin)
    roster = room.folds()[0]
    assert roster.cut == {admin.key.public}
    assert not roster.may_read(admin.key.public)
    assert roster.may_read(room.teacher.key.public)


def test_a_revocation_or_erasure_that_cannot_be_read_does_nothing(room: ClassRoom) -> None:
    room.world.say(room.world.server, room.room, Kind.REVOKE, b"\xc0")
    room.world.say(room.world.server, room.room, Kind.ERASE, b"\xc0")
    short = Erasure(bytes(16)).encode().replace(b"\xc4\x10" + bytes(16), b"\xc4\x0f" + bytes(15))
    room.world.say(room.world.server, room.room, Kind.ERASE, short)
    roster = room.folds()[0]
    assert (roster.cut, roster.erased) == (frozenset(), frozenset())


def test_an_erased_pupil_is_gone_from_list_and_work(room: ClassRoom) -> None:
    work = room.hand_in(room.revision("devoir").id)
    room.world.say(room.world.server, room.room, Kind.ERASE, Erasure(room.pupil).encode())
    roster, coursework = room.folds()
    assert room.pupil not in roster.persons
    assert work.id not in coursework.hand_ins


def test_a_grant_that_is_held_back_opens_nothing(room: ClassRoom) -> None:
    admin = room.world.enrol(Role.ADMIN, room.world.school)
    kept = room.world.enrol(Role.MACHINE, room.room, by=admin)
    kept_entry = room.world.entries[-1]
    late = room.world.enrol(Role.MACHINE, room.room, by=admin)
    revoke(room, room.world.server, admin, kept_entry)
    roster = room.folds()[0]
    assert roster.may_read(kept.key.public)
    assert not roster.may_read(late.key.public)


def rule(room: ClassRoom, by: Writer, accepted: Sequence[Entry] = (), refused: Sequence[Entry] = ()) -> Entry:
    ruling = Ruling(tuple(each.id for each in accepted), tuple(each.id for each in refused))
    return room.world.say(by, room.room, Kind.RULING, ruling.encode())


def test_what_is_held_back_counts_once_a_human_of_at_least_the_revocations_rank_accepts_it(room: ClassRoom) -> None:
    known = room.revision("connu")
    late, other = room.revision("trouvé après"), room.revision("autre")
    admin = room.world.enrol(Role.ADMIN, room.world.school)
    revoke(room, room.world.server, room.teacher, known)
    rule(room, admin, [late])
    assert room.folds()[0].held_back == {late.id, other.id}
    rule(room, room.world.server, [late], [other])
    roster, work = room.folds()
    assert roster.held_back == roster.refused == {other.id}
    assert late.id in work.items
    assert room.teacher.key.public in roster.cut
    rule(room, room.world.server, [other], [late])
    roster, work = room.folds()
    assert roster.held_back == roster.refused == {late.id}
    assert other.id in work.items


def test_rights_keys_and_rulings_are_never_accepted(room: ClassRoom) -> None:
    admin = room.world.enrol(Role.ADMIN, room.world.school)
    work = room.revision("1")
    cut = revoke(room, admin, room.teacher)
    late = room.world.enrol(Role.MACHINE, room.room, by=admin)
    grant = room.world.entries[-1]
    own = rule(room, admin, [work])
    revoke(room, room.world.server, admin)
    rule(room, room.world.server, [cut, grant, own])
    roster, coursework = room.folds()
    assert roster.held_back == {cut.id, grant.id, own.id}
    assert not roster.may_read(late.key.public)
    assert work.id in coursework.items


def test_a_ruling_that_cannot_be_read_rules_on_nothing(room: ClassRoom) -> None:
    work = room.revision("1")
    revoke(room, room.world.server, room.teacher)
    room.world.say(room.world.server, room.room, Kind.RULING, b"\xc0")
    assert room.folds()[0].held_back == {work.id}


def let_back(room: ClassRoom, who: Writer, *revocations: Entry, by: Writer | None = None) -> Entry:
    grant = Grant(who.key.public, bytes(32), None, who.role, who.person, None).encode()
    parents = tuple(revocation.id for revocation in revocations)
    return room.world.say(by or room.world.server, room.room, Kind.GRANT, grant, parents=parents)


def test_a_device_that_was_let_go_comes_back_by_a_grant_that_names_the_revocation(room: ClassRoom) -> None:
    first, key = room.teacher.grant, room.teacher.key.public
    kept = room.revision("gardé")
    lost = room.revision("hors d'atteinte")
    revocation = revoke(room, room.world.server, room.teacher, kept)
    room.teacher.grant = let_back(room, room.teacher, revocation).id
    new = room.revision("de retour")
    roster, work = room.folds()
    assert set(work.items) == {kept.id, new.id}
    assert roster.may_read(key)
    assert roster.held_back == {lost.id, first}, "the earlier grant does not come back"
    authority = roster.authority_of(key)
    assert authority is not None
    assert authority.grant == room.teacher.grant


def test_a_grant_that_does_not_name_every_revocation_lets_nobody_back(room: ClassRoom) -> None:
    kept = room.revision("gardé")
    first = revoke(room, room.world.server, room.teacher, kept)
    second = revoke(room, room.world.server, room.teacher, kept)
    let_back(room, room.teacher)
    let_back(room, room.teacher, first)
    assert not room.folds()[0].may_read(room.teacher.key.public)
    let_back(room, room.teacher, second, first)
    assert room.folds()[0].may_read(room.teacher.key.public)


def test_more_revocations_than_one_grant_can_name_are_overcome_by_a_line_of_grants(room: ClassRoom) -> None:
    kept = room.revision("gardé")
    cuts = [revoke(room, room.world.server, room.teacher, kept) for _ in range(MAX_PARENTS + 2)]
    first = let_back(room, room.teacher, *cuts[:MAX_PARENTS])
    assert not room.folds()[0].may_read(room.teacher.key.public)
    last = let_back(room, room.teacher, first, *cuts[MAX_PARENTS:])
    roster, _ = room.folds()
    assert roster.may_read(room.teacher.key.public)
    assert first.id in roster.held_back
    assert [grant.grant for grant in roster.authorities if grant.key == room.teacher.key.public] == [last.id]


def test_of_revocations_those_in_force_are_told_from_those_that_count_for_nothing(room: ClassRoom) -> None:
    admin = room.world.enrol(Role.ADMIN, room.world.school)
    cut = revoke(room, room.world.server, room.teacher, room.revision("gardé"))
    upwards = revoke(room, admin, room.world.server)
    gone = revoke(room, room.world.server, admin)
    late = revoke(room, admin, room.machine)
    assert room.folds()[0].revocations == {cut.id: room.teacher.key.public, gone.id: admin.key.public}
    assert not {upwards.id, late.id} & room.folds()[0].revocations.keys()


def test_a_lower_rank_than_the_revocations_lets_nobody_back(room: ClassRoom) -> None:
    admin = room.world.enrol(Role.ADMIN, room.world.school)
    kept = room.revision("gardé")
    revocation = revoke(room, room.world.server, room.teacher, kept)
    let_back(room, room.teacher, revocation, by=admin)
    assert not room.folds()[0].may_read(room.teacher.key.public)


def test_a_right_that_a_key_has_elsewhere_does_not_shield_it_here(room: ClassRoom) -> None:
    world = room.world
    admin = world.enrol(Role.ADMIN, world.school)
    work = room.revision("1")
    revoke(room, admin, room.teacher)
    elsewhere = Grant(room.teacher.key.public, bytes(32), None, Role.ADMIN, None, None).encode()
    grant = world.say(world.server, world.classes[1], Kind.GRANT, elsewhere)
    all_known = room.folds()[0]
    assert all_known.held_back == {work.id}, "the fold is one of this space and of those above it"
    world.entries.remove(grant)
    assert room.folds()[0].held_back == all_known.held_back


def test_what_is_written_under_a_grant_that_is_held_back_is_held_back_with_it(room: ClassRoom) -> None:
    world = room.world
    admin = world.enrol(Role.ADMIN, world.school)
    lesson = room.revision("vrai")
    revoke(room, world.server, admin)
    thief = world.enrol(Role.TEACHER, room.room, by=admin)
    forged = world.say(thief, room.room, Kind.REVISION, lesson.payload or b"")
    successor = Successor.agreed(world.new_key(), bytes(32), None, room.room, thief.key.public)
    accomplice = world.say(thief, room.room, Kind.SUCCESSOR, successor.encode())
    roster, work = room.folds()
    assert set(work.items) == {lesson.id}
    assert roster.held_back == {thief.grant, forged.id, accomplice.id}


def test_a_revocation_under_a_grant_that_is_held_back_counts_for_nothing(room: ClassRoom) -> None:
    world = room.world
    false_server = Writer(world.new_key(), Role.SERVER, world.school, None)
    school = Grant(false_server.key.public, bytes(32), None, Role.SERVER, None, None)
    false_server.grant = world.say(world.root, world.school, Kind.GRANT, school.encode()).id
    cut = world.say(world.root, world.school, Kind.REVOKE, Revocation(false_server.key.public, ()).encode())
    admin = world.enrol(Role.ADMIN, world.school, by=false_server)
    lesson = room.revision("1")
    revoke(room, admin, room.teacher)
    roster, work = room.folds()
    assert cut.id not in roster.held_back
    assert set(work.items) == {lesson.id}
    assert roster.may_read(room.teacher.key.public)


def test_a_version_of_a_name_that_cannot_be_read_does_not_hide_the_one_before(room: ClassRoom) -> None:
    first = room.folds()[0].persons[room.pupil]
    strange = PersonRecord("Léa", PersonRole.PUPIL).encode().replace(b"pupil", b"witch")
    room.world.say(room.world.server, room.room, Kind.PERSON, strange, subject=room.pupil, parents=(first.entry,))
    assert room.folds()[0].persons[room.pupil] == first


def test_a_class_that_is_erased_has_neither_list_nor_work(room: ClassRoom) -> None:
    room.revision("1")
    room.world.say(room.world.server, room.world.school, Kind.ERASE, Erasure(room.room).encode())
    roster, work = room.folds()
    assert (roster.persons, work.items) == ({}, {})
    assert roster.may_read(room.machine.key.public), "what gives rights is never erased"
