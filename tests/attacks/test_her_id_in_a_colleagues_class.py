"""A copy of the server's key lists Mme Petit in M. Roy's class, where she does not teach, with a computer of its own.

No date is false, and no name is new: whose she is there hangs on whom the server knows (docs/adr/0398).
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.replica.office.bureau import Office
from protocol.replica.office.device_cuts import key_cut_off
from protocol.replica.office.said_here import noted_cuts
from protocol.replica.office.spaces import uai_of
from protocol.rights.door import Authority
from protocol.roles import PersonRole
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.next_year import NextYear

ROW = "the server takes a device of a copied key's for the teacher"
ANYBODY: dict[str, object] = {"protocol.replica.office.servers_memory._strangers": lambda *_: frozenset()}


async def _in_a_colleagues_class(year: NextYear) -> bytes:
    """M. Roy's class: the thief's computer answers a pupil's work there as Mme Petit, and says to have opened it."""
    here, pupil = year.here, year.pupil
    school = await uai_of(here.office.server, here.school)
    space = bytes.fromhex((await here.office.do("space add", name="CE2", school=school))["space"])
    roy = await here.office.add_person("M. Roy", "teacher", space.hex())
    await here.office.do("grant", person=pupil, space=[space.hex()])
    await year.lets_the_pc_in(space)
    laptop = await here.device("teacher", roy, space.hex())
    await year.sync()
    listed = PersonRecord("Mme Petit", PersonRole.TEACHER).encode()
    await year.thief_says(space, Kind.PERSON, listed, subject=year.person)
    await year.spy_comes(space, dated_days_ago=0)
    await year.sync()
    item = await here.asks_for_work(laptop, space)
    await year.sync()
    work = await here.work(year.machine, item, pupil)
    await year.sync()
    await year.spy_answers(space, work)
    await year.spy_opens(space, work)
    await year.sync()
    return space


@attack(ROW, off=ANYBODY)
async def test_what_a_computer_says_that_is_hers_in_a_colleagues_class_alone_is_in_no_archive(year: NextYear) -> None:
    await _in_a_colleagues_class(year)
    assert "0/20" not in await year.archive()


def _whoever_said_it(*_: object) -> bool:
    return True


@attack(ROW, off={"protocol.replica.office.device_cuts.is_said_here": _whoever_said_it})
async def test_nor_since_that_key_has_cut_hers_off(year: NextYear) -> None:
    await _in_a_colleagues_class(year)
    await year.thief_cuts_her_off(year.here.space)
    assert "0/20" not in await year.archive()


async def _every_cut(office: Office) -> Callable[[Authority], bool]:
    """As if whom this server ever cut off anywhere were gone."""
    noted = await noted_cuts(office.replica.store)
    cut = {key_cut_off(order) for order in (await office.replica.store.get(sorted(noted))).values()}
    return lambda given: given.key in cut


EVERY_CUT: dict[str, object] = {"protocol.replica.office.servers_memory.cut_off_here": _every_cut}


@attack(ROW, off=EVERY_CUT)
async def test_nor_since_she_has_left_a_class_in_good_order(year: NextYear) -> None:
    await year.lets_her_in(await year.new_class())
    await year.here.office.do("ungrant", person=year.person, space=[year.here.space.hex()])
    await _in_a_colleagues_class(year)
    assert "0/20" not in await year.archive()


@attack(ROW, off=EVERY_CUT)
async def test_nor_since_hers_was_reported_and_found_again(year: NextYear) -> None:
    laptop, office = year.teacher.agent.device.hex(), year.here.office
    await office.do("lost", device=laptop)
    await office.do("grant", device=laptop, space=[year.here.space.hex()])
    await year.sync()
    await _in_a_colleagues_class(year)
    assert "0/20" not in await year.archive()


@attack(ROW, off=ANYBODY)
async def test_nor_does_its_receipt_have_that_class_closed_unasked(year: NextYear) -> None:
    space = await _in_a_colleagues_class(year)
    closing = await year.here.office.do("space close", space=space.hex())
    assert closing["unopened"] == 1


async def test_her_own_is_hers_there_once_she_is_let_in(year: NextYear) -> None:
    space = await _in_a_colleagues_class(year)
    await year.lets_her_in(space)
    await year.sync()
    assert await year.who_speaks(year.server, space) == {own_device(year.teacher.agent)}


async def test_who_lets_her_in_there_is_told_that_it_is_in_already(year: NextYear) -> None:
    space = await _in_a_colleagues_class(year)
    told = len(year.here.office.said.lines)
    await year.lets_her_in(space)
    (line,) = year.here.office.said.lines[told:]
    assert line.startswith(f"the device {year.spy.signing.public.hex()} is in already")


async def test_once_hers_is_reported_at_the_server_whoever_is_there_as_her_is_heard(year: NextYear) -> None:
    space = await _in_a_colleagues_class(year)
    await year.here.office.do("lost", device=year.teacher.agent.device.hex())
    speaks = await year.who_speaks(year.server, space)
    assert {key for key, _ in speaks} == {year.spy.signing.public}
