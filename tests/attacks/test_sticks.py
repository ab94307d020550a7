"""What may be tried by whoever prepared the stick that is plugged in (docs/threat-model.md)."""

from __future__ import annotations

import os
import time
from pathlib import Path

from protocol.bundle import TRAILER_BYTES, Head, Trailer
from protocol.limits import MAX_BUNDLE_FRONTS_PER_LOOK_BYTES, MAX_BUNDLE_INDEX_BYTES, MiB
from protocol.replica.operation import FileData, FileStart
from sync_agent.courier_disk import CardsIn, CourierDisk
from sync_agent.courier_watch import CourierWatch, disks_of
from sync_agent.operations import table
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, classroom

TERRITORY = bytes(range(32))


@attack("a hostile stick", off={"sync_agent.courier_disk.CourierDisk._check_own": lambda _disk: None})
async def test_a_stick_that_leads_elsewhere_takes_and_leaves_nothing_there(tmp_path: Path) -> None:
    async with classroom(tmp_path / "room") as room:
        teacher = await room.teacher()
        await room.publish(teacher, SMALL)
        home = tmp_path / "home"
        home.mkdir()
        (home / "0123456789abcdef.tmp").write_bytes(b"somebody's unsaved work")
        stick = tmp_path / "sticks" / "USB" / "Relais"
        stick.mkdir(parents=True)
        (stick / room.territory.id[:8].hex()).symlink_to(home)
        disks = disks_of(str(tmp_path / "sticks"))
        agent = teacher.agent
        await CourierWatch(agent, table(agent), disks, monotonic=time.monotonic, say=lambda _: None).look()
        assert [path.name for path in home.iterdir()] == ["0123456789abcdef.tmp"]
        assert agent.stick == "failed"


def junk(place: Path, front_bytes: int) -> None:
    """A bundle as far as anybody without a key can tell, of a few KiB on the disk and a large front."""
    digest = os.urandom(32)
    head = Head.compose(TERRITORY, bytes(32), bytes(32), os.urandom(32), (), front_bytes)
    size = len(head.data) + front_bytes + 4_096 + TRAILER_BYTES
    with (place / f"{digest[:16].hex()}.rls").open("wb") as file:
        file.write(head.data)
        file.truncate(size - TRAILER_BYTES)
        file.seek(size - TRAILER_BYTES)
        file.write(Trailer(size, digest).encode())


@attack("a hostile stick", off={"sync_agent.courier_disk.MAX_BUNDLE_FRONTS_PER_LOOK_BYTES": 2**60})
async def test_a_stick_full_of_large_fronts_is_given_up_after_the_small_ones(tmp_path: Path) -> None:
    disk = CourierDisk(tmp_path, TERRITORY)
    disk.make()
    for front_bytes in [*[MAX_BUNDLE_INDEX_BYTES] * 17, 100]:
        junk(disk.place, front_bytes)
    read, first = 0, 0
    async for event in CardsIn(disk, disk.bundles()):
        if isinstance(event, FileStart):
            first = first or event.size or 0
        elif isinstance(event, FileData):
            read += len(event.data)
    assert first < MiB
    assert read <= MAX_BUNDLE_FRONTS_PER_LOOK_BYTES
