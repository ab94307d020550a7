"""A copied key has cut a laptop off before the honest `lost` does (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Collection

from protocol.replica.office.bureau import Office
from protocol.replica.office.device_cuts import DeviceCut, standing_cuts
from protocol.replica.office.said_here import noted_cuts
from tests.harness.attack import attack
from tests.harness.next_year import NextYear

ROW = "a lost laptop comes back in with its teacher"


async def _by_their_key(office: Office, devices: Collection[bytes], persons: Collection[bytes]) -> list[DeviceCut]:
    return [cut for cut in await standing_cuts(office, devices, persons) if cut.is_ours]


@attack(ROW, off={"protocol.replica.office.withdrawals._own_cuts": _by_their_key})
async def test_lost_is_said_of_a_laptop_that_had_left_with_her_and_that_a_copied_key_has_cut_off_since(
    year: NextYear,
) -> None:
    office, laptop = year.here.office, year.teacher.agent.device
    await office.do("person retire", person=year.person)
    office.clock.advance(60_000)
    await year.thief_cuts_her_off(year.here.space)
    office.clock.advance(60_000)
    before = await noted_cuts(office.server.store)
    await office.do("lost", device=laptop.hex())
    assert len(await noted_cuts(office.server.store) - before) == 1
