"""Syncs between agents and a server: what arrives, and what it costs."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.errors import Code, LocalFailure, NoAnswer, RelaisError
from protocol.folds.coursework import HandInState
from protocol.messages.wire import RECONCILE_PATH
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Invite, PersonKey
from protocol.model.work import HandIn
from protocol.replica.answering import news
from protocol.replica.at_work.replica import Draft
from protocol.replica.content.holdings import Need
from protocol.replica.interfaces import Stored
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.coursework.publisher import withdraw
from sync_agent.health import LastSync
from sync_agent.sync.asking import Said
from sync_agent.sync.session import Session
from sync_agent.transport.over_http import HttpTransport
from tests.harness.classroom import (
    LARGE,
    SMALL,
    WORK,
    Classroom,
    Device,
    assignment,
    classroom,
    converge,
    faulty,
    work_of,
)
from tests.harness.lan import exchange
from tests.harness.wire import serve


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path, faulty) as made:
        yield made


# --- what arrives -----------------------------------------------------------------------------------------------------


async def test_what_a_teacher_publishes_reaches_a_pupils_machine_byte_for_byte(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    for files in (SMALL, LARGE):
        item = (await room.publish(teacher, files)).item
        await teacher.session.sync()
        await machine.session.sync()
        assert await machine.files(item) == files
    assert await room.agree()


async def test_content_that_comes_long_after_its_entries_is_news(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, SMALL)).item
    await teacher.session.sync()
    await without_content(room, machine)
    result = await machine.session.sync()
    assert (result.received, result.sent, result.round_trips) == (0, 0, 1)
    assert await machine.files(item) == SMALL
    assert not result.is_quiet, "nobody would see the lesson in DIR/coursework"


async def without_content(room: Classroom, machine: Device) -> None:
    """The machine has heard of everything, and holds none of it."""
    for space in room.territory.replica.door.lineage(room.space):
        stored = await room.territory.replica.store.scan(space)
        await machine.agent.replica.admit([one.entry for one in stored], source=b"peer", now_ms=machine.agent.now_ms())


async def test_what_was_asked_for_long_in_vain_is_fetched_at_once_when_the_server_has_news(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, SMALL)).item
    await teacher.session.sync()
    need = await long_in_vain(machine)
    await machine.session.sync(routine=True)
    assert await machine.agent.missing() == [need], "nobody had it the last times"
    machine.session.hear_news()
    await machine.session.sync(routine=True)
    assert await machine.files(item) == SMALL


async def long_in_vain(machine: Device) -> Need:
    """The machine fetches all there is, loses its content, and has asked for it long in vain; what it misses."""
    await machine.session.sync()
    content = machine.agent.replica.content
    await content.drop(list(await content.pack_sizes()))
    await machine.agent.holdings.forget()
    (need,) = await machine.agent.missing()
    now_ms = machine.agent.now_ms()
    machine.session._asking._wished[need.space, need.stream] = (now_ms - 3_600_000, now_ms)
    return need


async def test_news_that_a_failed_sync_could_not_fetch_are_fetched_by_the_next_one(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, SMALL)).item
    await teacher.session.sync()
    await long_in_vain(machine)
    machine.session.hear_news()
    machine.faulty.faults.down = True
    with pytest.raises(NoAnswer):
        await machine.session.sync(routine=True)
    machine.faulty.faults.down = False
    await machine.session.sync(routine=True)
    assert await machine.files(item) == SMALL, "the server has said that there is something"


async def test_a_patient_sync_may_ask_again_for_what_it_has_asked_for(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    await room.publish(teacher, SMALL)
    await teacher.session.sync()
    await without_content(room, machine)
    (need,) = await machine.agent.missing()
    asking, now_ms = machine.session._asking, machine.agent.now_ms()
    asking._wished[need.space, need.stream] = (now_ms - 3_600_000, now_ms - 3_000_000)
    said = Said(patient=True)
    assert (await asking.compose(said)).request.want
    assert (await asking.compose(said)).request.want, "with what is held, in the same breath"
    assert not (await asking.compose(Said(patient=True))).request.want


async def test_an_empty_file_arrives_whichever_lesson_brought_an_empty_file_first(room: Classroom) -> None:
    teacher = await room.teacher()
    first = await room.publish(teacher, {"vide.txt": b"", "un.txt": b"un"})
    await withdraw(teacher.agent, first.item)
    second = await room.publish(teacher, {"vide.txt": b"", "deux.txt": b"deux"})
    await teacher.session.sync()
    machine = await room.machine()
    await machine.session.sync()
    assert await machine.files(second.item) == {"vide.txt": b"", "deux.txt": b"deux"}


async def test_a_hand_in_gets_its_receipt_though_the_server_failed_between_the_two(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, machine)
    hand_in = await room.hand_in(machine, item, WORK)

    async def fails(*_: object, **__: object) -> None:
        raise LocalFailure(Code.STORAGE_FAILED, "the disk is no good")

    with monkeypatch.context() as patched:
        patched.setattr(room.territory.replica, "write", fails)
        with pytest.raises(RelaisError):
            await machine.session.sync()
    await machine.session.sync()
    assert (await work_of(machine, room, hand_in)).state is HandInState.SERVER


async def test_content_that_nobody_has_whole_any_more_soon_costs_next_to_nothing(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    first = await room.publish(teacher, SMALL)
    (old,) = await teacher.agent.replica.content.unsent_packs()
    await room.publish(teacher, {**SMALL, "neu.txt": b"neu"}, item=first.item)
    new = next(pack for pack in await teacher.agent.replica.content.unsent_packs() if pack.hash != old.hash)
    data = await teacher.agent.replica.content.read_pack(new.hash, 0, new.size)
    lesson = [
        entry for entry in await teacher.agent.replica.store.unsent(1 << 20) if entry.header.kind == Kind.REVISION
    ]
    # What the teacher's first publication brought burns with the laptop; the rest is everywhere.
    for replica in (room.territory.replica, machine.agent.replica):
        await replica.admit(lesson, source=bytes(32), now_ms=room.territory.clock())
        await replica.content.ingest(room.space, data)
    for _ in range(8):
        room.territory.clock.advance(60_000)
        await machine.session.sync(routine=True)
    costs = []
    for _ in range(8):
        room.territory.clock.advance(30_000)
        costs.append(await machine.session.sync(routine=True))
    assert all(cost.round_trips == 1 for cost in costs)
    assert sum(cost.bytes_in + cost.bytes_out > 1_000 for cost in costs) <= 5
    assert await machine.agent.missing()


async def with_what_only_it_holds(machine: Device, room: Classroom) -> bytes:
    """The id of something above the class that this machine has, the server not, and nobody has noted as unsent."""
    school, server = room.territory.schools[0], room.territory
    note = compose(
        author=server.keys.signing,
        space=school,
        kind=Kind.INVITE,
        grant=server.certificate.id,
        at=server.certificate.header.at + 1,
        payload=Invite(bytes(32), Role.MACHINE, (room.space,), None, 1, 1).encode(),
        salt=bytes(16),
    )
    await machine.agent.replica.admit([note], source=bytes(32), now_ms=server.clock())
    return note.id


async def test_a_difference_is_noticed_in_a_space_that_was_not_the_last_to_arrive(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = await room.machine()
    note = await with_what_only_it_holds(machine, room)
    monkeypatch.setattr(news, "PAGE_BYTES", 600)
    await machine.session.sync()
    assert await room.territory.replica.store.present([note])


async def test_a_difference_that_a_cut_kept_from_being_settled_is_settled_by_the_next_sync(room: Classroom) -> None:
    machine = await room.machine()
    note = await with_what_only_it_holds(machine, room)

    def cut(path: str) -> None:
        if path == RECONCILE_PATH:
            raise NoAnswer(Code.UNREACHABLE, "the line is down")

    machine.faulty.faults.on_post = cut
    with pytest.raises(NoAnswer):
        await machine.session.sync()
    machine.faulty.faults.on_post = lambda _path: None
    again = Session(machine.agent, machine.session.transport)
    await again.sync()
    assert await room.territory.replica.store.present([note]), "the cursor leads beyond the page that showed it"
    assert (await again.sync()).round_trips == 1


async def test_a_small_hand_in_and_the_servers_receipt_for_it_take_one_round_trip(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, machine)
    hand_in = await room.hand_in(machine, item, WORK)
    assert (await work_of(machine, room, hand_in)).state is HandInState.LOCAL
    result = await machine.session.sync()
    assert result.round_trips == 1
    assert (result.sent, result.received) == (2, 1)
    assert (await work_of(machine, room, hand_in)).state is HandInState.SERVER
    assert await machine.agent.replica.store.unsent_totals() == (0, 0)
    assert await machine.agent.replica.content.unsent_packs() == []


async def test_a_large_hand_in_gets_its_receipt_in_the_same_sync(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, machine)
    hand_in = await room.hand_in(machine, item, LARGE)
    await machine.session.sync()
    assert (await work_of(machine, room, hand_in)).state is HandInState.SERVER
    await teacher.session.sync()
    stream = (await work_of(teacher, room, hand_in)).record.content.stream
    assert await teacher.agent.holdings.is_complete(Need(room.space, stream, sealed=True))


async def test_a_lesson_that_somebody_handed_in_is_given_to_a_server_that_lost_it_with_its_files(
    room: Classroom,
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    item = (await room.publish(teacher, LARGE)).item
    for device in (teacher, machine):
        await device.session.sync()
    coursework = (await machine.agent.replica.view(room.space)).coursework
    content = coursework.items[item].shown.record.content
    right = await machine.agent.right(room.space, Kind.HAND_IN)
    said = HandIn(content, None).encode()
    await machine.agent.write(Draft(room.space, Kind.HAND_IN, right.grant, said, subject=b"t" * 16, target=task))
    for device in (machine, teacher):
        await device.session.sync()
    server = room.territory
    await server.replica.content.drop(list(await server.replica.content.pack_sizes()))
    await server.holdings.forget()
    for _ in range(2):
        await teacher.session.sync()
    assert await server.holdings.is_complete(Need(room.space, content.stream, sealed=False))


async def test_another_pupils_machine_gets_the_hand_in_but_not_its_content(room: Classroom) -> None:
    teacher, machine, other = await room.teacher(), await room.machine(), await room.machine()
    item = await assignment(room, teacher, machine, other)
    hand_in = await room.hand_in(machine, item, LARGE)
    await machine.session.sync()
    result = await other.session.sync()
    stream = (await work_of(other, room, hand_in)).record.content.stream
    assert not await other.agent.holdings.is_complete(Need(room.space, stream, sealed=True))
    assert result.bytes_in < 4_000
    assert await room.agree([machine, other])


async def test_many_entries_come_in_pages_and_go_out_in_pages(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    await teacher.session.sync()
    for number in range(40):
        await room.publish(teacher, {f"{number}.bin": Random(number).randbytes(10_000)})
    await room.territory.crowd(4_000, room.space)
    sent = await teacher.session.sync()
    received = await machine.session.sync()
    assert sent.sent == 40
    assert received.received > 4_040
    assert 2 <= sent.round_trips < 6
    assert 2 <= received.round_trips < 25
    assert await room.agree()


async def test_a_space_that_a_device_is_let_into_later_comes_with_its_next_sync(room: Classroom) -> None:
    machine = await room.machine()
    await machine.session.sync()
    new = await room.territory.classroom("CM2")
    await room.territory.let_in(machine.agent.keys, Role.MACHINE, new)
    await machine.session.sync()
    assert new in await machine.agent.spaces()


async def test_a_teacher_who_comes_later_can_open_earlier_work_after_one_sync_of_the_machine(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, machine)
    hand_in = await room.hand_in(machine, item, WORK)
    await machine.session.sync()
    person = await room.territory.person("M. Durand", PersonRole.TEACHER, room.space)
    late = await room.device(Role.TEACHER, person=person)
    await late.session.sync()
    await machine.session.sync()
    await late.session.sync()
    key = late.agent.reading_keys.newest_of(room.space)
    assert key is not None
    assert key.public in (await work_of(late, room, hand_in)).readers


async def test_earlier_work_is_sealed_to_a_teacher_of_whom_neighbours_have_told_all_that_the_server_knows(
    room: Classroom,
) -> None:
    teacher, machine, neighbour = await room.teacher(), await room.machine(), await room.machine()
    item = await assignment(room, teacher, machine, neighbour)
    hand_in = await room.hand_in(machine, item, WORK)
    await converge(machine, neighbour)
    person = await room.territory.person("M. Durand", PersonRole.TEACHER, room.space)
    late = await room.device(Role.TEACHER, person=person)
    await converge(late, neighbour)
    await exchange(machine.agent, neighbour.agent)
    result = await machine.session.sync()
    assert result.received == 0, "the server has nothing to say that neighbours have not said"
    await late.session.sync()
    key = late.agent.reading_keys.newest_of(room.space)
    assert key is not None
    assert key.public in (await work_of(late, room, hand_in)).readers


# --- what it costs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 6, 40])
async def test_a_sync_with_nothing_new_is_one_request_below_1_kb_of_http(tmp_path: Path, classes: int) -> None:
    async with classroom(tmp_path, spaces=classes) as room, serve(room.frontage) as url:
        machine = await room.device(Role.MACHINE, *room.territory.classes, way=lambda _: HttpTransport(url))
        await machine.session.sync()
        result = await machine.session.sync()
        assert len(await machine.agent.spaces()) == classes + 2
        assert (result.received, result.sent, result.round_trips) == (0, 0, 1)
        assert result.bytes_in + result.bytes_out < 1_000


async def test_what_one_answer_brings_of_many_classes_is_kept_in_one_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with classroom(tmp_path, spaces=20) as room:
        relay = await room.device(Role.RELAY, *room.territory.classes)
        await room.territory.person("Léa", PersonRole.PUPIL, *room.territory.classes)
        store = relay.agent.replica.store
        plain, brought = store.append, list[int]()

        async def append(entries: Sequence[Entry], **rest: Any) -> list[Stored]:
            brought.append(len({entry.header.space for entry in entries}))
            return await plain(entries, **rest)

        monkeypatch.setattr(store, "append", append)
        await relay.session.sync()
        assert max(brought) >= 20, brought
        assert await room.agree([relay])


async def test_a_device_of_many_spaces_gets_news_of_one_in_a_second_request(tmp_path: Path) -> None:
    async with classroom(tmp_path, spaces=20) as room:
        teacher, relay = await room.teacher(), await room.device(Role.RELAY, *room.territory.classes)
        await relay.session.sync()
        assert (await relay.session.sync()).round_trips == 1
        item = (await room.publish(teacher, SMALL)).item
        await teacher.session.sync()
        assert (await relay.session.sync()).round_trips == 2
        assert await relay.files(item) == SMALL
        assert await room.agree([relay])
        assert (await relay.session.sync()).round_trips == 1


async def test_a_device_of_many_spaces_notices_a_server_that_was_set_back(tmp_path: Path) -> None:
    async with classroom(tmp_path, spaces=20) as room:
        relay = await room.device(Role.RELAY, *room.territory.classes)
        await relay.session.sync()
        await room.territory.close()
        shutil.copytree(tmp_path / "server", tmp_path / "image")
        await room.restart_server(tmp_path / "server")
        teacher = await room.teacher()
        await room.publish(teacher, SMALL)
        await teacher.session.sync()
        await relay.session.sync()
        await room.restart_server(tmp_path / "image")
        await relay.session.sync()
        assert await room.agree([relay])


async def test_a_quiet_sync_does_not_write_to_the_disk_more_than_once_a_minute(room: Classroom) -> None:
    machine = await room.machine()
    await machine.session.sync()
    before = await machine.agent.replica.store.marks("")
    room.territory.clock.advance(30_000)
    await machine.session.sync(routine=True)
    assert await machine.agent.replica.store.marks("") == before
    room.territory.clock.advance(30_000)
    await machine.session.sync(routine=True)
    last = await LastSync.read(machine.agent.replica.store)
    assert last is not None
    assert last.at_ms == room.territory.clock()


async def test_a_health_report_goes_up_once_and_again_only_when_it_says_something_new(room: Classroom) -> None:
    machine = await room.machine()
    await machine.session.sync()
    server = room.territory.replica.store
    first = await server.registers()
    assert len(first) == 1
    room.territory.clock.advance(60_000)
    await machine.session.sync()
    assert await server.registers() == first


async def test_a_sync_ends_though_there_is_something_to_say_at_each_look(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = await room.teacher()
    await teacher.session.sync()
    monkeypatch.setattr("sync_agent.sync.session.MAX_REQUESTS", 100)

    async def speaks(agent: Agent) -> int:
        grant = (await agent.right(room.space, Kind.PERSON_KEY)).grant
        key = PersonKey(agent.entropy(32)).encode()
        await agent.write(Draft(room.space, Kind.PERSON_KEY, grant, key, subject=room.teacher_person))
        return 1

    monkeypatch.setattr("sync_agent.sync.after_news.tend_hand_ins", speaks)
    await room.publish(teacher, SMALL)
    await teacher.session.sync()
