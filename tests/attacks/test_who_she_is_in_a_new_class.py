"""A class begins each year, and a copy of the server's key is in it before Mme Petit's laptop (docs/attacks.md).

Her laptop and the school's PC have known each other for two months in the class of before (docs/adr/0389).
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.folds.coursework import Work
from protocol.rights.door import Authority
from protocol.rights.roster import Roster
from protocol.rights.speaking import UNMET, Remembered
from protocol.rights.vouching import Device as Pair
from sync_agent.keys.confirming import own_device
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device, keeps_key_of, takes_for_opened
from tests.harness.commands import Desk
from tests.harness.next_year import NextYear

ROW = "a device of a copied key's is a teacher in a new class before she is"
ARCHIVE = "the server takes a device of a copied key's for the teacher"


def _by_class_alone(self: Remembered, person: bytes, device: Pair) -> int:
    """As it was while each class had a memory of its own, and the server none."""
    return self.met_ms.get(person, {}).get(device, UNMET)


def _also_by_an_end(roster: Roster, _: object, device: Pair, person: bytes) -> bool:
    return roster.is_away(device, person)


BY_CLASS_ALONE: dict[str, object] = {"protocol.rights.speaking.Remembered.met": _by_class_alone}
ANYBODY: dict[str, object] = {"protocol.replica.office.servers_memory._strangers": lambda *_: frozenset()}
"""And as if a server that knows a computer of somebody's heard others in that name too (docs/adr/0398)."""
FORGOTTEN: dict[str, object] = {"sync_agent.machine.acquainted.GONE": UNMET << 2}
"""As if whoever is gone in a class had never been met there."""
NOBODY_FIRST: dict[str, object] = {"protocol.replica.office.servers_memory._there": lambda *_: ()}
"""And as if a server remembered nobody whom it knows (docs/adr/0413)."""
FOR_GOOD: dict[str, object] = {"sync_agent.machine.acquainted.ACQUAINTANCE_MS": UNMET}
"""As if who is not confirmed were heard beside her for ever."""
BY_AN_END_TOO: dict[str, object] = {"sync_agent.keys.first_met.is_gone": _also_by_an_end}


def _marks(work: Work) -> list[str | None]:
    return [note.record.mark for note in work.remarks]


async def _over_the_holidays(year: NextYear) -> bytes:
    """Her laptop meets the new class in July; a thief's device comes, and then the PC is switched on again."""
    space = await year.new_class()
    await year.lets_her_in(space)
    await year.sync(year.teacher)
    year.pass_days(45)
    await year.spy_comes(space, dated_days_ago=50)
    await year.sync()
    return space


@attack(ROW, off=BY_CLASS_ALONE)
async def test_who_is_dated_before_her_in_a_new_class_is_her_on_no_pc_that_met_her_in_another(year: NextYear) -> None:
    space = await _over_the_holidays(year)
    work = await year.hand_in(space)
    await year.answers(work)
    await year.spy_answers(space, work)

    shown = (await year.machine.agent.replica.view(space)).coursework.hand_ins[work]
    assert _marks(shown) == ["18/20"]
    assert not await year.is_given(space, work, year.spy)
    opened = await Desk(year.teacher.agent).files("open-hand-in", id=work.hex())
    assert opened, "and she opens what was handed in to her"


@attack(ROW, off=BY_CLASS_ALONE | ANYBODY | NOBODY_FIRST)
async def test_nor_does_such_a_receipt_free_the_key_of_work_or_close_the_class(year: NextYear) -> None:
    space = await _over_the_holidays(year)
    work = await year.hand_in(space)
    await year.spy_opens(space, work)
    await year.sync()

    assert await keeps_key_of(year.machine, work)
    assert (await year.here.office.do("space close", space=space.hex()))["unopened"] == 1


@attack(ROW, off={"sync_agent.keys.first_met._is_doubted": lambda *_: False})
async def test_nor_is_who_was_in_it_before_her_laptop_once_that_has_come(year: NextYear) -> None:
    space = await _an_hour_before_her(year)
    assert await year.who_speaks(year.machine.agent.replica, space) == {own_device(year.teacher.agent)}


async def _an_hour_before_her(year: NextYear) -> bytes:
    """The PC has heard a thief's device in the new class as hers, and then her laptop."""
    space = await year.spy_is_there_before_her()
    await year.sync()
    return space


@attack(ROW, off={"sync_agent.keys.first_met._is_doubted": lambda *_: False})
async def test_nor_is_new_work_sealed_to_it_nor_let_go_of_though_its_words_are_shown_for_a_week(year: NextYear) -> None:
    space = await _an_hour_before_her(year)
    work = await year.hand_in(space)
    await year.answers(work)
    await year.spy_answers(space, work)
    await year.spy_opens(space, work)
    await year.sync()

    shown = (await year.machine.agent.replica.view(space)).coursework.hand_ins[work]
    assert not await year.is_given(space, work, year.spy)
    assert "18/20" in _marks(shown)
    assert await keeps_key_of(year.machine, work)
    assert (await year.here.office.do("space close", space=space.hex()))["unopened"] == 1


