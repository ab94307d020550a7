"""Pupils' work: handed in on one machine, sealed, opened on the teacher's, feedback back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from protocol.canonical import encode
from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code, LocalFailure, Refused, RelaisError
from protocol.folds.hand_in_keys import wraps_for
from protocol.identity import AgreementKey
from protocol.limits import ACQUAINTANCE_MS, MAX_FILES_PER_HAND_IN, MAX_READING_KEYS_PER_DEVICE, SEALED_CHUNK_BYTES
from protocol.model.entry import Kind
from protocol.model.structure import PersonKey, Revocation
from protocol.model.work import ContentRef, HandIn, Wraps
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.operation import JSON, NO_FILES, Complete, FileData, FileEnd, FileStart
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from protocol.transfer.chunking import ChunkRef
from protocol.trust.sealing import SealedFile, SealWriter, wrap_info
from sync_agent.hand_ins.file_names import SealedLists
from sync_agent.hand_ins.wraps import Kept, mark_of, readers_of, tend_hand_ins
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.machine.enrolled import KEY_SLOTS_FILE
from sync_agent.machine.marks import HAND_IN_MARKS, REFUSED_MARKS
from tests.harness.classroom import Classroom, Device, Files, Given, classroom
from tests.harness.commands import Desk, Events, Received, changed_once
from tests.harness.passing_days import pass_days

TASK: Files = {"consigne.txt": b"Racontez vos vacances."}
WORK: Files = {
    "a vide.txt": b"",
    "photos/mer.jpg": Random(3).randbytes(3 * SEALED_CHUNK_BYTES + 17),
    "récit.odt": b"Il faisait beau. " * 500,
    "z vide.txt": b"",
}


class Room:
    """A class in which an assignment has been given: a teacher's desk, a pupils' PC."""

    def __init__(self, room: Classroom, teacher: Device, machine: Device, item: str) -> None:
        self.room = room
        self.teacher_device, self.machine_device = teacher, machine
        self.teacher, self.pupils = Desk(teacher.agent), Desk(machine.agent)
        self.item = item
        self.pupil = room.pupil_person.hex()

    async def sync(self) -> None:
        for device in (self.machine_device, *self.room.devices, self.machine_device):
            await device.session.sync()

    async def kept(self, work: str) -> Kept:
        """What the pupils' machine keeps of a work that it made."""
        return Kept.parse(await self.pupils.agent.replica.store.mark(mark_of(bytes.fromhex(work))) or b"")

    async def a_week_later(self) -> None:
        """Somebody who has just been met is known by then; there is news, as there is each day."""
        await pass_days(self.room.territory, ACQUAINTANCE_MS // DAY_MS, *self.room.devices)
        self.room.territory.clock.advance(60_000)
        await self.room.publish(self.teacher_device, TASK)
        await self.sync()


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Room]:
    async with classroom(tmp_path) as made:
        teacher, machine = await made.teacher(), await made.machine()
        await teacher.session.sync()
        task = await Desk(teacher.agent).publish(
            TASK, space=made.space.hex(), title="Rédaction", kind="assignment", due_ms=made.territory.clock() + 1000
        )
        room = Room(made, teacher, machine, task["item"])
        await room.sync()
        yield room


async def refused(desk: Desk, name: str, **params: JSON) -> RelaisError:
    """The error of a command that must fail and write nothing."""
    before = await desk.agent.replica.store.unsent_totals()
    with pytest.raises(RelaisError) as caught:
        await desk.ask(name, Given({"a": b"1"}), **params)
    assert await desk.agent.replica.store.unsent_totals() == before
    return caught.value


# --- there and back ---------------------------------------------------------------------------------------------------


