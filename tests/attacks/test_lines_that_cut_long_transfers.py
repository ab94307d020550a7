"""A line that cuts long transfers, or lets them drip all day: what was heard is looked at (docs/attacks.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Code, NoAnswer
from protocol.messages.calls import SyncAnswer
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, PersonKey
from protocol.roles import Role
from sync_agent.sync.asking import Asked
from sync_agent.sync.run import Run
from sync_agent.sync.session import Session
from sync_agent.upkeep.erasing import destroying
from tests.harness.attack import attack
from tests.harness.classroom import LARGE, WORK, Classroom, Device, assignment, classroom, keeps_key_of
from tests.harness.commands import Desk
from tests.harness.copied_keys import signed_with
from tests.harness.passing_days import pass_days
from tests.harness.patience import until
from tests.harness.territory import new_device
from tests.harness.wire import MemoryTransport

ROW = "a line lets nothing long through"


class _Line(MemoryTransport):
    """Requests get through, and transfers are cut."""

    async def fetch(self, capability: str, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
        if length != 0:
            raise NoAnswer(Code.UNREACHABLE, f"the line was cut at {start} of {capability}")
        yield b""


async def _content_first(self: Session, run: Run, asked: Asked, answer: SyncAnswer) -> bool:
    answer = await self._take(run, asked, answer)
    if not run.said.fetching:
        await self._moving.work_off(run)
        await self._moving.answer_lacks(run, asked, answer)
    return await self._keep_readers(run)


async def _nothing(_self: Session, _run: Run) -> None:
    return


OFF: dict[str, object] = {
    "sync_agent.sync.session.Session._hear": _content_first,
    "sync_agent.sync.session.Session._look_all_the_same": _nothing,
}


@asynccontextmanager
async def _class_at_such_a_line(folder: Path) -> AsyncIterator[tuple[Classroom, Device, Device]]:
    """A class, the laptop of its teacher, and a PC that has agreed with the server before the line was so."""
    async with classroom(folder) as room:
        teacher = await room.teacher()
        for _ in range(2):
            await teacher.session.sync()
        yield room, teacher, await room.device(Role.MACHINE, way=_Line)


async def _a_month(room: Classroom, machine: Device) -> None:
    for _ in range(30):
        with suppress(NoAnswer):
            await machine.session.sync()
        room.territory.clock.advance(DAY_MS)


@attack(ROW, off=OFF)
async def test_whom_a_pc_has_heard_on_it_for_a_month_it_has_met(tmp_path: Path) -> None:
    async with _class_at_such_a_line(tmp_path) as (room, teacher, machine):
        await room.publish(teacher, LARGE)
        await teacher.session.sync()
        await _a_month(room, machine)
        spy = new_device(Random(666).randbytes)
        (grant,) = await room.territory.let_in(spy, Role.TEACHER, room.space, person=room.teacher_person)
        payload, person = PersonKey(spy.agreement.public).encode(), room.teacher_person
        key = signed_with(spy.signing, grant.id, room.space, 1, Kind.PERSON_KEY, payload, subject=person)
        await room.territory.replica.admit([key], source=b"who has the key", now_ms=room.territory.clock())
        await _a_month(room, machine)
        roster = (await machine.agent.replica.view(room.space)).roster
        speaks = {key for key, _ in roster.speaking[room.teacher_person]}
        assert speaks == {teacher.agent.device}


@attack(ROW, off=OFF)
async def test_a_pc_that_has_heard_on_it_that_a_work_was_opened_opens_it_no_more(tmp_path: Path) -> None:
    async with _class_at_such_a_line(tmp_path) as (room, teacher, machine):
        item = await assignment(room, teacher, machine)
        work = await room.hand_in(machine, item, WORK)
        for each in (machine, teacher):
            await each.session.sync()
        await Desk(teacher.agent).ask("confirm-opened", id=work.hex())
        await room.publish(teacher, LARGE)
        for _ in range(2):
            await teacher.session.sync()
        await _a_month(room, machine)
        assert not await keeps_key_of(machine, work)


async def test_what_is_due_is_destroyed_on_it_though_a_first_sync_goes_on_all_day(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, pupil = await room.machine(), room.pupil_person
    await room.territory.kit_says(room.territory.id, Kind.ERASE, Erasure(pupil).encode())
    await machine.session.sync()
    await pass_days(room.territory, 5, machine)
    room.territory.clock.advance(2 * DAY_MS)

    async def is_named() -> bool:
        said = await machine.agent.replica.store.scan_kinds([Kind.PERSON])
        return any(each.header.subject == pupil and each.payload is not None for each in said)

    async def is_forgotten() -> bool:
        return not await is_named()

    assert await is_named()
    monkeypatch.setattr("sync_agent.upkeep.erasing.ASKED_WITHIN_S", 0.0)
    async with destroying(machine.agent, asyncio.Event()):
        await until(is_forgotten)
