"""A reported laptop is let in again as its teacher's: by the word of a device that somebody made up it is not hers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import Grant
from protocol.replica.at_work.replica import Draft
from protocol.rights.asked import lacked_by, leading_to
from protocol.rights.vouching import Device as VouchedDevice
from protocol.rights.vouching import Vouch
from protocol.roles import Role
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import another_laptop, opens_what_is_handed_in_now
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class

ROW = "a server's operator names a device of their own as a teacher's"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


def _by_any(*asked: Any) -> Mapping[VouchedDevice, int]:
    """One word of one that it is linked with is enough."""
    lacking = lacked_by(*asked)
    spoken_for = reduce(or_, leading_to(*asked[:3]).values(), 0)
    return {device: bits & ~spoken_for for device, bits in lacking.items()}


BY_ANY: dict[str, object] = {"protocol.rights.letting_back.lacked_by": _by_any}


async def _stolen(here: Here, *, calls_it_hers: bool, is_called_hers: bool) -> tuple[Device, Device]:
    """Her second laptop is stolen, and a head's computer by which it is going to be reported.

    Before that the server names a device as hers, and the one or the other of these two speaks for the other.
    """
    lost = await another_laptop(here, here.teacher)
    head, _ = await confirmed_head(here)
    await here.sync(head, here.teacher, lost, here.teacher, here.machine)
    territory, space, hers = here.room.territory, here.room.space, here.room.teacher_person
    (spys,) = await territory.let_in(here.spy, Role.TEACHER, space, person=hers)
    here.grant = spys.id
    await here.sync(lost)
    if calls_it_hers:
        right = (await lost.agent.right(space, Kind.VOUCH)).grant
        await lost.agent.write(Draft(space, Kind.VOUCH, right, Vouch().encode(), subject=hers, target=spys.id))
    if is_called_hers:
        (granted,) = territory.replica.door.authorities_of(lost.agent.device)
        await here.say(Kind.VOUCH, Vouch().encode(), hers, target=granted.grant)
    await here.sync(lost, head, here.teacher, here.machine)
    return lost, head


async def _is_back_by_the_spys_word(here: Here, lost: Device, head: Device) -> None:
    """It is reported; the server lets it in again over that, and its device says that it is hers."""
    territory, space, hers = here.room.territory, here.room.space, here.room.teacher_person
    await Desk(head.agent).ask("lost", device=lost.agent.device.hex())
    await here.sync(head)
    revoked = (await territory.replica.view(space)).roster.revocations
    keys = lost.agent.keys
    again = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.TEACHER, hers, None, None)
    cuts = tuple(name for name, key in revoked.items() if key == lost.agent.device)
    back = await territory.say(space, Kind.GRANT, again.encode(), parents=cuts)
    await here.say(Kind.VOUCH, Vouch().encode(), hers, target=back.id)


async def _reads_nothing(here: Here, lost: Device) -> None:
    assert not await opens_what_is_handed_in_now(here, lost, here.teacher)
    roster = (await here.machine.agent.replica.view(here.room.space)).roster
    assert roster.is_away(own_device(lost.agent), here.room.teacher_person)


@attack(ROW, off=BY_ANY)
async def test_a_device_that_a_stolen_laptop_alone_called_hers_does_not_let_it_back(here: Here) -> None:
    lost, head = await _stolen(here, calls_it_hers=True, is_called_hers=False)
    await _is_back_by_the_spys_word(here, lost, head)
    await _reads_nothing(here, lost)


@attack(ROW, off=BY_ANY)
async def test_nor_does_one_that_only_the_server_names_and_that_had_spoken_for_it(here: Here) -> None:
    lost, head = await _stolen(here, calls_it_hers=False, is_called_hers=True)
    await _is_back_by_the_spys_word(here, lost, head)
    await _reads_nothing(here, lost)