async def test_work_handed_in_is_opened_by_the_teacher_byte_for_byte_and_the_pupil_sees_how_far_it_is(
    here: Room,
) -> None:
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    row = await here.pupils.work(work)
    listed = [{"path": path, "size": len(WORK[path])} for path in sorted(WORK, key=str.encode)]
    assert row == {
        "id": work,
        "item": here.item,
        "person": here.pupil,
        "state": "local",
        "at": row["at"],
        "title": "Rédaction",
        "name": "Léa",
        "called": "Léa",
        "clock_doubtful": False,
        "late": False,
        "files": listed,
        "feedback": None,
        "remarks": [],
        "by": None,
        "to_open": False,
    }
    await here.sync()
    assert (await here.pupils.work(work))["state"] == "server"
    assert await here.teacher.work(work) == {**row, "state": "server", "to_open": True}

    assert await here.teacher.files("open-hand-in", id=work) == WORK
    assert (await here.teacher.work(work))["state"] == "server"
    for _ in range(2):
        assert await here.teacher.ask("confirm-opened", id=work) == {}
    await here.sync()
    assert (await here.pupils.work(work))["state"] == "teacher"
    receipts = await here.room.territory.replica.store.scan_kinds([Kind.RECEIPT_TEACHER])
    assert len(receipts) == 1

    correction = {"corrigé.txt": b"Attention aux accords."}
    told = await here.teacher.ask("feedback", Given(correction), id=work, text="Bien !", mark="A", redo=False)
    assert told == {}
    await here.sync()
    row = await here.pupils.work(work)
    assert row["state"] == "marked"
    assert row["feedback"] == {
        "text": "Bien !",
        "mark": "A",
        "redo": False,
        "files": [{"path": "corrigé.txt", "size": 22}],
    }
    assert await here.pupils.files("cat", item=work, path="corrigé.txt") == correction
    assert await here.pupils.files("checkout", item=work) == correction


async def test_later_feedback_takes_the_place_of_the_first_and_the_same_again_changes_nothing(here: Room) -> None:
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    await here.sync()
    await here.teacher.ask("feedback", Given({"a.txt": b"a"}), id=work, text="À revoir", redo=True)
    assert (await here.teacher.work(work))["state"] == "redo"
    before = await here.teacher.agent.replica.store.unsent_totals()
    await here.teacher.ask("feedback", Given({"a.txt": b"a"}), id=work, text="À revoir", redo=True)
    assert await here.teacher.agent.replica.store.unsent_totals() == before
    assert here.teacher.told == []
    with pytest.raises(BadInput, match="--take-back"):
        await here.teacher.ask("feedback", id=work, text=" ")
    await here.teacher.ask("feedback", id=work, text="Mieux")
    (told,) = here.teacher.told
    assert told.endswith("had said: “À revoir” (another try, 1 file)")
    row = await here.teacher.work(work)
    assert (row["state"], row["feedback"]) == ("marked", {"text": "Mieux", "mark": None, "redo": False, "files": []})
    assert await here.teacher.files("checkout", item=work) == {}


async def test_late_work_is_taken_and_marked_and_so_is_work_for_what_was_withdrawn(here: Room) -> None:
    here.room.territory.clock.advance(60_000)
    late = await here.pupils.hand_in(here.item, here.pupil, WORK)
    assert (await here.pupils.work(late))["late"] is True
    await here.teacher.ask("withdraw", item=here.item)
    await here.sync()
    withdrawn = await here.pupils.hand_in(here.item, here.pupil, WORK)
    await here.sync()
    assert await here.teacher.files("open-hand-in", id=withdrawn) == WORK


async def test_the_same_work_handed_in_twice_is_two_works_and_nobody_can_tell_that_they_are_alike(here: Room) -> None:
    first = await here.pupils.hand_in(here.item, here.pupil, WORK)
    second = await here.pupils.hand_in(here.item, here.pupil, WORK)
    works = (await here.pupils.agent.replica.view(here.room.space)).coursework.hand_ins
    streams = {works[bytes.fromhex(work)].record.content.stream for work in (first, second)}
    assert len(streams) == 2
    assert {row["id"] for row in await here.pupils.ask("hand-ins", item=here.item)} == {first, second}


