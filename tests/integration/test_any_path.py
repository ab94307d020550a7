"""Whatever the way and the order: server, neighbour, disk, a server made anew; in the end all hold the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from protocol.errors import NoAnswer, RelaisError
from protocol.folds.coursework import HandInState
from protocol.messages.wire import RECONCILE_PATH
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.model.work import ItemKind
from protocol.replica.at_work.keyring import Keyring
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.holdings import Holdings
from protocol.roles import Role
from sync_agent.lan.exchange.meeting import meet
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.transport.answers import Response
from tests.harness.classroom import LARGE, SMALL, WORK, Classroom, Device, work_of
from tests.harness.commands import Desk
from tests.harness.couriers import bring, export, know_keys, tend_keys
from tests.harness.lan import exchange, is_told_in_the_middle, listening_device
from tests.harness.wire import cut

pytestmark = pytest.mark.usefixtures("space_keys")


async def prints(device: Device, room: Classroom) -> list[bytes]:
    line = room.territory.replica.door.lineage(room.space)
    return [await device.agent.replica.fingerprint(space) for space in line]


async def lose_content(replica: Replica, holdings: Holdings) -> None:
    """All of it."""
    await replica.content.drop(list(await replica.content.pack_sizes()))
    await holdings.forget()


async def through_disks(disk: Path, *devices: Device) -> None:
    """The disk goes round twice: what the last one adds, the first one gets."""
    for _ in range(2):
        for device in devices:
            try:
                await bring(device, disk)
            except RelaisError:
                assert not disk.exists()  # noqa: ASYNC240
            await export(device, disk)


@pytest.mark.parametrize("seed", range(4))
async def test_any_path_in_any_order_several_times_or_partly_leads_to_the_same(
    room: Classroom, tmp_path: Path, seed: int
) -> None:
    chance = Random(seed)
    devices = [await room.teacher(), await room.machine(), await room.machine()]
    teacher, *machines = devices
    await know_keys(room, *devices)
    task = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
    disks = [tmp_path / "disk 1", tmp_path / "disk 2"]
    handed: list[bytes] = []

    async def step(name: str, device: Device) -> None:
        match name:
            case "publish":
                await room.publish(teacher, {"a.bin": chance.randbytes(chance.choice((100, 90_000)))})
            case "hand in":
                machine = chance.choice(machines)
                if task in (await machine.agent.replica.view(room.space)).coursework.items:
                    handed.append(await room.hand_in(machine, task, WORK))
            case "export":
                await export(device, chance.choice(disks))
            case "import":
                disk = chance.choice(disks)
                if disk.exists():
                    await bring(device, disk)
            case "neighbour":
                await exchange(device.agent, chance.choice([other for other in devices if other is not device]).agent)
            case "server":
                await device.session.sync()

    for _ in range(24):
        await step(
            chance.choice(("publish", "hand in", "export", "export", "import", "import", "neighbour", "server")),
            chance.choice(devices),
        )
    # without any server: two rounds of one disk
    await through_disks(disks[0], *devices)
    assert len({tuple(await prints(device, room)) for device in devices}) == 1
    assert await teacher.agent.missing() == []
    # one of them, whichever, tells the server all
    await chance.choice(devices).session.sync()
    for device in devices * 2:
        await device.session.sync()
    assert await room.agree()
    for hand_in in handed:
        assert (await work_of(teacher, room, hand_in)).state is HandInState.SERVER


async def test_a_server_made_anew_gets_from_each_device_what_that_one_alone_holds(
    room: Classroom, tmp_path: Path
) -> None:
    teacher, one, other, lost = await room.teacher(), await room.machine(), await room.machine(), await room.teacher()
    await know_keys(room, teacher, one, other, lost)
    # a lesson whose publisher never comes back, which one machine alone has fetched
    orphan = (await room.publish(lost, LARGE)).item
    await lost.session.sync()
    await other.session.sync()
    # a work with the receipt of the server that is about to burn, which its author and no teacher holds
    task = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
    await teacher.session.sync()
    await one.session.sync()
    hand_in = await room.hand_in(one, task, WORK)
    await one.session.sync()
    assert (await work_of(one, room, hand_in)).at_server
    key_before = await one.agent.keyring.current(room.space)
    # … and a lesson that was published while it burnt
    late = (await room.publish(teacher, {"b.bin": Random(2).randbytes(80_000)})).item

    room.territory.clock.ms += 3_600_000
    await room.replace_server(await room.territory.reborn(tmp_path / "reborn"))
    for device in (teacher, one, other) * 2:
        await device.session.sync()
    survivors = [teacher, one, other]
    assert await room.agree(survivors)
    for item in (orphan, task, late):
        assert await teacher.files(item)
    assert (await work_of(teacher, room, hand_in)).at_server, "the receipt outlived the server"
    door = room.territory.replica.door
    assert {device.agent.device for device in (*survivors, lost)} <= {grant.key for grant in door.authorities()}
    # the keys of spaces come back from the devices, so that what is on disks stays readable and nobody is shut out
    keys = Keyring(room.territory.replica, (room.territory.keys.agreement,))
    found = await keys.current(room.space)
    assert found is not None
    assert key_before is not None
    assert found.commitment == key_before.commitment
    await tend_keys(room)
    for space in door.lineage(room.space):
        assert await keys.current(space) is not None
        assert await keys.missing(space) == []


async def test_what_was_just_sent_to_a_server_that_burns_is_sent_to_the_next_one_at_once(
    room: Classroom, tmp_path: Path
) -> None:
    teacher, machine, unlucky = await room.teacher(), await room.machine(), await room.teacher()
    # a lesson that burnt before anybody had it: there is always something that the server lacks
    await room.publish(unlucky, LARGE)
    await lose_content(unlucky.agent.replica, unlucky.agent.holdings)
    await unlucky.session.sync()
    await room.publish(teacher, SMALL)
    await teacher.session.sync()
    await machine.session.sync()
    for replica, holdings in (
        (room.territory.replica, room.territory.holdings),
        (machine.agent.replica, machine.agent.holdings),
    ):
        await lose_content(replica, holdings)
    # the server says that it lacks the lesson, and is sent it once more; then another one hears of it by the machine
    await teacher.session.sync()
    assert await room.territory.replica.content.pack_sizes()
    room.territory.clock.ms += 60_000
    await room.replace_server(await room.territory.reborn(tmp_path / "reborn"))
    await machine.session.sync()
    await teacher.session.sync()
    assert await room.territory.replica.content.pack_sizes()


async def test_a_neighbour_that_tells_of_a_new_server_while_the_old_one_is_asked_stands_in_no_way(
    room: Classroom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    await know_keys(room, teacher, machine)
    room.territory.clock.ms += 3_600_000
    await room.replace_server(await room.territory.reborn(tmp_path / "reborn"))
    await teacher.session.sync()
    is_told_in_the_middle(monkeypatch, machine, teacher)
    await machine.session.sync()
    assert await room.agree()


async def test_nor_does_one_that_tells_of_a_server_which_has_been_made_anew_itself_since(
    room: Classroom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    await know_keys(room, teacher, machine)
    for name in ("second", "third"):
        room.territory.clock.ms += 3_600_000
        await room.replace_server(await room.territory.reborn(tmp_path / name))
        if name == "second":
            await teacher.session.sync()
    is_told_in_the_middle(monkeypatch, machine, teacher)
    for device in (machine, teacher, machine):
        await device.session.sync()
    assert await room.agree()


async def test_a_server_made_anew_is_filled_by_a_disk_and_any_bearer(room: Classroom, tmp_path: Path) -> None:
    teacher, one, bearer = await room.teacher(), await room.machine(), await room.machine()
    await know_keys(room, teacher, one, bearer)
    task = (await room.publish(teacher, LARGE, kind=ItemKind.ASSIGNMENT)).item
    await teacher.session.sync()
    await one.session.sync()
    hand_in = await room.hand_in(one, task, WORK)
    await one.session.sync()
    disk = tmp_path / "disk"
    await export(one, disk)
    room.territory.clock.ms += 3_600_000
    await room.replace_server(await room.territory.reborn(tmp_path / "reborn"))
    # neither the teacher nor the author has a network any more
    await bring(bearer, disk)
    for _ in range(3):
        await bearer.session.sync()
    assert await room.agree([bearer])
    view = (await room.territory.replica.view(room.space)).coursework
    assert view.hand_ins[hand_in].at_server
    assert task in view.items


async def test_a_server_restored_from_an_old_backup_converges_and_forgets_no_receipt(
    room: Classroom, tmp_path: Path
) -> None:
    teacher, one = await room.teacher(), await room.machine()
    await know_keys(room, teacher, one)
    task = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
    for device in (teacher, one):
        await device.session.sync()
    keys = room.territory.keys
    await room.territory.close()
    backup = copy_of(room.folder / "server", tmp_path / "backup")
    await room.restart_server(room.folder / "server", keys)
    hand_in = await room.hand_in(one, task, WORK)
    for device in (one, teacher, one):
        await device.session.sync()
    assert (await work_of(one, room, hand_in)).at_server
    await room.restart_server(backup, keys)
    for device in (one, teacher) * 2:
        await device.session.sync()
    assert await room.agree()
    assert (await work_of(teacher, room, hand_in)).at_server


async def test_what_a_restored_server_took_before_it_was_restored_once_more_is_sent_again(
    room: Classroom, tmp_path: Path
) -> None:
    teacher, other = await room.teacher(), await room.machine()
    await know_keys(room, teacher, other)
    keys = room.territory.keys
    await room.territory.close()
    backup = copy_of(room.folder / "server", tmp_path / "backup")
    await room.restart_server(copy_of(backup, tmp_path / "first"), keys)
    await room.publish(teacher, {"a.txt": b"what the backup lacks"})
    for device in (teacher, other):
        await device.session.sync()
    await room.restart_server(copy_of(backup, tmp_path / "second"), keys)
    item = (await room.publish(teacher, SMALL)).item
    post = teacher.session.transport.post

    async def cut_short(path: str, body: bytes) -> Response:
        if path == RECONCILE_PATH:
            raise cut()
        return await post(path, body)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(teacher.session.transport, "post", cut_short)
        with pytest.raises(NoAnswer):
            await teacher.session.sync()
    assert item in (await room.territory.replica.view(room.space)).coursework.items
    # … and from the one that is restored after that others bring all that the teacher had seen there, in its order
    await room.restart_server(backup, keys)
    for device in (other, teacher, teacher):
        await device.session.sync()
    assert item in (await room.territory.replica.view(room.space)).coursework.items


def copy_of(folder: Path, to: Path) -> Path:

    shutil.copytree(folder, to)
    return to


async def test_what_opens_a_class_to_a_machine_is_found_on_any_page_of_its_neighbour(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    territory = room.territory
    other = await territory.classroom("CM2")
    await territory.crowd(40, other)
    machine, neighbour = await room.machine(), await room.device(Role.MACHINE, room.space, other)
    await machine.session.sync()
    await territory.let_in(machine.agent.keys, Role.MACHINE, other)
    await neighbour.session.sync()
    assert other not in await machine.agent.spaces()
    monkeypatch.setattr("protocol.replica.answering.news.PAGE_BYTES", 3_000)
    await exchange(machine.agent, neighbour.agent)
    theirs = [await device.agent.replica.fingerprint(other) for device in (machine, neighbour)]
    assert theirs[0] == theirs[1] == await territory.replica.fingerprint(other)


async def test_of_a_class_that_is_closed_to_a_neighbour_no_page_is_asked_for_without_end(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has not heard of that yet, and goes on telling what stands there."""
    territory = room.territory
    other = await territory.classroom("CM2")
    await territory.crowd(40, other)
    machine, neighbour = [await room.device(Role.MACHINE, room.space, other) for _ in range(2)]
    await neighbour.session.sync()
    await territory.say(other, Kind.REVOKE, Revocation(neighbour.agent.device, ()).encode())
    await machine.session.sync()
    monkeypatch.setattr("protocol.replica.answering.news.PAGE_BYTES", 3_000)
    monkeypatch.setattr("sync_agent.lan.exchange.peer_session.MAX_REQUESTS", 40)
    assert (await exchange(machine.agent, neighbour.agent)).round_trips < 20


async def test_what_a_computer_shows_of_itself_reaches_the_server_by_the_laptop_that_met_it(room: Classroom) -> None:
    laptop, computer, head = await room.teacher(), await room.machine(), await room.head()
    for device in (laptop, computer, head) * 2:
        await device.session.sync()
    desk = Desk(head.agent)
    made = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
    await desk.ask("grant", device=computer.agent.device.hex(), space=[made])
    await exchange(computer.agent, head.agent)
    async with listening_device(computer.agent) as address:
        transport = PeerTransport(address)
        await meet(laptop.agent, transport)
        await transport.close()
    assert laptop.agent.replica.door.knows_space(bytes.fromhex(made)), "by what proves the computer's right there"
    await laptop.session.sync()
    assert room.territory.replica.door.knows_space(bytes.fromhex(made))
