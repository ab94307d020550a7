"""Whoever has a school's lines keeps what was handed in from the server until its class has been closed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput
from sync_server.handlers.by_kit.not_heard import NotHeard
from sync_server.handlers.by_kit.territory import begin_territory, kit_in
from sync_server.opened.app import Server, opened
from tests.harness.attack import attack
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office

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
        _, machine, _, pupil, item = await here.class_at_work()
        for _ in range(2):
            await here.sync()
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


async def test_once_the_pc_has_told_what_it_holds_it_is_counted_and_no_word_more_is_asked(tmp_path: Path) -> None:
    async with with_work(tmp_path) as here:
        here.office.clock.advance(40 * DAY_MS)
        for _ in range(2):
            await here.sync()
        told = await here.office.do("space close", space=here.office.space)
        assert (told["unheard"], told["unopened"]) == ([], 1)
