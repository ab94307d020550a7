"""A key that a PC has given up, since the work was opened, lies in no file of it: who steals it reads none of that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from protocol.errors import LocalFailure
from protocol.replica.content.kept.pack_files import DAMAGED
from protocol.replica.storage.sqlite import DATABASE
from sync_agent.app import Agent
from sync_agent.hand_ins.handing_in import confirm_opened
from sync_agent.hand_ins.wraps import Kept, mark_of, tend_hand_ins
from sync_agent.lan.exchange.meeting import meet
from sync_agent.lan.exchange.peer_session import PeerSession
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.machine.enrolled import OUTBOX_FILE
from sync_agent.machine.marks import COPIES_SEEN_MARK
from tests.harness.attack import attack
from tests.harness.classroom import Device, assignment, classroom
from tests.harness.lan import exchange, listening_device

ROW: Final = "a stolen PC opens what a teacher has opened"
PAGE_BYTES: Final = 4096


@asynccontextmanager
async def handed_in(folder: Path) -> AsyncIterator[tuple[Device, Device, bytes, bytes]]:
    """A teacher's laptop, a PC, work that was handed in there, and its key, which the PC has."""
    async with classroom(folder) as room:
        teacher, pc = await room.teacher(), await room.machine()
        task = await assignment(room, teacher, pc)
        for device in (teacher, pc):
            await device.session.sync()
        done = await room.hand_in(pc, task, {"Journal intime.odt": b"ce que personne d'autre ne doit lire"})
        key = await key_of(pc, done)
        assert key is not None
        yield teacher, pc, done, key


async def is_opened(teacher: Device, pc: Device, work: bytes) -> None:
    """The teacher has opened it, of which the PC hears; no server is there any more."""
    await exchange(pc.agent, teacher.agent)
    await confirm_opened(teacher.agent, work)
    async with listening_device(teacher.agent) as address:
        transport = PeerTransport(address)
        try:
            await PeerSession(pc.agent, transport, await meet(pc.agent, transport)).exchange()
        finally:
            await transport.close()


async def key_of(pc: Device, work: bytes) -> bytes | None:
    mark = await pc.agent.replica.store.mark(mark_of(work))
    assert mark is not None
    return Kept.parse(mark).content_key


def lose_first_page(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(bytes(PAGE_BYTES) + data[PAGE_BYTES:])


def files_with(folder: Path, secret: bytes) -> list[str]:
    return [file.name for file in folder.rglob("*") if file.is_file() and secret in file.read_bytes()]


async def nothing(_what: object) -> None:
    """Only the database forgets."""


@attack(ROW, off={"sync_agent.app.Agent.forget_copies": nothing})
async def test_a_key_that_a_pc_has_given_up_lies_in_no_file_of_it(tmp_path: Path) -> None:
    async with handed_in(tmp_path) as (teacher, pc, done, key):
        assert files_with(pc.agent.folder, key)
        await is_opened(teacher, pc, done)
        await tend_hand_ins(pc.agent)
        assert files_with(pc.agent.folder, key) == []


@attack(ROW, off={"protocol.replica.content.kept.packs.PackFolder.forget_damaged": nothing})
async def test_nor_in_a_database_that_was_damaged_and_made_anew_before(tmp_path: Path) -> None:
    async with handed_in(tmp_path) as (teacher, pc, done, key):
        folder, now_ms, entropy = pc.agent.folder, pc.agent.now_ms, pc.agent.entropy
        await pc.agent.close()
        lose_first_page(folder / DATABASE)
        pc.agent = await Agent.open(folder, now_ms=now_ms, entropy=entropy)
        assert files_with(folder / DAMAGED, key)
        await is_opened(teacher, pc, done)
        await tend_hand_ins(pc.agent)
        assert files_with(folder, key) == []


async def _once(agent: Agent) -> None:
    """As if it were done once it has been tried."""
    if await agent.replica.store.mark(COPIES_SEEN_MARK) is None:
        await agent.replica.store.set_marks({COPIES_SEEN_MARK: b"\1"})
        with suppress(LocalFailure):
            await agent.forget_copies()


@attack(ROW, off={"sync_agent.hand_ins.wraps._see_to_copies": _once})
async def test_nor_once_the_disk_takes_what_it_did_not_take_when_the_key_was_given_up(tmp_path: Path) -> None:
    async with handed_in(tmp_path) as (teacher, pc, done, key):
        await is_opened(teacher, pc, done)
        outbox = pc.agent.folder / OUTBOX_FILE
        outbox.unlink()
        outbox.mkdir()
        await tend_hand_ins(pc.agent)
        assert await key_of(pc, done) is None
        assert files_with(pc.agent.folder, key)
        outbox.rmdir()
        await tend_hand_ins(pc.agent)
        assert files_with(pc.agent.folder, key) == []


async def test_what_an_earlier_version_left_of_it_in_a_damaged_database_goes_at_the_next_look(tmp_path: Path) -> None:
    async with handed_in(tmp_path) as (teacher, pc, done, key):
        await is_opened(teacher, pc, done)
        await tend_hand_ins(pc.agent)
        await pc.agent.replica.store.set_marks({COPIES_SEEN_MARK: None})
        aside = pc.agent.folder / DAMAGED / "database-1"
        aside.mkdir(parents=True)
        (aside / DATABASE).write_bytes(key)
        await tend_hand_ins(pc.agent)
        assert files_with(pc.agent.folder, key) == []
