"""Whoever has a school's lines keeps what was handed in from the server until its class has been closed."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code, NoAnswer
from protocol.messages.wire import SYNC_PATH
from sync_agent.sync.session import Session
from sync_agent.transport.answers import Response
from sync_server.handlers.by_kit.not_heard import HEARD_MS, NotHeard
from sync_server.handlers.by_kit.territory import begin_territory, kit_in
from sync_server.handlers.overview.devices import Device
from sync_server.opened.app import Server, opened
from tests.harness.as_told import ASKED_JUST_NOW
from tests.harness.attack import attack
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office
from tests.harness.wire import Frontage, MemoryTransport

ROW = "a class is closed while a line keeps its work from the server"


async def _all_told(_server: Server, _space: bytes) -> NotHeard:
    return NotHeard((), None)


ALL_TOLD = {"sync_server.handlers.by_kit.closing.not_heard_in": _all_told}


async def _is_not_closed(folder: Path, office: Office) -> None:
    kit = kit_in(folder / "server" / "kit", None)
    with pytest.raises(BadInput, match="have not told all that they know") as refused:
        await office.with_kit("space close", kit, space=office.space)
    assert "--unheard-too" in refused.value.message
    assert (await office.with_kit("space close", kit, space=office.space, unheard_too=True))["closed"] is True


@asynccontextmanager
async def with_work(folder: Path) -> AsyncIterator[Town]:
    """A class with work that lies on its PC alone."""
    async with town(folder) as here:
        _, machine, _, pupil, item = await here.class_in_step()
        await here.work(machine, item, pupil)
        yield here


@attack(ROW, off=ALL_TOLD)
async def test_a_class_is_not_closed_whose_pc_was_kept_from_calling_for_weeks(tmp_path: Path) -> None:
    async with with_work(tmp_path) as here:
        teacher, machine = here.devices
        for _ in range(40):
            here.office.clock.advance(DAY_MS)
            await here.sync(teacher)
        told = await here.office.do("space close", space=here.office.space)
        assert [row["device"] for row in told["unheard"]] == [machine.agent.device.hex()]
        assert any("PC" in line and "have not told" in line for line in here.office.said.lines)
        await _is_not_closed(tmp_path, here.office)


@attack(ROW, off=ALL_TOLD)
async def test_nor_on_a_server_made_anew_to_which_its_pc_has_told_nothing(tmp_path: Path) -> None:
    async with with_work(tmp_path) as here:
        anew, clock = tmp_path / "anew", here.office.clock
        anew.mkdir()
        clock.advance(DAY_MS)
        kit = kit_in(tmp_path / "server" / "kit", None)
        await begin_territory(anew, kit, kit_file=None, passphrase=None, now_ms=clock, entropy=os.urandom, again=True)
        async with opened(anew, now_ms=clock, entropy=os.urandom) as server:
            here.frontage.responder = server.responder
            await here.sync(here.devices[0])
            await _is_not_closed(tmp_path, Office(server, clock, here.office.space))


class Recorded(MemoryTransport):
    """Keeps what it carried, as a line does that leads through a computer with a copy of the server's keys."""

    def __init__(self, frontage: Frontage, *, passes: bool) -> None:
        super().__init__(frontage)
        self.bodies: list[bytes] = []
        self.passes = passes

    async def post(self, path: str, body: bytes) -> Response:
        if path == SYNC_PATH:
            self.bodies.append(body)
        if not self.passes:
            raise NoAnswer(Code.UNREACHABLE, "the line is down")
        return await super().post(path, body)


@attack(ROW, off=ASKED_JUST_NOW)
@pytest.mark.parametrize("withheld", [False, True])
async def test_nor_while_a_question_that_its_pc_asked_long_ago_is_brought_each_day(
    tmp_path: Path, withheld: bool
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, (teacher, machine, _, pupil, item)):
        line = Recorded(here.frontage, passes=not withheld)
        with suppress(NoAnswer):
            await Session(machine.agent, line).sync()
        await here.work(machine, item, pupil)
        for _ in range(9):
            here.office.clock.advance(DAY_MS)
            await here.sync(teacher)
            assert (await here.frontage.post(SYNC_PATH, line.bodies[-1])).status == HTTPStatus.OK
        await _is_not_closed(tmp_path, here.office)


class Clocks:
    """The server's clock, which its network sets, and one that nobody sets."""

    def __init__(self, here: Town) -> None:
        self._clock = here.office.clock
        self._set_ms = 0
        here.office.server.steady_ms = lambda: self._clock() - self._set_ms

    def set(self, by_ms: int) -> None:
        """The network says another time."""
        self._clock.advance(by_ms)
        self._set_ms += by_ms


def _by_the_clock(server: Server, machine: Device) -> bool:
    """As if a week were what the clock says."""
    return (machine.heard.told_ms or 0) >= server.now_ms() - HEARD_MS


async def _nobodys(*_: object) -> Mapping[object, Sequence[Device]]:
    return defaultdict(list)


PCS_ALONE = {"sync_server.handlers.by_kit.not_heard._of_people": _nobodys}
BY_THE_CLOCK = {"sync_server.handlers.by_kit.not_heard._is_of_late": _by_the_clock}


@attack(ROW, off=BY_THE_CLOCK)
async def test_nor_once_the_clock_was_ahead_for_an_hour_in_which_its_pc_called(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (teacher, machine, _, pupil, item)):
        clocks = Clocks(here)
        clocks.set(60 * DAY_MS)
        for _ in range(3):
            await here.sync()
        clocks.set(-60 * DAY_MS)
        await here.work(machine, item, pupil)
        for _ in range(30):
            here.office.clock.advance(DAY_MS)
            await here.sync(teacher)
        await _is_not_closed(tmp_path, here.office)


@attack(ROW, off=BY_THE_CLOCK)
async def test_nor_while_the_clock_is_set_back_to_when_its_pc_last_called(tmp_path: Path) -> None:
    async with with_work(tmp_path) as here:
        clocks = Clocks(here)
        for _ in range(30):
            here.office.clock.advance(DAY_MS)
            await here.sync(here.devices[0])
        clocks.set(-25 * DAY_MS)
        await _is_not_closed(tmp_path, here.office)


@attack(ROW, off=PCS_ALONE)
async def test_whoever_closes_a_class_is_told_whose_computer_may_have_let_in_a_pc_that_nobody_here_knows(
    tmp_path: Path,
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (teacher, machine, _, _, _)):
        head = await here.head_of_the_school()
        for _ in range(30):
            here.office.clock.advance(DAY_MS)
            await here.sync(teacher, machine)
        here.office.said.lines.clear()
        told = await here.office.do("space close", space=here.office.space)
        assert (told["unheard"], [row["device"] for row in told["unheard_offices"]]) == ([], [head.agent.device.hex()])
        assert any("through one of these" in line for line in here.office.said.lines)


async def test_once_the_pc_has_told_what_it_holds_it_is_counted_and_no_word_more_is_asked(tmp_path: Path) -> None:
    async with with_work(tmp_path) as here:
        here.office.clock.advance(40 * DAY_MS)
        for _ in range(2):
            await here.sync()
        told = await here.office.do("space close", space=here.office.space)
        assert (told["unheard"], told["unopened"]) == ([], 1)
