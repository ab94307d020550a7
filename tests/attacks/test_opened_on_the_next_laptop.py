"""A PC that knew a teacher's lost laptop from two classes hears what she opens on the next one (docs/attacks.md)."""

from __future__ import annotations

from protocol.errors import Refused
from sync_agent.hand_ins.wraps import tend_hand_ins
from tests.harness.attack import attack
from tests.harness.before_her import comes, somebody
from tests.harness.classroom import Device, keeps_key_of
from tests.harness.commands import Desk
from tests.harness.next_year import NextYear

ROW = "a PC is to keep the keys of work that was opened"


def _nobody(*_: object) -> frozenset[object]:
    return frozenset()


async def _opens(device: Device, work: bytes) -> bool:
    desk = Desk(device.agent)
    try:
        files = await desk.files("open-hand-in", id=work.hex())
    except Refused:
        return False
    await desk.ask("confirm-opened", id=work.hex())
    return bool(files)


@attack(ROW, off={"sync_agent.hand_ins.heard_opened.heard_for_long": _nobody})
async def test_what_waited_as_her_laptop_was_lost_and_she_opens_on_the_next_is_given_to_nobody_new(
    year: NextYear,
) -> None:
    here, space = year.here, await year.new_class()
    await year.lets_her_in(space)
    await year.sync()
    item = await here.asks_for_work(year.teacher, space)
    await year.sync()
    work = await here.work(year.machine, item, year.pupil)
    await year.sync()
    await here.office.do("lost", device=year.teacher.agent.device.hex())
    there = [device for device in here.devices if device is not year.teacher]
    await year.sync(*there)
    there.append(await here.device("teacher", year.person, space.hex()))
    await year.sync(*there)
    assert await _opens(there[-1], work)
    await year.sync(*there)
    for _ in range(8):
        await here.days_pass(1, *there)
        await tend_hand_ins(year.machine.agent)
    assert not await keeps_key_of(year.machine, work)
    newcomer = somebody(1)
    await comes(year, space, newcomer)
    await year.sync(year.machine)
    assert not await year.is_given(space, work, newcomer.keys)
