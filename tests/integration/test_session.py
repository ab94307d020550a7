"""Syncs between agents and a server: what arrives, what it costs, what happens when something fails."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from itertools import cycle, repeat
from pathlib import Path
from random import Random

import pytest

from protocol.checkpoint import Checkpoint
from protocol.coursework import HandInState, Work
from protocol.entry import Entry, Kind, compose
from protocol.errors import Code, LocalFailure, NoAnswer, PeerFault, Refused
from protocol.identity import SigningKey
from protocol.replica.holdings import Need
from protocol.roles import PersonRole, Role
from protocol.structure import Grant, Revocation
from protocol.wire import SYNC_PATH
from protocol.work import ItemKind
from sync_agent.app import REFUSED_MARKS
from sync_agent.cursors import cursor_marks
from sync_agent.health import LastSync
from sync_agent.session import Session
from sync_agent.transport import HttpTransport
from tests.harness.classroom import Classroom, Device, Files, classroom
from tests.harness.territory import Territory, new_device
from tests.harness.wire import Faults, Faulty, Frontage, MemoryTransport, serve

SMALL: Files = {"lecon.html": b"<h1>Le cycle de l'eau</h1>", "notes/memo.txt": b"un deux trois"}
LARGE: Files = {"image.png": Random(1).randbytes(70_000), "lecon.html": b"<h1>image</h1>"}
WORK: Files = {"reponse.odt": b"ma reponse " * 100}


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path, faulty) as made:
        yield made


def faulty(frontage: Frontage) -> Faulty:
    return Faulty(MemoryTransport(frontage))


async def work_of(device: Device, room: Classroom, hand_in: bytes) -> Work:
    return (await device.agent.replica.view(room.space)).coursework.hand_ins[hand_in]


async def assignment(room: Classroom, teacher: Device, *others: Device) -> bytes:
    """An assignment that the teacher has published and the others have fetched."""
    item = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
    for device in (teacher, *others):
        await device.session.sync()
    return item


# --- what arrives -----------------------------------------------------------------------------------------------------


async def test_what_a_teacher_publishes_reaches_a_pupils_machine_byte_for_byte(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    for files in (SMALL, LARGE):
        item = (await room.publish(teacher, files)).item
        await teacher.session.sync()
        await machine.session.sync()
        assert await machine.files(item) == files
    assert await room.agree()


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
    late = await room.teacher()
    await late.session.sync()
    await machine.session.sync()
    await late.session.sync()
    key = late.agent.person_key()
    assert key is not None
    assert key.public in (await work_of(late, room, hand_in)).readers


# --- what it costs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 6])
async def test_a_sync_with_nothing_new_is_one_request_below_1_kb_of_http(tmp_path: Path, classes: int) -> None:
    async with classroom(tmp_path, spaces=classes) as room, serve(room.frontage) as url:
        machine = await room.device(Role.MACHINE, *room.territory.classes, way=lambda _: HttpTransport(url))
        await machine.session.sync()
        result = await machine.session.sync()
        assert len(await machine.agent.spaces()) == classes + 2
        assert (result.received, result.sent, result.round_trips) == (0, 0, 1)
        assert result.bytes_in + result.bytes_out < 1_000


async def test_a_quiet_sync_does_not_write_to_the_disk_more_than_once_a_minute(room: Classroom) -> None:
    machine = await room.machine()
    await machine.session.sync()
    before = await machine.agent.replica.store.marks("")
    room.territory.clock.advance(30_000)
    await machine.session.sync(spare_disk=True)
    assert await machine.agent.replica.store.marks("") == before
    room.territory.clock.advance(30_000)
    await machine.session.sync(spare_disk=True)
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


# --- interruptions ----------------------------------------------------------------------------------------------------


async def everything(room: Classroom) -> tuple[Device, Device, bytes, bytes]:
    """A teacher has published much, a pupil has handed in much, nothing of it has been sent."""
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    item = (await room.publish(teacher, LARGE)).item
    hand_in = await room.hand_in(machine, task, LARGE)
    return teacher, machine, item, hand_in


async def syncs(device: Device) -> bool:
    try:
        await device.session.sync()
    except NoAnswer:
        return False
    return True


async def converge(*devices: Device) -> None:
    for _ in range(2):
        for device in devices:
            device.faulty.faults = Faults()
            await device.session.sync()


@pytest.mark.parametrize("direction", ["out_bytes", "in_bytes"])
async def test_a_sync_cut_after_any_number_of_bytes_goes_on_to_the_same_state(tmp_path: Path, direction: str) -> None:
    passed = 0
    for number in range(1_000):
        async with classroom(tmp_path / str(number), faulty) as room:
            teacher, machine, item, hand_in = await everything(room)
            complete = True
            for device in (teacher, machine, teacher):
                setattr(device.faulty.faults, direction, passed)
                complete = await syncs(device) and complete
            await converge(teacher, machine)
            assert await room.agree(), passed
            assert await machine.files(item) == LARGE, passed
            assert (await work_of(teacher, room, hand_in)).state is HandInState.SERVER, passed
            assert await machine.agent.replica.store.unsent_totals() == (0, 0), passed
        if complete:
            return
        passed += 400 if passed < 2_800 else 14_000
    pytest.fail("no number of bytes was enough")


async def test_content_that_was_cut_is_not_sent_twice(room: Classroom) -> None:
    teacher = await room.teacher()
    await teacher.session.sync()
    await room.publish(teacher, {"film.mp4": Random(2).randbytes(400_000)})
    teacher.faulty.faults.out_bytes = 300_000
    assert not await syncs(teacher)
    teacher.faulty.faults = Faults()
    result = await teacher.session.sync()
    assert 100_000 < result.bytes_out < 200_000


async def test_content_that_was_cut_on_its_way_down_is_not_fetched_twice(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    film = {"film.mp4": Random(2).randbytes(400_000)}
    item = (await room.publish(teacher, film)).item
    await teacher.session.sync()
    machine.faulty.faults.in_bytes = 300_000
    assert not await syncs(machine)
    machine.faulty.faults = Faults()
    result = await machine.session.sync()
    assert 90_000 < result.bytes_in < 200_000
    assert await machine.files(item) == film


async def test_content_that_is_cut_once_is_gone_on_with_in_the_same_sync(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    await converge(teacher, machine)
    film = {"film.mp4": Random(2).randbytes(400_000)}
    item = (await room.publish(teacher, film)).item
    for device in (teacher, machine):
        device.faulty.faults.hiccup = 300_000
        before = device.way.traffic.copy()
        await device.session.sync()
        moved = device.way.traffic.since(before)
        assert 400_000 < moved.bytes_in + moved.bytes_out < 500_000
    assert await machine.files(item) == film


async def test_lost_answers_change_nothing_in_the_end(tmp_path: Path) -> None:
    for lost in range(1, 4):
        async with classroom(tmp_path / str(lost), faulty) as room:
            teacher, machine, item, hand_in = await everything(room)
            for device in (teacher, machine):
                device.faulty.faults.lose_answers = lost
                for _ in range(lost):
                    assert not await syncs(device)
            await converge(teacher, machine)
            assert await room.agree()
            assert await machine.files(item) == LARGE
            assert (await work_of(teacher, room, hand_in)).state is HandInState.SERVER


async def test_requests_that_arrive_twice_change_nothing(room: Classroom) -> None:
    teacher, machine, item, hand_in = await everything(room)
    for device in (teacher, machine, teacher, machine):
        device.faulty.faults.double = True
        await device.session.sync()
    assert await room.agree()
    assert await machine.files(item) == LARGE
    receipts = [
        entry
        for entry in await room.territory.replica.store.scan_kinds([Kind.RECEIPT_SERVER])
        if entry.header.target == hand_in
    ]
    assert len(receipts) == 1


async def test_a_sync_without_a_server_keeps_the_work_and_says_so(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, machine)
    await room.hand_in(machine, item, WORK)
    machine.faulty.faults.down = True
    with pytest.raises(NoAnswer) as raised:
        await machine.session.sync()
    assert raised.value.exit_status == 3
    last = await LastSync.read(machine.agent.replica.store)
    assert last is not None
    assert not last.reachable
    assert last.at_ms == room.territory.clock()
    assert (await machine.agent.replica.store.unsent_totals())[0] == 2


async def test_a_busy_server_says_when_to_come_back(room: Classroom) -> None:
    machine = await room.machine()
    room.frontage.busy_s = 7
    with pytest.raises(NoAnswer) as raised:
        await machine.session.sync()
    assert raised.value.code is Code.BUSY
    assert raised.value.facts["retry_after_s"] == 7


# --- servers that forget ----------------------------------------------------------------------------------------------


async def test_a_server_restored_from_an_old_image_gets_everything_back(room: Classroom, tmp_path: Path) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    await room.territory.close()
    shutil.copytree(tmp_path / "server", tmp_path / "image")
    await room.restart_server(tmp_path / "server")
    item = (await room.publish(teacher, LARGE)).item
    hand_in = await room.hand_in(machine, task, WORK)
    await converge(teacher, machine)
    assert await room.agree()

    image = await Territory.open(tmp_path / "image", room.territory.keys, seed=9, clock=room.territory.clock)
    await image.person("Tom", PersonRole.PUPIL, room.space)
    await room.replace_server(image)
    await converge(teacher, machine)
    assert await room.agree()
    stream = (await work_of(machine, room, hand_in)).record.content.stream
    assert await image.holdings.is_complete(Need(room.space, stream, sealed=True))
    assert await machine.files(item) == LARGE
    assert all([await image.holdings.is_complete(need) for need in await needs_of(teacher, room)])


async def needs_of(device: Device, room: Classroom) -> list[Need]:
    return await device.agent.needs(room.space, (await device.agent.spaces())[room.space])


async def test_an_image_without_the_class_learns_of_it_again_from_its_devices(room: Classroom, tmp_path: Path) -> None:
    await room.territory.close()
    shutil.copytree(tmp_path / "server", tmp_path / "image")
    await room.restart_server(tmp_path / "server")
    new = await room.territory.classroom("CM2", room.territory.replica.door.parent(room.space))
    machine = await room.device(Role.MACHINE, new)
    await machine.session.sync()
    image = await Territory.open(tmp_path / "image", room.territory.keys, seed=9, clock=room.territory.clock)
    await room.replace_server(image)
    await converge(machine)
    assert new in await image.replica.readable(machine.agent.device)
    assert await image.replica.fingerprint(new) == await machine.agent.replica.fingerprint(new)


async def test_a_grant_that_an_old_image_lacks_is_shown_to_it(room: Classroom, tmp_path: Path) -> None:
    second = await room.territory.classroom("CM2")
    machine = await room.machine()
    await machine.session.sync()
    await room.territory.close()
    shutil.copytree(tmp_path / "server", tmp_path / "image")
    await room.restart_server(tmp_path / "server")
    await room.territory.let_in(machine.agent.keys, Role.MACHINE, second)
    await machine.session.sync()
    await room.restart_server(tmp_path / "image")
    await machine.session.sync()
    assert second in await room.territory.replica.readable(machine.agent.device)


@pytest.mark.parametrize("has_synced", [True, False])
async def test_a_device_of_very_many_classes_brings_them_all_to_a_server_born_again(
    room: Classroom, tmp_path: Path, has_synced: bool
) -> None:
    for number in range(35):
        await room.territory.classroom(f"Groupe {number}")
    machine = await room.device(Role.MACHINE, *room.territory.classes)
    if has_synced:
        await machine.session.sync()
    room.territory.clock.advance(60_000)
    reborn = await room.territory.reborn(tmp_path / "reborn")
    await room.replace_server(reborn)
    await machine.session.sync()
    for space in await machine.agent.spaces():
        assert await reborn.replica.fingerprint(space) == await machine.agent.replica.fingerprint(space)


async def test_a_server_born_again_with_nothing_is_filled_again_with_entries_and_content(
    room: Classroom, tmp_path: Path
) -> None:
    teacher, machine, item, hand_in = await everything(room)
    await converge(teacher, machine)
    room.territory.clock.advance(60_000)
    reborn = await room.territory.reborn(tmp_path / "reborn")
    await room.replace_server(reborn)
    await converge(machine, teacher)
    assert await room.agree()
    for need in await needs_of(teacher, room):
        assert await reborn.holdings.is_complete(need)
    assert (await reborn.replica.view(room.space)).coursework.hand_ins[hand_in].at_server
    assert len(await reborn.replica.store.registers()) == 2

    newcomer = await room.machine()
    await newcomer.session.sync()
    assert await newcomer.files(item) == LARGE


async def test_a_reborn_server_that_is_lost_again_half_filled_is_filled_all_the_same(
    room: Classroom, tmp_path: Path
) -> None:
    teacher, machine, _, _ = await everything(room)
    await converge(teacher, machine)
    for number, passed in enumerate((2_000, 6_000, 20_000)):
        room.territory.clock.advance(60_000)
        await room.replace_server(await room.territory.reborn(tmp_path / f"reborn-{number}"))
        for device in (teacher, machine):
            device.faulty.faults.out_bytes = passed
            await syncs(device)
        await converge(teacher, machine)
        assert await room.agree()


async def test_a_server_that_lost_content_gets_it_from_any_device_that_holds_it(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    await room.publish(teacher, LARGE)
    await converge(teacher, machine)
    server = room.territory.replica.content
    needs = await needs_of(machine, room)
    for pack in (room.folder / "server" / "packs").rglob("*.pack"):
        pack.write_bytes(bytes(pack.stat().st_size))
    assert await server.verify()
    await room.territory.holdings.forget()
    assert not await room.territory.holdings.is_complete(needs[0])
    await machine.session.sync()
    for need in needs:
        assert await room.territory.holdings.is_complete(need)
    assert (await machine.session.sync()).round_trips == 1


async def test_a_machine_that_forgot_gets_its_own_work_back(room: Classroom, tmp_path: Path) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    await machine.agent.close()
    shutil.copytree(tmp_path / "device-2", tmp_path / "frozen")
    await reopen(room, machine, tmp_path / "device-2")
    hand_in = await room.hand_in(machine, task, WORK)
    await machine.session.sync()
    await machine.agent.close()
    await reopen(room, machine, tmp_path / "frozen")
    await machine.session.sync()
    assert (await work_of(machine, room, hand_in)).state is HandInState.SERVER
    assert await room.agree([machine])


async def reopen(room: Classroom, device: Device, folder: Path) -> None:
    device.agent = await device.agent.open(folder, now_ms=room.territory.clock, entropy=Random(77).randbytes)
    device.session = Session(device.agent, device.way)


async def test_a_difference_that_cursors_hide_is_noticed_and_mended(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    await teacher.session.sync()
    await machine.session.sync()
    await room.territory.person("Tom", PersonRole.PUPIL, room.space)
    # The cursor is moved past an entry that never arrived.
    position = await room.territory.replica.position(room.space)
    skipped = Checkpoint(room.space, position.count, position.chain, bytes(16))
    await machine.agent.replica.store.set_marks(cursor_marks(skipped))
    await machine.session.sync()
    assert not await room.agree([machine])
    await room.territory.person("Zoé", PersonRole.PUPIL, room.space)
    await machine.session.sync()
    assert await room.agree([machine])


# --- strangers --------------------------------------------------------------------------------------------------------


async def test_a_server_that_does_not_know_a_device_is_shown_its_grants(room: Classroom, tmp_path: Path) -> None:
    machine = await room.machine()
    room.territory.clock.advance(60_000)
    reborn = await room.territory.reborn(tmp_path / "reborn")
    await room.replace_server(reborn)
    await machine.session.sync()
    assert room.space in await reborn.replica.readable(machine.agent.device)


async def test_a_server_of_another_territory_is_given_nothing(room: Classroom, tmp_path: Path) -> None:
    machine = await room.machine()
    await machine.session.sync()
    other = await Territory.create(tmp_path / "other", seed=99, clock=room.territory.clock)
    await room.replace_server(other)
    with pytest.raises(Refused) as raised:
        await machine.session.sync()
    assert raised.value.code is Code.WRONG_TERRITORY
    assert await other.replica.store.spaces() == {other.id: 3}


async def test_an_older_server_than_a_device_has_seen_is_refused(room: Classroom, tmp_path: Path) -> None:
    machine = await room.machine()
    await machine.session.sync()
    old = room.territory.keys
    await room.territory.close()
    shutil.copytree(tmp_path / "server", tmp_path / "old")
    room.territory.clock.advance(60_000)
    reborn = await room.territory.reborn(tmp_path / "reborn")
    await room.replace_server(reborn)
    await machine.session.sync()
    await room.restart_server(tmp_path / "old", old)
    with pytest.raises(PeerFault) as raised:
        await machine.session.sync()
    assert raised.value.code is Code.WRONG_KEY
    assert "older" in raised.value.message


async def test_a_device_whose_access_was_withdrawn_is_told_so(room: Classroom) -> None:
    machine = await room.machine()
    await machine.session.sync()
    await room.territory.say(room.territory.id, Kind.REVOKE, Revocation(machine.agent.device, ()).encode())
    with pytest.raises(Refused) as raised:
        await machine.session.sync()
    assert raised.value.code is Code.REVOKED


async def test_a_class_that_was_closed_to_a_device_costs_no_further_requests(room: Classroom) -> None:
    other = await room.territory.classroom("CM2")
    machine = await room.device(Role.MACHINE, room.space, other)
    await machine.session.sync()
    await room.territory.say(other, Kind.REVOKE, Revocation(machine.agent.device, ()).encode())
    await machine.session.sync()
    assert (await machine.session.sync()).round_trips == 1
    assert await room.agree()


# --- entries that do not get in ---------------------------------------------------------------------------------------


async def forged(room: Classroom, grant: bytes | None) -> bytes:
    """An entry in nobody's name, put into the first device's outbox past its own door."""
    entry = compose(
        author=SigningKey(bytes(range(32))),
        space=room.space,
        kind=Kind.HAND_IN,
        grant=grant,
        at=room.territory.clock() << 16,
        payload=b"\x80",
        salt=bytes(16),
    )
    await room.devices[0].agent.replica.store.append([entry], unsent=True)
    return entry.id


async def test_an_entry_that_waits_at_the_server_stays_here_and_is_not_sent_with_every_sync(room: Classroom) -> None:
    machine = await room.machine()
    await machine.session.sync()
    waiting = await forged(room, bytes(32))
    first = await machine.session.sync()
    assert first.sent == 0
    await machine.session.sync()  # tells the health report's new backlog
    assert (await machine.session.sync()).bytes_out < first.bytes_out - 150
    assert [entry.id for entry in await machine.agent.replica.store.unsent(1_000_000)] == [waiting]
    room.territory.clock.advance(61_000)
    assert (await machine.session.sync()).bytes_out >= first.bytes_out - 8


async def test_an_entry_that_waited_and_got_in_by_itself_is_not_sent_again(room: Classroom) -> None:
    machine = await room.machine()
    await machine.session.sync()
    keys = new_device(Random(50).randbytes)
    grant = Grant(keys.signing.public, keys.agreement.public, None, Role.MACHINE, None, None)

    def say(author: SigningKey, kind: Kind, under: bytes, payload: bytes) -> Entry:
        at = room.territory.clock() << 16
        return compose(author=author, space=room.space, kind=kind, grant=under, at=at, payload=payload, salt=bytes(16))

    letting_in = say(room.territory.keys.signing, Kind.GRANT, room.territory.certificate.id, grant.encode())
    written = say(keys.signing, Kind.RECEIPT_SAFE, letting_in.id, b"\x80")
    here = machine.agent.replica
    await here.admit([letting_in], source=bytes(32), now_ms=room.territory.clock())
    await here.admit([written], source=bytes(32), now_ms=room.territory.clock(), unsent=True)
    await machine.session.sync()
    assert await here.store.unsent(1_000) == [written]
    await room.territory.replica.admit([letting_in], source=bytes(32), now_ms=room.territory.clock())
    result = await machine.session.sync()
    assert await here.store.unsent(1_000) == []
    assert result.sent == 0
    assert await room.agree()


async def test_an_entry_that_is_refused_leaves_the_outbox_and_is_noted(room: Classroom) -> None:
    machine = await room.machine()
    await machine.session.sync()
    refused = await forged(room, room.territory.certificate.id)
    await machine.session.sync()
    store = machine.agent.replica.store
    assert await store.unsent(1_000_000) == []
    assert await store.mark(f"{REFUSED_MARKS}{refused.hex()}") == Code.FOREIGN_GRANT.encode()
    calls: list[str] = []
    machine.faulty.faults.on_post = calls.append
    await room.territory.person("Tom", PersonRole.PUPIL, room.space)
    await machine.session.sync()
    assert calls == [SYNC_PATH]


# --- content that does not get here -----------------------------------------------------------------------------------


class Meddling(MemoryTransport):
    """A way on which the next packs arrive with a wrong byte, or links have expired."""

    def __init__(self, frontage: Frontage) -> None:
        super().__init__(frontage)
        self.spoil = 0
        self.expire: Iterator[bool] = repeat(False)
        self.fetched = 0

    async def fetch(self, capability: str, start: int) -> AsyncGenerator[bytes, None]:
        self.fetched += 1
        if next(self.expire, False):
            raise PeerFault(Code.BAD_CAPABILITY, "expired")
        spoil, self.spoil = self.spoil > 0, max(0, self.spoil - 1)
        async for piece in super().fetch(capability, start):
            yield bytes([piece[0] ^ 1]) + piece[1:] if spoil else piece


@pytest.fixture
async def meddled(room: Classroom) -> tuple[Device, Meddling, bytes]:
    teacher = await room.teacher()
    item = (await room.publish(teacher, LARGE)).item
    await teacher.session.sync()
    machine = await room.device(Role.MACHINE, way=Meddling)
    assert isinstance(machine.way, Meddling)
    return machine, machine.way, item


async def test_a_pack_with_a_wrong_byte_is_thrown_away_and_fetched_once_more(
    meddled: tuple[Device, Meddling, bytes],
) -> None:
    machine, way, item = meddled
    way.spoil = 1
    await machine.session.sync()
    assert way.fetched == 2
    assert await machine.files(item) == LARGE


async def test_a_pack_that_is_always_wrong_is_given_up_and_said(meddled: tuple[Device, Meddling, bytes]) -> None:
    machine, way, _ = meddled
    way.spoil = 1_000
    with pytest.raises(PeerFault) as raised:
        await machine.session.sync()
    assert raised.value.exit_status == 1
    assert way.fetched == 2
    assert await machine.agent.missing()
    way.spoil = 0
    machine.session = Session(machine.agent, way)
    await machine.session.sync()
    assert not await machine.agent.missing()


async def test_a_link_that_has_expired_is_asked_for_again(meddled: tuple[Device, Meddling, bytes]) -> None:
    machine, way, item = meddled
    way.expire = iter([True])
    await machine.session.sync()
    assert await machine.files(item) == LARGE


async def test_links_are_asked_for_again_as_long_as_some_content_comes(room: Classroom) -> None:
    teacher = await room.teacher()
    for number in range(6):
        await room.publish(teacher, {f"{number}.bin": Random(number).randbytes(70_000)})
    await teacher.session.sync()
    machine = await room.device(Role.MACHINE, way=Meddling)
    assert isinstance(machine.way, Meddling)
    machine.way.expire = cycle([True, False, True])
    await machine.session.sync()
    assert not await machine.agent.missing()


async def test_links_that_always_expire_end_the_sync(meddled: tuple[Device, Meddling, bytes]) -> None:
    machine, way, _ = meddled
    way.expire = repeat(True)
    await machine.session.sync()
    assert await machine.agent.missing()
    assert way.fetched < 5


async def test_a_full_disk_does_not_keep_work_from_leaving(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    await room.publish(teacher, LARGE)
    await teacher.session.sync()
    hand_in = await room.hand_in(machine, task, LARGE)

    async def full(*_: object) -> int:
        raise LocalFailure(Code.DISK_FULL, "the disk is full")

    monkeypatch.setattr(machine.agent.replica.content, "append_part", full)
    with pytest.raises(LocalFailure) as raised:
        await machine.session.sync()
    assert raised.value.code is Code.DISK_FULL
    assert (await work_of(machine, room, hand_in)).state is HandInState.SERVER
