"""Whoever has the lines of a school has its machines call a restored server, and tell it nothing."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Code, NoAnswer
from protocol.messages.wire import RECONCILE_PATH, SYNC_PATH
from protocol.model.register import RegisterKind
from protocol.replica.answering.station import Report
from protocol.replica.interfaces import RegisterRow
from sync_agent.machine.marks import GENERATION_MARK
from sync_agent.sync.asking import Asking
from sync_agent.sync.session import Session
from sync_agent.transport.answers import Response
from sync_agent.transport.sealed_calls import SealedCalls
from sync_server.handlers.overview.devices import Device as Listed
from sync_server.opened.app import Server, opened
from tests.harness.as_told import ASKED_JUST_NOW, HOLDS_THE_SAME
from tests.harness.attack import attack
from tests.harness.backups import make_backup, restore_backup
from tests.harness.classroom import Device
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office
from tests.harness.wire import Frontage, MemoryTransport

ROW = "a restored server is called, and told nothing"


class Cut(MemoryTransport):
    """Lets some questions pass with their answers, the first alone say; then the line is down."""

    def __init__(self, frontage: Frontage, left: int = 1) -> None:
        super().__init__(frontage)
        self.left = left

    async def post(self, path: str, body: bytes) -> Response:
        if not self.left:
            raise NoAnswer(Code.UNREACHABLE, "the line is down")
        self.left -= 1
        return await super().post(path, body)


class CutOnceCompared(MemoryTransport):
    """Lets sets be compared, and nothing that was found lacking be brought."""

    compared = False

    async def post(self, path: str, body: bytes) -> Response:
        if self.compared and path == SYNC_PATH:
            raise NoAnswer(Code.UNREACHABLE, "the line is down")
        self.compared = self.compared or path == RECONCILE_PATH
        return await super().post(path, body)


@dataclass
class Restored:
    """A server from a backup of the day before a pupil was erased, and the computers that know of it."""

    office: Office
    frontage: Frontage
    teacher: Device
    machine: Device
    pupil: str

    async def names_her(self) -> bool:
        """Whether she is on its list."""
        rows = await self.office.do("person list", space=self.office.space)
        return self.pupil in {row["person"] for row in rows}

    async def says_so(self) -> bool:
        """Whether `status` says that it may, and beside that very list."""
        self.office.said.lines.clear()
        await self.office.do("person list", space=self.office.space)
        beside = any("may be named here" in line for line in self.office.said.lines)
        return beside and (await self.office.do("status"))["restored"] is not None


@asynccontextmanager
async def restored_school(folder: Path, behind_ms: int = 0) -> AsyncIterator[tuple[Town, Restored]]:
    """`behind_ms` is how far the new server's clock was behind while `restore` ran."""
    async with town(folder) as here:
        teacher, machine, _, pupil, item = await here.class_at_work()
        clock, server = here.office.clock, here.office.server
        await here.work(machine, item, pupil)
        for _ in range(2):
            await here.sync()
        await server.contacts.flush()  # as `run` does every ten seconds
        await make_backup(server, folder / "backup")
        clock.advance(DAY_MS)
        await here.office.do("erase", person=[pupil])
        for _ in range(2):
            await here.sync()
        clock.advance(DAY_MS)
        await restore_backup(folder / "new", folder / "backup", folder / "server" / "kit", lambda: clock() - behind_ms)
        async with opened(folder / "new", now_ms=clock, entropy=os.urandom) as new:
            clock.advance(60_000)
            office = Office(new, clock, here.office.space)
            yield here, Restored(office, Frontage(new.responder), teacher, machine, pupil)


async def _has_called(_server: Server, device: Listed) -> bool:
    """As if a call, or a report that somebody brings, were all."""
    return device.heard.seen_ms is not None


CALLING_IS_TELLING = {"sync_server.handlers.store.restored.has_told": _has_called}


@attack(ROW, off=CALLING_IS_TELLING)
async def test_machines_that_ask_once_and_are_cut_off_have_told_nothing(tmp_path: Path) -> None:
    async with restored_school(tmp_path) as (here, school):
        for device in (school.teacher, school.machine):
            with suppress(NoAnswer):
                await Session(device.agent, Cut(school.frontage)).sync()
        assert await school.names_her()
        assert await school.says_so()
        told = (await school.office.do("status"))["restored"]["machines"]
        assert {row["device"] for row in told} == {
            device.agent.device.hex() for device in (school.teacher, school.machine)
        }
        here.office.clock.advance(30 * DAY_MS)
        assert await school.says_so()
        # the line is whole
        for device in (school.teacher, school.machine) * 2:
            await Session(device.agent, MemoryTransport(school.frontage)).sync()
        assert not await school.names_her()
        assert (await school.office.do("status"))["restored"] is None


@attack(ROW, off=CALLING_IS_TELLING)
async def test_nor_has_anybody_of_whom_another_brings_a_report(tmp_path: Path) -> None:
    async with restored_school(tmp_path) as (here, school):
        now_ms = here.office.clock()
        for key in (device.agent.device for device in (school.teacher, school.machine)):
            row = RegisterRow(RegisterKind.HEALTH, key, key, now_ms, b"")
            school.office.server.contacts.note_report(Report(row, carrier=bytes(32), at_ms=now_ms), None)
        assert await school.names_her()
        assert await school.says_so()


@attack(ROW, off=CALLING_IS_TELLING)
async def test_nor_have_calls_of_before_where_the_clock_was_behind_as_it_was_restored(tmp_path: Path) -> None:
    async with restored_school(tmp_path, behind_ms=3 * DAY_MS) as (_, school):
        assert await school.names_her()
        assert await school.says_so()


@pytest.mark.parametrize("at_a_time", range(1, 12))
async def test_wherever_a_line_is_cut_and_however_often_it_is_said_while_she_is_named(
    tmp_path: Path, at_a_time: int
) -> None:
    async with restored_school(tmp_path) as (_, school):
        named = True
        for _ in range(4):
            for device in (school.teacher, school.machine):
                with suppress(NoAnswer):
                    await Session(device.agent, Cut(school.frontage, at_a_time)).sync()
                named = await school.names_her()
                assert await school.says_so() or not named
        assert not named or at_a_time < 8, "that many are enough to tell"


def _for_asking(*_: object, **__: object) -> bool:
    """As if whoever names this store had told all."""
    return True


@attack(
    ROW,
    off={
        "protocol.replica.answering.serving.has_told_all": _for_asking,
        **HOLDS_THE_SAME,
        **ASKED_JUST_NOW,
    },
)
async def test_who_is_paused_between_comparing_and_telling_has_not_told(tmp_path: Path) -> None:
    async with restored_school(tmp_path) as (_, school):
        agent = school.machine.agent
        with suppress(NoAnswer):
            await Session(agent, CutOnceCompared(school.frontage)).sync()
        assert await agent.replica.store.mark(GENERATION_MARK) == school.office.server.territory.generation
        assert await school.names_her()
        asked = await Asking(agent).only_health(Code.PAUSED)
        assert asked is not None
        assert not asked.request.push
        await SealedCalls(agent, MemoryTransport(school.frontage)).sync(asked.request)
        assert await school.names_her()
        machines = (await school.office.do("status"))["restored"]["machines"]
        assert agent.device.hex() in {row["device"] for row in machines}
