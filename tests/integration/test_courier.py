"""Courier disks: work that travels where no network does, and disks in every bad state."""

from __future__ import annotations

import errno
import shutil
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from protocol.bundle import TRAILER_BYTES
from protocol.coursework import HandInState
from protocol.entry import Kind
from protocol.errors import Code, LocalFailure, Refused, RelaisError
from protocol.limits import MAX_LETTERS_PER_DISK
from protocol.register import Health, RegisterKind, stored_register
from protocol.replica.pack_files import PackFiles
from protocol.roles import Role
from protocol.structure import Erasure, Revocation
from protocol.work import ItemKind
from sync_agent import courier_disk, courier_export
from sync_agent.asking import Asking, Said
from sync_agent.courier_letters import Letter, read_letters
from sync_agent.courier_watch import CourierWatch, disks_of
from sync_agent.erasing import destroy_erased
from sync_agent.measure_commands import start_quarantine, stop_quarantine
from sync_agent.measures import ordered
from sync_agent.operations import table
from tests.harness.classroom import LARGE, SMALL, WORK, Classroom, Device, work_of
from tests.harness.commands import Desk
from tests.harness.couriers import (
    bring,
    bundles,
    carry,
    courier_class,
    cut_short,
    export,
    know_keys,
    make,
    tend_keys,
    unfinished,
)
from tests.harness.passing_days import pass_days


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with courier_class(tmp_path) as made:
        yield made


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "disk" / "Relais"


async def a_class(room: Classroom) -> tuple[Device, Device, Device]:
    """A teacher and two machines that met the server once, and will not again."""
    teacher, one, other = await room.teacher(), await room.machine(), await room.machine()
    await know_keys(room, teacher, one, other)
    for device in (teacher, one, other):
        await device.session.sync()
    return teacher, one, other


async def code_of(awaitable: object) -> Code:
    with pytest.raises(RelaisError) as raised:
        await awaitable  # type: ignore[misc]
    return raised.value.code


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


async def test_what_a_disk_brought_reaches_the_server_whatever_its_bearer_is(room: Classroom, disk: Path) -> None:
    teacher, one, other = await a_class(room)
    task = (await room.publish(teacher, LARGE, kind=ItemKind.ASSIGNMENT)).item
    await export(teacher, disk)
    await bring(one, disk)
    await room.hand_in(one, task, LARGE)
    await export(one, disk)
    await bring(other, disk)
    assert (await other.agent.replica.store.unsent_totals())[0] > 0
    await other.session.sync()
    await other.session.sync()
    for device in (teacher, one):
        await device.session.sync()
    await other.session.sync()
    assert await room.agree()
    (work,) = (await room.territory.replica.view(room.space)).coursework.hand_ins.values()
    assert work.at_server


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
    admission = await other.agent.replica.admit(
        list(found.values()), source=b"courier", now_ms=room.territory.clock(), unsent=True
    )
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


# --- disks in a bad state ---------------------------------------------------------------------------------------------


