"""The folds of coursework, case by case (R4, R5)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.folds.coursework import HandInState, Work, fold_coursework, live_content, sealed_content
from protocol.limits import MAX_WRAPS_BY_ONE, MAX_WRAPS_BY_OTHERS
from protocol.model.ancestry import heads
from protocol.model.entry import Entry, Kind
from protocol.model.structure import PersonKey
from protocol.model.work import EMPTY_PAYLOAD, ContentRef, Feedback, HandIn, ItemKind, Receipt, Revision, Wraps
from protocol.roles import PersonRole, Role
from tests.harness.folded_class import ClassRoom
from tests.harness.history import YEAR_MS, Writer


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


def test_an_item_is_none_in_a_class_in_which_it_did_not_begin(room: ClassRoom) -> None:
    first = room.revision("Racontez")
    hers, room.room = room.room, room.world.classes[1]
    room.world.say(room.world.server, room.room, Kind.REVISION, first.payload or b"", target=first.id)
    assert not room.work.items
    room.room = hers
    assert set(room.work.items) == {first.id}


@pytest.mark.parametrize("how", ["whole", "a header alone", "held back"])
def test_an_item_is_there_as_soon_as_its_first_version_is_whatever_is_left_of_that(room: ClassRoom, how: str) -> None:
    first = room.revision("v1")
    colleague = room.world.enrol(Role.TEACHER, room.room)
    later = room.world.say(
        colleague, room.room, Kind.REVISION, first.payload or b"", target=first.id, parents=(first.id,)
    )
    if how == "held back":
        room.revoke(room.world.server, room.teacher)
    came = first if how != "a header alone" else replace(first, salt=None, payload=None)
    roster = room.folds()[0]
    assert roster.hides(first) is (how == "held back")
    assert not fold_coursework(room.room, [later], roster).items
    assert fold_coursework(room.room, [later, came], roster).items[first.id].shown.id == later.id


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


def test_work_whose_date_others_have_moved_is_late_by_what_its_machine_knew(room: ClassRoom) -> None:
    now_ms = room.world.clock_ms
    item = room.revision("devoir", due_ms=now_ms + 3_600_000)
    room.machine.skew_ms = 7_200_000
    told = [
        HandIn(ContentRef(bytes([hours]) * 32, 1, 0), None, None, now_ms + hours * 3_600_000) for hours in (0, 2, 9)
    ]
    works = [
        room.world.say(room.machine, room.room, Kind.HAND_IN, one.encode(), target=item.id, subject=room.pupil)
        for one in told
    ]
    found = [room.work.hand_ins[work.id] for work in works]
    assert [(work.late, work.clock_doubtful) for work in found] == [(False, True), (True, True), (True, True)]


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
    assert len(tried) == MAX_WRAPS_BY_ONE + 1 + MAX_WRAPS_BY_ONE
    for _ in range(9):
        room.about(room.world.enrol(Role.MACHINE, room.room), Kind.WRAP, flood, work)
    tried = room.work.hand_ins[work.id].readers[reader]
    assert good in tried
    assert len(tried) == MAX_WRAPS_BY_ONE + 1 + MAX_WRAPS_BY_OTHERS


def test_who_is_gone_is_tried_after_who_is_there_and_before_whom_nobody_believed_and_has_given_nothing(
    room: ClassRoom,
) -> None:
    work = room.hand_in(room.revision("devoir").id)
    reader = bytes([1]) * 32
    room.say_key()
    for _ in range(9):
        intruder = room.world.enrol(Role.MACHINE, room.room)
        room.about(intruder, Kind.WRAP, Wraps(((reader, bytes([9]) * 80),) * 50).encode(), work)
    hers = room.about(room.teacher, Kind.WRAP, Wraps(((reader, bytes([1]) * 80),)).encode(), work)
    assert room.work.hand_ins[work.id].given == {reader}
    room.revoke(room.world.server, room.teacher, hers)
    found = room.work.hand_ins[work.id]
    assert found.readers[reader] == (bytes([1]) * 80, *[bytes([9]) * 80] * MAX_WRAPS_BY_OTHERS)
    assert found.given == frozenset()


def test_later_keys_of_its_author_come_after_it_and_all_of_them_have_few_wraps_tried(room: ClassRoom) -> None:
    work = room.hand_in(room.revision("devoir").id)
    reader = bytes([1]) * 32
    copies = [room.later_key(room.machine) for _ in range(5)]
    next_one = room.later_key(copies[0])
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
    stranger = room.later_key(room.world.enrol(Role.MACHINE, room.room))
    room.about(stranger, Kind.WRAP, Wraps(((reader, sealed),)).encode(), work)
    assert room.work.hand_ins[work.id].given == frozenset()
    copy = room.later_key(room.machine)
    room.about(copy, Kind.WRAP, Wraps(((reader, sealed),)).encode(), work)
    assert room.work.hand_ins[work.id].given == {reader}
    room.revoke(room.world.server, room.machine, work)
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
    room.revoke(room.world.server, room.machine, work)
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
