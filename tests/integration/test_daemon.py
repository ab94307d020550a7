"""The running agent: commands reach it, what is written leaves at once, it ends cleanly and opens its store again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import cast

import pytest

from protocol.errors import BadInput, Code, LocalFailure, NoAnswer
from protocol.model.entry import Kind
from protocol.model.work import EMPTY_PAYLOAD
from protocol.replica.at_work.replica import Draft
from protocol.replica.console import sole_runner
from protocol.replica.console.control import forward
from protocol.replica.console.frame import Notices
from protocol.replica.console.operation import JSON, NO_FILES, Incoming, Outgoing, Params, Table
from protocol.replica.console.ownership import acquire, read_control
from protocol.roles import PersonRole, Role
from protocol.trust.invitation import territory_fingerprint
from sync_agent import daemon
from sync_agent.app import Agent
from sync_agent.config import RunConfig
from sync_agent.daemon import run
from sync_agent.enrollment.by_code import enroll
from sync_agent.operations import table
from sync_agent.school.measure_commands import start_quarantine
from tests.harness.classroom import Classroom, Device, classroom
from tests.harness.patience import PATIENCE_S, until
from tests.harness.territory import SimClock
from tests.harness.wire import URL, Faults, Faulty, MemoryTransport

LONG = RunConfig(poll_s=(3_600.0, 3_600.0))
SHORT = RunConfig(poll_s=(0.0, 0.01))


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path, lambda frontage: Faulty(MemoryTransport(frontage))) as made:
        yield made


async def stopped_device(room: Classroom, role: Role = Role.MACHINE) -> Device:
    """A device whose agent is not open."""
    device = await room.device(role, person=room.teacher_person if role is Role.TEACHER else None)
    await device.agent.close()
    return device


class Running:
    """A daemon, and how commands reach it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stop = asyncio.Event()
        self.ended: asyncio.Task[None] | None = None

    async def do(self, name: str, params: Params | None = None) -> dict[str, JSON]:
        control = read_control(self.folder)
        assert control is not None
        result = await forward(control, name, params or {}, NO_FILES, Notices())
        return cast("dict[str, JSON]", result)


@asynccontextmanager
async def running(
    room: Classroom,
    device: Device,
    config: RunConfig = LONG,
    table_of: Callable[[Agent], Table] = table,
    now_ms: Callable[[], int] | None = None,
) -> AsyncIterator[Running]:
    folder = device.agent.folder
    found = Running(folder)
    found.ended = asyncio.create_task(
        run(
            folder,
            config,
            table_of,
            now_ms=now_ms or room.territory.clock,
            entropy=Random(8).randbytes,
            connect=lambda _: device.way,
            stopping=found.stop,
        )
    )
    try:
        await until(lambda: read_control(folder) is not None or (found.ended is not None and found.ended.done()))
        yield found
    finally:
        found.stop.set()
        await found.ended


async def test_a_command_to_the_running_agent_syncs_and_says_what_the_contract_says(room: Classroom) -> None:
    device = await stopped_device(room)
    async with running(room, device) as agent:
        await agent.do("sync")
        await room.territory.person("Tom", PersonRole.PUPIL, room.space)
        done = await agent.do("sync")
        assert set(done) == {"received", "sent", "bytes_in", "bytes_out", "round_trips"}
        assert (done["sent"], done["round_trips"]) in {(0, 1), (0, 2)}, "2 where it joined a sync that news had begun"
        people = await agent.do("people", {"space": room.space.hex()})
        assert "Tom" in str(people)
        assert (await agent.do("status"))["server"]["reachable"] is True  # type: ignore[index,call-overload]
    assert read_control(device.agent.folder) is None


