"""A server's word has a PC's program open its store over and over: no clock that is set meanwhile counts for that.

docs/attacks.md; docs/adr/0553.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Protocol

import pytest

from protocol.clock import DAY_MS
from protocol.folds.measures import QuarantineOrder
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure
from protocol.replica.console.operation import Table
from protocol.replica.content.holdings import work_need
from sync_agent.app import Agent
from sync_agent.config import RunConfig
from sync_agent.daemon import run
from sync_agent.keys.confirming import own_device
from sync_agent.machine.eviction import Worth
from sync_agent.operations import table
from sync_agent.sync.session import Session
from sync_agent.sync.worth import Worths
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, Device, assignment
from tests.harness.next_year import NextYear
from tests.harness.patience import until

ROW = "a PC's program is told to open its store again and again"
ALWAYS = RunConfig(poll_s=(0.0, 0.01))
OFF = {"protocol.replica.steady._beginning": lambda: b""}


class Says(Protocol):
    """Who has the server, or a copy of its key."""

    def __call__(
        self, space: bytes, kind: Kind, payload: bytes, *, parents: tuple[bytes, ...] = ()
    ) -> Awaitable[Entry]: ...


class Pc:
    """A PC whose program runs all the time: quarantine begins and ends there, under a clock that a network sets."""

    def __init__(self, school: bytes, says: Says, clock: Callable[[], int]) -> None:
        self._school, self._says, self._clock = school, says, clock
        self._ahead_ms = 0
        self._order: Entry | None = None
        self._opened: list[Agent] = []

    @property
    def agent(self) -> Agent:
        return self._opened[-1]

    @property
    def is_there(self) -> bool:
        return bool(self._opened)

    def now_ms(self) -> int:
        return self._clock() + self._ahead_ms

    def table(self, agent: Agent) -> Table:
        self._opened.append(agent)
        return table(agent)

    async def opens_again(self, *, set_ms: int) -> None:
        before, self._ahead_ms = len(self._opened), self._ahead_ms + set_ms
        ended, on = self._order, self._order is None
        order = QuarantineOrder(on).encode()
        said = await self._says(self._school, Kind.QUARANTINE, order, parents=(ended.id,) if ended else ())
        self._order = said if on else None
        await until(lambda: len(self._opened) > before and self.agent.is_quarantined is on)
        await self.has_looked()

    async def has_looked(self) -> None:
        """Once the program has asked its server, it looks, and not again for an hour: by the clock as it stands."""
        await until(lambda: self.agent.pace._last is not None)
        await destroy_erased(self.agent)


@asynccontextmanager
async def running(device: Device, school: bytes, says: Says, clock: Callable[[], int]) -> AsyncIterator[Pc]:
    await device.agent.close()
    pc, stop = Pc(school, says, clock), asyncio.Event()
    program = asyncio.create_task(
        run(
            device.agent.folder,
            ALWAYS,
            pc.table,
            now_ms=pc.now_ms,
            entropy=Random(8).randbytes,
            connect=lambda _: device.way,
            stopping=stop,
        )
    )
    try:
        await until(lambda: pc.is_there or program.done())
        await pc.has_looked()
        yield pc
    finally:
        stop.set()
        await program


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarantine begins once the order was passed on: for five seconds."""
    monkeypatch.setattr("sync_agent.school.measures.PASS_ON_S", 0.0)


@attack(ROW, off=OFF)
@pytest.mark.parametrize("steps_days", [(3, 3, 3, 3), (3, -3) * 4], ids=["ahead", "to and fro"])
async def test_no_quarantine_after_another_has_the_week_of_an_erasure_pass_in_a_minute(
    room: Classroom, steps_days: tuple[int, ...]
) -> None:
    territory, pupil = room.territory, room.pupil_person
    device = await room.machine()
    await device.session.sync()
    async with running(device, room.school, territory.say, territory.clock) as pc:
        await territory.say(territory.id, Kind.ERASE, Erasure(pupil).encode())

        async def is_hidden() -> bool:
            return pupil not in (await pc.agent.replica.view(room.space)).roster.persons

        await until(is_hidden)
        await destroy_erased(pc.agent)
        for days in steps_days:
            await pc.opens_again(set_ms=days * DAY_MS)
        held = [one.entry for one in await pc.agent.replica.store.of_kinds(room.space, [Kind.PERSON])]
        assert [entry for entry in held if entry.header.subject == pupil and entry.payload is not None]


@attack(ROW, off=OFF)
async def test_nor_the_month_for_which_a_pc_keeps_what_nobody_has_opened(room: Classroom) -> None:
    territory = room.territory
    teacher, device = await room.teacher(), await room.machine()
    work = await room.hand_in(device, await assignment(room, teacher, device), WORK)
    await device.session.sync()
    room.frontage.responder.backup_ms = territory.clock() + 60_000
    territory.clock.advance(120_000)
    await device.session.sync()
    async with running(device, room.school, territory.say, territory.clock) as pc:
        for _ in range(12):
            territory.clock.advance(3 * DAY_MS)  # the server says so too
            await pc.opens_again(set_ms=0)

            async def has_been_told() -> bool:
                return (pc.agent.replica.proven_ms or 0) >= territory.clock()

            await until(has_been_told)
        found = (await pc.agent.replica.view(room.space)).coursework.hand_ins[work]
        (piece,) = [each for each in await Worths(pc.agent).pieces() if each.need == work_need(found)]
        assert piece.worth is Worth.KEPT


@attack(ROW, off=OFF)
async def test_nor_the_week_after_which_somebody_in_a_new_class_is_its_teacher(year: NextYear) -> None:
    space, clock = await year.new_class(), year.here.office.clock
    await year.spy_comes(space, dated_days_ago=0)
    device = year.machine
    async with running(device, year.here.school, year.thief_says, clock) as pc:

        async def has_heard() -> bool:
            if space not in await pc.agent.spaces():
                return False
            return bool((await pc.agent.replica.view(space)).roster.speaking)

        await until(has_heard)
        for _ in range(4):
            await pc.opens_again(set_ms=3 * DAY_MS)
    device.agent = await Agent.open(device.agent.folder, now_ms=clock, entropy=Random(10).randbytes)
    device.session = Session(device.agent, device.way)
    await year.lets_her_in(space)
    await year.sync(year.teacher)
    await year.sync()
    assert await year.who_speaks(device.agent.replica, space) == {own_device(year.teacher.agent)}
    work = await year.hand_in(space)
    assert not await year.is_given(space, work, year.spy)
