"""A PC has met a copied key's device as Mme Petit, in a class of the key's own, before the laptop that she has by now.

She has compared six words on that one and on her first laptop, which the PC met before both (docs/adr/0458).
"""

from __future__ import annotations

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

ROW = "a device of a copied key's is a teacher in a new class before she is"
EACH_BY_ITSELF: dict[str, object] = {"sync_agent.keys.first_met.note_led": lambda *_: {}}
"""As if words led to nobody who stands anywhere for that."""


async def _the_pc_hears_it_as_hers(year: NextYear) -> None:
    """For longer than a week, in a class of the key's own."""
    await year.spy_comes(await year.new_class(), dated_days_ago=0)
    await year.here.days_pass(9)


async def _has_another(year: NextYear) -> Device:
    """She works on it from now on; the first one she keeps in a drawer."""
    first, year.teacher = year.teacher, await year.second_laptop()
    await year.here.days_pass(1)
    return first


async def _is_put_away(year: NextYear, laptop: Device) -> None:
    year.here.devices.remove(laptop)
    await laptop.close()


async def _is_lost(year: NextYear, laptop: Device) -> None:
    await year.here.office.do("lost", device=laptop.agent.device.hex())
    await _is_put_away(year, laptop)
    await year.here.days_pass(1)


async def _is_hers_alone(year: NextYear, space: bytes) -> None:
    await year.sync()
    work = await year.hand_in(space)
    assert await year.who_speaks(year.machine.agent.replica, space) >= {own_device(year.teacher.agent)}
    assert not await year.is_given(space, work, year.spy)
    assert await Desk(year.teacher.agent).files("open-hand-in", id=work.hex())


@attack(ROW, off=EACH_BY_ITSELF)
async def test_nor_is_one_that_a_pc_met_before_the_laptop_that_she_has_by_now(year: NextYear) -> None:
    await _the_pc_hears_it_as_hers(year)
    await _is_lost(year, await _has_another(year))
    await _is_hers_alone(year, await year.spy_is_there_before_her())


@attack(ROW, off=EACH_BY_ITSELF)
async def test_nor_where_her_first_one_lies_in_a_drawer(year: NextYear) -> None:
    await _the_pc_hears_it_as_hers(year)
    await _is_put_away(year, await _has_another(year))
    await _is_hers_alone(year, await year.spy_is_there_before_her())


@attack(ROW, off=EACH_BY_ITSELF)
async def test_nor_in_this_years_class_once_a_word_cuts_her_first_one_off_with_all_that_it_has_said(
    year: NextYear,
) -> None:
    space = year.here.space
    await _the_pc_hears_it_as_hers(year)
    first = await _has_another(year)
    await year.spy_comes(space, dated_days_ago=0)
    await year.thief_says(space, Kind.REVOKE, Revocation(first.agent.device, ()).encode())
    await _is_put_away(year, first)
    await _is_hers_alone(year, space)


@attack(ROW, off=EACH_BY_ITSELF)
async def test_nor_is_one_that_spoke_by_need_while_a_word_cut_her_off_for_an_hour(year: NextYear) -> None:
    space = year.here.space
    cut = await year.thief_cuts_her_off(space)
    await year.spy_comes(space, dated_days_ago=0)
    await year.sync(year.machine)
    spy = (year.spy.signing.public, year.spy.agreement.public)
    assert spy in await year.who_speaks(year.machine.agent.replica, space)
    hers = own_device(year.teacher.agent)
    back = granted(year.teacher.agent.keys, Role.TEACHER, year.person)
    await year.thief_says(space, Kind.GRANT, back, parents=(cut.id,))
    await year.sync()
    assert hers in await year.who_speaks(year.machine.agent.replica, space)
    await _is_put_away(year, await _has_another(year))
    await _is_hers_alone(year, await year.spy_is_there_before_her())


@attack(ROW, off=EACH_BY_ITSELF)
async def test_nor_does_a_heads_computer_take_it_along_once_she_has_lost_her_first_one(year: NextYear) -> None:
    head = await year.here.head_of_the_school()
    await year.sync()
    await _the_pc_hears_it_as_hers(year)
    first, desk = await _has_another(year), Desk(head.agent)
    await desk.ask("lost", device=first.agent.device.hex())
    await _is_put_away(year, first)
    await year.here.days_pass(1)
    space = (await desk.ask("space add", name="CM2", year="2027-2028"))["space"]
    await desk.ask("grant", person=year.person, space=[space])
    let_in = {each.key for each in head.agent.replica.door.authorities() if each.space == bytes.fromhex(space)}
    assert year.teacher.agent.device in let_in
    assert year.spy.signing.public not in let_in


@attack(ROW, off={"sync_agent.keys.acquaintances._gone_nowhere": lambda _agent, _person, devices: devices})
async def test_nor_is_one_to_which_her_laptop_that_was_stolen_and_reported_leads_in_a_class_of_the_keys_own(
    year: NextYear,
) -> None:
    stolen, year.teacher = year.teacher, await year.second_laptop(confirmed=False)
    await _is_lost(year, stolen)
    await year.here.days_pass(9)
    thiefs, own = year.spy, await year.new_class()
    year.spy = stolen.agent.keys
    await year.spy_comes(own, dated_days_ago=0)
    await year.here.days_pass(9)
    by_it = year.grants[own]
    year.spy = thiefs
    await year.spy_comes(own, dated_days_ago=0)
    year.spy, its, year.grants[own] = stolen.agent.keys, year.grants[own], by_it
    await year.spy_says(own, Kind.VOUCH, Vouch().encode(), year.person, target=its)
    await year.here.days_pass(1)
    year.spy = thiefs
    spy = (year.spy.signing.public, year.spy.agreement.public)
    assert spy in await year.who_speaks(year.machine.agent.replica, own)
    await _is_hers_alone(year, await year.spy_is_there_before_her())
