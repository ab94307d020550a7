"""A reported laptop is let in again, and a right of her other one has ended, which was never reported: it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.rights.vouching import device_id
from protocol.roles import Role
from sync_agent.keys.confirming import confirm, own_device
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import another_laptop, cut_off, let_in_again, opens_what_is_handed_in_now
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class

ROW = "a server's operator names a device of their own as a teacher's"
AS_IF_REPORTED: dict[str, object] = {
    "protocol.rights.roster.Roster.reported": property(lambda roster: frozenset(roster.revocations.values()))
}
"""As if who had a right ended had been away."""


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def _hers(here: Here) -> frozenset[tuple[bytes, bytes]]:
    return (await here.machine.agent.replica.view(here.room.space)).roster.speaking[here.room.teacher_person]


async def _is_reported(here: Here, head: Device, stolen: Device, other: Device) -> None:
    await Desk(head.agent).ask("lost", device=stolen.agent.device.hex())
    await here.sync(head, other, here.machine)


async def _its_right_ends(here: Here, other: Device, *, first: bool) -> None:
    """The server grants a laptop once more, as programs do, and ends what it had; or it does the latter first."""
    territory, space = here.room.territory, here.room.space
    had = (await territory.replica.view(space)).roster.authority_of(other.agent.device)
    assert had is not None
    if first:
        await cut_off(here, other, ends=had.grant)
    await let_in_again(here, other, Role.TEACHER, here.room.teacher_person)
    if not first:
        await cut_off(here, other, ends=had.grant)
    await here.sync(other, here.machine, other)
    assert other.agent.device not in (await territory.replica.view(space)).roster.cut


@attack(ROW, off=AS_IF_REPORTED)
async def test_one_of_hers_whose_grant_a_server_replaces_is_asked_all_the_while(here: Here) -> None:
    head, _ = await confirmed_head(here)
    stolen, other = here.teacher, await here.room.teacher()
    await here.sync(other, stolen)
    await confirm(stolen.agent, device_id(own_device(other.agent)), shown_as="own")
    await here.sync(stolen, other, head, stolen, other, here.machine)
    assert own_device(other.agent) in await _hers(here), "though it has said nothing of her first one"
    await _is_reported(here, head, stolen, other)
    await _its_right_ends(here, other, first=False)
    await let_in_again(here, stolen, Role.TEACHER, here.room.teacher_person)
    await here.sync(stolen, other, here.machine)
    assert own_device(other.agent) in await _hers(here)
    assert not await opens_what_is_handed_in_now(here, stolen, other)


@attack(ROW, off=AS_IF_REPORTED)
async def test_so_is_one_whose_access_a_server_ends_and_gives_anew(here: Here) -> None:
    head, _ = await confirmed_head(here)
    stolen, other = here.teacher, await another_laptop(here, here.teacher)
    await here.sync(stolen, other, head, here.machine)
    await _is_reported(here, head, stolen, other)
    for first in (True, False, True):
        await _its_right_ends(here, other, first=first)
    await let_in_again(here, stolen, Role.TEACHER, here.room.teacher_person)
    await here.sync(stolen, other, here.machine)
    assert not await opens_what_is_handed_in_now(here, stolen, other)
