"""Work that its teacher has opened is hidden before the PC on which it was handed in looks (docs/attacks.md).

The key goes all the same (docs/adr/0447, docs/adr/0449).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.folds.coursework import Work
from protocol.model.entry import Kind
from protocol.model.work import Receipt
from protocol.rights.roster import Roster
from sync_agent.app import Agent
from sync_agent.hand_ins.heard_opened import has_heard_opened
from sync_agent.hand_ins.wraps import tend_hand_ins
from tests.harness.attack import attack
from tests.harness.classroom import keeps_key_of
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_hides
from tests.harness.next_year import NextYear
from tests.harness.office_devices import AtWork, Town, town

ROW = "a PC keeps the key of opened work while that work is hidden"


async def _hides(here: Town, pupil: str, work: bytes, how: str) -> None:
    if how == "somebody froze her":
        await here.office.do("person freeze", person=pupil)
    else:
        await thief_hides(here, work if how == "that work" else here.space)


async def _looks(here: Town, at: AtWork) -> None:
    await here.sync(at.machine)
    await tend_hand_ins(at.machine.agent)


async def _of_shown_work(agent: Agent, hand_in: bytes, work: Work | None, roster: Roster) -> bool:
    return work is not None and await has_heard_opened(agent, hand_in, work, roster)


@pytest.mark.parametrize("how", ["somebody froze her", "that work", "the class"])
@attack(ROW, off={"sync_agent.hand_ins.wraps.has_heard_opened": _of_shown_work})
async def test_a_pc_lets_go_of_the_key_of_opened_work_that_is_hidden(tmp_path: Path, how: str) -> None:
    async with town(tmp_path) as here:
        at = await here.class_in_step()
        work = await here.work(at.machine, at.item, at.pupil)
        for _ in range(2):
            await here.sync()
        desk = Desk(at.teacher.agent)
        await desk.files("open-hand-in", id=work.hex())
        await desk.ask("confirm-opened", id=work.hex())
        await here.sync(at.teacher)
        await _hides(here, at.pupil, work, how)
        await _looks(here, at)
        assert not await keeps_key_of(at.machine, work)


async def test_of_hidden_work_that_nobody_has_opened_the_key_stays(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        at = await here.class_in_step()
        work = await here.work(at.machine, at.item, at.pupil)
        for _ in range(2):
            await here.sync()
        await _hides(here, at.pupil, work, "that work")
        await _looks(here, at)
        assert await keeps_key_of(at.machine, work)


async def _whoever_says_so(*_: object) -> bool:
    return True


@attack(ROW, off={"sync_agent.hand_ins.wraps.has_heard_opened": _whoever_says_so})
async def test_nor_goes_it_by_the_word_of_who_was_let_in_while_that_was_hidden(year: NextYear) -> None:
    here = year.here
    item = await here.asks_for_work(year.teacher, here.space)
    await year.sync()
    work = await here.work(year.machine, item, year.pupil)
    await year.sync(year.machine)
    stream = (await year.server.view(here.space)).coursework.hand_ins[work].record.content.stream
    await year.spy_comes(here.space, dated_days_ago=0, person=(b"X" * 16).hex())
    await year.spy_says(here.space, Kind.RECEIPT_TEACHER, Receipt(stream).encode(), year.pupil, target=work)
    await thief_hides(here, here.space)
    await year.sync(year.machine)
    await tend_hand_ins(year.machine.agent)
    assert await keeps_key_of(year.machine, work)