async def test_what_is_written_here_leaves_without_waiting_for_the_next_poll(room: Classroom) -> None:
    device = await stopped_device(room, Role.TEACHER)

    def with_write(agent: Agent) -> Table:
        async def say(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
            del params, incoming, outgoing
            grant = await agent.right(room.space, Kind.WITHDRAW)
            await agent.write(Draft(room.space, Kind.WITHDRAW, grant.grant, EMPTY_PAYLOAD, target=bytes(32)))
            return {}

        return {**table(agent), "say": say}

    async with running(room, device, table_of=with_write) as agent:
        await agent.do("sync")
        before = (await room.territory.replica.position(room.space)).count
        await agent.do("say")

        async def arrived() -> bool:
            return (await room.territory.replica.position(room.space)).count > before

        await until(arrived)


async def test_a_running_agent_comes_back_by_itself_after_an_outage(room: Classroom) -> None:
    device = await stopped_device(room)
    device.faulty.faults = Faults(down=True)
    async with running(room, device, SHORT) as agent:
        with pytest.raises(NoAnswer) as raised:
            await agent.do("sync")
        assert raised.value.exit_status == 3
        device.faulty.faults = Faults()
        await agent.do("sync")


async def test_enrolling_again_while_the_agent_runs_says_the_same(room: Classroom, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    code = await room.territory.invite(Role.MACHINE, room.space)
    way = MemoryTransport(room.frontage)
    first = await enroll(
        folder, URL, code, "A", now_ms=room.territory.clock, entropy=Random(3).randbytes, connect=lambda _: way
    )
    other = await room.territory.invite(Role.MACHINE, room.space)
    stop = asyncio.Event()
    task = asyncio.create_task(
        run(
            folder,
            LONG,
            table,
            now_ms=room.territory.clock,
            entropy=Random(4).randbytes,
            connect=lambda _: way,
            stopping=stop,
        )
    )
    await until(lambda: read_control(folder) is not None)
    again = Running(folder)
    told = await again.do("enroll", {"server": URL, "code": code, "name": "A"})
    assert told["device"] == first.device.hex()
    assert told["fingerprint"] == territory_fingerprint(first.territory)
    with pytest.raises(BadInput) as raised:
        await again.do("enroll", {"server": URL, "code": other, "name": "A"})
    assert raised.value.code is Code.ALREADY_ENROLLED
    stop.set()
    await task


async def test_the_running_agent_says_in_one_line_that_it_is_ready(
    room: Classroom, capsys: pytest.CaptureFixture[str]
) -> None:
    device = await stopped_device(room)
    async with running(room, device, LONG):
        pass
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["ready"]


async def test_a_sync_that_hangs_does_not_keep_the_agent_from_ending(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "GRACE_S", 0.05)
    device = await stopped_device(room)
    hanging = asyncio.Event()

    class Hanging(MemoryTransport):
        async def post(self, path: str, body: bytes) -> object:  # type: ignore[override]
            hanging.set()
            await asyncio.Event().wait()
            raise AssertionError(path, body)

    device.way = cast("Faulty", Hanging(room.frontage))
    async with asyncio.timeout(PATIENCE_S), running(room, device):
        await hanging.wait()


async def test_a_command_that_is_being_answered_when_a_quarantine_begins_or_ends_is_answered_all_the_same(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "GRACE_S", 1.0)
    monkeypatch.setattr("sync_agent.school.measures.PASS_ON_S", 0.0)
    device = await room.head(person=room.teacher_person)
    await device.session.sync()
    await device.agent.close()
    begun, may_end, opened = asyncio.Event(), asyncio.Event(), list[Agent]()

    def with_long(agent: Agent) -> Table:
        opened.append(agent)

        async def long(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
            del params, incoming, outgoing
            begun.set()
            await may_end.wait()
            return {"answered": True}

        async def isolate(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
            del params, incoming, outgoing
            await start_quarantine(agent, None)
            return {}

        return {**table(agent), "long": long, "isolate": isolate}

    async with running(room, device, table_of=with_long) as agent:
        asked = asyncio.create_task(agent.do("long"))
        await begun.wait()
        await agent.do("isolate")
        asyncio.get_running_loop().call_later(4.0, may_end.set)
        assert await asked == {"answered": True}
        await until(lambda: len(opened) == 2)


async def test_a_store_that_failed_is_opened_again(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "REOPEN_S", 0.01)
    device = await stopped_device(room)
    opened: list[Agent] = []

    def counting(agent: Agent) -> Table:
        opened.append(agent)
        if len(opened) == 1:

            async def broken(*_: object, **__: object) -> object:
                raise LocalFailure(Code.STORAGE_FAILED, "the store must be opened again after a failed write")

            monkeypatch.setattr(agent.replica.store, "unsent", broken)
        return table(agent)

    async with running(room, device, table_of=counting) as agent:
        await until(lambda: len(opened) == 2 and read_control(device.agent.folder) is not None)
        assert (await agent.do("sync"))["round_trips"] in (1, 2)


async def test_a_folder_that_another_process_holds_is_not_run_twice(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sole_runner, "PATIENCE_S", 0.05)
    device = await stopped_device(room)
    owner = acquire(device.agent.folder)
    assert owner is not None
    with owner, pytest.raises(LocalFailure) as raised:
        await run(device.agent.folder, LONG, table, now_ms=room.territory.clock, entropy=Random(1).randbytes)
    assert raised.value.code is Code.STORE_LOCKED


async def test_a_second_agent_on_a_folder_is_told_at_once_that_the_first_runs(room: Classroom) -> None:
    device = await stopped_device(room)
    async with running(room, device):
        with pytest.raises(LocalFailure, match="an agent is running") as raised:
            await run(device.agent.folder, LONG, table, now_ms=room.territory.clock, entropy=Random(1).randbytes)
    assert raised.value.code is Code.STORE_LOCKED


async def knows(agent: Running, space: bytes, name: str) -> bool:
    return name in str(await agent.do("people", {"space": space.hex()}))


async def test_a_clock_that_jumps_while_the_agent_runs_keeps_nothing_from_arriving(room: Classroom) -> None:
    device = await stopped_device(room)
    clock = SimClock()
    async with running(room, device, SHORT, now_ms=clock) as agent:
        for number, year in enumerate((2009, 2040, 2026, 2040, 2009)):
            clock.ms = int(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1000)
            name = f"Pupil {number}"
            await room.territory.person(name, PersonRole.PUPIL, room.space)
            await until(partial(knows, agent, room.space, name))
        await agent.do("sync")
        status = await agent.do("status")
        assert cast("float", status["clock_skew_s"]) < -10 * 365 * 86_400
        assert status["server"]["reachable"] is True  # type: ignore[index,call-overload]
