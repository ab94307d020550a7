"""Courier disks in every bad state: cut off, damaged, pulled out, full, crowded with what is not ours."""

from __future__ import annotations

import errno
import io
import tracemalloc
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from protocol.bundles.form import NONCE_BYTES, TRAILER_BYTES, Index
from protocol.bundles.writer import BundleWriter
from protocol.errors import Code, LocalFailure, Refused
from protocol.folds.coursework import HandInState
from protocol.identity import SigningKey
from protocol.limits import MAX_BUNDLE_PREFACE_BYTES, MAX_LETTERS_PER_DISK, MAX_PAYLOAD_BYTES, SALT_BYTES
from protocol.model.entry import Kind, compose
from protocol.model.work import ItemKind
from protocol.replica.content.kept.pack_files import PackFiles
from sync_agent.courier import disk as courier_disk
from sync_agent.courier.commands import export_to
from sync_agent.courier.disk import BundlesOut, CourierDisk
from sync_agent.courier.letters import Letter, name_of, read_letters
from tests.harness.classroom import LARGE, WORK, Classroom, work_of
from tests.harness.couriers import (
    a_class,
    bring,
    bundles,
    code_of,
    export,
    make,
    room_for,
    runner,
    set_aside,
    unfinished,
)

pytestmark = pytest.mark.usefixtures("space_keys")


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


async def test_what_was_set_aside_stays_for_whoever_mends_disks_as_long_as_nobody_was_erased(
    room: Classroom, disk: Path
) -> None:
    teacher, one, _ = await a_class(room)
    await export(teacher, disk)
    front, end = bundles(disk)[:2]
    for path, at in ((front, 200), (end, -1)):
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)
    (front.parent / f"{'e' * 32}.bad").write_bytes(b"")
    assert await code_of(bring(one, disk)) is Code.DAMAGED
    aside = sorted(path.name for path in set_aside(disk))
    assert len(aside) == 3
    assert (await export(teacher, disk))["bytes"] > 0, "what they held is written anew"
    assert (await export(teacher, disk))["bytes"] == 0
    assert sorted(path.name for path in set_aside(disk)) == aside
    await bring(one, disk)


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


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a place that takes no folders, as Linux has one")
def test_a_place_that_takes_no_folder_is_no_stick_that_was_pulled_out() -> None:
    with pytest.raises(LocalFailure, match="no folder can be made at /proc/clé") as raised:
        courier_disk.CourierDisk(Path("/proc/clé"), bytes(32)).make()
    assert raised.value.code is Code.STORAGE_FAILED


async def test_a_disk_that_answers_even_closing_with_an_error_is_said_to_be_pulled_out(
    room: Classroom, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # exFAT outside the kernel, seen so
    teacher, one, _ = await a_class(room)
    await room.publish(teacher, {"bruit.bin": Random(5).randbytes(600_000)})
    await export(teacher, disk)
    path_open = Path.open

    class Gone(io.FileIO):
        def readinto(self, _room: Any) -> int:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

        read = readall = readinto  # type: ignore[assignment]

        def close(self) -> None:
            if not self.closed:
                super().close()
                raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    def open_but(path: Path, mode: str = "r", **options: Any) -> Any:
        return Gone(path) if path.suffix == ".rls" and sees[0] else path_open(path, mode, **options)

    sees = [False]
    look_at = courier_disk.CourierDisk._look_at

    def look_then_pull(self: Any, names: Any) -> Any:
        found = look_at(self, names)
        sees[0] = True
        return found

    monkeypatch.setattr(Path, "open", open_but)
    monkeypatch.setattr(courier_disk.CourierDisk, "_look_at", look_then_pull)
    with pytest.raises(LocalFailure, match="pulled out"):
        await bring(one, disk)


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


async def test_of_what_was_looked_at_where_it_begins_it_is_said_so(room: Classroom, disk: Path) -> None:
    teacher, one, _ = await a_class(room)
    await room.publish(teacher, {"film.bin": Random(6).randbytes(2_000_000)})
    await export(teacher, disk)
    told: list[str] = []
    territory = teacher.agent.replica.territory
    await export_to(disk, territory, runner(one), told.append)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sync_agent.courier.commands._CHECKED_BYTES", 1_000_000)
        await export_to(disk, territory, runner(one), told.append)
    all_of_it, some_of_it = told
    assert "everything is on the disk and was read back" in all_of_it
    assert "what is new was read back" in some_of_it
    assert "3 MB were looked at where they begin" in some_of_it


async def test_a_bad_sector_in_what_an_export_looks_at_costs_that_bundle_alone(
    room: Classroom, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, one, _ = await a_class(room)
    item = (await room.publish(teacher, {"bruit.bin": Random(5).randbytes(300_000)})).item
    await export(teacher, disk)
    large = max(bundles(disk), key=lambda path: path.stat().st_size)
    read = courier_disk._Files._read

    def failing(_at: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def read_but(files: Any, file: Any, at: int, length: int) -> bytes:
        if file.name == str(large) and at + length > 100_000 and length > TRAILER_BYTES:
            file = SimpleNamespace(seek=failing, name=file.name)
        return read(files, file, at, length)

    monkeypatch.setattr(courier_disk._Files, "_read", read_but)
    assert (await export(teacher, disk))["bytes"] > 300_000, "written anew"
    assert large.exists(), "another computer may read it"
    assert (await export(teacher, disk))["bytes"] == 0
    monkeypatch.undo()
    large.unlink()
    await bring(one, disk)
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
    monkeypatch.setattr("sync_agent.courier.disk.MAX_NAMES_PER_DISK_FOLDER", 500)
    for number in range(600):
        (disk / f"vacances {number}.jpg").touch()
    assert await bring(one, disk) is not None, "beside our folder nothing is looked at"
    for number in range(600):
        (bundles(disk)[0].parent / f"{number}.jpg").touch()
    assert await code_of(bring(one, disk)) is Code.TOO_MANY_FILES
    assert await code_of(export(one, disk)) is Code.TOO_MANY_FILES


async def test_of_very_many_letters_on_a_disk_a_few_are_kept_in_mind(room: Classroom, disk: Path) -> None:
    teacher, _, _ = await a_class(room)
    await export(teacher, disk)
    place = bundles(disk)[0].parent
    for number in range(5_000):
        (place / f"{name_of(number.to_bytes(2))}.ask").write_bytes(number.to_bytes(2))
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
    with room_for(200_000):
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


async def test_a_bundle_that_begins_as_nobody_can_read_it_is_told_to_who_writes_it(tmp_path: Path) -> None:
    key, payload, salt = SigningKey(bytes(32)), bytes(MAX_PAYLOAD_BYTES), bytes(SALT_BYTES)
    said = [
        compose(author=key, space=bytes(32), kind=Kind.GRANT, grant=None, at=at, payload=payload, salt=salt)
        for at in range(MAX_BUNDLE_PREFACE_BYTES // MAX_PAYLOAD_BYTES)
    ]
    names = {"territory": bytes(32), "space": bytes(32), "commitment": bytes(32), "nonce": bytes(NONCE_BYTES)}
    writer = BundleWriter(bytes(32), **names, preface=said, index=Index(entries=(bytes(32),)))
    async with BundlesOut(CourierDisk(tmp_path, bytes(32))) as out:
        await out.start("bundle", None)
        await out.data(writer.begin())
        await out.data(bytes(writer.finish()))
        await out.end()
        with pytest.raises(LocalFailure) as told:
            await out.settle()
    assert told.value.code is Code.INTERNAL
    assert bundles(tmp_path) == []