@attack(ROW, off=FOR_GOOD)
async def test_nor_are_its_words_shown_beside_hers_for_longer_than_a_week(year: NextYear) -> None:
    space = await _an_hour_before_her(year)
    work = await year.hand_in(space)
    await year.answers(work)
    await year.spy_answers(space, work)
    await year.here.days_pass(8, year.machine)
    assert _marks((await year.machine.agent.replica.view(space)).coursework.hand_ins[work]) == ["18/20"]


async def test_nor_any_longer_once_it_was_reported(year: NextYear) -> None:
    space = await _an_hour_before_her(year)
    work = await year.hand_in(space)
    await year.answers(work)
    await year.spy_answers(space, work)
    pc = year.machine.agent.replica
    assert sorted(filter(None, _marks((await pc.view(space)).coursework.hand_ins[work]))) == ["0/20", "18/20"]
    await year.here.office.do("lost", device=year.spy.signing.public.hex())
    await year.sync()
    assert _marks((await pc.view(space)).coursework.hand_ins[work]) == ["18/20"]


@attack(ROW, off={"sync_agent.keys.acquaintances._heard_ms": lambda *_: {}})
async def test_nor_is_who_comes_next_first_of_the_class_while_a_new_laptop_of_hers_is_new(year: NextYear) -> None:
    space = await year.new_class()
    await year.lets_her_in(space)
    year.teacher = await year.here.device("teacher", year.person, space.hex())
    await year.sync(year.teacher, year.machine)
    year.pass_days(1)
    other = await year.here.office.add_person("M. X", "teacher", space.hex())
    await year.spy_comes(space, dated_days_ago=0, person=other)
    work = await year.hand_in(space)
    await year.spy_opens(space, work)
    await year.sync(year.machine)
    assert not await takes_for_opened(year.machine, space, work)


@attack(ROW, off=BY_CLASS_ALONE)
async def test_nor_is_that_so_after_a_restart(year: NextYear) -> None:
    space = await year.new_class()
    await year.spy_comes(space, dated_days_ago=50)
    await year.lets_her_in(space)
    await year.sync(year.teacher)
    agent = year.machine.agent
    agent.acquainted = await type(agent.acquainted).of(agent.replica.store)
    agent.bear_in_mind()
    await year.sync()
    assert await year.who_speaks(agent.replica, space) == {own_device(year.teacher.agent)}


@attack(ROW, off=BY_CLASS_ALONE)
async def test_nor_once_the_class_in_which_they_have_met_is_closed(year: NextYear) -> None:
    space = await year.new_class()
    await year.lets_her_in(space)
    await year.sync(year.teacher)
    await year.spy_comes(space, dated_days_ago=50)
    kit = kit_in(year.here.folder / "server" / "kit", None)
    await year.here.office.with_kit("space close", kit, space=year.here.space.hex(), unheard_too=True)
    await year.sync()
    assert await year.who_speaks(year.machine.agent.replica, space) == {own_device(year.teacher.agent)}
    assert await year.who_speaks(year.server, space) == {own_device(year.teacher.agent)}


@attack(ROW, off={"sync_agent.keys.first_met._who_is_gone": lambda *_: {}})
async def test_nor_is_a_laptop_that_was_reported_the_year_before_and_that_a_copied_key_lets_in(year: NextYear) -> None:
    second, space = await _stolen_and_let_in(year)
    assert await year.who_speaks(year.machine.agent.replica, space) == {own_device(second.agent)}


@attack(ROW, off={"sync_agent.keys.first_met._who_is_gone": lambda *_: {}})
async def test_nor_where_the_pc_hears_of_the_report_and_of_the_class_in_one_look_whichever_comes_first_in_it(
    year: NextYear,
) -> None:
    stolen, second = year.teacher, await year.second_laptop(confirmed=False)
    await year.here.office.do("lost", device=stolen.agent.device.hex())
    year.spy = stolen.agent.keys
    # whoever has the server chooses ids, by which classes are gone through: some of these lie before the old one's
    spaces = [await year.new_class() for _ in range(6)]
    for space in spaces:
        await year.spy_comes(space, dated_days_ago=50)
    await year.sync(year.machine)
    for space in spaces:
        await year.lets_her_in(space)
    await year.sync(second, year.machine)
    for space in spaces:
        assert await year.who_speaks(year.machine.agent.replica, space) == {own_device(second.agent)}


async def _there_since_july(year: NextYear) -> bytes:
    """Her laptop meets the new class while the PC is in the old one alone."""
    space = await year.class_without_the_pc()
    await year.lets_her_in(space)
    await year.sync(year.teacher)
    return space


