"""A key that a PC has given up, since the work was opened, opens nothing: nobody who reads its disk raw has it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from protocol.canonical import encode
from protocol.replica.content.kept.pack_files import DAMAGED
from protocol.replica.storage.memory import MemoryStore
from protocol.replica.storage.sqlite import DATABASE
from protocol.trust.sealing import CONTENT_KEY_BYTES
from sync_agent.hand_ins.drafts import Drafts
from sync_agent.hand_ins.handing_in import confirm_opened
from sync_agent.hand_ins.wraps import Kept, mark_of, tend_hand_ins
from sync_agent.lan.exchange.meeting import meet
from sync_agent.lan.exchange.peer_session import PeerSession
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.machine.enrolled import KEY_SLOTS_FILE
from sync_agent.machine.key_slots import SEALED_KEY_BYTES, KeySlots
from sync_agent.machine.marks import DRAFT_MARKS
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.bad_disk import unreadable
from tests.harness.classroom import Classroom, Device, Given, assignment, classroom
from tests.harness.lan import exchange, listening_device
from tests.harness.portal import portal

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
    return pc.agent.key_slots.open(Kept.parse(mark).sealed_key)


async def nothing(_slots: KeySlots, _sealed: object) -> None:
    """What a mark held is forgotten, and no more."""


def lose_first_page(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(bytes(PAGE_BYTES) + data[PAGE_BYTES:])


def all_bytes(folder: Path) -> bytes:
    """What lies there now, the database's log with it: blocks of all that stay on a disk when files let go of them."""
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def opened_of(pc: Device, found: bytes) -> set[bytes]:
    """Whoever reads a disk raw: the keys that what was found there gives, with the file of slots as it is now."""
    slots = KeySlots(lambda: pc.agent.secrets, MemoryStore(), pc.agent.entropy)
    ends = (match.end() for match in re.finditer(rb"\xa6sealed\xc4.", found, re.DOTALL))
    keys = (slots.open(found[end : end + SEALED_KEY_BYTES]) for end in ends)
    return {key for key in keys if key is not None}


async def begun_by(pc: Device, person: bytes, item: bytes, text: bytes) -> bytes:
    """A pupil keeps something for later; its key."""
    drafts, files = Drafts(pc.agent), {"Journal intime.odt": text}
    await drafts.keep(person, item, [("Journal intime.odt", len(text))], Given(files))
    kept = await drafts.find(person, item)
    assert kept is not None
    key = pc.agent.key_slots.open(kept.sealed_key)
    assert key is not None
    return key


class _NoCipher:
    """As if what is sealed lay there as it is."""

    def __init__(self, _key: bytes) -> None:
        pass

    def encrypt(self, _nonce: bytes, data: bytes, _bound: bytes) -> bytes:
        return data + bytes(SEALED_KEY_BYTES - 4 - len(data))

    def decrypt(self, _nonce: bytes, data: bytes, _bound: bytes) -> bytes:
        return data[:CONTENT_KEY_BYTES]


@attack(ROW, off={"sync_agent.machine.key_slots.ChaCha20Poly1305": _NoCipher})
async def test_no_key_of_a_work_or_a_draft_is_ever_in_a_byte_that_its_pc_writes(tmp_path: Path) -> None:
    async with handed_in(tmp_path) as (teacher, pc, done, key):
        written, log = [all_bytes(pc.agent.folder)], pc.agent.folder / f"{DATABASE}-wal"
        assert mark_of(done).encode() in log.read_bytes(), "what hands in goes through the log of the database"
        draft = await begun_by(pc, bytes(16), done, b"ce qui n'est pas fini")
        written += [all_bytes(pc.agent.folder)]
        await is_opened(teacher, pc, done)
        await tend_hand_ins(pc.agent)
        written += [all_bytes(pc.agent.folder)]
        assert not any(secret in bytes_ for secret in (key, draft) for bytes_ in written)


@attack(ROW, off={"sync_agent.machine.secrets.SecretsOfFolder.overwrite": lambda *_: None})
async def test_a_key_that_a_pc_has_given_up_opens_nothing_wherever_on_its_disk_it_lies(tmp_path: Path) -> None:
    async with handed_in(tmp_path) as (teacher, pc, done, key):
        disk = all_bytes(pc.agent.folder)
        assert opened_of(pc, disk) == {key}
        await is_opened(teacher, pc, done)
        await tend_hand_ins(pc.agent)
        assert opened_of(pc, disk + all_bytes(pc.agent.folder)) == set()


