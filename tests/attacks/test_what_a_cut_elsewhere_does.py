"""A device was cut off in one class: what that changes in another one, on PCs and laptops that met her before it.

docs/adr/0414.
"""

from __future__ import annotations

from protocol.rights.speaking import UNMET
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.next_year import NextYear

ROW = "a device of a copied key's is a teacher in a new class before she is"
ITS_HOUR_COUNTS: dict[str, object] = {"sync_agent.machine.acquainted.DOUBTED": 0}
"""As if whom a PC only heard in a class, before whom it knew, had been met like any other."""


async def _an_hour_before_her(year: NextYear) -> bytes:
    """The thief's device is in the new class as Mme Petit, with no false date, and a word says that she left CM1."""
    space = await year.spy_is_there_before_her()
    old = year.here.space
    await year.thief_cuts_her_off(old, *await year.server.tips(old, year.teacher.agent.device))
    await year.sync(year.machine)
    await year.sync()
    return space


@attack(ROW, off=ITS_HOUR_COUNTS)
async def test_nor_is_who_was_there_an_hour_before_her_where_a_word_cuts_her_off_in_last_years_class(
    year: NextYear,
) -> None:
    space = await _an_hour_before_her(year)
    pc = year.machine.agent.replica
    assert await year.who_speaks(pc, space) == {own_device(year.teacher.agent)}


async def _a_week_of_both(year: NextYear) -> bytes:
    """After that hour the PC hears both there every day."""
    space = await _an_hour_before_her(year)
    await year.here.days_pass(9)
    return space


@attack(ROW, off=ITS_HOUR_COUNTS)
async def test_nor_is_it_once_it_has_been_heard_there_for_a_week(year: NextYear) -> None:
    space = await _a_week_of_both(year)
    work = await year.hand_in(space)
    assert not await year.is_given(space, work, year.spy)
    assert await Desk(year.teacher.agent).files("open-hand-in", id=work.hex())


@attack(ROW, off={"sync_agent.keys.first_met.ACQUAINTANCE_MS": 1})
async def test_a_week_of_her_own_makes_her_the_first_and_no_week_of_who_is_heard_beside_her(year: NextYear) -> None:
    space = await _a_week_of_both(year)
    await year.hand_in(space)
    firsts = year.machine.agent.acquainted.first[space][bytes.fromhex(year.person)]
    assert firsts == (own_device(year.teacher.agent),)


class Lost:
    """CM2, in which she answered a work on a laptop that was lost then; and a PC that comes there after the report."""

    def __init__(self, year: NextYear, space: bytes, work: bytes, next_laptop: Device) -> None:
        self.year, self.space, self.work, self.next_laptop = year, space, work, next_laptop

    async def marks(self, device: Device) -> list[str | None]:
        work = (await device.agent.replica.view(self.space)).coursework.hand_ins[self.work]
        return [note.record.mark for note in work.remarks]


async def _answered_and_lost(year: NextYear) -> Lost:
    space = await year.class_without_the_pc()
    await year.lets_her_in(space)
    pc = await year.here.device("machine", None, space.hex())
    await year.sync()
    cm1, year.machine = year.machine, pc
    work = await year.hand_in(space)
    await year.answers(work)
    year.machine = cm1
    await year.here.office.do("lost", device=year.teacher.agent.device.hex())
    next_laptop = await year.here.device("teacher", year.person, space.hex())
    await year.here.office.do("grant", device=next_laptop.agent.device.hex(), space=[year.here.space.hex()])
    await year.here.days_pass(9, next_laptop, cm1, pc)
    return Lost(year, space, work, next_laptop)


def _not_in_use_where_it_was_cut(self: object, person: bytes, device: object) -> int:
    return UNMET


@attack(
    "what a teacher said on a laptop that was lost, or that a copied key says was, is nobody's at the server",
    off={"protocol.rights.speaking.Remembered.before_a_cut": _not_in_use_where_it_was_cut},
)
async def test_nor_is_it_nobodys_on_a_pc_that_comes_to_the_class_after_the_report(year: NextYear) -> None:
    lost = await _answered_and_lost(year)
    await year.lets_the_pc_in(lost.space)
    for _ in range(3):
        await year.sync(lost.next_laptop, year.machine)
    year.pass_days(9)
    await year.sync(lost.next_laptop, year.machine)
    assert await lost.marks(year.machine) == ["18/20"]