async def test_neither_names_nor_bytes_of_the_work_lie_readable_on_the_pupils_machine(here: Room) -> None:
    await here.pupils.hand_in(here.item, here.pupil, WORK)
    packs = [path.read_bytes() for path in here.pupils.agent.folder.glob("packs/*/*.pack")]
    assert packs
    assert not any(b"Il faisait beau" in pack or "récit".encode() in pack for pack in packs)


# --- who may, and with what -------------------------------------------------------------------------------------------


async def test_only_a_teacher_of_the_class_opens_work(here: Room) -> None:
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    admin = await here.room.device(Role.ADMIN)
    relay = await here.room.device(Role.RELAY)
    await here.sync()
    for desk in (here.pupils, Desk(admin.agent), Desk(relay.agent)):
        for command in ("open-hand-in", "confirm-opened"):
            error = await refused(desk, command, id=work)
            assert (error.code, error.exit_status) == (Code.CANNOT_READ, 5)
    assert (await refused(here.teacher, "open-hand-in", id="ab" * 32)).code is Code.UNKNOWN_HAND_IN
    assert (await refused(here.teacher, "open-hand-in", id=here.item)).code is Code.UNKNOWN_HAND_IN


async def test_a_teacher_whose_file_of_keys_is_gone_is_told_so_and_reads_by_what_lies_in_the_set(here: Room) -> None:
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    await here.sync()
    (here.teacher.agent.folder / "keys" / "reading").unlink()
    (problem,) = (await here.teacher.ask("doctor"))["problems"]
    assert problem["code"] == "cannot-read"
    assert await here.teacher.files("open-hand-in", id=work) == WORK


async def test_a_teacher_without_the_key_is_told_so(here: Room) -> None:
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    await here.sync()
    new = await here.room.teacher()
    await new.session.sync()
    assert isinstance(await refused(Desk(new.agent), "open-hand-in", id=work), Refused)


async def test_a_machine_lists_its_own_works_and_a_teacher_those_of_the_class(here: Room) -> None:
    other = Desk((await here.room.machine()).agent)
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    await here.sync()
    assert await other.ask("hand-ins") == []
    assert [row["id"] for row in await here.teacher.ask("hand-ins")] == [work]
    assert await here.teacher.ask("hand-ins", item=here.item) == await here.teacher.ask("hand-ins")
    assert (await refused(here.teacher, "hand-ins", item="ab" * 32)).code is Code.UNKNOWN_ITEM
    lesson = await here.teacher.publish(TASK, space=here.room.space.hex(), title="Leçon")
    assert await here.teacher.ask("hand-ins", item=lesson["item"]) == []


async def test_work_goes_to_an_assignment_of_this_class_for_a_pupil_on_its_list(here: Room) -> None:
    lesson = await here.teacher.publish(TASK, space=here.room.space.hex(), title="Leçon")
    await here.sync()
    files: JSON = [["a", 1]]
    cases: list[tuple[str, str, JSON, Code]] = [
        (lesson["item"], here.pupil, files, Code.NOT_AN_ASSIGNMENT),
        (here.item, "ab" * 16, files, Code.UNKNOWN_PERSON),
        (here.item, "Zoé", files, Code.UNKNOWN_PERSON),
        ("ab" * 32, here.pupil, files, Code.UNKNOWN_ITEM),
        (here.item, here.pupil, [], Code.NOTHING_TO_SEND),
        (here.item, here.pupil, [["../a", 1]], Code.BAD_NAME),
    ]
    for item, person, given, code in cases:
        error = await refused(here.pupils, "hand-in", item=item, person=person, files=given)
        assert (error.code, error.exit_status) == (code, 2)
    assert await here.pupils.ask("hand-ins") == []


