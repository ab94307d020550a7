"""A copy of the server's key has somebody in a new class before Mme Petit's laptop (docs/attacks.md).

The school's PC has known that laptop for two months, in the class of before: that is one memory for all that it does
with pupils' work (docs/adr/0415).
"""

from __future__ import annotations

import pytest

from protocol.rights.vouching import Device as Pair
from protocol.rights.vouching import device_id
from sync_agent.app import Agent
from sync_agent.keys.acquaintances import Start, in_turn, known_in, there_at_first
from tests.harness.attack import attack
from tests.harness.before_her import an_hour_before_her, comes, somebody, who_says_her_key
from tests.harness.classroom import keeps_key_of
from tests.harness.commands import Desk
from tests.harness.next_year import NextYear

ROW = "somebody of a copied key's was in a new class before her"


def _known_by_class(agent: Agent, space: bytes) -> frozenset[Pair]:
    """As it was while each class had a memory of its own."""
    known = known_in(agent, space)
    return frozenset(
        each.device for each in in_turn(agent, space) if device_id(each.device) in known.first | known.long
    )


def _first_by_class(agent: Agent, space: bytes) -> list[Start]:
    known = known_in(agent, space)
    return [each for each in there_at_first(agent, space) if device_id(each.device) in known.first]


def _here_alone(agent: Agent, space: bytes) -> list[Start]:
    return sorted(in_turn(agent, space), key=lambda each: each.here_ms)


def _anywhere_alone(agent: Agent, space: bytes) -> list[Start]:
    return sorted(in_turn(agent, space), key=lambda each: each.anywhere_ms)


def _after_all(_: Agent) -> int:
    """As if work were made after whoever comes."""
    return 1 << 62


# --- what she has opened ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_cut_off_elsewhere", [False, True])
@attack(ROW, off={"sync_agent.hand_ins.heard_opened.known_devices": _known_by_class})
async def test_what_she_opens_in_her_first_week_there_is_given_to_nobody_who_comes_after_that(
    year: NextYear, *, is_cut_off_elsewhere: bool
) -> None:
    space = await who_says_her_key(year, is_cut_off_elsewhere=is_cut_off_elsewhere)
    year.pass_days(1)
    work = await year.opened_work(space)
    later = somebody(2)
    await comes(year, space, later)
    await year.sync()
    assert not await year.is_given(space, work, later.keys)


@attack(ROW, off={"sync_agent.hand_ins.handing_in.meeting_ms": _after_all})
async def test_nor_to_whom_the_pc_has_met_before_in_a_class_of_the_keys_own(year: NextYear) -> None:
    later = somebody(2)
    await comes(year, await year.new_class(), later)
    await year.sync(year.machine)
    space = await who_says_her_key(year)
    work = await year.opened_work(space)
    assert await keeps_key_of(year.machine, work), "whoever says her key as his has it kept"
    await comes(year, space, later)
    await year.sync()
    assert not await year.is_given(space, work, later.keys)


# --- whom it waits for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_cut_off_elsewhere", [False, True])
@attack(ROW, off={"sync_agent.hand_ins.first_readers.there_at_first": _first_by_class})
async def test_what_is_handed_in_while_she_is_shut_out_for_ten_minutes_waits_for_her_all_the_same(
    year: NextYear, *, is_cut_off_elsewhere: bool
) -> None:
    space = await an_hour_before_her(year, somebody(1), is_cut_off_elsewhere=is_cut_off_elsewhere)
    item = await year.here.asks_for_work(year.teacher, space)
    await year.sync()
    office, laptop = year.here.office, year.teacher.agent.device
    grant = next(each.grant for each in year.server.door.authorities() if (each.key, each.space) == (laptop, space))
    await year.thief_cuts_her_off(space, *await year.server.tips(space, laptop), right=grant)
    await year.here.sync(year.machine)
    work = await year.here.work(year.machine, item, year.pupil)
    await year.here.sync(year.machine)
    await year.spy_opens(space, work)
    await year.sync(year.machine)
    assert await keeps_key_of(year.machine, work)

    await office.do("grant", device=laptop.hex(), space=[space.hex()])
    await year.sync()
    assert await Desk(year.teacher.agent).files("open-hand-in", id=work.hex())
    assert not await keeps_key_of(year.machine, work), "by then all have it for whom it waits"


# --- whom it is sealed to ---------------------------------------------------------------------------------------------


async def _is_sealed_to_her(year: NextYear, space: bytes) -> bool:
    work = await year.hand_in(space)
    hers = year.teacher.agent.reading_keys.newest_of(space)
    assert hers is not None
    return hers.public in (await year.machine.agent.replica.view(space)).coursework.hand_ins[work].readers


@attack(ROW, off={"sync_agent.keys.acquaintances.in_turn": _here_alone})
async def test_however_many_were_there_before_her_work_is_sealed_to_her(
    year: NextYear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.hand_ins.wraps.MAX_READERS_OF_ONE_WORK", 4)
    space = await an_hour_before_her(year, *map(somebody, range(1, 8)))
    assert await _is_sealed_to_her(year, space)


@attack(ROW, off={"sync_agent.keys.acquaintances.in_turn": _anywhere_alone})
async def test_however_many_the_pc_has_met_in_a_class_of_the_keys_own_work_is_sealed_to_a_new_teacher(
    year: NextYear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.hand_ins.wraps.MAX_READERS_OF_ONE_WORK", 4)
    many = [*map(somebody, range(1, 8))]
    await comes(year, await year.new_class(), *many)
    await year.sync(year.machine)
    space = await year.new_class()
    year.person = await year.here.office.add_person("M. Roy", "teacher", space.hex())
    year.teacher = await year.here.device("teacher", year.person, space.hex())
    await year.sync()
    await comes(year, space, *many)
    await year.sync()
    assert await _is_sealed_to_her(year, space)
