"""Who may say lessons, or has the server's key, lets copies fill the disks of a class (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest

from protocol.limits import MiB
from protocol.model.entry import Kind
from protocol.model.work import ContentRef, ItemKind, Revision
from protocol.replica.at_work.replica import Draft
from protocol.transfer.manifest import ManifestEntry, encode_manifest
from sync_agent.app import RoomLimits
from sync_agent.coursework.copies_room import Taken
from sync_agent.coursework.materializer import Materializer
from sync_agent.coursework.tree_room import TreeRoom
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device
from tests.harness.small_disk import SmallDisk, takes

ROW = "readable copies fill the disk"
RESERVE_BYTES = MiB


async def streams_of(device: Device, room: Classroom, item: bytes) -> dict[str, bytes]:
    shown = (await device.agent.replica.view(room.space)).coursework.items[item].shown
    return {file.path: file.stream for file in await device.agent.holdings.manifest(shown.record.content.stream)}


async def say_lessons(room: Classroom, stream: bytes, count: int) -> None:
    """The server says lessons of this list of files, each of one byte."""
    server = room.territory
    lessons = [Revision(ItemKind.LESSON, f"L{number}", None, None, ContentRef(stream, 1, 1)) for number in range(count)]
    drafts = [Draft(room.space, Kind.REVISION, server.certificate.id, lesson.encode()) for lesson in lessons]
    await server.replica.write(
        drafts, author=server.keys.signing, now_ms=server.clock(), entropy=server.entropy, unsent=False
    )


async def empty_files(room: Classroom, thief: Device, folders: int) -> bytes:
    """A list of empty files, each in a folder of its own."""
    empty = (await streams_of(thief, room, (await room.publish(thief, {"empty.txt": b""})).item))["empty.txt"]
    listed = encode_manifest([ManifestEntry(f"{number:04d}/f.txt", 0, empty) for number in range(folders)])
    carried = await room.publish(thief, {"list.bin": listed})
    await thief.session.sync()
    return (await streams_of(thief, room, carried.item))["list.bin"]


def _as_it_is_said(sizes: Iterable[int], _folders: Collection[str], _block_bytes: int) -> Taken:
    return Taken(sum(sizes), 0)


async def _nobody_looks(*_: Any) -> None:
    return None


@attack(
    ROW,
    off={
        "sync_agent.coursework.tree_room.taken": _as_it_is_said,
        "sync_agent.coursework.tree_room.TreeRoom.look_again": _nobody_looks,
        "sync_agent.coursework.materializer.Materializer._make_way": _nobody_looks,
    },
)
async def test_lists_of_empty_files_in_folders_leave_the_reserve_free(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    pc, thief = await room.machine(), await room.teacher()
    await say_lessons(room, await empty_files(room, thief, 100), 10)
    for _ in range(2):
        await pc.session.sync()
    disk = SmallDisk(pc.agent.folder, RESERVE_BYTES + 3 * MiB).mount(monkeypatch)
    await Materializer(pc.agent, reserve_bytes=RESERVE_BYTES).refresh(thorough=True)
    copies = takes(pc.agent.folder / "coursework")
    assert copies > MiB, "some have their copies"
    assert disk.free_bytes >= RESERVE_BYTES, "ten of 800 KiB would not"


def _nothing_goes(*_: Any) -> list[bytes]:
    return []


@attack(ROW, off={"sync_agent.coursework.materializer.making_way": _nothing_goes})
async def test_copies_make_way_by_themselves_for_what_else_fills_the_disk_and_come_back(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    pc, thief = await room.machine(), await room.teacher()
    await say_lessons(room, await empty_files(room, thief, 100), 4)
    for _ in range(2):
        await pc.session.sync()
    disk = SmallDisk(pc.agent.folder, RESERVE_BYTES + 6 * MiB).mount(monkeypatch)
    tree = Materializer(pc.agent, reserve_bytes=RESERVE_BYTES)
    await tree.refresh(thorough=True)
    shown = set((pc.agent.folder / "coursework").glob("*/*"))
    video = pc.agent.folder / "video.bin"
    video.write_bytes(bytes(disk.free_bytes - 4096))
    await tree.refresh(thorough=False)
    assert disk.free_bytes >= RESERVE_BYTES
    video.unlink()
    await tree.refresh(thorough=False)
    assert set((pc.agent.folder / "coursework").glob("*/*")) == shown


async def _what_a_revision_says(_room: TreeRoom, _item: bytes, _stream: bytes) -> int:
    return 1


@attack(ROW, off={"sync_agent.coursework.tree_room.TreeRoom._size": _what_a_revision_says})
async def test_copies_take_no_more_than_the_disk_budget_leaves_whatever_a_revision_says_of_its_size(
    room: Classroom,
) -> None:
    pc, thief = await room.machine(), await room.teacher()
    published = await room.publish(thief, {"zeros.bin": bytes(MiB)})
    await thief.session.sync()
    shown = (await thief.agent.replica.view(room.space)).coursework.items[published.item].shown
    await say_lessons(room, shown.record.content.stream, 10)
    for _ in range(2):
        await pc.session.sync()
    _, _, packs = await pc.agent.replica.content.totals()
    pc.agent.room_limits = RoomLimits(packs + 3 * MiB)
    await Materializer(pc.agent, reserve_bytes=0).refresh(thorough=True)
    assert MiB < takes(pc.agent.folder / "coursework") <= 3 * MiB
