"""What leaves a courier disk, and when: nothing that somebody may need and that is not elsewhere (docs/adr/0279)."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import pytest

from protocol.errors import Code, LocalFailure
from protocol.model.entry import Kind
from protocol.model.structure import Erasure
from protocol.model.work import ItemKind
from protocol.replica.content.holdings import work_need
from protocol.roles import PersonRole
from sync_agent.courier import removing
from sync_agent.courier.disk import CardsIn, CourierDisk
from sync_agent.courier.survey import Card, survey
from sync_agent.courier.watch import CourierWatch, disks_of
from sync_agent.operations import table
from tests.harness.classroom import SMALL, Classroom, Device, work_of
from tests.harness.commands import Desk
from tests.harness.couriers import a_class, bring, bundles, export, make, overhear
from tests.harness.passing_days import pass_days

pytestmark = pytest.mark.usefixtures("space_keys")

FILM = {"film.bin": Random(4).randbytes(300_000)}


async def a_task(room: Classroom, teacher: Device, *others: Device) -> bytes:
    """Something to hand in, of which all have heard."""
    task = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
    for device in (teacher, *others):
        await device.session.sync()
    return task


async def cards_on(device: Device, folder: Path) -> list[Card]:
    """What a disk holds, as a device reads it."""
    disk = CourierDisk(folder, device.agent.replica.territory)
    return (await survey(device.agent, CardsIn(disk, disk.bundles()))).cards


async def is_whole(device: Device, room: Classroom, work: bytes) -> bool:
    return await device.agent.holdings.is_complete(work_need(await work_of(device, room, work)))


async def test_a_pc_whose_disk_is_full_leaves_a_stick_as_it_is_and_it_shrinks_once_the_work_was_opened(
    room: Classroom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removing, "_WASTE_BYTES", 100_000)
    stick = tmp_path / "media" / "usb" / "Relais"
    make(stick)
    teacher, lea, other = await a_class(room)
    work = await room.hand_in(lea, await a_task(room, teacher, lea, other), FILM)
    await export(lea, stick)
    large = max(bundles(stick), key=lambda path: path.stat().st_size)

    async def no_room(*_: object) -> None:
        raise LocalFailure(Code.DISK_FULL, "the disk is full")

    watch = CourierWatch(
        other.agent,
        table(other.agent),
        disks_of(str(tmp_path / "media")),
        monotonic=time.monotonic,
        say=lambda _: None,
    )
    with monkeypatch.context() as full:
        full.setattr(other.agent.replica.content, "append_part", no_room)
        await watch.look()
    assert other.agent.stick == "full"
    await export(other, stick)
    await bring(teacher, stick)
    assert await is_whole(teacher, room, work)
    await Desk(teacher.agent).ask("confirm-opened", id=work.hex())
    await export(teacher, stick)
    assert not large.exists(), "nobody needs it any more"


async def forget(room: Classroom, person: bytes, *devices: Device) -> None:
    """Who was erased more than a week ago."""
    await room.territory.say(room.space, Kind.ERASE, Erasure(person).encode())
    for device in devices:
        await device.session.sync()
    await pass_days(room.territory, 8, *devices)


async def names_on(device: Device, stick: Path, room: Classroom, person: bytes) -> bool:
    """Whether a stick has what the server said of somebody."""
    told = await room.territory.replica.store.scan_kinds([Kind.PERSON])
    names = {entry.id for entry in told if entry.header.subject == person}
    assert names
    return any(not names.isdisjoint(card.index.entries) for card in await cards_on(device, stick))


async def test_who_was_forgotten_leaves_a_stick_with_whoever_has_the_work_that_lies_beside(
    room: Classroom, disk: Path
) -> None:
    tom = await room.territory.person("Tom", PersonRole.PUPIL, room.space)
    teacher, lea, other = await a_class(room)
    work = await room.hand_in(lea, await a_task(room, teacher, lea, other), FILM)
    await export(lea, disk)
    await overhear(other, lea, room.space)
    await forget(room, tom, teacher, other)
    for _ in range(2):
        await export(other, disk)
        assert await names_on(other, disk, room, tom), "the only copy that travels lies beside"
    await bring(teacher, disk)
    await export(teacher, disk)
    assert not await names_on(teacher, disk, room, tom)
    assert any(work in pack.works for card in await cards_on(teacher, disk) for pack in card.index.packs)


async def test_who_was_forgotten_leaves_a_stick_at_once_where_the_server_has_the_work_that_lies_beside(
    room: Classroom, disk: Path
) -> None:
    tom = await room.territory.person("Tom", PersonRole.PUPIL, room.space)
    teacher, lea, other = await a_class(room)
    work = await room.hand_in(lea, await a_task(room, teacher, lea, other), FILM)
    await export(lea, disk)
    for device in (lea, lea, other):
        await device.session.sync()
    assert (await work_of(other, room, work)).at_server
    assert not await is_whole(other, room, work)
    await forget(room, tom, other)
    await export(other, disk)
    assert not await names_on(other, disk, room, tom)


async def test_a_lesson_of_which_a_pc_has_heard_alone_stays_on_the_disk(
    room: Classroom, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removing, "_WASTE_BYTES", 100_000)
    teacher, lea, other = await a_class(room)
    item = (await room.publish(teacher, FILM)).item
    await export(teacher, disk)
    before = set(bundles(disk))
    await overhear(other, teacher, room.space)
    assert await other.agent.missing()
    await export(other, disk)
    assert before <= set(bundles(disk))
    await bring(lea, disk)
    assert await lea.files(item) == FILM
