"""Two devices of a school exchange without a server: what passes, and what nobody else learns (R1, R3, R15)."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from protocol.canonical import decode, encode
from protocol.errors import Code, NoAnswer, PeerFault, Refused
from protocol.limits import MAX_PAYLOAD_BYTES, MAX_REQUEST_BYTES
from protocol.messages.calls import SyncRequest
from protocol.messages.enrollment import parse_chain
from protocol.messages.introduction import introduction
from protocol.messages.wire import SYNC_PATH
from protocol.model.entry import Kind
from protocol.model.register import Health, RegisterKind, stored_register
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.interfaces import EntryStore
from protocol.roles import Role
from sync_agent.health import LastSync
from sync_agent.lan.exchange.meeting import meet, secrets_of
from sync_agent.lan.exchange.peer_calls import PeerCalls
from sync_agent.lan.exchange.peer_session import PeerSession
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.lan.exchange.tls import DiallerContext
from sync_agent.sync.peer_news import news_marks, settle, unsettled
from tests.harness.classroom import LARGE, SMALL, WORK, Classroom, Device, assignment, classroom, work_of
from tests.harness.lan import exchange, listening_device

BIG = {"film.bin": Random(7).randbytes(3_000_000)}


async def entries_of(store: EntryStore) -> int:
    return sum((await store.spaces()).values())


async def agree(room: Classroom, one: Device, other: Device) -> bool:
    spaces = room.territory.replica.door.lineage(room.space)
    return all(
        [await one.agent.replica.fingerprint(s) == await other.agent.replica.fingerprint(s) for s in spaces]
    ) and not (await one.agent.missing() or await other.agent.missing())


async def revoke(room: Classroom, device: Device) -> None:
    await room.territory.say(room.space, Kind.REVOKE, Revocation(device.agent.device, ()).encode())


# --- what passes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("teacher_calls", [True, False])
async def test_a_lesson_passes_between_two_devices_whoever_calls(room: Classroom, *, teacher_calls: bool) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    for files in (SMALL, LARGE, BIG):
        item = (await room.publish(teacher, files)).item
        pair = (teacher, machine) if teacher_calls else (machine, teacher)
        await exchange(pair[0].agent, pair[1].agent)
        assert await machine.files(item) == files
    assert await agree(room, teacher, machine)


async def test_when_nothing_is_new_little_passes(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    await room.publish(teacher, LARGE)
    async with listening_device(teacher.agent) as address:
        transport = PeerTransport(address)
        session = PeerSession(machine.agent, transport, await meet(machine.agent, transport))
        assert (await session.exchange()).received
        quiet = await session.exchange()
        await transport.close()
    assert quiet.is_quiet
    assert quiet.bytes_in + quiet.bytes_out < 1_500


async def test_small_news_is_fetched_or_brought_in_one_request(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    await room.publish(teacher, SMALL)
    for caller, listener in ((machine, teacher), (teacher, machine)):
        async with listening_device(listener.agent) as address:
            transport = PeerTransport(address)
            session = PeerSession(caller.agent, transport, await meet(caller.agent, transport))
            await session.exchange()
            files = {"lecon.html": f"<h1>Du nouveau pour {listener.agent.device.hex()}</h1>".encode()}
            item = (await room.publish(teacher, files)).item
            told = await session.exchange()
            await transport.close()
        assert told.round_trips == 1, "what is small travels with the entry that names it"
        assert await machine.files(item) == files
        assert await agree(room, teacher, machine)


async def test_a_hand_in_reaches_the_teacher_and_its_receipt_comes_back_without_a_server(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, machine)
    hand_in = await room.hand_in(machine, item, WORK)
    await exchange(machine.agent, teacher.agent)
    work = await work_of(teacher, room, hand_in)
    assert not await teacher.agent.missing()
    assert work.author == machine.agent.device


async def test_what_came_from_a_peer_reaches_the_server_through_whoever_reaches_it_first(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    for device in (teacher, machine):
        await device.session.sync()
    item = (await room.publish(teacher, LARGE)).item
    await exchange(teacher.agent, machine.agent)
    assert await unsettled(machine.agent.replica.store)
    await machine.session.sync()
    assert not await unsettled(machine.agent.replica.store)
    assert await room.agree([machine])
    reader = await room.machine()
    await reader.session.sync()
    assert await reader.files(item) == LARGE


async def test_what_a_neighbour_brings_while_a_sync_notes_what_the_server_has_goes_there_too(room: Classroom) -> None:
    agent = (await room.machine()).agent
    store = agent.replica.store
    await store.set_marks(news_marks([room.space], agent.entropy))
    seen = await unsettled(store)
    await store.set_marks({"so that it is asked": b"and not remembered"})
    await asyncio.gather(settle(store, seen), store.set_marks(news_marks([room.space], agent.entropy)))
    assert await unsettled(store)


async def test_a_receipt_of_the_server_comes_back_by_another_machine(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, machine)
    hand_in = await room.hand_in(machine, item, WORK)
    await exchange(machine.agent, teacher.agent)
    await teacher.session.sync()
    await exchange(machine.agent, teacher.agent)
    assert (await work_of(machine, room, hand_in)).at_server


async def test_a_device_that_the_other_has_never_heard_of_introduces_itself(room: Classroom) -> None:
    teacher = await room.teacher()
    await room.publish(teacher, SMALL)
    newcomer = await room.machine()
    await exchange(newcomer.agent, teacher.agent)
    await exchange(teacher.agent, newcomer.agent)
    assert await agree(room, teacher, newcomer)


async def test_machines_of_two_classes_exchange_what_their_school_has_and_no_class(tmp_path: Path) -> None:
    async with classroom(tmp_path, spaces=2) as room:
        first, second = room.territory.classes
        one = await room.device(Role.TEACHER, first, person=room.teacher_person)
        other = await room.device(Role.MACHINE, second)
        await one.session.sync()
        await other.session.sync()
        await room.publish(one, SMALL)
        await exchange(other.agent, one.agent)
        await exchange(one.agent, other.agent)
        assert first not in await other.agent.spaces()
        assert (await other.agent.replica.position(first)).count <= 1, "the grant that proves who the other is"
        assert not (await other.agent.replica.view(first)).roster.persons


# --- who learns nothing -----------------------------------------------------------------------------------------------


async def test_a_stranger_learns_nothing_from_a_listener(room: Classroom) -> None:
    teacher = await room.teacher()
    await teacher.session.sync()
    async with listening_device(teacher.agent) as address:
        transport = PeerTransport(address)
        certificate = await transport.certificate()
        noise = Random(1).randbytes(64)
        school = room.territory.schools[0]
        for hello in (
            introduction([], certificate, b"n" * 16, noise),
            introduction([school, room.territory.id], certificate, b"n" * 16, noise),
            b"\x00" + bytes(300),
        ):
            answer = await transport.post(SYNC_PATH, hello)
            assert answer.status == 421
            assert parse_chain(answer.body) == ()
        await transport.close()


async def test_another_territory_gets_nothing_and_gives_nothing(room: Classroom, tmp_path: Path) -> None:
    teacher = await room.teacher()
    await room.publish(teacher, SMALL)
    async with classroom(tmp_path / "elsewhere", seed=99) as elsewhere:
        stranger = await elsewhere.teacher()
        before = await entries_of(stranger.agent.replica.store)
        with pytest.raises(NoAnswer):
            await exchange(stranger.agent, teacher.agent)
        assert await entries_of(stranger.agent.replica.store) == before


async def test_a_device_that_was_let_go_gets_nothing_from_who_knows_it(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    await exchange(machine.agent, teacher.agent)
    await revoke(room, machine)
    await teacher.session.sync()
    item = (await room.publish(teacher, SMALL)).item
    with pytest.raises(Refused):
        await exchange(machine.agent, teacher.agent)
    assert item not in (await machine.agent.replica.view(room.space)).coursework.items
    with pytest.raises((Refused, NoAnswer)):
        await exchange(teacher.agent, machine.agent)
    assert item not in (await machine.agent.replica.view(room.space)).coursework.items


async def test_a_device_cannot_pass_for_another_by_showing_its_chain(room: Classroom) -> None:
    teacher, machine, caller = await room.teacher(), await room.machine(), await room.machine()
    await caller.session.sync()
    # the machine between has a class in common, and shows the teacher's keys with its own certificate
    teacher.agent.keys = replace(teacher.agent.keys, tls=machine.agent.keys.tls)
    with pytest.raises(PeerFault) as fault:
        await exchange(caller.agent, teacher.agent)
    assert fault.value.code is Code.WRONG_KEY


async def test_a_dialler_hangs_up_when_another_certificate_is_shown(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    async with listening_device(teacher.agent) as address:
        transport = PeerTransport(address, DiallerContext(machine.agent.keys.tls.fingerprint))
        with pytest.raises(NoAnswer):
            await transport.post(SYNC_PATH, b"")
        await transport.close()


async def test_a_listener_speaks_nothing_older_than_tls_1_3(room: Classroom) -> None:
    teacher = await room.teacher()
    async with listening_device(teacher.agent) as address:
        old = DiallerContext(None)
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        transport = PeerTransport(address, old)
        with pytest.raises(NoAnswer):
            await transport.certificate()


async def test_what_a_caller_brings_for_a_class_that_is_not_here_is_left_out(tmp_path: Path) -> None:
    async with classroom(tmp_path, spaces=2) as room:
        first, second = room.territory.classes
        both = await room.device(Role.TEACHER, first, second, person=room.teacher_person)
        one = await room.device(Role.MACHINE, first)
        for device in (both, one):
            await device.session.sync()
        entries = [stored.entry for stored in await both.agent.replica.store.scan(second)]
        async with listening_device(one.agent) as address:
            transport = PeerTransport(address)
            calls = PeerCalls(both.agent, transport, await meet(both.agent, transport))
            answer = await calls.sync(SyncRequest(push=tuple(entries)))
            await transport.close()
        assert second not in await one.agent.replica.store.spaces()
        assert {page.checkpoint.space for page in answer.pages} <= set(await one.agent.spaces())


async def test_secrets_are_ids_of_entries_and_no_public_name(room: Classroom) -> None:
    teacher = await room.teacher()
    secrets = await secrets_of(teacher.agent)
    assert set(secrets.values()) == {room.space, room.territory.schools[0]}
    assert not set(secrets) & {room.territory.id, room.territory.schools[0]}


async def test_a_teachers_laptop_carries_work_health_and_receipts_between_school_and_home(room: Classroom) -> None:
    teacher, machine, other = await room.teacher(), await room.machine(), await room.machine()
    task = await assignment(room, teacher, machine, other)
    await machine.agent.replica.store.set_marks(LastSync(None, reachable=False, skew_ms=0).marks())
    work = await room.hand_in(machine, task, WORK)
    await exchange(machine.agent, other.agent)
    assert not await other.agent.replica.store.registers(RegisterKind.HEALTH), "a pupils' PC hears of nobody's health"
    await exchange(machine.agent, teacher.agent)

    room.territory.clock.advance(8 * 3600 * 1000)
    await teacher.session.sync()  # at home, in the evening
    server = room.territory.replica
    assert (await server.view(room.space)).coursework.hand_ins[work].at_server
    reports = {row.device: row for row in await server.store.registers(RegisterKind.HEALTH)}
    said = Health.parse(stored_register(reports[machine.agent.device].data).body)
    assert (said.name, said.backlog_entries > 0) == (machine.agent.enrolment.device_name, True)

    room.territory.clock.advance(10 * 3600 * 1000)
    await exchange(machine.agent, teacher.agent)  # next morning
    assert (await work_of(machine, room, work)).at_server


async def test_work_that_waited_in_an_outage_is_not_shown_as_waiting_once_the_machine_itself_calls_the_server(
    room: Classroom,
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    await machine.session.sync()
    assert await _backlog_at_server(room, machine) == 0
    await machine.agent.replica.store.set_marks(LastSync(None, reachable=False, skew_ms=0).marks())
    await room.hand_in(machine, task, WORK)
    await exchange(machine.agent, teacher.agent)
    room.territory.clock.advance(60_000)
    await teacher.session.sync()
    assert await _backlog_at_server(room, machine) > 0
    room.territory.clock.advance(60_000)
    await machine.session.sync()
    assert await _backlog_at_server(room, machine) == 0


async def _backlog_at_server(room: Classroom, machine: Device) -> int:
    reports = {row.device: row for row in await room.territory.replica.store.registers(RegisterKind.HEALTH)}
    return Health.parse(stored_register(reports[machine.agent.device].data).body).backlog_entries


async def test_words_as_large_as_they_may_be_reach_a_neighbour_in_messages_that_it_takes(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, SMALL)).item
    await exchange(teacher.agent, machine.agent)
    agent = teacher.agent
    (said,) = [each for each in await agent.replica.store.authored(room.space, agent.device) if each.id == item]
    payload = said.payload or b""
    fields = decode(payload, max_bytes=MAX_PAYLOAD_BYTES)
    assert isinstance(fields, dict)
    for _ in range(2 * MAX_REQUEST_BYTES // MAX_PAYLOAD_BYTES):
        large = encode({**fields, "zz": agent.entropy(MAX_PAYLOAD_BYTES - len(payload) - 16)})
        await agent.write(Draft(room.space, Kind(said.header.kind), said.header.grant, large))
    for _ in range(2):
        await exchange(teacher.agent, machine.agent)
    assert await agree(room, teacher, machine)
