"""What a PC was kept from bringing comes once its class has been closed (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import DAY_MS, rfc3339
from protocol.errors import BadInput, Code, LocalFailure
from protocol.limits import ERASURE_DELAY_MS
from protocol.model.entry import Entry
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.as_root import write_as_root
from protocol.replica.upkeep.eraser import Eraser
from sync_agent.app import Agent
from sync_agent.hand_ins.wraps import Kept, mark_of
from sync_server.handlers.by_kit.came_after_closing import TOLD_MS, closing_notices
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.opened.app import Server
from sync_server.web.views import notice_of
from sync_server.web.wording import Words
from tests.harness.attack import attack
from tests.harness.classroom import WORK
from tests.harness.commands import Desk
from tests.harness.office_devices import Town, town

ROW = "a class is closed while a line keeps its work from the server"
BACK = "work comes for a class that was destroyed, so that the kit brings it back"


async def _nothing_noted(_server: Server, _space: bytes) -> Mapping[str, bytes | None]:
    return {}


UNTOLD = {"sync_server.handlers.by_kit.closing.closed_mark": _nothing_noted}


async def _a_day_passes(here: Town, *sweeping: int) -> None:
    here.office.clock.advance(DAY_MS)
    server = here.office.server
    await note_arrivals(server.store, here.office.clock())
    await Eraser(server.replica, server.holdings).sweep(here.office.clock())
    for number in sweeping:
        agent = here.devices[number].agent
        await Eraser(agent.replica, agent.holdings).sweep(here.office.clock())


async def _closed(here: Town, folder: Path) -> bytes:
    """Work on a PC that reaches nobody, and a class that is closed and destroyed at the server meanwhile."""
    teacher, machine, _, pupil, item = await here.class_at_work()
    work = await here.work(machine, item, pupil)
    kit = kit_in(folder / "server" / "kit", None)
    await _a_day_passes(here)
    await here.sync(teacher)
    await here.office.with_kit("space close", kit, space=here.office.space, unheard_too=True)
    for _ in range(ERASURE_DELAY_MS // DAY_MS + 2):
        await _a_day_passes(here)
    return work


@attack(ROW, off=UNTOLD)
async def test_work_that_comes_for_a_closed_class_is_told_at_the_server_and_can_be_shown_again(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        work = await _closed(here, tmp_path)
        teacher, machine = here.devices
        assert (await here.office.do("status"))["came_after_closing"] == []
        await here.sync(machine)
        rows = (await here.office.do("status"))["came_after_closing"]
        assert len(rows) == 1
        assert (rows[0]["hand_ins"], rows[0]["devices"]) == (1, [machine.agent.device.hex()])
        (notice,) = await closing_notices(here.office.server)
        assert "CM2 B" in notice_of(Words("fr", here.office.clock()), notice).title
        for _ in range(3):
            await _a_day_passes(here, 0, 1)
            await here.sync()
        kit = kit_in(tmp_path / "server" / "kit", None)
        await here.office.with_kit("unerase", kit, covers=here.office.space, counting_too=True, destroyed_too=True)
        for _ in range(4):
            await here.sync()
        assert await Desk(teacher.agent).files("open-hand-in", id=work.hex()) == WORK
        assert (await here.office.do("status"))["came_after_closing"] == []


async def _said_and_cut(*said: Any) -> list[Entry]:
    await write_as_root(*said)
    raise LocalFailure(Code.INTERNAL, "the power went")


@attack(ROW, off=UNTOLD)
async def test_so_it_is_though_the_command_was_cut_once_the_root_had_spoken(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        _, machine, _, pupil, item = await here.class_at_work()
        await here.work(machine, item, pupil)
        kit, space = kit_in(tmp_path / "server" / "kit", None), here.office.space
        with pytest.MonkeyPatch.context() as cut:
            cut.setattr("sync_server.handlers.by_kit.closing.write_as_root", _said_and_cut)
            with pytest.raises(LocalFailure):
                await here.office.with_kit("space close", kit, space=space, unheard_too=True)
        await here.office.with_kit("space close", kit, space=space, unheard_too=True)
        await here.sync(machine)
        assert [row["hand_ins"] for row in (await here.office.do("status"))["came_after_closing"]] == [1]


async def _nothing_is_kept(_agent: Agent) -> dict[bytes, Kept]:
    return {}


@attack(ROW, off={"sync_agent.hand_ins.going.kept_here": _nothing_is_kept})
async def test_the_pc_says_how_many_works_go_and_when(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        await _closed(here, tmp_path)
        machine = here.devices[1]
        assert (await Desk(machine.agent).ask("status"))["going"] == []
        await here.sync(machine)
        rows = (await Desk(machine.agent).ask("status"))["going"]
        assert len(rows) == 1
        assert (rows[0]["name"], rows[0]["hand_ins"]) == ("CM2 B", 1)
        assert rfc3339(here.office.clock()) < rows[0]["until"] <= rfc3339(here.office.clock() + ERASURE_DELAY_MS)
        problems = (await Desk(machine.agent).ask("doctor"))["problems"]
        assert any("CM2 B" in each["message"] and "unerase" in each["remedy"] for each in problems)


async def test_of_what_a_teacher_has_opened_a_pc_says_nothing_when_its_class_is_closed(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        _, machine, _, pupil, item = await here.class_at_work()
        work, store = await here.work(machine, item, pupil), machine.agent.replica.store
        for _ in range(2):
            await here.sync()
        kept = Kept.parse(await store.mark(mark_of(work)) or b"")
        await store.set_marks({mark_of(work): replace(kept, heard_ms=1).encode()})
        kit = kit_in(tmp_path / "server" / "kit", None)
        await here.office.with_kit("space close", kit, space=here.office.space, unopened_too=True)
        await here.sync(machine)
        assert (await Desk(machine.agent).ask("status"))["going"] == []
        assert not any("CM2 B" in each["message"] for each in (await Desk(machine.agent).ask("doctor"))["problems"])


async def test_what_came_for_a_closed_class_is_told_for_a_week_and_a_day(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        await _closed(here, tmp_path)
        await here.sync(here.devices[1])
        for _ in range(TOLD_MS // DAY_MS):
            assert (await here.office.do("status"))["came_after_closing"]
            await _a_day_passes(here)
        await _a_day_passes(here)
        assert not (await here.office.do("status"))["came_after_closing"]


async def _nothing_is_asked(_store: object, _covers: bytes) -> None:
    return None


@attack(BACK, off={"sync_server.operations.lifecycle.check_not_destroyed": _nothing_is_asked})
async def test_what_comes_for_a_class_that_was_destroyed_brings_it_back_on_nobodys_word_about_late_work(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        await _closed(here, tmp_path)
        _, machine = here.devices
        await here.sync(machine)
        assert (await here.office.do("status"))["came_after_closing"]
        kit = kit_in(tmp_path / "server" / "kit", None)
        with pytest.raises(BadInput, match="--destroyed-too") as asked:
            await here.office.with_kit("unerase", kit, covers=here.office.space, counting_too=True)
        assert asked.value.code is Code.NOT_YET
        assert here.space in (await here.office.server.replica.view(here.space)).roster.erased