async def test_a_bundle_cut_off_anywhere_is_named_and_all_others_are_taken(room: Classroom, disk: Path) -> None:
    teacher, one, _ = await a_class(room)
    item = (await room.publish(teacher, LARGE)).item
    await export(teacher, disk)
    small = min(bundles(disk), key=lambda path: path.stat().st_size)
    good = small.read_bytes()
    small.write_bytes(good[: len(good) // 2])
    (small.parent / "0123456789abcdef.tmp").write_bytes(b"half written")
    assert await code_of(bring(one, disk)) is Code.DAMAGED
    assert not small.exists(), "nobody counts on it any more"
    # the writer brings it again
    assert (await export(teacher, disk))["bytes"] > 0
    assert unfinished(disk) == []
    await bring(one, disk)
    assert await one.files(item) == LARGE


async def test_a_damaged_byte_costs_its_bundle_and_is_made_good(room: Classroom, disk: Path) -> None:
    teacher, one, _ = await a_class(room)
    item = (await room.publish(teacher, {"bruit.bin": Random(5).randbytes(600_000)})).item
    await export(teacher, disk)
    large = max(bundles(disk), key=lambda path: path.stat().st_size)
    data = bytearray(large.read_bytes())
    data[-100_000] ^= 1
    large.write_bytes(bytes(data))
    assert await code_of(bring(one, disk)) is Code.DAMAGED
    (pack,) = (name for name, size in (await teacher.agent.replica.content.pack_sizes()).items() if size > 600_000)
    assert await one.agent.replica.content.part_size(pack) > 250_000, "what came before the damage stays"
    await export(teacher, disk)
    await bring(one, disk)
    assert (await one.files(item)).keys() == {"bruit.bin"}


async def test_a_disk_that_is_pulled_out_while_it_is_read_costs_what_had_not_come_yet(
    room: Classroom, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, one, _ = await a_class(room)
    item = (await room.publish(teacher, {"bruit.bin": Random(5).randbytes(2_000_000)})).item
    await export(teacher, disk)
    read = courier_disk._Files._read

    def read_until(files: Any, file: Any, at: int, length: int) -> bytes:
        if at > 1_500_000 and length > TRAILER_BYTES:
            raise LocalFailure(Code.CUT_OFF, "it is gone")
        return read(files, file, at, length)

    monkeypatch.setattr(courier_disk._Files, "_read", read_until)
    assert await code_of(bring(one, disk)) is Code.CUT_OFF
    (pack,) = (name for name, size in (await teacher.agent.replica.content.pack_sizes()).items() if size > 2_000_000)
    come = await one.agent.replica.content.part_size(pack)
    assert 700_000 < come < 1_600_000
    monkeypatch.undo()
    written = []
    append = PackFiles.extend

    def extend(files: PackFiles, name: str, offset: int, data: bytes | memoryview) -> int:
        written.append(offset)
        return append(files, name, offset, data)

    monkeypatch.setattr(PackFiles, "extend", extend)
    await bring(one, disk)
    assert min(written) == come
    assert (await one.files(item)).keys() == {"bruit.bin"}


async def test_content_that_goes_away_while_it_is_written_leaves_no_bundle_that_lacks_it(
    room: Classroom, disk: Path
) -> None:
    teacher, _, _ = await a_class(room)
    await room.publish(teacher, {"bruit.bin": Random(5).randbytes(600_000)})
    for pack in (teacher.agent.folder / "packs").rglob("*.pack"):
        pack.write_bytes(pack.read_bytes()[:-1])
    assert await code_of(export(teacher, disk)) is Code.INCOMPLETE
    assert unfinished(disk) == []
    assert all(path.stat().st_size < 600_000 for path in bundles(disk))


def test_a_stick_whose_file_system_is_gone_was_pulled_out() -> None:
    for number in (errno.EIO, errno.ENODEV, errno.ENOTCONN, errno.ECONNABORTED):
        assert "pulled out" in courier_disk.trouble_of(Path("/media/usb"), OSError(number, "it is gone")).message


async def test_a_bundle_with_a_bad_sector_or_closed_to_the_account_costs_no_other(
    room: Classroom, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, one, _ = await a_class(room)
    items = []
    for number in range(3):
        items.append((await room.publish(teacher, {"bruit.bin": Random(number).randbytes(300_000)})).item)
        await export(teacher, disk)
    first, second, third = sorted(bundles(disk), key=lambda path: path.stat().st_size)[-3:]
    read, look = courier_disk._Files._read, courier_disk.CourierDisk._look

    def read_but(files: Any, file: Any, at: int, length: int) -> bytes:
        if file.name == str(first) and at + length > 100_000:
            file = SimpleNamespace(seek=failing, name=file.name)
        return read(files, file, at, length)

    def failing(_at: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def look_but(self: Any, name: str) -> Any:
        if name == second.name:
            raise PermissionError(errno.EACCES, "Permission denied")
        return look(self, name)

    monkeypatch.setattr(courier_disk._Files, "_read", read_but)
    monkeypatch.setattr(courier_disk.CourierDisk, "_look", look_but)
    assert await code_of(bring(one, disk)) is Code.DAMAGED
    shown = (await one.agent.replica.view(room.space)).coursework.items
    assert (len(shown), len(await one.agent.missing())) == (3, 2)
    assert (first.exists(), second.exists(), third.exists()) == (False, True, True), "what others may read stays"
    monkeypatch.undo()
    await export(teacher, disk)
    await bring(one, disk)
    for item in items:
        assert (await one.files(item)).keys() == {"bruit.bin"}


async def test_a_disk_with_very_much_else_on_it_is_as_good_as_any(room: Classroom, disk: Path) -> None:
    teacher, one, _ = await a_class(room)
    await export(teacher, disk)
    for number in range(2_000):
        (disk / f"vacances {number}.jpg").touch()
        (disk.parent / f"{number}.rls").touch()
    (bundles(disk)[0].parent / "notes.txt").write_text("pas à nous")
    (bundles(disk)[0].parent / f"{'a' * 32}.rls").mkdir()
    assert await bring(one, disk) is not None
    assert (await export(one, disk))["bytes"] > 0


async def test_a_folder_with_more_names_than_a_person_ever_has_is_given_up(
    room: Classroom, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, one, _ = await a_class(room)
    await export(teacher, disk)
    monkeypatch.setattr("sync_agent.courier_disk.MAX_NAMES_PER_DISK_FOLDER", 500)
    for number in range(600):
        (disk / f"vacances {number}.jpg").touch()
    assert await bring(one, disk) is not None, "beside our folder nothing is looked at"
    for number in range(600):
        (bundles(disk)[0].parent / f"{number}.jpg").touch()
    assert await code_of(bring(one, disk)) is Code.TOO_MANY_FILES
    assert await code_of(export(one, disk)) is Code.TOO_MANY_FILES


async def test_of_very_many_letters_on_a_disk_the_newest_few_are_kept_in_mind(room: Classroom, disk: Path) -> None:
    teacher, _, _ = await a_class(room)
    await export(teacher, disk)
    place = bundles(disk)[0].parent
    for number in range(5_000):
        (place / f"{number:032x}.ask").touch()
    tracemalloc.start()
    found = read_letters(place, Letter.ASK)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == MAX_LETTERS_PER_DISK
    assert most < 200_000


async def test_a_full_disk_holds_what_matters_most_and_a_larger_one_the_rest(
    room: Classroom, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, one, _ = await a_class(room)
    task = (await room.publish(teacher, {"film.bin": Random(6).randbytes(900_000)}, kind=ItemKind.ASSIGNMENT)).item
    await teacher.session.sync()
    await one.session.sync()
    hand_in = await room.hand_in(one, task, WORK)
    room_left = 200_000

    class Full(courier_disk.BundlesOut):
        def _append(self, data: memoryview) -> None:
            nonlocal room_left
            room_left -= len(data)
            if room_left < 0:
                raise LocalFailure(Code.DISK_FULL, "the disk is full")
            super()._append(data)

    with monkeypatch.context() as patch:
        patch.setattr("sync_agent.courier_commands.BundlesOut", Full)
        assert await code_of(export(one, disk)) is Code.DISK_FULL
    assert unfinished(disk) == []
    await bring(teacher, disk)
    assert await teacher.agent.missing() == []
    assert (await work_of(teacher, room, hand_in)).state is HandInState.LOCAL
    assert (await export(one, disk))["bytes"] > 900_000


async def test_nothing_to_import_is_said_clearly(room: Classroom, disk: Path) -> None:
    teacher, _, _ = await a_class(room)
    assert await code_of(bring(teacher, disk)) is Code.MISSING_FILE
    make(disk)
    assert await code_of(bring(teacher, disk)) is Code.MISSING_FILE


async def test_a_device_without_keys_says_so(room: Classroom, disk: Path) -> None:
    newcomer = await room.machine()
    with pytest.raises(Refused):
        await export(newcomer, disk)


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
    monkeypatch.setattr(courier_export, "_WASTE_BYTES", 100_000)
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
    school = room.territory.replica.door.parent(room.space)
    assert school is not None
    return await room.device(Role.HEAD, school)


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
