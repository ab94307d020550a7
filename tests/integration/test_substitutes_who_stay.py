"""A substitute is taken on for good: docs/operate.md, "A school by itself"."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Refused
from protocol.replica.office.stays import end_stays
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.school.office import SchoolOffice
from tests.harness.classroom import WORK
from tests.harness.commands import Desk
from tests.harness.spied_class import spied_class


@pytest.mark.parametrize("ended", [True, False], ids=["after the stay was ended", "before anybody has ended it"])
async def test_whom_the_head_lets_in_after_the_last_day_is_given_earlier_work_once_a_colleague_confirms_them(
    tmp_path: Path, *, ended: bool
) -> None:
    async with spied_class(tmp_path) as here:
        room, clock = here.room, here.room.territory.clock
        head = await room.head()
        person = await room.territory.person("M. Roux", PersonRole.TEACHER, room.space)
        laptop = await room.device(Role.TEACHER, person=person, until_ms=clock() + 15 * DAY_MS)
        devices = laptop, head, here.teacher, here.machine, laptop

        async def confirmed() -> None:
            await here.sync(*devices)
            await confirm(here.teacher.agent, device_id(own_device(laptop.agent)), shown_as="other")
            await here.sync(*devices, *devices)

        await confirmed()
        with pytest.raises(Refused):
            await Desk(laptop.agent).files("open-hand-in", id=here.work.hex())
        clock.advance(16 * DAY_MS)
        if ended:
            assert await end_stays(await SchoolOffice.of(head.agent)) == 1
        await Desk(head.agent).ask("grant", device=laptop.agent.device.hex(), space=[room.space.hex()])
        await here.sync(*devices)
        assert await Desk(head.agent).ask("stays") == []
        with pytest.raises(Refused):
            await Desk(laptop.agent).files("open-hand-in", id=here.work.hex())
        await confirmed()
        assert await Desk(laptop.agent).files("open-hand-in", id=here.work.hex()) == WORK