@attack(ROW, off={"sync_agent.machine.key_slots.KeySlots.give_up": nothing})
async def test_nor_where_the_disk_refused_that_at_first(tmp_path: Path) -> None:
    async with handed_in(tmp_path) as (teacher, pc, done, _):
        await is_opened(teacher, pc, done)
        disk = all_bytes(pc.agent.folder)
        with unreadable(pc.agent.folder / KEY_SLOTS_FILE):
            await tend_hand_ins(pc.agent)
        await tend_hand_ins(pc.agent)
        assert await key_of(pc, done) is None
        assert opened_of(pc, disk) == set()


@attack(ROW, off={"sync_agent.machine.key_slots.KeySlots.give_up": nothing})
async def test_nor_does_what_was_begun_once_it_is_handed_in_or_something_else_is_kept(tmp_path: Path) -> None:
    async with handed_in(tmp_path) as (_, pc, done, _key):
        lea = bytes(16)
        first = await begun_by(pc, lea, done, b"un")
        disk = all_bytes(pc.agent.folder)
        second = await begun_by(pc, lea, done, b"deux")
        disk += all_bytes(pc.agent.folder)
        assert first not in opened_of(pc, disk)
        assert second in opened_of(pc, disk)
        await Drafts(pc.agent).drop(lea, done)
        assert second not in opened_of(pc, disk)


async def _none_is_free(_slots: KeySlots) -> None:
    """As if no program looked when it starts."""


@attack(ROW, off={"sync_agent.machine.key_slots.KeySlots.draw_free": _none_is_free})
async def test_nor_does_what_was_given_up_when_the_power_went(tmp_path: Path) -> None:
    async with handed_in(tmp_path) as (_, pc, done, _key):
        begun = await begun_by(pc, bytes(16), done, b"un")
        disk = all_bytes(pc.agent.folder)
        marks = await pc.agent.replica.store.marks(DRAFT_MARKS)
        # something else was kept, and the slot of this one had not been written over yet
        await pc.agent.replica.store.set_marks(dict.fromkeys(marks))
        assert begun in opened_of(pc, disk)
        await pc.starts_again()
        await destroy_erased(pc.agent)
        assert begun not in opened_of(pc, disk)


@attack(ROW, off={"sync_agent.machine.secrets.SecretsOfFolder.overwrite": lambda *_: None})
async def test_a_database_that_was_damaged_and_made_anew_keeps_no_key_longer(tmp_path: Path) -> None:
    async with handed_in(tmp_path) as (teacher, pc, done, key):
        await pc.agent.close()
        lose_first_page(pc.agent.folder / DATABASE)
        await pc.starts_again()
        assert pc.agent.rebuilt is not None
        assert await key_of(pc, done) == key, "nor does it lose one"
        await is_opened(teacher, pc, done)
        await tend_hand_ins(pc.agent)
        assert opened_of(pc, all_bytes(pc.agent.folder / DAMAGED)) == set()


async def test_a_key_that_an_earlier_version_put_into_the_database_is_sealed_at_the_next_start(tmp_path: Path) -> None:
    async with handed_in(tmp_path) as (teacher, pc, done, key):
        store = pc.agent.replica.store
        await store.set_marks({mark_of(done): encode({"key": key, "seen": 7, "proven": 8})})
        assert key in all_bytes(pc.agent.folder)
        aside = pc.agent.folder / DAMAGED / "database-1"
        aside.mkdir(parents=True)
        (aside / DATABASE).write_bytes(key)
        await pc.starts_again()
        await destroy_erased(pc.agent)
        assert await key_of(pc, done) == key
        assert key not in all_bytes(pc.agent.folder)
        await is_opened(teacher, pc, done)
        await tend_hand_ins(pc.agent)
        assert await key_of(pc, done) is None


def _as_it_is(_key: bytes, _at: int) -> Callable[[bytes], bytes]:
    """As if what a form brings waited in clear."""
    return bytes


@attack(ROW, off={"sync_agent.portal.files.spool.crossing": _as_it_is})
async def test_nor_does_the_disk_keep_in_clear_what_a_form_brought_before_it_was_sealed(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    page, text = f"/item/{(await assignment(room, teacher, pc)).hex()}", b"ce que personne d'autre ne doit lire" * 5_000
    blocks: list[int] = []

    def watched(**asked: Any) -> Any:
        file = _UNNAMED(**asked)
        # what the file lets go of, as it lies there then
        blocks.append(os.dup(file.fileno()))
        return file

    monkeypatch.setattr("sync_agent.portal.files.spool.tempfile.TemporaryFile", watched)
    async with portal(pc.agent) as surfer:
        fields = {"person": room.pupil_person.hex()}
        sent = await surfer.send(page, f"{page}/hand-in", fields, [("Journal intime.odt", text)])
        assert sent.status == 303
    (block,) = blocks
    found = os.pread(block, 2 * len(text), 0)
    os.close(block)
    assert len(found) == len(text)
    assert text[:20] not in found


_UNNAMED = tempfile.TemporaryFile
