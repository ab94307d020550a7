"""One line of next year's list calls Mme Petit the same as somebody of a copied key's (docs/attacks.md).

Her laptop and the school's PC have known each other for two months in the class of before (docs/adr/0441).
"""

from __future__ import annotations

from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.roles import PersonRole
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.copied_keys import brought, said_by_copy
from tests.harness.next_year import NextYear

ROW = "a list calls a teacher somebody of a copied key's before she is in a new class"
OFF: dict[str, object] = {"protocol.rights.speaking._in_use": lambda *_: []}


async def _lists_her_as(year: NextYear, space: bytes, other: str) -> None:
    record = PersonRecord("Mme Petit", PersonRole.TEACHER, same_as=bytes.fromhex(other)).encode()
    await brought(year.here, said_by_copy(year.here, Kind.PERSON, record, space, subject=year.person))


async def _the_other_is_there_first(year: NextYear, *, cut_off: bool = False) -> bytes:
    """M. X, with a device of the key's, and the list that calls Mme Petit the same; then her laptop comes.

    It may have been `cut_off` in the class of before by then.
    """
    space = await year.new_class()
    other = await year.here.office.add_person("M. X", "teacher", space.hex())
    await year.spy_comes(space, dated_days_ago=0, person=other)
    await _lists_her_as(year, space, other)
    await year.sync(year.machine)
    await year.lets_her_in(space)
    await year.sync(year.teacher)
    if cut_off:
        await year.thief_cuts_her_off(year.here.space)
    await year.sync(year.machine)
    return space


async def _is_heard_and_reads(year: NextYear, space: bytes) -> bool:
    roster = (await year.machine.agent.replica.view(space)).roster
    laptop = own_device(year.teacher.agent)
    if laptop not in roster.speaking_alone.get(bytes.fromhex(year.person), ()):
        return False
    work = await year.hand_in(space)
    return bool(await Desk(year.teacher.agent).files("open-hand-in", id=work.hex()))


@attack(ROW, off=OFF)
async def test_whom_a_pc_knows_is_heard_and_sealed_to_there_whoever_a_list_calls_the_same(year: NextYear) -> None:
    assert await _is_heard_and_reads(year, await _the_other_is_there_first(year))


@attack(ROW, off=OFF)
async def test_so_she_is_where_a_word_about_last_years_class_cuts_her_off_as_well(year: NextYear) -> None:
    assert await _is_heard_and_reads(year, await _the_other_is_there_first(year, cut_off=True))
