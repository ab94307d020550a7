"""Budgets at work: what is held back, what goes all the same, what survives a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from random import Random

import pytest

from protocol.errors import Code, LocalFailure
from protocol.folds.coursework import HandInState
from protocol.model.register import Health, stored_register
from protocol.replica.console.frame import Notices, now_ms
from protocol.replica.console.operation import NO_FILES, Params
from protocol.roles import Role
from sync_agent.app import Agent
from sync_agent.operations import opened
from sync_agent.pacing.budget import Hold, Limits, Metered, windows_of
from sync_agent.pacing.spending import Budget
from sync_agent.status import status
from sync_agent.sync.session import Session
from sync_agent.transport import paced
from sync_agent.transport.paced import PacedTransport
from tests.harness.classroom import LARGE, SMALL, Classroom, Device, Files, assignment, work_of
from tests.harness.commands import Desk
from tests.harness.enrolled import NOBODY, enrolled_class
from tests.harness.wire import Frontage, MemoryTransport

ALWAYS = Limits(quiet=windows_of(["00:00-24:00"]))
HUGE: Files = {"film.mp4": Random(7).randbytes(3_000_000)}


async def budgeted(device: Device, limits: Limits | None = None) -> Device:
    """The device with a session that keeps to `limits`."""
    device.agent.budget.limits = limits or Limits()
    device.session = Session(device.agent, PacedTransport(device.way, device.agent.budget))
    return device


async def complete(device: Device, item: bytes) -> bool:
    rows = await Desk(device.agent).ask("items")
    return bool(next(row for row in rows if row["item"] == item.hex())["complete"])


@pytest.mark.parametrize("limits", [ALWAYS, Limits(metered=Metered.YES), Limits(daily_bytes=0)])
async def test_while_content_is_held_back_titles_and_small_files_come_and_large_ones_wait(
    room: Classroom, limits: Limits
) -> None:
    teacher, machine = await room.teacher(), await budgeted(await room.machine(), limits)
    small, large = (await room.publish(teacher, SMALL)).item, (await room.publish(teacher, LARGE)).item
    await teacher.session.sync()
    await machine.session.sync(routine=True)
    assert await complete(machine, small)
    assert not await complete(machine, large)
    shown = (await status(machine.agent))["budget"]
    assert isinstance(shown, dict)
    assert shown["held"] == {"fetch": 1, "send": 0, "bytes": 0}
    desk = Desk(machine.agent)
    assert (await desk.ask("doctor"))["ok"]
    assert any("large content waits" in line for line in desk.told)

    machine.agent.budget.limits = Limits()
    await machine.session.sync(routine=True)
    assert await complete(machine, large)


async def test_no_budget_holds_a_hand_in_neither_on_its_way_up_nor_down_to_the_teacher(room: Classroom) -> None:
    teacher, machine = await budgeted(await room.teacher(), ALWAYS), await budgeted(await room.machine(), ALWAYS)
    task = await assignment(room, teacher, machine)
    lesson = (await room.publish(teacher, HUGE)).item
    hand_in = await room.hand_in(machine, task, LARGE)
    await machine.session.sync(routine=True)
    assert (await work_of(machine, room, hand_in)).state is HandInState.SERVER
    await teacher.session.sync(routine=True)
    assert [need.sealed for need in await teacher.agent.missing()] == []
    # the lesson itself is still here only
    assert [pack.size > 2_000_000 for pack in await teacher.agent.replica.content.unsent_packs()] == [True]
    await teacher.session.sync()
    await machine.session.sync()
    assert await complete(machine, lesson)


async def test_a_budget_that_is_spent_in_the_middle_stops_there_and_the_next_day_goes_on_from_there(
    room: Classroom,
) -> None:
    teacher, machine = await room.teacher(), await budgeted(await room.machine(), Limits(daily_bytes=1_500_000))
    item = (await room.publish(teacher, HUGE)).item
    await teacher.session.sync()
    await machine.session.sync(routine=True)
    assert machine.agent.budget.verdict.hold is Hold.DAILY_BUDGET
    assert not await complete(machine, item)
    first_day = machine.agent.budget.moved_bytes
    assert 1_500_000 <= first_day < 2_000_000

    room.territory.clock.advance(24 * 3_600_000)
    machine.agent.budget.limits = Limits(daily_bytes=2_500_000)
    await machine.session.sync(routine=True)
    assert await complete(machine, item)
    assert machine.agent.budget.moved_bytes < 3_100_000


async def test_what_was_spent_and_a_pause_survive_a_restart(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await budgeted(await room.machine())
    await room.publish(teacher, HUGE)
    await teacher.session.sync()
    await machine.session.sync(routine=True)
    await machine.agent.budget.pause(3_600_000)
    before = machine.agent.budget.shown()
    assert before["state"] == "paused"
    assert isinstance(before["today"], int)
    assert before["today"] > 3_000_000
    await machine.agent.close()
    again = await Agent.open(machine.agent.folder, now_ms=room.territory.clock, entropy=Random(1).randbytes)
    machine.agent = again
    assert again.budget.shown() == before
    room.territory.clock.advance(3_600_000)
    assert again.budget.verdict.hold is None


async def test_a_paused_device_says_so_once_and_then_nothing_until_it_is_resumed(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await budgeted(await room.machine())
    task = await assignment(room, teacher, machine)
    desk = Desk(machine.agent)
    await desk.ask("pause", for_ms=None)
    hand_in = await room.hand_in(machine, task, SMALL)
    assert (await machine.session.sync(routine=True)).round_trips == 1
    assert (await machine.session.sync(routine=True)).round_trips == 0
    assert (await work_of(machine, room, hand_in)).state is HandInState.LOCAL
    assert "paused" in await troubles(room)
    found = await desk.ask("doctor")
    assert [problem["code"] for problem in found["problems"]] == ["paused"]
    with pytest.raises(LocalFailure) as caught:
        await machine.session.sync()
    assert caught.value.code is Code.PAUSED

    room.territory.clock.advance(1_000)
    await desk.ask("resume")
    await machine.session.sync(routine=True)
    assert (await work_of(machine, room, hand_in)).state is HandInState.SERVER
    assert "paused" not in await troubles(room)


async def troubles(room: Classroom) -> list[str | None]:
    rows = await room.territory.replica.store.registers()
    return [Health.parse(stored_register(row.data).body).trouble for row in rows]


async def test_a_sync_that_a_person_asks_for_keeps_to_no_budget_and_counts(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await budgeted(await room.machine(), Limits(daily_bytes=1))
    item = (await room.publish(teacher, HUGE)).item
    await teacher.session.sync()
    await machine.session.sync()
    assert await complete(machine, item)
    shown = machine.agent.budget.shown()
    assert isinstance(shown["today"], int)
    assert shown["today"] > 3_000_000


async def test_a_pause_in_the_middle_of_a_transfer_stops_it_there(room: Classroom) -> None:
    teacher = await room.teacher()
    item = (await room.publish(teacher, HUGE)).item
    await teacher.session.sync()
    machine = await room.machine()
    budget = machine.agent.budget

    class PausesOnTheWay(MemoryTransport):
        async def fetch(self, capability: str, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
            async for piece in super().fetch(capability, start, length):
                await budget.pause(None)
                yield piece

    machine.session = Session(machine.agent, PacedTransport(PausesOnTheWay(room.frontage), budget))
    await machine.session.sync(routine=True)
    assert not await complete(machine, item)
    assert budget.moved_bytes < 2_000_000
    await budget.resume()
    await budgeted(machine)
    await machine.session.sync(routine=True)
    assert await complete(machine, item)


async def test_doctor_is_silent_about_limits_that_hold_nothing(room: Classroom) -> None:
    machine = await budgeted(await room.machine(), Limits(daily_bytes=10**9))
    desk = Desk(machine.agent)
    await desk.ask("doctor")
    assert not any("waits" in line for line in desk.told)


class WaitsForPeople(MemoryTransport):
    """A way on which content stands until the line is found in use; people leave it once content has given way."""

    def __init__(self, frontage: Frontage, budget: Budget) -> None:
        super().__init__(frontage)
        self.budget = budget
        self.asked = 0
        self.shown: list[object] = []
        self.parts: list[int | None] = []

    async def question(self) -> float:
        self.asked += 1
        await asyncio.sleep(0)
        return 0.02 if self.asked == 1 or len(self.parts) > 1 else 0.9

    async def fetch(self, capability: str, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
        self.parts.append(length)
        async for piece in super().fetch(capability, start, length):
            yield piece
            while not self.shown:
                await asyncio.sleep(0)
                if self.budget.line.yields:
                    self.shown.append(self.budget.shown()["yields_to"])


async def test_content_steps_back_while_others_wait_for_the_line_and_asks_no_more_once_it_rests(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paced, "PROBE_S", 0.001)
    monkeypatch.setattr(paced, "REST_S", 0.01)
    teacher, machine = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, HUGE)).item
    await teacher.session.sync()
    way = WaitsForPeople(room.frontage, machine.agent.budget)
    transport = PacedTransport(way, machine.agent.budget, way.question)
    machine.session = Session(machine.agent, transport)
    await machine.session.sync()
    assert await complete(machine, item)
    assert isinstance(way.shown[0], int), "status says to what content has stepped back"
    assert way.parts[0] is None
    assert way.parts[1] is not None, "what was on its way as a whole went on in parts"
    while transport._looking is not None:  # noqa: ASYNC110  (nobody is told)
        await asyncio.sleep(0)
    assert machine.agent.budget.shown()["yields_to"] is None
    await transport.close()


async def test_at_full_speed_nobody_asks_how_the_line_is(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    await room.publish(teacher, HUGE)
    await teacher.session.sync()
    machine.agent.budget.limits = Limits(yields=False)
    way = WaitsForPeople(room.frontage, machine.agent.budget)
    way.shown.append("nobody looks")
    machine.session = Session(machine.agent, PacedTransport(way, machine.agent.budget, way.question))
    await machine.session.sync()
    assert way.asked == 0


async def test_the_way_to_the_server_is_begun_only_where_it_may_be_asked(tmp_path: Path) -> None:
    machine = (await enrolled_class(tmp_path, {"renard": Role.MACHINE}))["renard"]
    begun: list[str] = []

    async def begin(url: str) -> None:
        begun.append(url)

    async def ask(name: str | None = None, params: Params | None = None) -> None:
        async with opened(machine.folder, now_ms=now_ms, entropy=Random(1).randbytes, begin=begin) as table:
            if name is not None:
                await table[name](params or {}, NO_FILES, Notices())

    await ask("pause", {"for_ms": None})
    assert begun == [NOBODY]
    await ask("resume")
    assert begun == [NOBODY]
    await ask()
    assert begun == [NOBODY, NOBODY]
