"""A copy of the server's key has somebody in a new class before Mme Petit's laptop (docs/attacks.md).

The school's PC has known that laptop for two months, in the class of before: that is one memory for all that it does
with pupils' work (docs/adr/0415).
"""

from __future__ import annotations

import pytest

from protocol.rights.vouching import Device as Pair
from protocol.rights.vouching import device_id
from sync_agent.app import Agent
from sync_agent.keys.acquaintances import Start, in_turn, known_in
from tests.harness.attack import attack
from tests.harness.before_her import an_hour_before_her, comes, somebody, who_says_her_key
from tests.harness.next_year import NextYear

ROW = "somebody of a copied key's was in a new class before her"


def _known_by_class(agent: Agent, space: bytes) -> frozenset[Pair]:
    """As it was while each class had a memory of its own."""
    known = known_in(agent, space)
    return frozenset(
        each.device for each in in_turn(agent, space) if device_id(each.device) in known.first | known.long
    )


def _here_alone(agent: Agent, space: bytes) -> list[Start]:
    return sorted(in_turn(agent, space), key=lambda each: each.here_ms)


def _anywhere_alone(agent: Agent, space: bytes) -> list[Start]:
    return sorted(in_turn(agent, space), key=lambda each: each.anywhere_ms)


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
