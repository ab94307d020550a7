"""A courier disk asks nothing of a stick that FAT32 and exFAT do not have (`harness.fat`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.errors import LocalFailure
from protocol.folds.coursework import HandInState
from protocol.limits import MAX_BUNDLE_BYTES, MAX_LETTER_BYTES
from protocol.model.work import ItemKind
from sync_agent.courier.disk import CourierDisk
from sync_agent.courier.letters import Letter, name_of, read_letters, remove_letter, write_letter
from tests.harness.classroom import LARGE, SMALL, WORK, Classroom, work_of
from tests.harness.couriers import bring, bundles, export, know_keys, unfinished
from tests.harness.fat import LARGEST_FILE_BYTES, Stick, mount

pytestmark = pytest.mark.usefixtures("space_keys")


@pytest.fixture
def stick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stick:
    return mount(monkeypatch, tmp_path / "stick")


async def test_a_class_travels_on_a_stick_that_has_neither_links_nor_rights_nor_flushes_of_folders(
    room: Classroom, stick: Stick
) -> None:
    disk = stick.root / "Relais"
    teacher, pc = await room.teacher(), await room.machine()
    await know_keys(room, teacher, pc)
    task = (await room.publish(teacher, LARGE, kind=ItemKind.ASSIGNMENT)).item
    await export(teacher, disk)
    await bring(pc, disk)
    assert await pc.files(task) == LARGE
    work = await room.hand_in(pc, task, WORK)
    await export(pc, disk)
    await bring(teacher, disk)
    assert not await teacher.agent.missing()
    await teacher.session.sync()
    await teacher.session.sync()
    await export(teacher, disk)
    await bring(pc, disk)
    assert (await work_of(pc, room, work)).state is HandInState.SERVER
    assert stick.folders_flushed, "it was asked for, and its refusal harmed nothing"
    assert bundles(disk)
    assert not unfinished(disk)
    assert len({name.casefold() for name in stick.names}) == len(stick.names)


async def test_what_is_replaced_and_what_is_damaged_leaves_such_a_stick_too(room: Classroom, stick: Stick) -> None:
    disk = stick.root / "Relais"
    teacher, pc = await room.teacher(), await room.machine()
    await know_keys(room, teacher, pc)
    await room.publish(teacher, SMALL)
    await export(teacher, disk)
    first = bundles(disk)[0]
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(LocalFailure, match="damaged"):
        await bring(pc, disk)
    assert first not in bundles(disk)
    await export(teacher, disk)
    await bring(pc, disk)
    assert not await pc.agent.missing()


def test_letters_are_written_read_and_taken_away(stick: Stick) -> None:
    disk = CourierDisk(stick.root / "Relais", bytes(32))
    letters = {name_of(data): data for data in (b"one", b"two", b"three")}
    for name, data in letters.items():
        write_letter(disk, Letter.ASK, name, data)
    assert read_letters(disk.place, Letter.ASK) == letters
    first, *others = letters
    remove_letter(disk.place, Letter.ASK, first)
    assert set(read_letters(disk.place, Letter.ASK)) == set(others)


def test_no_file_that_is_written_is_larger_than_fat_holds() -> None:
    assert max(MAX_BUNDLE_BYTES, MAX_LETTER_BYTES) < LARGEST_FILE_BYTES
