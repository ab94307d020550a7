"""A teacher's laptop is lost and found, once or more: what she says on it stays hers (docs/adr/0250, docs/adr/0251)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.folds.hand_in_keys import content_key_of
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.model.work import Feedback
from protocol.replica.at_work.replica import Draft
from protocol.rights.roster import Roster
from protocol.rights.vouching import device_id
from protocol.roles import Role
from protocol.trust.kit import Argon2Cost
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.keys.phrases import new_phrase
from sync_agent.machine.enrolled import PHRASE_FILE
from sync_agent.machine.phrase_file import drawn_in
from tests.harness.classroom import Device
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import another_laptop, confirm_each_other, cut_off, lost_and_found, teach_too
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class

CHEAP = Argon2Cost(8, 1, 1)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def _roster(here: Here) -> Roster:
    return (await here.machine.agent.replica.view(here.room.space)).roster


async def _answers(here: Here, laptop: Device, words: str) -> bytes:
    """She answers a pupil; under which right that was."""
    right = (await laptop.agent.right(here.room.space, Kind.FEEDBACK)).grant
    said = Feedback(words, None, False, None).encode()
    pupil = here.room.pupil_person
    await laptop.agent.write(Draft(here.room.space, Kind.FEEDBACK, right, said, subject=pupil, target=here.work))
    await here.sync(laptop, here.machine)
    assert (await _roster(here)).speaks(right)
    return right or b""


async def _clicks(here: Here, on: Device, about: Device) -> None:
    await confirm(on.agent, device_id(own_device(about.agent)), shown_as="own")
    await here.sync(on, about, here.machine)


async def test_what_she_said_between_two_losses_stays_hers_once_she_has_a_second_laptop(here: Here) -> None:
    head, _ = await confirmed_head(here)
    await lost_and_found(here, head, here.teacher)
    right = await _answers(here, here.teacher, "Bravo")
    await lost_and_found(here, head, here.teacher)
    second = await another_laptop(here, here.teacher)
    await here.sync(second, here.teacher, here.machine)
    assert (await _roster(here)).speaks(right)


async def test_whom_it_confirmed_between_two_losses_reads_on_once_there_is_a_further_one(here: Here) -> None:
    head, _ = await confirmed_head(here)
    first = here.teacher
    await lost_and_found(here, head, first)
    third = await another_laptop(here, first)
    await here.sync(third, first, here.machine)
    await lost_and_found(here, head, first, third)
    await _clicks(here, third, first)
    second = await another_laptop(here, first)
    for _ in range(2):
        await here.sync(second, first, third, here.machine)
    speaking = (await _roster(here)).speaking[here.room.teacher_person]
    assert {own_device(each.agent) for each in (first, second, third)} <= speaking


async def test_what_she_said_on_a_found_laptop_stays_hers_when_the_one_that_confirmed_it_leaves(here: Here) -> None:
    head, _ = await confirmed_head(here)
    territory, first = here.room.territory, here.teacher
    second = await another_laptop(here, first)
    third = await another_laptop(here, second)
    await here.sync(first, third, here.machine, first)
    await confirm_each_other(here, first, third)
    await lost_and_found(here, head, first, second, third)
    await _clicks(here, second, first)
    await here.sync(third, second, first, here.machine)
    right = await _answers(here, first, "Bravo")
    for leaves in (first, second):
        *_, held = territory.replica.door.authorities_of(leaves.agent.device)
        await cut_off(here, leaves, ends=None if leaves is first else held.grant)
        await here.sync(third, here.machine)
        assert (await _roster(here)).speaks(right)
    assert own_device(third.agent) in (await _roster(here)).speaking[here.room.teacher_person]


async def test_a_paper_that_she_draws_on_a_found_laptop_before_it_is_confirmed_opens_later_classes(here: Here) -> None:
    head, _ = await confirmed_head(here)
    clock = here.room.territory.clock
    second = await another_laptop(here, here.teacher)
    await new_phrase(here.teacher.agent, CHEAP)
    clock.advance(1_000)
    await here.sync(here.teacher, second, here.machine)
    await lost_and_found(here, head, here.teacher, second)
    await new_phrase(here.teacher.agent, CHEAP)
    (mine,) = drawn_in(here.teacher.agent.secrets.read(PHRASE_FILE))
    clock.advance(1_000)
    await here.sync(here.teacher, second, here.machine, here.teacher)
    await _clicks(here, second, here.teacher)
    await here.sync(second, here.teacher)
    later = await here.room.territory.classroom("CM2")
    await teach_too(here, later, here.teacher, second)
    for _ in range(3):
        await here.sync(here.teacher, second)
    said = await here.room.territory.replica.store.scan_kinds([Kind.PHRASE])
    assert [entry for entry in said if entry.header.space == later]
    assert mine.key.agreement in {each.key.agreement for each in drawn_in(here.teacher.agent.secrets.read(PHRASE_FILE))}


async def test_two_laptops_on_which_she_was_head_for_some_weeks_go_on_when_that_is_over(here: Here) -> None:
    territory, space, person = here.room.territory, here.room.space, here.room.teacher_person
    school, first = territory.schools[0], here.teacher
    second = await another_laptop(here, first)
    stays = [
        (laptop, (await territory.let_in(laptop.agent.keys, Role.HEAD, school, person=person))[0].id)
        for laptop in (first, second)
    ]
    await here.sync(first, second, here.machine)
    for laptop, grant in stays:
        device = laptop.agent.device
        said = [tip for where in (school, space) for tip in await territory.replica.tips(where, device)]
        await territory.say(school, Kind.REVOKE, Revocation(device, tuple(said)).encode(), target=grant)
    await here.sync(first, second, here.machine, first, second)
    hers = {own_device(laptop.agent) for laptop in (first, second)}
    assert hers <= (await _roster(here)).speaking[person]
    work = await here.room.hand_in(here.machine, here.item, {"b.odt": b"neu"})
    await here.sync(here.machine, first, second)
    handed_in = (await territory.replica.view(space)).coursework.hand_ins[work]
    for laptop in (first, second):
        assert content_key_of(handed_in, reading_keys(laptop.agent)) is not None


async def test_one_of_two_that_were_found_together_reads_on_while_a_third_one_lies_in_a_drawer(here: Here) -> None:
    head, _ = await confirmed_head(here)
    found, other = here.teacher, await another_laptop(here, here.teacher)
    await here.sync(found, other, head, here.machine)
    await lost_and_found(here, head, found, other)
    await lost_and_found(here, head, other, found)
    await confirm_each_other(here, found, other)
    drawer = await another_laptop(here, found)
    await here.sync(found, drawer, other, found, here.machine)
    await confirm_each_other(here, drawer, other)
    await here.sync(found, drawer, other, found, head, here.machine)
    await lost_and_found(here, head, found, other)
    await here.sync(here.machine, other, here.machine, other)
    assert own_device(other.agent) in (await _roster(here)).speaking[here.room.teacher_person]
    work = await here.room.hand_in(here.machine, here.item, {"b.odt": b"neu"})
    await here.sync(here.machine, other)
    handed_in = (await here.room.territory.replica.view(here.room.space)).coursework.hand_ins[work]
    assert content_key_of(handed_in, reading_keys(other.agent)) is not None
