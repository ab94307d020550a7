"""Courier disks: work, and what must be heard, travel where no network does."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from protocol.errors import Code, Refused
from protocol.folds.coursework import HandInState
from protocol.model.entry import Kind
from protocol.model.register import Health, RegisterKind, stored_register
from protocol.model.structure import Erasure, Revocation
from protocol.model.work import ItemKind
from protocol.roles import Role
from sync_agent.courier import exporting as courier_export
from sync_agent.courier import removing
from sync_agent.courier.survey import admit_from_disk
from sync_agent.courier.watch import CourierWatch, disks_of
from sync_agent.operations import table
from sync_agent.school.measure_commands import start_quarantine, stop_quarantine
from sync_agent.school.measures import ordered
from sync_agent.status import status
from sync_agent.sync.asking import Asking, Said
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.classroom import LARGE, SMALL, WORK, Classroom, Device, work_of
from tests.harness.commands import Desk
from tests.harness.couriers import (
    a_class,
    bring,
    bundles,
    carry,
    code_of,
    courier_class,
    cut_short,
    export,
    know_keys,
    make,
    room_for,
    tend_keys,
)
from tests.harness.passing_days import pass_days

pytestmark = pytest.mark.usefixtures("space_keys")


async def test_a_lesson_goes_out_and_work_comes_back_through_a_disk_alone(room: Classroom, disk: Path) -> None:
    teacher, one, other = await a_class(room)
    task = (await room.publish(teacher, LARGE, kind=ItemKind.ASSIGNMENT)).item
    await export(teacher, disk)
    await bring(one, disk)
    assert await one.files(task) == LARGE
    hand_in = await room.hand_in(one, task, WORK)
    await export(one, disk)
    # another machine takes it along on its way
    await bring(other, disk)
    await bring(teacher, disk)
    assert await teacher.agent.missing() == []
    assert (await work_of(teacher, room, hand_in)).readers
    # … and hands it to the server, whose receipt comes back on the disk
    await other.session.sync()
    await other.session.sync()
    assert (await work_of(other, room, hand_in)).state is HandInState.SERVER
    await export(other, disk)
    await bring(one, disk)
    assert (await work_of(one, room, hand_in)).state is HandInState.SERVER


async def test_a_second_export_writes_nothing_and_a_second_import_reads_nothing(room: Classroom, disk: Path) -> None:
    teacher, one, _ = await a_class(room)
    await room.publish(teacher, LARGE)
    first = await export(teacher, disk)
    assert first["entries"] > 0
    assert first["bytes"] == sum(path.stat().st_size for path in bundles(disk))
    assert await export(teacher, disk) == {"entries": 0, "bytes": 0}
    await bring(one, disk)
    assert await bring(one, disk) == {"entries": 0, "bytes": 0}
    await room.publish(teacher, SMALL)
    again = await export(teacher, disk)
    assert again["entries"] == 1
    assert again["bytes"] < 10_000, "only what is new"


async def test_two_territories_and_two_classes_share_a_disk(tmp_path: Path, disk: Path) -> None:
    async with courier_class(tmp_path / "a", spaces=2) as room, courier_class(tmp_path / "b", seed=9) as elsewhere:
        both = await room.device(Role.TEACHER, *room.territory.classes, person=room.teacher_person)
        first, second = await room.machine(), await room.device(Role.MACHINE, room.territory.classes[1])
        await know_keys(room, both, first, second)
        stranger = await elsewhere.teacher()
        await know_keys(elsewhere, stranger)
        item = (await room.publish(both, SMALL)).item
        await export(both, disk)
        assert await code_of(bring(stranger, disk)) is Code.WRONG_TERRITORY
        await export(stranger, disk)
        assert len({path.parent for path in bundles(disk)}) == 2
        await bring(first, disk)
        assert await first.files(item) == SMALL
        await bring(second, disk)
        with pytest.raises(KeyError):
            await second.files(item)


async def test_a_machine_that_never_heard_of_a_new_key_reads_what_is_sealed_under_it(
    room: Classroom, disk: Path
) -> None:
    teacher, one, lost = await a_class(room)
    key_before = await one.agent.keyring.current(room.space)
    await room.territory.say(room.space, Kind.REVOKE, Revocation(lost.agent.device, ()).encode())
    await know_keys(room, teacher)
    item = (await room.publish(teacher, SMALL)).item
    await export(teacher, disk)
    await bring(one, disk)
    assert await one.files(item) == SMALL
    assert await one.agent.keyring.current(room.space) != key_before
    assert await code_of(bring(lost, disk)) is Code.CANNOT_READ
    with pytest.raises(KeyError):
        await lost.files(item)


async def test_who_comes_after_a_key_was_changed_finds_all_that_lay_on_the_disk_before(
    room: Classroom, disk: Path
) -> None:
    teacher, one, lost = await a_class(room)
    item = (await room.publish(teacher, LARGE)).item
    await export(teacher, disk)
    before = set(bundles(disk))
    await room.territory.say(room.space, Kind.REVOKE, Revocation(lost.agent.device, ()).encode())
    await know_keys(room, teacher, one)
    assert (await export(teacher, disk))["bytes"] < 50_000, "all who are there can read what lies there"
    newcomer = await room.machine()
    await know_keys(room, teacher, one)
    assert (await export(one, disk))["bytes"] > 70_000
    assert len(before.intersection(bundles(disk))) == 1, "whose report of a teacher's device is not a PC's to carry"
    await export(teacher, disk)
    assert before.isdisjoint(bundles(disk))
    await bring(newcomer, disk)
    assert await newcomer.files(item) == LARGE
    left = bundles(disk)
    assert await export(teacher, disk) == {"entries": 0, "bytes": 0}
    assert bundles(disk) == left
    assert (await export(newcomer, disk))["entries"] == 0, "nothing but how it is"


async def test_what_a_disk_holds_for_nobody_yet_goes_before_what_is_written_again(
    room: Classroom, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, one, lost = await a_class(room)
    await room.publish(teacher, {"a.bin": Random(7).randbytes(300_000)})
    await export(teacher, disk)
    before = max(bundles(disk), key=lambda path: path.stat().st_size)
    await room.territory.say(room.space, Kind.REVOKE, Revocation(lost.agent.device, ()).encode())
    await tend_keys(room)
    await room.machine()
    await know_keys(room, teacher, one)
    new = (await room.publish(teacher, {"b.bin": Random(8).randbytes(400_000)})).item
    monkeypatch.setattr(courier_export, "BUNDLE_TARGET_BYTES", 100_000)
    with room_for(550_000):
        assert (await export(teacher, disk))["waits"] >= 300_000
    assert before in bundles(disk), "nothing is let go of before all of it was written again"
    await bring(one, disk)
    assert await one.files(new) == {"b.bin": Random(8).randbytes(400_000)}


async def stick_before_a_key(room: Classroom, folder: Path, *lessons: bytes) -> tuple[Device, Device, list[bytes]]:
    """A stick with lessons, each in a bundle that somebody who came later cannot open: a teacher, that one, items."""
    teacher, _, lost = await a_class(room)
    items = []
    for lesson in lessons:
        items.append((await room.publish(teacher, {"a.bin": lesson})).item)
        await export(teacher, folder)
    await room.territory.say(room.space, Kind.REVOKE, Revocation(lost.agent.device, ()).encode())
    await tend_keys(room)
    newcomer = await room.machine()
    await know_keys(room, teacher, newcomer)
    return teacher, newcomer, items


async def test_a_disk_with_room_for_one_bundle_more_is_written_again_one_after_the_other(
    room: Classroom, disk: Path
) -> None:
    lessons = [Random(number).randbytes(300_000) for number in range(3)]
    teacher, newcomer, items = await stick_before_a_key(room, disk, *lessons)
    before = set(bundles(disk))
    with room_for(400_000):
        assert "waits" not in await export(teacher, disk)
    assert before.isdisjoint(bundles(disk))
    await bring(newcomer, disk)
    assert [await newcomer.files(item) for item in items] == [{"a.bin": lesson} for lesson in lessons]


async def test_a_stick_without_room_to_be_written_again_is_done_and_says_so_once(
    room: Classroom, tmp_path: Path
) -> None:
    stick = tmp_path / "media" / "usb" / "Relais"
    teacher, newcomer, _ = await stick_before_a_key(room, stick, Random(1).randbytes(900_000))
    clock = [0.0]
    watch, said = watch_over(teacher, tmp_path / "media", clock)
    with room_for(300_000):
        for number in range(3):
            item = (await room.publish(teacher, {"a.txt": bytes([number])})).item
            await watch.look()
            clock[0] += 200
            assert teacher.agent.stick == "crowded"
    assert len(said) == 1
    assert "1 MB are closed" in said[0]
    await bring(newcomer, stick)
    assert await newcomer.files(item) == {"a.txt": bytes([2])}


async def test_what_a_disk_brought_reaches_the_server_whatever_its_bearer_is(room: Classroom, disk: Path) -> None:
    teacher, one, other = await a_class(room)
    task = (await room.publish(teacher, LARGE, kind=ItemKind.ASSIGNMENT)).item
    await export(teacher, disk)
    await bring(one, disk)
    await room.hand_in(one, task, LARGE)
    await export(one, disk)
    await bring(other, disk)
    assert (await status(other.agent))["backlog"] == {"entries": 0, "bytes": 0, "refused": 0}, (
        "what it says itself it has sent"
    )
    await other.session.sync()
    await other.session.sync()
    for device in (teacher, one):
        await device.session.sync()
    await other.session.sync()
    assert await room.agree()
    (work,) = (await room.territory.replica.view(room.space)).coursework.hand_ins.values()
    assert work.at_server


async def test_what_the_server_holds_already_and_a_disk_brings_waits_to_be_sent_by_nobody(
    room: Classroom, disk: Path
) -> None:
    teacher, one, _ = await a_class(room)
    task = (await room.publish(teacher, LARGE, kind=ItemKind.ASSIGNMENT)).item
    await teacher.session.sync()
    await export(teacher, disk)
    own = (await status(one.agent))["backlog"]
    await bring(one, disk)
    assert (await status(one.agent))["backlog"] == own, "a machine that is cut off owes the server its own work alone"
    assert await one.files(task) == LARGE
    work = await room.hand_in(one, task, WORK)
    done = await one.session.sync()
    assert done.bytes_out < 40_000, "the lesson is not sent to a server that has it"
    assert (await room.territory.replica.view(room.space)).coursework.hand_ins[work].at_server
    assert (await status(one.agent))["backlog"] == {"entries": 0, "bytes": 0, "refused": 0}


async def test_entries_that_waited_for_others_reach_the_server_all_the_same(room: Classroom, disk: Path) -> None:
    teacher, _, other = await a_class(room)
    # a machine that is let in now, of which the others have not heard
    newcomer = await room.machine()
    await know_keys(room, newcomer)
    task = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
    await teacher.session.sync()
    await newcomer.session.sync()
    entries = [await room.hand_in(newcomer, task, WORK)]
    found = await newcomer.agent.replica.store.get(entries)
    admission = await admit_from_disk(other.agent, list(found.values()))
    assert admission.waiting == tuple(entries)
    await other.session.sync()
    await other.session.sync()
    assert await room.territory.replica.store.present(entries) == set(entries)


async def test_health_of_a_machine_that_is_cut_off_reaches_the_server_by_a_teacher(room: Classroom, disk: Path) -> None:
    teacher, one, other = await a_class(room)
    await export(one, disk)
    await bring(other, disk)
    assert not [row for row in await other.agent.replica.store.registers() if row.device == one.agent.device]
    await bring(teacher, disk)
    before = {row.device: row.at_ms for row in await room.territory.replica.store.registers()}
    room.territory.clock.ms += 2 * 3600 * 1000
    await export(one, disk)
    await bring(teacher, disk)
    await teacher.session.sync()
    after = {row.device: row for row in await room.territory.replica.store.registers(RegisterKind.HEALTH)}
    row = after[one.agent.device]
    assert row.at_ms > before[one.agent.device]
    assert Health.parse(stored_register(row.data).body).name == one.agent.enrolment.device_name
    quiet = await Asking(teacher.agent).compose(Said())
    assert quiet.request.registers == (), "told once"


# --- what was erased --------------------------------------------------------------------------------------------------


async def test_an_old_disk_brings_back_nothing_that_was_erased(room: Classroom, disk: Path, tmp_path: Path) -> None:
    teacher, one, other = await a_class(room)
    task = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
    await teacher.session.sync()
    await one.session.sync()
    hand_in = await room.hand_in(one, task, WORK)
    await export(one, disk)
    old = tmp_path / "old"
    shutil.copytree(disk, old)
    await room.territory.say(room.space, Kind.ERASE, Erasure(room.pupil_person).encode())
    for device in (teacher, other):
        await device.session.sync()
        await destroy_erased(device.agent)
    await bring(teacher, old)
    assert hand_in not in (await teacher.agent.replica.view(room.space)).coursework.hand_ins, "hidden at once"
    await export(teacher, disk)
    await pass_days(room.territory, 8, teacher, other)
    await bring(other, old)
    found = (await other.agent.replica.store.get([hand_in]))[hand_in]
    assert found.payload is None, "after a week not even its bytes come in"
    before = set(bundles(disk))
    await export(teacher, disk)
    assert set(bundles(disk)) != before
    fresh = await room.machine()
    await tend_keys(room)
    await know_keys(room, fresh)
    await bring(fresh, disk)
    kept = (await fresh.agent.replica.store.get([hand_in])).get(hand_in)
    assert kept is None or kept.payload is None


async def test_what_is_of_no_use_any_more_leaves_the_disk(
    room: Classroom, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removing, "_WASTE_BYTES", 100_000)
    teacher, one, _ = await a_class(room)
    item = (await room.publish(teacher, {"a.bin": Random(7).randbytes(500_000)})).item
    await export(teacher, disk)
    await room.publish(teacher, {"a.bin": Random(8).randbytes(500_000)}, item=item)
    await export(teacher, disk)
    total = sum(path.stat().st_size for path in bundles(disk))
    assert 500_000 < total < 600_000
    await bring(one, disk)
    assert await one.files(item) == {"a.bin": Random(8).randbytes(500_000)}


# --- sticks that are noticed ------------------------------------------------------------------------------------------


def watch_over(device: Device, place: Path, clock: list[float]) -> tuple[CourierWatch, list[str]]:
    said: list[str] = []
    return (
        CourierWatch(
            device.agent, table(device.agent), disks_of(str(place)), monotonic=lambda: clock[0], say=said.append
        ),
        said,
    )


async def test_a_stick_is_served_when_it_is_plugged_in_and_again_when_something_is_new(
    room: Classroom, tmp_path: Path
) -> None:
    teacher, one, _ = await a_class(room)
    item = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
    media, there, clock = tmp_path / "media", tmp_path / "there", [0.0]
    at_teachers, said = watch_over(teacher, media, clock)
    await at_teachers.look()
    assert teacher.agent.stick is None
    make(media / "usb" / "Relais")
    make(media / "holidays")
    await at_teachers.look()
    assert teacher.agent.stick == "done"
    assert "may be removed" in said[-1]
    at_pupils, _ = watch_over(one, there, clock)
    carry(media, there)
    await at_teachers.look()
    assert teacher.agent.stick is None
    await at_pupils.look()
    assert await one.files(item) == SMALL
    hand_in = await room.hand_in(one, item, WORK)
    await at_pupils.look()
    clock[0] += 60
    await at_pupils.look()
    carry(there, media)
    await at_teachers.look()
    assert await teacher.agent.missing() == []
    assert (await work_of(teacher, room, hand_in)).person == room.pupil_person


async def test_a_stick_that_failed_is_tried_again_and_told_once(room: Classroom, tmp_path: Path) -> None:
    teacher, one, _ = await a_class(room)
    item = (await room.publish(teacher, SMALL)).item
    media, clock = tmp_path / "media", [0.0]
    await export(teacher, media / "usb" / "Relais")
    (place,) = (path for path in (media / "usb" / "Relais").iterdir() if path.is_dir())
    place.rename(tmp_path / "away")
    place.touch()
    watch, said = watch_over(one, media, clock)
    for _ in range(3):
        await watch.look()
        clock[0] += 200
    assert (one.agent.stick, len(said)) == ("failed", 1)
    place.unlink()
    (tmp_path / "away").rename(place)
    await watch.look()
    assert one.agent.stick == "done"
    assert await one.files(item) == SMALL


async def test_a_stick_that_was_pulled_out_and_put_back_at_once_is_served_within_seconds(
    room: Classroom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, one, _ = await a_class(room)
    item = (await room.publish(teacher, SMALL)).item
    media, clock = tmp_path / "media", [0.0]
    make(media / "usb" / "Relais")
    watch, said = watch_over(teacher, media, clock)
    with monkeypatch.context() as pulled:
        pulled.setattr(os, "fsync", failing_with(errno.EIO))
        for _ in range(20):
            await watch.look()
            clock[0] += 2
        assert teacher.agent.stick == "failed"
        assert len(said) == 1
    # between two looks it is in again
    clock[0] += 120
    await watch.look()
    assert teacher.agent.stick == "done"
    with monkeypatch.context() as pulled:
        pulled.setattr(os, "fsync", failing_with(errno.EIO))
        await room.publish(teacher, SMALL)
        clock[0] += 60
        await watch.look()
        assert teacher.agent.stick == "failed"
    clock[0] += 10
    await watch.look()
    assert teacher.agent.stick == "done"
    await bring(one, media / "usb" / "Relais")
    assert await one.files(item) == SMALL


async def test_another_stick_that_takes_the_place_of_one_between_two_looks_is_served(
    room: Classroom, tmp_path: Path
) -> None:
    teacher, one, _ = await a_class(room)
    media, clock = tmp_path / "media", [0.0]
    make(media / "usb" / "Relais")
    watch, _ = watch_over(one, media, clock)
    await watch.look()
    item = (await room.publish(teacher, SMALL)).item
    await export(teacher, tmp_path / "another" / "Relais")
    carry(media / "usb", tmp_path / "first")
    carry(tmp_path / "another", media / "usb")
    clock[0] += 60
    await watch.look()
    assert await one.files(item) == SMALL
    # and one without anything is brought all
    carry(media / "usb", tmp_path / "away")
    make(media / "usb" / "Relais")
    clock[0] += 60
    await watch.look()
    assert bundles(media / "usb" / "Relais")


def failing_with(number: int) -> Callable[[int], None]:
    """What a disk answers that is gone."""

    def fail(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    return fail


async def test_a_stick_in_a_bad_state_is_told_and_harms_nothing(room: Classroom, tmp_path: Path) -> None:
    teacher, one, _ = await a_class(room)
    media = tmp_path / "media"
    await export(teacher, media / "usb" / "Relais")
    for path in bundles(media / "usb" / "Relais"):
        cut_short(path)
    watch, said = watch_over(one, media, [0.0])
    await watch.look()
    assert one.agent.stick == "damaged"
    assert "damaged" in said[0]


# --- what must be heard by who cannot open a bundle -------------------------------------------------------------------


async def head_of(room: Classroom) -> Device:
    return await room.head()


async def test_a_pc_that_no_network_reaches_is_let_into_another_class_by_a_stick(room: Classroom, disk: Path) -> None:
    head, pc = await head_of(room), await room.machine()
    await know_keys(room, head, pc)
    desk = Desk(head.agent)
    space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
    await desk.ask("person add", name="Zoé", role="pupil", space=[space])
    item = (await desk.publish(SMALL, space=space, title="Eau", kind="lesson"))["item"]
    await export(head, disk)
    await bring(pc, disk)
    assert bytes.fromhex(space) not in await pc.agent.spaces()
    for path in bundles(disk):
        assert "Zoé".encode() not in path.read_bytes()
    await desk.ask("grant", device=pc.agent.device.hex(), space=[space])
    await export(head, disk)
    await bring(pc, disk)
    assert bytes.fromhex(space) in await pc.agent.spaces()
    assert await pc.files(bytes.fromhex(item)) == SMALL
    for path in bundles(disk):
        assert "Zoé".encode() not in path.read_bytes(), "no name stands in clear"


async def test_a_pc_to_which_nothing_was_open_any_more_is_let_back_in_by_a_stick(room: Classroom, disk: Path) -> None:
    head, pc = await head_of(room), await room.machine()
    await know_keys(room, head, pc)
    await Desk(head.agent).ask("revoke", device=pc.agent.device.hex())
    await head.session.sync()
    with pytest.raises(Refused):
        await pc.session.sync()
    await export(head, disk)
    assert await code_of(bring(pc, disk)) is Code.CANNOT_READ
    await Desk(head.agent).ask("grant", device=pc.agent.device.hex(), space=[room.space.hex()])
    await export(head, disk)
    await bring(pc, disk)
    assert room.space in await pc.agent.spaces()


async def test_a_quarantine_that_was_lifted_where_no_server_answers_ends_by_a_stick(
    room: Classroom, disk: Path
) -> None:
    head, pc = await head_of(room), await room.machine()
    await know_keys(room, head, pc)
    await start_quarantine(head.agent, None)
    for device in (head, pc):
        await device.session.sync()
    item = (await room.publish(head, SMALL)).item
    assert await code_of(export(head, disk)) is Code.QUARANTINED
    await stop_quarantine(head.agent, None)
    # from here on the PC reaches nobody
    await export(head, disk)
    await bring(pc, disk)
    assert not (await ordered(pc.agent)).quarantined
    assert await pc.files(item) == SMALL


async def test_under_quarantine_of_a_stick_nothing_is_taken_but_orders_and_nothing_is_written_onto_it(
    room: Classroom, tmp_path: Path
) -> None:
    head, pc = await head_of(room), await room.machine()
    await know_keys(room, head, pc)
    await room.publish(head, SMALL)
    place = tmp_path / "media"
    await export(head, place / "usb" / "Relais")
    await start_quarantine(head.agent, None)
    await head.session.sync()
    await pc.session.sync()
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    held = await pc.agent.replica.store.spaces()
    watch, said = watch_over(pc, place, [0.0])
    await watch.look()
    assert pc.agent.stick is None
    assert said == []
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    assert await pc.agent.replica.store.spaces() == held