async def test_a_pupils_machine_gives_no_feedback_and_too_many_words_are_refused(here: Room) -> None:
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    await here.sync()
    assert (await refused(here.pupils, "feedback", id=work, text="Bravo")).code is Code.NO_RIGHT
    assert (await refused(here.teacher, "feedback", id=work, text="x" * 16_001)).code is Code.USAGE
    assert (await refused(here.teacher, "feedback", id=work, text="x", mark="y" * 65)).code is Code.USAGE
    assert (await refused(here.teacher, "feedback", id="ab" * 32, text="x")).code is Code.UNKNOWN_HAND_IN
    with pytest.raises(BadInput, match="could be taken back"):
        await here.teacher.ask("feedback", id=work, text="", take_back=True)
    await here.teacher.ask("feedback", id=work, text="é" * 16_000)
    assert (await refused(here.teacher, "feedback", id=work, text="x", take_back=True)).code is Code.USAGE


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "incoming",
    [
        Events(FileStart("a.txt", 5), FileData(b"12345"), FileEnd(), Complete()),
        changed_once({"a.txt": b"12345"}, {"a.txt": b"12345"}),
        Events(FileStart("a.txt", 4), FileData(b"1234"), FileEnd(), Complete()),
        Events(FileStart("b.txt", 5), FileData(b"12345"), FileEnd(), Complete()),
        Events(FileStart("a.txt", 5), FileData(b"123456"), FileEnd(), Complete()),
        Events(FileStart("a.txt", 5), FileData(b"123"), FileEnd(), Complete()),
        Events(Complete()),
    ],
)
async def test_files_that_are_not_what_was_announced_are_not_handed_in(here: Room, incoming: Events) -> None:
    with pytest.raises(LocalFailure) as caught:
        await here.pupils.ask("hand-in", incoming, item=here.item, person=here.pupil, files=[["a.txt", 5], ["vide", 0]])
    assert caught.value.code is Code.CHANGING_FILE
    assert await here.pupils.ask("hand-ins") == []
    assert not await here.pupils.agent.replica.content.unsent_packs()


async def test_a_caller_that_goes_away_hands_nothing_in(here: Room) -> None:
    cut = Events(FileStart("a.txt", 5), FileData(b"123"))
    with pytest.raises(LocalFailure) as caught:
        await here.pupils.ask("hand-in", cut, item=here.item, person=here.pupil, files=[["a.txt", 5]])
    assert caught.value.code is Code.INTERRUPTED
    assert await here.pupils.ask("hand-ins") == []


async def test_work_whose_bytes_have_not_arrived_is_not_opened(here: Room) -> None:
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    entries = [stored.entry for stored in await here.pupils.agent.replica.store.scan(here.room.space)]
    await here.teacher.agent.replica.admit(entries, source=b"x", now_ms=here.room.territory.clock())
    with pytest.raises(LocalFailure) as caught:
        await here.teacher.files("open-hand-in", id=work)
    assert (caught.value.code, caught.value.exit_status) == (Code.INCOMPLETE, 1)
    assert (await here.teacher.work(work))["files"] == []


async def test_work_that_was_sealed_wrongly_gives_no_file_at_all_and_no_receipt(here: Room) -> None:
    agent, space = here.pupils.agent, here.room.space
    content_key = agent.entropy(32)
    build = await agent.replica.content.build(space, unsent=True, sealed=True)
    writer = SealWriter(content_key, [SealedFile("a.txt", 100_000), SealedFile("b.txt", 100_000)])
    sealed = [*writer.feed(bytes(200_000)), *writer.finish()]
    sealed[-1] = sealed[-1][:-1] + b"?"
    refs = [ChunkRef(await build.chunk(chunk), len(chunk)) for chunk in sealed]
    stream = await build.stream(tuple(refs))
    await build.finish()
    item, person = bytes.fromhex(here.item), here.room.pupil_person
    info = wrap_info(space=space, item=item, person=person, author=agent.device, commitment=stream)
    wraps = wraps_for(await readers_of(agent, space), content_key, info, agent.entropy)
    grant = (await agent.right(space, Kind.HAND_IN)).grant
    record = HandIn(ContentRef(stream, sum(map(len, sealed)), 0), None)
    written = await agent.write(
        Draft(space, Kind.HAND_IN, grant, record.encode(), subject=person, target=item),
        Draft(space, Kind.WRAP, grant, wraps.encode(), subject=person, of_previous=True),
    )
    await here.sync()
    received = Received()
    with pytest.raises(LocalFailure) as caught:
        await here.teacher.table["open-hand-in"]({"id": written[0].id.hex()}, NO_FILES, received)
    assert (caught.value.code, caught.value.exit_status) == (Code.DAMAGED, 1)
    assert received.files == {}
    assert (await here.teacher.work(written[0].id.hex()))["state"] == "server"


