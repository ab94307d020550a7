"""A copied key has many of its devices speak as Mme Petit for a minute, and cuts them off again (docs/adr/0554).

How many a PC notes in a class has a bound. None of them keeps out the laptop that she has next.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.rights.vouching import Vouch
from protocol.roles import Role
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import granted
from tests.harness.next_year import NextYear
from tests.harness.territory import new_device

ROW = "a device of a copied key's is a teacher in a new class before she is"
PLACES = 4


@pytest.fixture(autouse=True)
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_agent.keys.acquaintances.MAX_MET_OF_ONE", PLACES)


def _for_good(taken_ms: Iterable[int], _now_ms: int) -> int:
    """Whoever was noted once takes a place for ever."""
    return max(0, PLACES - len(list(taken_ms)))


async def _many_speak_for_a_minute(year: NextYear) -> None:
    """While her laptop is cut off, by all that it has said; one of them calls the others its own."""
    space = year.here.space
    cut = await year.thief_cuts_her_off(space, *await year.server.tips(space, year.teacher.agent.device))
    made, grants = [new_device(Random(n).randbytes) for n in range(PLACES)], list[bytes]()
    for year.spy in made:
        await year.spy_comes(space, dated_days_ago=0)
        grants.append(year.grants[space])
    year.spy, year.grants[space] = made[0], grants[0]
    for grant in grants[1:]:
        await year.spy_says(space, Kind.VOUCH, Vouch().encode(), year.person, target=grant)
    await year.here.sync(year.machine)
    for one in made:
        pair = one.signing.public, one.agreement.public
        assert pair in await year.who_speaks(year.machine.agent.replica, space)
        await year.thief_says(space, Kind.REVOKE, Revocation(one.signing.public, ()).encode())
    back = granted(year.teacher.agent.keys, Role.TEACHER, year.person)
    await year.thief_says(space, Kind.GRANT, back, parents=(cut.id,))
    await year.sync()
    year.spy = new_device(Random(666).randbytes)


async def _is_put_away(year: NextYear, laptop: Device) -> None:
    year.here.devices.remove(laptop)
    await laptop.close()


async def _is_hers_alone(year: NextYear) -> None:
    """Though a device of the key's comes now, dated long before hers."""
    space = year.here.space
    await year.spy_comes(space, dated_days_ago=700)
    await year.sync()
    work = await year.hand_in(space)
    assert own_device(year.teacher.agent) in await year.who_speaks(year.machine.agent.replica, space)
    assert not await year.is_given(space, work, year.spy)
    assert await Desk(year.teacher.agent).files("open-hand-in", id=work.hex())


@attack(ROW, off={"sync_agent.keys.acquaintances._in_any_case": lambda *_: frozenset()})
async def test_nor_do_many_who_speak_for_a_minute_keep_out_whom_her_first_leads_to_that_day(year: NextYear) -> None:
    await _many_speak_for_a_minute(year)
    first, year.teacher = year.teacher, await year.second_laptop()
    await year.thief_says(year.here.space, Kind.REVOKE, Revocation(first.agent.device, ()).encode())
    await _is_put_away(year, first)
    await _is_hers_alone(year)


@attack(ROW, off={"sync_agent.keys.acquaintances._free_this_week": _for_good})
async def test_nor_the_one_that_she_has_months_later_once_her_first_is_lost(year: NextYear) -> None:
    await year.lets_her_in(await year.new_class())
    await year.sync()
    await _many_speak_for_a_minute(year)
    await year.here.days_pass(30)
    first = year.teacher
    await year.here.office.do("lost", device=first.agent.device.hex())
    year.teacher = await year.here.device("teacher", year.person)
    await _is_put_away(year, first)
    await year.sync()
    await _is_hers_alone(year)
