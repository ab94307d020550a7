"""M. X is in next year's class an hour before Mme Petit, and says of all work there that it was opened (docs/adr/0254).

Her laptop and the school's PC have known each other for two months in the class of before; the server brings her
nothing (docs/adr/0445).
"""

from __future__ import annotations

from protocol.replica.content.holdings import Need
from sync_agent.machine.eviction import Worth
from tests.harness.attack import attack
from tests.harness.before_her import an_hour_before_her, somebody
from tests.harness.classroom import keeps_key_of, worth_of
from tests.harness.next_year import NextYear

ROW = "whoever is in a new class before its teacher says that its work was opened"


async def _at_once(*_: object) -> bool:
    return True


async def _said_to_be_opened(year: NextYear) -> tuple[bytes, Need]:
    space = await an_hour_before_her(year, somebody(1))
    work = await year.hand_in(space)
    await year.spy_opens(space, work)
    await year.sync(year.machine)
    content = (await year.server.view(space)).coursework.hand_ins[work].record.content
    return work, Need(space, content.stream, sealed=True)


@attack(ROW, off={"sync_agent.sync.worth.Worths._has_waited": _at_once})
async def test_the_pc_on_which_it_was_handed_in_keeps_its_content_for_a_month_for_who_finds_that_out(
    year: NextYear,
) -> None:
    _, need = await _said_to_be_opened(year)
    await year.here.days_pass(25, year.machine)
    assert await worth_of(year.machine, need) is Worth.KEPT


async def test_what_was_opened_makes_way_after_that_month_where_room_lacks(year: NextYear) -> None:
    work, need = await _said_to_be_opened(year)
    await year.here.days_pass(35, year.machine)
    assert not await keeps_key_of(year.machine, work)
    assert await worth_of(year.machine, need) is Worth.RECEIVED