async def _met_in_september(year: NextYear, space: bytes) -> frozenset[Pair]:
    """The PC has heard all that was said of the old class, and meets her and the thief's device in the new one."""
    await year.sync()
    year.pass_days(45)
    await year.lets_the_pc_in(space)
    await year.spy_comes(space, dated_days_ago=50)
    await year.sync()
    return await year.who_speaks(year.machine.agent.replica, space)


async def _says_of_the_class_of_before(year: NextYear, *, ends: bool) -> None:
    old, laptop = year.here.space, year.teacher.agent.device
    grant = next(each.grant for each in year.server.door.authorities() if (each.key, each.space) == (laptop, old))
    await year.thief_cuts_her_off(old, right=grant if ends else None)


@attack(ROW, off=FORGOTTEN)
async def test_nor_where_a_word_of_that_key_cuts_her_off_in_the_class_of_before(year: NextYear) -> None:
    space = await _there_since_july(year)
    await _says_of_the_class_of_before(year, ends=False)
    assert await _met_in_september(year, space) == {own_device(year.teacher.agent)}


@attack(ROW, off={**FORGOTTEN, **BY_AN_END_TOO})
async def test_nor_where_she_has_left_the_class_of_before(year: NextYear) -> None:
    space = await _there_since_july(year)
    await year.here.office.do("ungrant", person=year.person, space=[year.here.space.hex()])
    assert await _met_in_september(year, space) == {own_device(year.teacher.agent)}


@attack(ROW, off=BY_AN_END_TOO)
async def test_nor_by_the_end_of_her_right_there_if_the_pc_has_met_that_device_in_a_class_of_the_keys_own(
    year: NextYear,
) -> None:
    await year.spy_comes(await year.new_class(), dated_days_ago=0)
    space = await _there_since_july(year)
    await _says_of_the_class_of_before(year, ends=True)
    await year.here.days_pass(9)
    assert await _met_in_september(year, space) == {own_device(year.teacher.agent)}


async def test_nor_by_a_cut_in_the_class_of_before_and_an_hour_in_a_class_of_the_keys_own(year: NextYear) -> None:
    await year.spy_comes(await year.new_class(), dated_days_ago=0)
    space = await _there_since_july(year)
    await _says_of_the_class_of_before(year, ends=False)
    assert await _met_in_september(year, space) == {own_device(year.teacher.agent)}


async def _nobody(_: object) -> Callable[[Authority], bool]:
    return lambda _: False


@attack(ROW, off={"protocol.replica.office.servers_memory.back_by_others": _nobody})
async def test_nor_is_it_at_the_server(year: NextYear) -> None:
    second, space = await _stolen_and_let_in(year)
    assert await year.who_speaks(year.server, space) == {own_device(second.agent)}


async def _stolen_and_let_in(year: NextYear) -> tuple[Device, bytes]:
    """Her first laptop is reported, and is in next year's class by a copied key, dated before her second one."""
    stolen, second = year.teacher, await year.second_laptop()
    await year.here.office.do("lost", device=stolen.agent.device.hex())
    await year.sync(second, year.machine)
    year.spy = stolen.agent.keys
    space = await year.new_class()
    await year.lets_her_in(space)
    await year.sync(second)
    await year.spy_comes(space, dated_days_ago=50)
    await year.sync(second, year.machine)
    return second, space


@attack(ARCHIVE, off=BY_CLASS_ALONE | ANYBODY | NOBODY_FIRST)
async def test_a_family_is_given_what_she_said_though_a_copied_key_dates_itself_before_her(year: NextYear) -> None:
    space = year.here.space
    work = await year.hand_in(space)
    await year.answers(work)
    year.pass_days(100)
    await year.spy_comes(space, dated_days_ago=300)
    await year.spy_answers(space, work)

    assert _marks((await year.server.view(space)).coursework.hand_ins[work]) == ["18/20"]
    page = await year.archive()
    assert "18/20" in page
    assert "0/20 " not in page.replace("18/20", "")


@attack(ARCHIVE, off=BY_CLASS_ALONE | ANYBODY | NOBODY_FIRST)
async def test_what_she_has_opened_is_counted_as_opened_where_a_class_is_closed(year: NextYear) -> None:
    space = year.here.space
    await year.opened_work(space)
    await year.spy_comes(space, dated_days_ago=300)
    await year.sync()
    closing = await year.here.office.do("space close", space=space.hex())
    assert (closing["unopened"], closing["opened_by"]) == (0, [{"name": "Mme Petit", "hand_ins": 1}])


@attack(ARCHIVE, off={"protocol.replica.office.servers_memory.ServersMemory._stands": lambda *_: True})
async def test_a_server_knows_her_by_her_code_though_a_copied_key_let_its_own_device_in_first(year: NextYear) -> None:
    space, year.person = year.here.space, await year.here.office.add_person("M. Roy", "teacher")
    await year.spy_comes(space, dated_days_ago=0)
    roy = await year.here.device("teacher", year.person)
    await year.sync()
    assert await year.who_speaks(year.server, space) == {own_device(roy.agent)}
