"""LISEZ-MOI.txt on a courier disk: what who finds it reads, and that it costs nobody's work anything."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sync_agent.courier.note import NOTE_NAME, leave_note, note
from tests.harness.classroom import SMALL, Classroom, Device
from tests.harness.couriers import bring, export, know_keys, unfinished

pytestmark = pytest.mark.usefixtures("space_keys")


async def met(room: Classroom) -> tuple[Device, Device]:
    teacher, pc = await room.teacher(), await room.machine()
    await know_keys(room, teacher, pc)
    return teacher, pc


async def test_who_finds_a_stick_reads_what_it_is_and_no_name(room: Classroom, disk: Path) -> None:
    teacher, pc = await met(room)
    item = (await room.publish(teacher, SMALL)).item
    await export(teacher, disk)
    data = (disk / NOTE_NAME).read_bytes()
    text = data.decode("utf-8-sig")
    for words in ("Vous l'avez trouvée ?", "à l'école la plus proche", "You found it?", "nearest school", "sealed"):
        assert words in text
    for name in (
        "Léa",
        "Mme Petit",
        "CM1",
        teacher.agent.enrolment.territory_name,
        teacher.agent.enrolment.device_name,
    ):
        assert name not in text
    assert data.count(b"\r\n") == data.count(b"\n"), "old editors of Windows show lines"
    await bring(pc, disk)
    assert await pc.files(item) == SMALL


async def test_the_text_is_written_once_renewed_if_it_is_ours_and_never_over_somebody_elses(
    room: Classroom, disk: Path
) -> None:
    teacher, _ = await met(room)
    await export(teacher, disk)
    place = disk / NOTE_NAME
    os.utime(place, (1, 1))
    await export(teacher, disk)
    assert place.stat().st_mtime == 1
    first_line = note().partition(b"\r\n")[0]
    place.write_bytes(first_line + b"\r\nWhat an earlier version said.\r\n")
    await export(teacher, disk)
    assert place.read_bytes() == note()
    for others in (b"Mes notes de cours.", b""):
        place.write_bytes(others)
        await export(teacher, disk)
        assert place.read_bytes() == others
    place.unlink()
    place.mkdir()
    await export(teacher, disk)
    assert place.is_dir()


@pytest.mark.parametrize("trouble", [errno.ENOSPC, errno.EROFS, errno.EIO])
async def test_a_stick_that_has_no_room_for_the_text_carries_what_matters(
    room: Classroom, disk: Path, monkeypatch: pytest.MonkeyPatch, trouble: int
) -> None:
    def no_room(_descriptor: int) -> None:
        raise OSError(trouble, "no")

    teacher, pc = await met(room)
    item = (await room.publish(teacher, SMALL)).item
    with monkeypatch.context() as patched:
        patched.setattr("sync_agent.courier.note.os.fsync", no_room)
        disk.joinpath("0" * 16).mkdir(parents=True)
        leave_note(disk, disk / ("0" * 16) / "0000.tmp")
    assert not (disk / NOTE_NAME).exists()
    assert unfinished(disk) == []
    (disk / NOTE_NAME).symlink_to("/dev/full")  # somebody's, and nothing that takes our text
    await export(teacher, disk)
    assert (disk / NOTE_NAME).is_symlink()
    await bring(pc, disk)
    assert await pc.files(item) == SMALL
