"""A copied key fills a new class with devices of Mme Petit's, before her laptop comes (docs/adr/0434).

How many a PC notes there has a bound. Her old laptop is gone, or in a drawer, or a word cuts hers off in last year's.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import PersonKey
from protocol.rights.vouching import Device as Pair
from protocol.rights.vouching import Vouch
from sync_agent.app import Agent
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.next_year import NextYear
from tests.harness.territory import new_device

ROW = "a device of a copied key's is a teacher in a new class before she is"
BEFORE_HER = "somebody of a copied key's was in a new class before her"
PLACES = 4


@pytest.fixture(autouse=True)
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_agent.keys.acquaintances.MAX_MET_OF_ONE", PLACES)


def _first_come(agent: Agent, space: bytes, person: bytes, devices: Sequence[Pair], *_: object) -> Sequence[Pair]:
    """Whoever came first is noted, and nobody makes room."""
    return devices[: max(0, PLACES - len(agent.acquainted.heard[space].get(person, ())))]


FIRST_COME: dict[str, object] = {"sync_agent.keys.acquaintances._with_a_place": _first_come}
DOUBTED_TOO: dict[str, object] = {**FIRST_COME, "sync_agent.keys.first_met._is_doubted": lambda *_: True}
"""And as if she were not known best herself."""


async def _has_another(year: NextYear, *, is_the_first_gone: bool) -> None:
    """In this year's class she has another laptop, which the PC has known since then; the first one says nothing."""
    first = year.teacher
    if is_the_first_gone:
        await year.here.office.do("revoke", device=first.agent.device.hex())
    space = await year.new_class()
    await year.lets_her_in(space)
    year.teacher = await year.here.device("teacher", year.person, space.hex())
    year.here.devices.remove(first)
    await first.close()
    await year.here.days_pass(9)


async def _many_are_there_before_her(year: NextYear) -> bytes:
    """One of them calls the others its own, so that all speak; the PC has heard them when she is let in."""
    space, grants = await year.new_class(), list[bytes]()
    made = [new_device(Random(n).randbytes) for n in range(PLACES)]
    for year.spy in made:
        await year.spy_comes(space, dated_days_ago=0)
        grants.append(year.grants[space])
    year.spy, year.grants[space] = made[0], grants[0]
    for grant in grants[1:]:
        await year.spy_says(space, Kind.VOUCH, Vouch().encode(), year.person, target=grant)
    await year.sync(year.machine)
    await year.lets_her_in(space)
    await year.here.office.do("grant", device=year.teacher.agent.device.hex(), space=[space.hex()])
    await year.sync()
    return space


async def _is_hers_alone_a_week_after_many_were_there(year: NextYear) -> None:
    space = await _many_are_there_before_her(year)
    await year.here.days_pass(9)
    assert await year.who_speaks(year.machine.agent.replica, space) == {own_device(year.teacher.agent)}
    work = await year.hand_in(space)
    await year.answers(work)
    await year.spy_answers(space, work)
    shown = (await year.machine.agent.replica.view(space)).coursework.hand_ins[work]
    assert not await year.is_given(space, work, year.spy)
    assert await Desk(year.teacher.agent).files("open-hand-in", id=work.hex())
    assert [note.record.mark for note in shown.remarks] == ["18/20"]


@attack(ROW, off=DOUBTED_TOO)
async def test_nor_are_many_who_were_there_before_the_laptop_that_took_the_place_of_her_old_one(year: NextYear) -> None:
    await _has_another(year, is_the_first_gone=True)
    await _is_hers_alone_a_week_after_many_were_there(year)


@attack(ROW, off={"sync_agent.keys.first_met._is_doubted": lambda *_: True})
async def test_nor_does_that_laptop_wait_for_a_week_there_to_be_believed(year: NextYear) -> None:
    await _has_another(year, is_the_first_gone=True)
    space = await _many_are_there_before_her(year)
    firsts = year.machine.agent.acquainted.first[space]
    assert firsts.get(bytes.fromhex(year.person)) == (own_device(year.teacher.agent),)


@attack(ROW, off=FIRST_COME)
async def test_nor_where_the_old_one_lies_in_a_drawer(year: NextYear) -> None:
    await _has_another(year, is_the_first_gone=False)
    await _is_hers_alone_a_week_after_many_were_there(year)


@attack(ROW, off=FIRST_COME)
async def test_nor_where_a_word_cuts_her_only_laptop_off_in_last_years_class(year: NextYear) -> None:
    old, laptop = year.here.space, year.teacher.agent.device
    await year.thief_cuts_her_off(old, *(each.id for each in await year.server.store.authored(old, laptop)))
    await year.sync(year.machine)
    await _is_hers_alone_a_week_after_many_were_there(year)


@attack(ROW, off=FIRST_COME)
async def test_nor_do_they_take_the_place_of_the_laptop_that_she_has_next_there(year: NextYear) -> None:
    space = await _many_are_there_before_her(year)
    third = await year.second_laptop()
    await year.here.office.do("grant", device=third.agent.device.hex(), space=[space.hex()])
    await year.sync()
    assert own_device(third.agent) in year.machine.agent.acquainted.heard[space][bytes.fromhex(year.person)]


@attack(BEFORE_HER, off=DOUBTED_TOO)
async def test_nor_is_what_she_opens_in_that_week_given_to_whoever_comes_where_many_were_there_in_her_own_name(
    year: NextYear,
) -> None:
    await _has_another(year, is_the_first_gone=True)
    space = await _many_are_there_before_her(year)
    work = await year.hand_in(space)
    hers = year.teacher.agent.reading_keys.newest_of(space)
    assert hers is not None
    await year.spy_says(space, Kind.PERSON_KEY, PersonKey(hers.public).encode(), year.person)
    await year.opens(work)
    year.pass_days(1)
    year.spy = new_device(Random(99).randbytes)
    later = await year.here.office.add_person("M. X", "teacher", space.hex())
    await year.spy_comes(space, dated_days_ago=0, person=later)
    await year.sync()
    assert not await year.is_given(space, work, year.spy)