async def test_wraps_that_open_nothing_do_not_hide_one_that_does(here: Room) -> None:
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    agent, space, key = here.pupils.agent, here.room.space, here.teacher.agent.reading_keys.newest_of(here.room.space)
    assert key is not None
    grant = (await agent.right(space, Kind.WRAP)).grant
    useless = Wraps(((key.public, bytes(80)),)).encode()
    person = here.room.pupil_person
    for _ in range(8):
        await agent.write(Draft(space, Kind.WRAP, grant, useless, subject=person, target=bytes.fromhex(work)))
    await here.sync()
    assert await here.teacher.files("open-hand-in", id=work) == WORK


async def test_work_that_the_server_refused_is_shown_as_failed_and_kept(here: Room) -> None:
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    await here.pupils.agent.replica.store.set_marks({f"{REFUSED_MARKS}{work}": b"no-right"})
    assert (await here.pupils.work(work))["state"] == "failed"
    (problem,) = (await here.pupils.ask("doctor"))["problems"]
    assert work in problem["message"]


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_the_content_key_is_kept_until_the_teacher_has_opened_the_work(here: Room) -> None:
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    store = here.pupils.agent.replica.store
    kept = await here.kept(work)
    assert kept.sealed_key is not None
    await here.sync()
    await here.teacher.ask("confirm-opened", id=work)
    await here.sync()
    kept = await here.kept(work)
    assert kept.sealed_key is None
    assert len(await store.marks(HAND_IN_MARKS)) == 1


async def test_the_names_of_the_files_are_told_where_they_were_handed_in_until_the_teacher_has_opened_them(
    here: Room,
) -> None:
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    listed = [{"path": path, "size": len(data)} for path, data in WORK.items()]
    for _ in range(2):
        assert (await here.pupils.work(work))["files"] == listed
        await here.sync()
    await here.teacher.ask("confirm-opened", id=work)
    await here.sync()
    assert (await here.pupils.work(work))["files"] == []
    assert (await here.teacher.work(work))["files"] == listed


async def test_a_class_project_of_more_files_than_a_form_takes_is_handed_in_by_the_command_and_opened(
    here: Room,
) -> None:
    project = {f"jeu/niveau-{n:04}.json": b"%d" % n for n in range(MAX_FILES_PER_HAND_IN + 1)}
    work = await here.pupils.hand_in(here.item, here.pupil, project)
    await here.sync()
    assert await here.teacher.files("open-hand-in", id=work) == project
    assert len((await here.pupils.work(work))["files"]) == len(project)


async def test_doctor_says_that_keys_were_lost_with_their_file_and_who_had_a_wrap_opens_the_work(here: Room) -> None:
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    assert (await here.pupils.ask("doctor"))["problems"] == []
    (here.pupils.agent.folder / KEY_SLOTS_FILE).unlink()
    (problem,) = (await here.pupils.ask("doctor"))["problems"]
    assert problem["code"] == "damaged"
    assert "of 1 of the works that were handed in here" in problem["message"]
    another = await here.pupils.hand_in(here.item, here.pupil, WORK)
    await here.sync()
    assert await here.teacher.files("open-hand-in", id=work) == WORK
    await here.teacher.ask("confirm-opened", id=work)
    await here.sync()
    assert (await here.pupils.ask("doctor"))["problems"] == []
    assert await here.teacher.files("open-hand-in", id=another) == WORK


