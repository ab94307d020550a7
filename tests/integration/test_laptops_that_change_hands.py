"""Laptops that were cut off and come back, honestly: found, given to a colleague, let in as the wrong person.

Who comes back as somebody else comes by a code, in a folder of its own, as a new computer (docs/adr/0513).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.folds.hand_in_keys import content_key_of
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.keys.reading_key import tend_reading_keys
from sync_agent.keys.reported import reported
from tests.attacks.test_what_moves_a_teachers_keys import handed_in_now
from tests.harness.classroom import Device
from tests.harness.lost_laptop import another_laptop, confirm_each_other, cut_off, keys_said, let_in_again
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def opens(here: Here, work: bytes, reader: Device) -> bool:
    """Whether a device opens a hand-in by the keys that it has."""
    handed_in = (await here.room.territory.replica.view(here.room.space)).coursework.hand_ins[work]
    return content_key_of(handed_in, reading_keys(reader.agent)) is not None


async def say_on(one: Device, other: Device) -> None:
    """A human says on one of a teacher's laptops that another is hers too."""
    await confirm(one.agent, device_id(own_device(other.agent)), shown_as="own")


async def test_a_laptop_that_was_found_and_is_confirmed_again_reads_on_and_has_no_further_key_made(here: Here) -> None:
    first = here.teacher
    second = await another_laptop(here, first)
    await here.sync(second, first, second, here.machine)
    await cut_off(here, second)
    await here.sync(first, here.machine, first)
    made = await keys_said(here, first.agent.device)
    await let_in_again(here, second, Role.TEACHER, here.room.teacher_person)
    await here.sync(second, first)
    await say_on(first, second)
    for _ in range(3):
        await here.sync(first, second, here.machine)
    work = await handed_in_now(here, first, second)
    assert [await opens(here, work.id, each) for each in (first, second)] == [True, True]
    assert await keys_said(here, first.agent.device) == made
    assert [await tend_reading_keys(each.agent) for each in (first, second)] == [0, 0]


async def test_a_teachers_old_laptop_that_a_colleague_is_given_works_for_the_colleague(here: Here) -> None:
    room, territory, hers = here.room, here.room.territory, here.teacher
    before = await another_laptop(here, hers)
    other = await territory.person("M. X", PersonRole.TEACHER, room.space)
    his = await room.device(Role.TEACHER, person=other)
    await here.sync(before, hers, his, here.machine)
    await cut_off(here, before)
    await here.sync(hers, his, here.machine)
    old = await room.device(Role.TEACHER, person=other)
    await here.sync(old, his)
    await say_on(his, old)
    await here.sync(his, old)
    await say_on(old, his)
    for _ in range(3):
        await here.sync(his, old, hers, here.machine)
    roster = (await territory.replica.view(room.space)).roster
    makers = {device for key in roster.reading_keys[other] for device in roster.makers[key]}
    assert makers == {own_device(his.agent), own_device(old.agent)}
    assert set(roster.reading_keys[other]) <= reading_keys(his.agent).keys() & reading_keys(old.agent).keys()
    assert old.agent.device not in await reported(his.agent)
    assert before.agent.device in await reported(hers.agent)
    work = await handed_in_now(here, hers, his, old)
    assert [await opens(here, work.id, each) for each in (hers, his, old)] == [True, True, True]
    assert [await tend_reading_keys(each.agent) for each in (hers, his, old)] == [0, 0, 0]


async def test_a_laptop_that_was_let_in_as_the_wrong_person_and_is_corrected_reads_as_the_right_one(here: Here) -> None:
    room, territory, first = here.room, here.room.territory, here.teacher
    other = await territory.person("M. X", PersonRole.TEACHER, room.space)
    wrong = await room.device(Role.TEACHER, person=other)
    await here.sync(wrong, first, here.machine)
    await cut_off(here, wrong)
    new = await room.teacher()
    await here.sync(new, first)
    await confirm_each_other(here, first, new)
    for _ in range(3):
        await here.sync(first, new, here.machine)
    work = await handed_in_now(here, first, new)
    assert [await opens(here, work.id, each) for each in (first, new)] == [True, True]
    assert [await tend_reading_keys(each.agent) for each in (first, new)] == [0, 0]


async def test_the_only_laptop_of_a_school_that_was_found_reads_on(here: Here) -> None:
    only = here.teacher
    await cut_off(here, only)
    await here.sync(here.machine)
    await let_in_again(here, only, Role.TEACHER, here.room.teacher_person)
    for _ in range(3):
        await here.sync(only, here.machine)
    work = await handed_in_now(here, only)
    assert await opens(here, work.id, only)
    assert await tend_reading_keys(only.agent) == 0
