"""What finds no room on a full disk keeps nothing else from being done (docs/attacks.md; docs/adr/0586)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.errors import LocalFailure
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, Grant, Revocation, Ruling
from protocol.replica.at_work.replica import Draft
from protocol.replica.ballast import Ballast
from protocol.roles import PersonRole, Role
from sync_agent.hand_ins.copies import Copies
from sync_agent.lan import school_lan
from sync_agent.lan.exchange.after_news import AfterNews
from sync_agent.lan.school_lan import Lan
from sync_agent.machine.addresses import Address
from sync_agent.school.held_back import acknowledge_held_back, own_held_back
from sync_agent.upkeep.erasing import destroy_or_say
from sync_server.service import tend_keys_and_stays
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, WORK, Classroom, Device, assignment
from tests.harness.copied_keys import brought, granted, said_by_copy
from tests.harness.full_disk import FullDisk
from tests.harness.office_devices import town
from tests.harness.patience import until
from tests.harness.portal import portal
from tests.harness.territory import new_device

ROW = "a disk that is full hears nothing any more"


def kept_ballast(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    """The disk of a program that has its ballast."""
    full = FullDisk(folder, monkeypatch)
    Ballast(full.folder).keep()
    return full


@contextlib.contextmanager
def _raised_as_ever(_left: object) -> Iterator[None]:
    yield


LEFT_DUE = {"protocol.replica.left_due.LeftDue.where_there_is_room": _raised_as_ever}


async def _never(_eraser: object, _now_ms: int) -> bool:
    return False


async def _name_of(device: Device, person: bytes) -> bool:
    said = await device.agent.replica.store.scan_kinds([Kind.PERSON])
    return any(each.header.subject == person and each.payload is not None for each in said)


@attack(ROW, off={"protocol.replica.upkeep.eraser.Eraser._is_kits_word_due": _never})
async def test_whom_the_kit_has_forgotten_goes_from_a_disk_that_somebody_fills_again_and_again(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    territory, pc = room.territory, await room.machine()
    await pc.session.sync()
    await territory.kit_says(territory.id, Kind.ERASE, Erasure(room.pupil_person).encode())
    await pc.session.sync()
    full = kept_ballast(pc.agent.folder, monkeypatch)
    assert await _name_of(pc, room.pupil_person)
    for day in range(10):
        territory.clock.advance(DAY_MS)
        if day >= 3:
            full.fill()
        await destroy_or_say(pc.agent)
    assert not await _name_of(pc, room.pupil_person)


async def _waits_for_a_key(here: Any) -> None:
    """A copied key lets one more machine in, which lacks the key of the class."""
    stranger = new_device(Random(78).randbytes)
    await brought(here, said_by_copy(here, Kind.GRANT, granted(stranger, Role.MACHINE, None)))


@attack(ROW, off=LEFT_DUE)
async def test_a_key_that_finds_no_room_on_a_server_keeps_no_stay_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path) as here:
        await here.class_in_step()
        server, keys = here.office.server, new_device(Random(77).randbytes)
        person = await here.office.add_person("M. Vacher", "teacher")
        right = granted(keys, Role.TEACHER, person, until_ms=here.office.clock() + DAY_MS)
        await server.say([Draft(here.space, Kind.GRANT, server.grant, right)])
        await server.space_keeper.tend_grown()
        here.office.clock.advance(2 * DAY_MS)
        full = kept_ballast(server.folder, monkeypatch)
        full.fill()
        await _waits_for_a_key(here)
        with contextlib.suppress(LocalFailure):
            await tend_keys_and_stays(server)
        assert here.space not in await server.replica.readable(keys.signing.public)


@attack(ROW, off=LEFT_DUE)
async def test_a_second_copy_for_which_there_is_no_receipt_keeps_nobody_from_being_met(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop, pc = await room.teacher(), await room.machine()
    for _ in range(2):
        await laptop.session.sync()
    item = await assignment(room, laptop, pc)
    await room.hand_in(pc, item, WORK)
    roy = await room.territory.person("Mme Roy", PersonRole.TEACHER, room.space)
    other = await room.device(Role.TEACHER, person=roy)
    for _ in range(2):
        await other.session.sync()
    full, here, there = kept_ballast(laptop.agent.folder, monkeypatch), laptop.agent.replica, pc.agent.replica
    said = [stored.entry for stored in await there.store.scan(room.space)]
    await here.admit(said, source=b"a neighbour", now_ms=room.territory.clock())
    for pack in await there.content.unsent_packs():
        await here.content.ingest(room.space, await there.content.read_pack(pack.hash, 0, pack.size))
    full.fill()
    served = room.territory.replica
    news = [one.entry for space in served.door.lineage(room.space) for one in await served.store.scan(space)]
    await here.admit(news, source=b"a neighbour", now_ms=room.territory.clock())
    full.fill()
    with contextlib.suppress(LocalFailure):
        await AfterNews(laptop.agent, Copies(laptop.agent, set)).tend()
    hers = (other.agent.device, other.agent.keys.agreement.public)
    assert hers in laptop.agent.acquainted.first.get(room.space, {}).get(roy, ())


@attack(ROW, off=LEFT_DUE)
async def test_a_teachers_first_page_is_shown_on_a_disk_that_somebody_fills(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, territory = await room.teacher(), room.territory
    await teacher.session.sync()
    await room.publish(teacher, SMALL)
    await teacher.session.sync()
    keys = teacher.agent.keys
    public = keys.signing.public, keys.agreement.public, keys.tls.fingerprint
    cut = await territory.say(room.space, Kind.REVOKE, Revocation(public[0], ()).encode())
    back = Grant(*public, Role.TEACHER, room.teacher_person, None).encode()
    await territory.say(room.space, Kind.GRANT, back, parents=(cut.id,))
    for _ in range(2):
        await teacher.session.sync()
    held = {word.entry.id for word in await own_held_back(teacher.agent)}
    assert held
    await acknowledge_held_back(teacher.agent, held)
    await territory.say(room.space, Kind.RULING, Ruling(tuple(held), ()).encode())
    for _ in range(2):
        await teacher.session.sync()
    full = kept_ballast(teacher.agent.folder, monkeypatch)
    async with portal(teacher.agent) as surfer:
        await full.fill_until_notes_fail(teacher.agent.replica.store)
        assert (await surfer.get("/")).status == 200


class _Neighbour:
    address = Address("10.0.0.2", 8000)
    reaches_server = True


@attack(ROW, off=LEFT_DUE)
async def test_a_machine_whose_disk_somebody_fills_is_linked_with_all_the_same(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    pc, linked = await room.machine(), list[Address]()
    await pc.session.sync()
    lan, member = Lan(pc.agent, news=lambda: None, draw=lambda least, _most: least), _Neighbour()
    full = kept_ballast(pc.agent.folder, monkeypatch)
    monkeypatch.setattr(lan.neighbourhood, "members", lambda: {"x": member})
    monkeypatch.setattr(lan.neighbourhood, "chosen", lambda: {member.address: member})
    monkeypatch.setattr(lan.neighbourhood, "twins", set)
    monkeypatch.setattr(lan, "link", linked.append)
    monkeypatch.setattr(school_lan, "LOOKS_EVERY_S", 60.0)
    await full.fill_until_notes_fail(pc.agent.replica.store)
    lan._look_around()
    following = asyncio.create_task(lan._follow())
    try:
        await until(lambda: bool(linked) or following.done())
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert linked == [member.address]