async def test_lists_of_files_are_kept_for_so_many_names_in_all(here: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_agent.hand_ins.file_names._MAX_NAMES_KEPT", 5)
    lists, coursework = SealedLists(), here.teacher.agent.replica.view
    works = [await here.pupils.hand_in(here.item, here.pupil, {f"{n}{m}": b"" for m in range(2)}) for n in range(4)]
    await here.sync()
    found = (await coursework(here.room.space)).coursework.hand_ins
    for _ in range(2):
        for number, work in enumerate(works):
            names = await lists.of(here.teacher.agent, found[bytes.fromhex(work)])
            assert names == ((f"{number}0", 0), (f"{number}1", 0))
            assert lists.names_kept <= 5


async def test_the_receipt_of_a_teacher_who_has_just_come_frees_keys_of_before_once_she_has_been_known_for_a_week(
    here: Room,
) -> None:
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    await here.sync()
    person = await here.room.territory.person("Mme Roux", PersonRole.TEACHER, here.room.space)
    substitute = await here.room.device(Role.TEACHER, person=person)
    await substitute.session.sync()
    await here.sync()
    after = await here.pupils.hand_in(here.item, here.pupil, WORK)
    await here.sync()
    for each in (work, after):
        await Desk(substitute.agent).ask("confirm-opened", id=each)
    await here.sync()
    assert (await here.pupils.work(work))["state"] == "teacher"
    assert (await here.kept(after)).sealed_key is None, "it was sealed to a key that she alone has said"
    assert (await here.kept(work)).sealed_key is not None
    await here.a_week_later()
    assert (await here.kept(work)).sealed_key is None


@pytest.mark.parametrize("noted", [{"heard": 1}, {"heard": 1_700_000_000_000}, {"opened": 1}])
async def test_what_an_earlier_version_had_heard_as_opened_loses_its_key_at_the_first_look(
    here: Room, noted: dict[str, int]
) -> None:
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    await here.sync()
    kept = await here.kept(work)
    mark = encode({"sealed": kept.sealed_key, "made": 1_700_000_000_000, **noted})
    await here.pupils.agent.replica.store.set_marks({mark_of(bytes.fromhex(work)): mark})
    await tend_hand_ins(here.pupils.agent)
    kept = await here.kept(work)
    assert kept.sealed_key is None
    assert kept.heard_ms is not None
    assert kept.heard_ms >= 1_700_000_000_000, "the month of its content begins"


async def test_work_made_while_there_is_no_teacher_keeps_its_key_until_who_came_has_been_known_for_a_week(
    here: Room,
) -> None:
    space, territory = here.room.space, here.room.territory
    agent = here.teacher.agent
    heads = await territory.replica.tips(space, agent.device)
    await territory.say(space, Kind.REVOKE, Revocation(agent.device, tuple(heads)).encode())
    await here.machine_device.session.sync()
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    assert await readers_of(here.pupils.agent, space) == [territory.keys.recovery.public]
    person = await territory.person("Mme Roux", PersonRole.TEACHER, space)
    substitute = await here.room.device(Role.TEACHER, person=person)
    here.room.devices.remove(here.teacher_device)
    await here.teacher_device.close()
    here.teacher_device = substitute
    await here.teacher_device.session.sync()
    await here.sync()
    await here.sync()
    await Desk(here.teacher_device.agent).ask("confirm-opened", id=work)
    await here.sync()
    assert (await here.pupils.work(work))["state"] == "teacher"
    assert (await here.kept(work)).sealed_key is not None
    await here.a_week_later()
    assert (await here.kept(work)).sealed_key is None


async def test_a_teacher_who_comes_later_can_open_the_work_too(here: Room) -> None:
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    await here.sync()
    person = await here.room.territory.person("M. Durand", PersonRole.TEACHER, here.room.space)
    later = await here.room.device(Role.TEACHER, person=person)
    await later.session.sync()
    assert (await refused(Desk(later.agent), "open-hand-in", id=work)).code is Code.CANNOT_READ
    await here.sync()
    await here.sync()
    assert await Desk(later.agent).files("open-hand-in", id=work) == WORK


async def test_a_teacher_who_comes_once_it_was_opened_is_told_who_gives_it_to_them(here: Room) -> None:
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    await here.sync()
    await here.teacher.ask("confirm-opened", id=work)
    await here.sync()
    person = await here.room.territory.person("M. Durand", PersonRole.TEACHER, here.room.space)
    later = await here.room.device(Role.TEACHER, person=person)
    await later.session.sync()
    await here.sync()
    told = str(await refused(Desk(later.agent), "open-hand-in", id=work))
    assert "a colleague's computer that opens it has confirmed this one" in told
    assert "`sync-server rewrap --kit`" in told
    await confirm(here.teacher.agent, device_id(own_device(later.agent)), shown_as="other")
    await here.sync()
    await here.sync()
    assert await Desk(later.agent).files("open-hand-in", id=work) == WORK


async def test_of_too_many_readers_every_teachers_newest_key_comes_first(
    here: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.hand_ins.wraps.MAX_READERS_OF_ONE_WORK", MAX_READING_KEYS_PER_DEVICE)
    territory, space = here.room.territory, here.room.space
    agent = here.teacher.agent
    grant = (await agent.right(space, Kind.PERSON_KEY)).grant
    for number in range(MAX_READING_KEYS_PER_DEVICE):
        payload = PersonKey(AgreementKey(number.to_bytes(32, "big")).public).encode()
        await agent.write(Draft(space, Kind.PERSON_KEY, grant, payload, subject=here.room.teacher_person))
    other = await territory.person("M. Durand", PersonRole.TEACHER, space)
    newcomer = await here.room.device(Role.TEACHER, person=other)
    await newcomer.session.sync()
    await here.sync()
    key = newcomer.agent.reading_keys.newest_of(here.room.space)
    assert key is not None
    readers = await readers_of(here.pupils.agent, space)
    newest = AgreementKey((MAX_READING_KEYS_PER_DEVICE - 1).to_bytes(32, "big")).public
    assert len(readers) == MAX_READING_KEYS_PER_DEVICE + 1
    assert {key.public, newest} <= set(readers[:2])
    assert readers[-1] == territory.keys.recovery.public


async def test_a_reading_key_that_cannot_be_one_does_not_keep_a_pupil_from_handing_in(here: Room) -> None:
    agent = here.teacher.agent
    grant = (await agent.right(here.room.space, Kind.PERSON_KEY)).grant
    payload = PersonKey(bytes(32)).encode()
    await agent.write(Draft(here.room.space, Kind.PERSON_KEY, grant, payload, subject=here.room.teacher_person))
    await here.sync()
    work = await here.pupils.hand_in(here.item, here.pupil, WORK)
    await here.sync()
    assert await here.teacher.files("open-hand-in", id=work) == WORK


async def test_one_pupil_hands_in_so_much_on_one_computer_in_a_day_and_goes_on_the_next(
    here: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.hand_ins.handing_in.MAX_HAND_INS_A_DAY", 2)
    for _ in range(2):
        await here.pupils.hand_in(here.item, here.pupil, WORK)
    error = await refused(here.pupils, "hand-in", item=here.item, person=here.pupil, files=[["a", 1]])
    assert error.code is Code.TOO_MANY_HAND_INS
    here.room.territory.clock.advance(24 * 3_600_000)
    await here.pupils.hand_in(here.item, here.pupil, WORK)
