"""A reported laptop is let in again, and her other one was lost and found once, or had a grant ended: it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.model.entry import Kind
from protocol.replica.at_work.replica import Draft
from protocol.rights.vouching import Vouch, device_id
from protocol.roles import Role
from sync_agent.keys.confirming import confirm, own_device
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import (
    another_laptop,
    confirm_each_other,
    cut_off,
    let_in_again,
    lost_and_found,
    opens_what_is_handed_in_now,
)
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import own_keys, spied_class

ROW = "a server's operator names a device of their own as a teacher's"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def _hers(here: Here) -> frozenset[tuple[bytes, bytes]]:
    return (await here.machine.agent.replica.view(here.room.space)).roster.speaking[here.room.teacher_person]


async def _is_reported(here: Here, head: Device, stolen: Device, other: Device) -> None:
    await Desk(head.agent).ask("lost", device=stolen.agent.device.hex())
    await here.sync(head, other, here.machine)


@pytest.mark.parametrize("is_first", [True, False], ids=["her first", "her second"])
@attack(ROW, off={"protocol.rights.letting_back.by_all": lambda *_: []})
async def test_a_laptop_that_was_found_once_and_confirmed_again_is_asked_about_one_that_is_stolen_later(
    here: Here, *, is_first: bool
) -> None:
    head, _ = await confirmed_head(here)
    second = await another_laptop(here, here.teacher)
    stolen, other = (here.teacher, second) if is_first else (second, here.teacher)
    await here.sync(stolen, other, head, here.machine)
    await lost_and_found(here, head, other, stolen)
    await confirm_each_other(here, stolen, other)
    await here.sync(stolen, other, head, here.machine)
    await _is_reported(here, head, stolen, other)
    grant = await let_in_again(here, stolen, Role.TEACHER, here.room.teacher_person)
    await here.name_the_spy(here.room.teacher_person)
    await here.sync(stolen, other, here.machine)
    assert not await opens_what_is_handed_in_now(here, stolen, other)
    hers = here.room.teacher_person
    said = Draft(here.room.space, Kind.VOUCH, grant, Vouch().encode(), subject=hers, target=here.grant)
    await stolen.agent.write(said)
    await here.sync(stolen, other, here.machine)
    assert own_keys(here.spy) not in await _hers(here)


@attack(ROW, off={"protocol.rights.roster._going_on": lambda _: frozenset()})
async def test_one_of_hers_whose_grant_a_server_replaces_is_asked_all_the_while(here: Here) -> None:
    head, _ = await confirmed_head(here)
    stolen, other = here.teacher, await here.room.teacher()
    await here.sync(other, stolen)
    await confirm(stolen.agent, device_id(own_device(other.agent)), shown_as="own")
    await here.sync(stolen, other, head, stolen, other, here.machine)
    assert own_device(other.agent) in await _hers(here), "though it has said nothing of her first one"
    await _is_reported(here, head, stolen, other)
    territory, space, hers = here.room.territory, here.room.space, here.room.teacher_person
    (granted,) = territory.replica.door.authorities_of(other.agent.device)
    await territory.let_in(other.agent.keys, Role.TEACHER, space, person=hers)
    await cut_off(here, other, ends=granted.grant)
    await here.sync(other, here.machine)
    await let_in_again(here, stolen, Role.TEACHER, hers)
    await here.sync(stolen, other, here.machine)
    assert own_device(other.agent) in await _hers(here)
    assert not await opens_what_is_handed_in_now(here, stolen, other)
