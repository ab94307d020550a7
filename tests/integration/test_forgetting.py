"""Servers that forget or are strangers, and machines that forget: what comes back, and what is not given away."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from protocol.errors import Code, PeerFault, Refused
from protocol.folds.coursework import HandInState
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.reconcile.checkpoint import Checkpoint
from protocol.replica.content.holdings import Need
from protocol.roles import PersonRole, Role
from sync_agent.health import LastSync
from sync_agent.sync.cursors import cursor_marks
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
    needs_of,
    syncs,
    work_of,
)
from tests.harness.territory import Territory


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path, faulty) as made:
        yield made


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
    assert not await room.agree([machine])
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
    last = await LastSync.read(machine.agent.replica.store)
    assert last is not None
    assert not last.reachable, "what answers there is not the server"
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


async def test_a_class_that_was_closed_to_a_device_costs_one_further_request_a_day(room: Classroom) -> None:
    other = await room.territory.classroom("CM2")
    machine = await room.device(Role.MACHINE, room.space, other)
    await machine.session.sync()
    await room.territory.say(other, Kind.REVOKE, Revocation(machine.agent.device, ()).encode())
    await machine.session.sync()
    assert [(await machine.session.sync()).round_trips for _ in range(3)] == [2, 1, 1]
    assert await room.agree()
