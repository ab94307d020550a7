"""Syncs that are cut, lost, doubled, refused or spoiled: what they leave, and how the next one goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from itertools import cycle, repeat
from pathlib import Path
from random import Random

import pytest

from protocol.errors import Code, LocalFailure, NoAnswer, PeerFault
from protocol.folds.coursework import HandInState
from protocol.model.entry import Kind
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.health import LastSync
from sync_agent.sync.session import Session
from tests.harness.classroom import (
    LARGE,
    WORK,
    Classroom,
    Device,
    assignment,
    classroom,
    converge,
    everything,
    faulty,
    syncs,
    work_of,
)
from tests.harness.wire import Faults, Frontage, MemoryTransport


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path, faulty) as made:
        yield made


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


class Killed(BaseException):
    """The program ended there."""


async def test_a_set_that_differs_is_made_good_though_the_program_was_killed_as_it_came_to_see_that(
    room: Classroom,
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    await machine.session.sync()
    await room.publish(teacher, WORK)
    alone = [each.entry for each in await teacher.agent.replica.store.scan(room.space)]
    # the server that had sent them was burnt, and made anew without them
    await machine.agent.replica.admit(alone, source=b"the server before", now_ms=machine.agent.now_ms())
    await room.territory.person("M. Durand", PersonRole.TEACHER, room.space)

    def killed(*_: object) -> None:
        raise Killed

    machine.agent.replica.on_news = killed
    with pytest.raises(Killed):
        await machine.session.sync()
    folder = machine.agent.folder
    await machine.agent.close()
    machine.agent = await Agent.open(folder, now_ms=room.territory.clock, entropy=Random(1).randbytes)
    machine.session = Session(machine.agent, machine.way)
    await machine.session.sync()
    assert await room.territory.replica.fingerprint(room.space) == await machine.agent.replica.fingerprint(room.space)


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


# --- content that does not get here -----------------------------------------------------------------------------------


class Meddling(MemoryTransport):
    """A way on which the next packs arrive with a wrong byte, or links have expired."""

    def __init__(self, frontage: Frontage) -> None:
        super().__init__(frontage)
        self.spoil = 0
        self.expire: Iterator[bool] = repeat(False)
        self.reason = Code.BAD_CAPABILITY
        self.fetched = 0

    async def fetch(self, capability: str, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
        self.fetched += 1
        if next(self.expire, False):
            raise PeerFault(self.reason, "expired, or gone")
        spoil, self.spoil = self.spoil > 0, max(0, self.spoil - 1)
        async for piece in super().fetch(capability, start, length):
            yield bytes([piece[0] ^ 1]) + piece[1:] if spoil else piece


class Worn(MemoryTransport):
    """A source of which some bytes of whatever pack are always wrong."""

    def __init__(self, frontage: Frontage) -> None:
        super().__init__(frontage)
        self.wrong: set[int] = set()
        self.came = 0

    async def fetch(self, capability: str, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
        async for piece in super().fetch(capability, start, length):
            spoiled = bytearray(piece)
            for at in self.wrong & set(range(start, start + len(piece))):
                spoiled[at - start] ^= 1
            yield bytes(spoiled)
            start += len(piece)
            self.came += len(piece)


async def test_a_frame_that_one_source_has_wrong_is_fetched_from_another_and_nothing_else(room: Classroom) -> None:
    teacher = await room.teacher()
    files = {"video.bin": Random(8).randbytes(9_000_000)}
    item = (await room.publish(teacher, files)).item
    await teacher.session.sync()
    machine = await room.device(Role.MACHINE, way=Worn)
    assert isinstance(machine.way, Worn)
    machine.way.wrong = {5_000_000, 5_000_001}
    with pytest.raises(PeerFault):
        await machine.session.sync()
    assert await machine.agent.missing()
    assert machine.way.came < 9_000_000 + 3 * 2_500_000
    good = Worn(room.frontage)
    machine.session = Session(machine.agent, good)
    await machine.session.sync()
    assert good.came < 2_500_000
    assert await machine.files(item) == files


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


@pytest.mark.parametrize("reason", [Code.BAD_CAPABILITY, Code.INCOMPLETE])
async def test_a_link_that_has_expired_is_asked_for_again(
    meddled: tuple[Device, Meddling, bytes], reason: Code
) -> None:
    machine, way, item = meddled
    way.reason = reason
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
