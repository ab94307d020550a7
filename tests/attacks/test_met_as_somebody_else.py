"""A copied key calls hers a device that a PC met as M. X before Mme Roy came to the school (docs/attacks.md)."""

from __future__ import annotations

from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.rights.speaking import UNMET
from protocol.rights.vouching import Device as Pair
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole
from sync_agent.keys.confirming import own_device
from sync_agent.machine.acquainted import Acquainted
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.next_year import NextYear

ROW = "a device of a copied key's is a teacher in a new class before she is"
MADE_UP = bytes([7] * 16).hex()


def _whosever_it_was_then(self: Acquainted, space: bytes, person: bytes) -> dict[Pair, int]:
    met = self.met.get(space, {})
    return {each: met.get(device_id(each), UNMET) for each in self.first.get(space, {}).get(person, ())}


OF_A_DEVICE: dict[str, object] = {"sync_agent.machine.acquainted.Acquainted.firsts_ms": _whosever_it_was_then}


async def _mme_roy_comes_after_it(year: NextYear) -> Device:
    """Her laptop; the school has known it for two months as the copied key calls its own device hers, in its class."""
    await year.sync()
    own = await year.new_class()
    await year.thief_says(own, Kind.PERSON, PersonRecord("M. X", PersonRole.TEACHER).encode(), subject=MADE_UP)
    await year.spy_comes(own, dated_days_ago=0, person=MADE_UP)
    await year.here.days_pass(2)
    year.person = await year.here.office.add_person("Mme Roy", "teacher")
    laptop = await year.here.device("teacher", year.person)
    await year.here.days_pass(2)
    year.pass_days(60)
    await year.sync()
    await year.spy_comes(own, dated_days_ago=0)
    await year.here.days_pass(9)
    year.teacher = laptop
    return laptop


@attack(ROW, off=OF_A_DEVICE)
async def test_nor_is_one_that_a_pc_met_as_somebody_else_before_she_came_to_the_school(year: NextYear) -> None:
    laptop = await _mme_roy_comes_after_it(year)
    space = await year.new_class()
    await year.lets_her_in(space)
    await year.spy_comes(space, dated_days_ago=0)
    await year.sync()
    work = await year.hand_in(space)

    assert await year.who_speaks(year.machine.agent.replica, space) == {own_device(laptop.agent)}
    assert not await year.is_given(space, work, year.spy)
    assert await Desk(laptop.agent).files("open-hand-in", id=work.hex())


@attack(ROW, off=OF_A_DEVICE)
async def test_nor_does_a_heads_computer_take_that_one_along_for_her_laptop(year: NextYear) -> None:
    head = await year.here.head_of_the_school()
    laptop = await _mme_roy_comes_after_it(year)
    await year.here.office.add_person("Tom", "pupil")
    await year.sync()

    space = (await Desk(head.agent).ask("space add", name="CM2", year="2027-2028"))["space"]
    await Desk(head.agent).ask("grant", person=year.person, space=[space])
    rights = head.agent.replica.door.authorities()
    let_in = {each.key for each in rights if each.space == bytes.fromhex(space)}
    assert laptop.agent.device in let_in
    assert year.spy.signing.public not in let_in
