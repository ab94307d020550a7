"""Whoever has the server keeps the recovery kit's key from a PC on which pupils hand in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.identity import AgreementKey
from protocol.limits import MAX_LATE_WRAPS_PER_DEVICE
from protocol.model.entry import Kind
from protocol.model.structure import PersonKey
from protocol.replica.content.holdings import Need
from protocol.rights.roster import Roster
from sync_agent.app import Agent
from sync_agent.hand_ins.wraps import _as_many_as_bounded
from sync_agent.machine.eviction import Worth
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, Device, assignment, classroom, keeps_key_of, work_of, worth_of
from tests.harness.commands import Desk
from tests.harness.kept_from import told_without
from tests.harness.spied_class import SpiedClass
from tests.harness.territory import new_device

ROW = "a PC is kept from the kit's key"


async def _doctor(pc: Device) -> str:
    return str((await Desk(pc.agent).ask("doctor"))["problems"])


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as here:
        yield here


async def _handed_in_without_the_kit(room: Classroom) -> tuple[Device, Device, bytes]:
    """A teacher's laptop, a PC that has never heard of the kit's key, and work that was handed in there."""
    petit, pc = await room.teacher(), await room.machine()
    await petit.session.sync()
    item = await assignment(room, petit)
    await petit.session.sync()
    await told_without(pc, room.territory.replica, Kind.RECOVERY_KEY)
    work = await room.hand_in(pc, item, WORK)
    await told_without(pc, room.territory.replica, Kind.RECOVERY_KEY)
    assert room.territory.keys.recovery.public not in (await work_of(pc, room, work)).readers
    return petit, pc, work


async def _opens(petit: Device, pc: Device, room: Classroom, work: bytes) -> None:
    """She does, and the PC hears of that, and of no kit."""
    await petit.session.sync()
    await Desk(petit.agent).ask("confirm-opened", id=work.hex())
    await petit.session.sync()
    await told_without(pc, room.territory.replica, Kind.RECOVERY_KEY)


def _whatever(_recovery: Collection[bytes], _wrapped: Collection[bytes]) -> bool:
    return True


@attack(ROW, off={"sync_agent.hand_ins.wraps._kit_opens": _whatever})
async def test_it_keeps_the_key_of_what_was_opened_until_it_has_sealed_that_to_the_kit(room: Classroom) -> None:
    petit, pc, work = await _handed_in_without_the_kit(room)
    await _opens(petit, pc, room, work)
    for _ in range(9):
        room.territory.clock.advance(DAY_MS)
        await told_without(pc, room.territory.replica, Kind.RECOVERY_KEY)
    assert await keeps_key_of(pc, work)
    assert "recovery kit" in await _doctor(pc)
    for _ in range(2):
        await pc.session.sync()
    assert "recovery kit" not in await _doctor(pc)
    kit = room.territory.keys.recovery.public
    assert pc.agent.device in (await work_of(pc, room, work)).wrapped_by.get(kit, ())
    assert not await keeps_key_of(pc, work), "and not for longer"


@attack(ROW, off={"sync_agent.sync.worth.Worths._kit_opens": lambda *_: True})
async def test_nor_does_its_content_make_way_before(room: Classroom) -> None:
    petit, pc, work = await _handed_in_without_the_kit(room)
    await _opens(petit, pc, room, work)
    need = Need(room.space, (await work_of(pc, room, work)).record.content.stream, sealed=True)
    for _ in range(35):
        room.territory.clock.advance(DAY_MS)
        await told_without(pc, room.territory.replica, Kind.RECOVERY_KEY)
    assert await worth_of(pc, need) is Worth.KEPT
    for _ in range(2):
        await pc.session.sync()
    assert await worth_of(pc, need) is Worth.RECEIVED


async def _no_kits(_agent: Agent) -> tuple[list[bytes], frozenset[bytes]]:
    return [], frozenset()


@attack(ROW, off={"sync_agent.hand_ins.wraps._kits": _no_kits})
async def test_a_teachers_laptop_seals_to_the_kit_what_it_has_opened_of_a_pc_that_is_gone(room: Classroom) -> None:
    petit, pc, work = await _handed_in_without_the_kit(room)
    await _opens(petit, pc, room, work)
    for _ in range(3):
        await petit.session.sync()
    kit = room.territory.keys.recovery.public
    found = await work_of(petit, room, work)
    assert kit in found.readers
    said = await petit.agent.replica.store.authored(room.space, petit.agent.device)
    assert len([one for one in said if one.header.kind == Kind.WRAP]) == 1, "once"


def _as_anybodys(
    wanted: Sequence[bytes], done: Iterable[bytes], roster: Roster, _recovery: Collection[bytes]
) -> list[bytes]:
    return _as_many_as_bounded(wanted, done, roster, ())


@attack(ROW, off={"sync_agent.hand_ins.wraps._as_many_as_bounded": _as_anybodys})
async def test_whoever_says_the_kits_key_as_theirs_after_many_others_keeps_nothing_from_the_kit(
    room: Classroom,
) -> None:
    petit, pc, work = await _handed_in_without_the_kit(room)
    spy, kit = new_device(Random(666).randbytes), room.territory.keys.recovery.public
    here, person = SpiedClass(room, petit, pc, b"", work, spy), b"x" * 16
    await here.name_the_spy(person)
    for number in range(MAX_LATE_WRAPS_PER_DEVICE + 1):
        await told_without(pc, room.territory.replica, Kind.RECOVERY_KEY)
        key = AgreementKey(bytes([number + 1] * 32)).public
        await here.say(Kind.PERSON_KEY, PersonKey(key).encode(), person)
    await here.say(Kind.PERSON_KEY, PersonKey(kit).encode(), person)
    await pc.session.sync()
    assert kit in (await work_of(pc, room, work)).readers
