"""A lost laptop that was reported in one class is given a teacher's new keys in another one (docs/threat-model.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from protocol.identity import AgreementKey
from protocol.roles import Role
from protocol.vouching import device_id
from sync_agent.app import Agent
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.keys.reading_key import reading_keys
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import (
    another_laptop,
    confirm_each_other,
    opens_what_is_handed_in_now,
    report_by_head,
    report_by_kit,
    teach_too,
)
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class

ROW = "a lost laptop reads on in another class"
Way = Callable[[Here, Device], Awaitable[None]]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path) as made:
        yield made


def _those_of_all_classes(agent: Agent, _place: object) -> dict[bytes, AgreementKey]:
    return reading_keys(agent)


SAME_IN_ALL: dict[str, object] = {"sync_agent.keys.reading_key._keys_of": _those_of_all_classes}
"""A teacher's keys are sealed in every class, whichever they were made for."""


async def _reported_in_one_of_two_schools(here: Here) -> tuple[Device, Device, bytes]:
    """The teacher's other laptop, the computer of the head who reported the first, and a class of the other school."""
    territory = here.room.territory
    second = await another_laptop(here, here.teacher)
    elsewhere = await territory.classroom("CB", await territory.school("École B", uai="0180002Y"))
    await teach_too(here, elsewhere, here.teacher, second)
    await here.sync(here.teacher, second, here.teacher, second)
    head, _ = await confirmed_head(here)
    await here.sync(head, second, here.machine)
    await report_by_head(here, head)
    return second, head, elsewhere


@pytest.mark.parametrize("reported", [report_by_head, report_by_kit])
@attack(ROW, off=SAME_IN_ALL)
async def test_a_class_that_a_server_makes_for_a_lost_laptop_gives_it_no_key(here: Here, reported: Way) -> None:
    second = await another_laptop(here, here.teacher)
    head, _ = await confirmed_head(here)
    await here.sync(head, second, here.machine)
    await reported(here, head)
    await here.sync(head, second, here.machine)
    made = await here.room.territory.classroom("CX")
    await teach_too(here, made, here.teacher, second)
    assert not await opens_what_is_handed_in_now(here, here.teacher, second, head)


@attack(ROW, off=SAME_IN_ALL)
async def test_a_laptop_that_one_school_reported_lost_gets_no_new_key_through_another_school(here: Here) -> None:
    second, head, _ = await _reported_in_one_of_two_schools(here)
    await here.sync(head, second, second, here.teacher, here.teacher)
    assert not await opens_what_is_handed_in_now(here, here.teacher, second, head)


@attack(ROW, off=SAME_IN_ALL)
async def test_a_laptop_that_one_school_reported_lost_lets_nobody_in_to_her_keys_in_another(here: Here) -> None:
    second, head, elsewhere = await _reported_in_one_of_two_schools(here)
    await here.sync(head, second)
    thief = await here.room.device(Role.TEACHER, elsewhere, person=here.room.teacher_person)
    await here.sync(thief, here.teacher)
    await confirm(here.teacher.agent, device_id(own_device(thief.agent)), shown_as="own")
    await here.sync(here.teacher, second, thief)
    assert not await opens_what_is_handed_in_now(here, thief, second, head)


@attack(ROW, off=SAME_IN_ALL)
async def test_a_third_laptop_that_never_heard_of_the_report_passes_no_key_of_that_class_on(here: Here) -> None:
    territory, lost = here.room.territory, here.teacher
    second = await another_laptop(here, lost)
    elsewhere = await territory.classroom("CB", await territory.school("École B", uai="0180002Y"))
    await teach_too(here, elsewhere, lost, second)
    third = await here.room.device(Role.TEACHER, elsewhere, person=here.room.teacher_person)
    await here.sync(lost, second, third, lost, second, third)
    await confirm_each_other(here, second, third)
    await confirm_each_other(here, third, lost)
    head, _ = await confirmed_head(here)
    await here.sync(head, second, here.machine, third)
    await report_by_head(here, head)
    await here.sync(head, second, third, lost, second, third, lost)
    assert not await opens_what_is_handed_in_now(here, lost, second, head, third)
