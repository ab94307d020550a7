"""A disk that is full to its last block still hears rights, and programs start on it (docs/attacks.md)."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.errors import Code, LocalFailure
from protocol.limits import KiB, MiB
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Revocation
from protocol.model.work import ContentRef, ItemKind, Revision
from protocol.replica.ballast import PARTS, Ballast, Rank
from protocol.replica.console.ownership import acquire, publish_control
from protocol.roles import PersonRole
from sync_agent.app import Agent
from sync_agent.hand_ins.drafts import Drafts
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, Given
from tests.harness.commands import Desk
from tests.harness.full_disk import FullDisk

ROW = "a disk that is full hears nothing any more"


async def kits_word(room: Classroom) -> list[Entry]:
    """The kit cuts the server's key off."""
    server = room.territory
    return [await server.kit_says(server.id, Kind.REVOKE, Revocation(server.keys.signing.public, ()).encode())]


async def lesson(room: Classroom, title: str) -> list[Entry]:
    said = Revision(ItemKind.LESSON, title, None, None, ContentRef(bytes(32), 1, 1))
    return [await room.territory.say(room.space, Kind.REVISION, said.encode())]


async def pupil(room: Classroom, name: str) -> list[Entry]:
    before = {stored.entry.id for stored in await room.territory.replica.store.scan(room.space)}
    await room.territory.person(name, PersonRole.PUPIL, room.space)
    return [one.entry for one in await room.territory.replica.store.scan(room.space) if one.entry.id not in before]


async def hears(device: Device, entries: list[Entry]) -> bool:
    try:
        await device.agent.replica.admit(entries, source=b"x", now_ms=device.agent.now_ms())
    except LocalFailure as failure:
        return failure.code is not Code.DISK_FULL
    return True


def _no(_ballast: Ballast, _rank: Rank, _size: int = 0) -> bool:
    return False


@attack(ROW, off={"protocol.replica.ballast.Ballast.give_up": _no})
async def test_a_disk_without_a_free_block_hears_rights_and_the_kits_word(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    pc = await room.machine()
    await pc.session.sync()
    full = FullDisk(pc.agent.folder, monkeypatch)
    Ballast(full.folder).keep()
    full.fill()
    assert not await hears(pc, await lesson(room, "Eau")), "as before: what is not rights has to wait"
    assert await hears(pc, await pupil(room, "Léa"))
    full.fill()
    assert await hears(pc, await kits_word(room))


@attack(ROW, off={"protocol.replica.ballast.Ballast.is_kept_from": _no})
async def test_what_was_given_up_for_rights_is_filled_by_nothing_else_and_comes_back(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    pc = await room.machine()
    await pc.session.sync()
    full = FullDisk(pc.agent.folder, monkeypatch)
    Ballast(full.folder).keep()
    full.fill()
    await pc.agent.replica.store.set_marks({"a note": bytes(10)})
    assert full.free_bytes > 0
    assert not await hears(pc, await lesson(room, "Eau")), "it is not for lessons"
    assert (await Desk(pc.agent).ask("status"))["disk"]["full"]
    # whoever has the server's key says rights without end, and nobody else's are left
    while Ballast(full.folder).give_up(Rank.START):
        pass
    full.fill(left_bytes=PARTS[Rank.START] - KiB)
    assert not await hears(pc, await pupil(room, "Personne"))
    assert await hears(pc, await kits_word(room))
    full.make_room()
    assert await hears(pc, await lesson(room, "Terre"))
    assert not (await Desk(pc.agent).ask("status"))["disk"]["full"]
    Ballast(full.folder).keep()
    assert Ballast(full.folder).given_up(Rank.OTHER) == 0


def _nothing_is_left(_ballast: Ballast, _size: int, _rank: Rank = Rank.OTHER) -> None:
    pass


async def _keeps_for_later(pc: Device, size: int) -> None:
    files = {"film.bin": bytes(size)}
    entropy = pc.agent.entropy
    await Drafts(pc.agent).keep(entropy(16), entropy(16), [("film.bin", size)], Given(files))


async def _hands_in_or_publishes(pc: Device, size: int) -> None:
    (space, *_) = await pc.agent.spaces()
    build = await pc.agent.replica.content.build(space, unsent=True, sealed=True)
    try:
        for _ in range(0, size, 64 * KiB):
            await build.chunk(pc.agent.entropy(min(size, 64 * KiB)))
        await build.finish()
    except LocalFailure:
        await build.abort()
        raise


async def _is_sent_a_pack(pc: Device, size: int) -> None:
    await pc.agent.replica.content.append_part(pc.agent.entropy(32), 0, bytes(size))


@attack(ROW, off={"protocol.replica.ballast.Ballast.leave": _nothing_is_left})
@pytest.mark.parametrize("writes", [_keeps_for_later, _hands_in_or_publishes, _is_sent_a_pack])
async def test_files_take_nothing_of_what_was_given_up_for_rights(
    room: Classroom, monkeypatch: pytest.MonkeyPatch, writes: Callable[[Device, int], Awaitable[None]]
) -> None:
    pc = await room.machine()
    await pc.session.sync()
    full = FullDisk(pc.agent.folder, monkeypatch)
    Ballast(full.folder).keep()
    full.fill()  # films
    for _ in range(len(PARTS)):
        with contextlib.suppress(LocalFailure):
            await pc.agent.replica.store.set_marks({"a note": pc.agent.entropy(8)})
            while full.free_bytes > 0:
                await writes(pc, max(1, min(MiB, full.free_bytes // 2)))
    assert await hears(pc, await pupil(room, "Léa"))
    assert await hears(pc, await kits_word(room))


@attack(ROW, off={"protocol.replica.ballast.Ballast.give_up": _no})
async def test_a_program_starts_on_a_disk_without_a_free_block(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    pc = await room.machine()
    await pc.session.sync()
    full = FullDisk(pc.agent.folder, monkeypatch)
    Ballast(full.folder).keep()
    await pc.agent.close()
    full.fill()
    make = os.open

    def open_there(path: str | Path, *rest: Any, **named: Any) -> int:
        if full.free_bytes <= 0 and "control.json" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return make(path, *rest, **named)

    monkeypatch.setattr(os, "open", open_there)
    owner = acquire(full.folder)
    assert owner is not None
    with owner:
        try:
            publish_control(owner, "127.0.0.1", 1, "token")
        except LocalFailure as failure:
            pytest.fail(failure.message)
        pc.agent = await Agent.open(full.folder, now_ms=room.territory.clock, entropy=Random(1).randbytes)
        assert await hears(pc, await kits_word(room))
