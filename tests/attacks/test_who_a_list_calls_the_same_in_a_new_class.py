"""One line of next year's list calls Mme Petit the same as somebody of a copied key's (docs/attacks.md).

Her laptop and the school's PC have known each other for two months in the class of before (docs/adr/0461).
"""

from __future__ import annotations

from protocol.model.structure import PersonRecord
from protocol.roles import PersonRole
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_lists
from tests.harness.joined_lists import SILENCED
from tests.harness.next_year import NextYear

ROW = "a list calls a teacher somebody of a copied key's before she is in a new class"


async def _the_other_is_there_first(year: NextYear, space: bytes) -> None:
    """M. X, with a device of the key's, and the list that calls Mme Petit the same."""
    other = await year.here.office.add_person("M. X", "teacher", space.hex())
    await year.spy_comes(space, dated_days_ago=0, person=other)
    same = PersonRecord("Mme Petit", PersonRole.TEACHER, same_as=bytes.fromhex(other))
    await thief_lists(year.here, year.person, same, space)
    await year.sync(year.machine)


async def _she_comes_second(year: NextYear, *, cut_off: bool = False) -> bytes:
    """Her laptop comes after him; it may have been `cut_off` in the class of before by then."""
    space = await year.new_class()
    await _the_other_is_there_first(year, space)
    await year.lets_her_in(space)
    await year.sync(year.teacher)
    if cut_off:
        await year.thief_cuts_her_off(year.here.space)
    await year.sync(year.machine)
    return space


async def _is_heard_and_reads(year: NextYear, space: bytes, hers: Device | None = None) -> bool:
    teacher = hers or year.teacher
    roster = (await year.machine.agent.replica.view(space)).roster
    if own_device(teacher.agent) not in roster.speaking.get(bytes.fromhex(year.person), ()):
        return False
    item = await year.here.asks_for_work(teacher, space)
    await year.sync(teacher, year.machine)
    work = await year.here.work(year.machine, item, year.pupil)
    await year.sync(year.machine, teacher)
    return bool(await Desk(teacher.agent).files("open-hand-in", id=work.hex()))


@attack(ROW, off=SILENCED)
async def test_whom_a_pc_knows_is_heard_and_sealed_to_there_whoever_a_list_calls_the_same(year: NextYear) -> None:
    assert await _is_heard_and_reads(year, await _she_comes_second(year))


@attack(ROW, off=SILENCED)
async def test_so_she_is_where_a_word_about_last_years_class_cuts_her_off_as_well(year: NextYear) -> None:
    assert await _is_heard_and_reads(year, await _she_comes_second(year, cut_off=True))


@attack(ROW, off=SILENCED)
async def test_so_is_her_new_laptop_while_the_one_that_the_pc_knows_lies_in_a_drawer(year: NextYear) -> None:
    space = await year.new_class()
    await year.lets_her_in(space)
    code = await year.here.office.invite("teacher", space.hex(), person=year.person)
    await _the_other_is_there_first(year, space)
    new = await year.here.device("teacher", year.person, space.hex(), code=code)
    await year.sync(new, year.machine)
    assert await _is_heard_and_reads(year, space, new)
