"""Work that its teacher has opened is hidden before the PC on which it was handed in looks (docs/attacks.md).

The key goes all the same (docs/adr/0447, docs/adr/0449).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_agent.hand_ins.wraps import tend_hand_ins
from tests.harness.attack import attack
from tests.harness.classroom import keeps_key_of
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_hides
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


@pytest.mark.parametrize("how", ["somebody froze her", "that work", "the class"])
@attack(ROW, off={"sync_agent.hand_ins.wraps.is_said_to_be_opened": lambda *_: False})
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
