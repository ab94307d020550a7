"""A reported laptop is let in again, and her other one was lost and found once, or had a grant ended: it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Mapping, Sequence
from pathlib import Path

import pytest

from protocol.folds.hand_in_keys import content_key_of
from protocol.model.entry import Kind
from protocol.replica.at_work.replica import Draft
from protocol.rights.innermost import Walk
from protocol.rights.roster import Roster
from protocol.rights.roster import _held_on as held_on
from protocol.rights.turns import Return
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
    keys_that_open,
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


def _any_of_them(walks: Sequence[Walk]) -> frozenset[tuple[bytes, bytes]]:
    return frozenset(device for walk in walks for device in walk.devices)


ALL_AT_ONCE: dict[str, object] = {
    "protocol.rights.turns.alone": lambda *_: [],
    "protocol.rights.turns.innermost": _any_of_them,
}


@pytest.mark.parametrize("is_first", [True, False], ids=["her first", "her second"])
@attack(ROW, off=ALL_AT_ONCE)
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


async def _has_it_replaced(here: Here, other: Device) -> None:
    """The server grants a laptop once more, as programs do, and ends what it had."""
    territory, space = here.room.territory, here.room.space
    roster = (await territory.replica.view(space)).roster
    had = roster.authority_of(other.agent.device)
    assert had is not None
    await let_in_again(here, other, Role.TEACHER, here.room.teacher_person)
    await cut_off(here, other, ends=had.grant)
    await here.sync(other, here.machine, other)
    assert other.agent.device not in (await territory.replica.view(space)).roster.cut


@attack(ROW, off={"protocol.rights.roster._held_on": lambda *_: frozenset()})
async def test_one_of_hers_whose_grant_a_server_replaces_is_asked_all_the_while(here: Here) -> None:
    head, _ = await confirmed_head(here)
    stolen, other = here.teacher, await here.room.teacher()
    await here.sync(other, stolen)
    await confirm(stolen.agent, device_id(own_device(other.agent)), shown_as="own")
    await here.sync(stolen, other, head, stolen, other, here.machine)
    assert own_device(other.agent) in await _hers(here), "though it has said nothing of her first one"
    await _is_reported(here, head, stolen, other)
    await _has_it_replaced(here, other)
    await let_in_again(here, stolen, Role.TEACHER, here.room.teacher_person)
    await here.sync(stolen, other, here.machine)
    assert own_device(other.agent) in await _hers(here)
    assert not await opens_what_is_handed_in_now(here, stolen, other)


def _that_name_nothing(roster: Roster, _: Mapping[bytes, int]) -> frozenset[bytes]:
    return frozenset(one.key for one in roster.authorities if one.grant not in roster.again)


@attack(ROW, off={"protocol.rights.roster._held_on": _that_name_nothing})
async def test_so_is_one_whose_grant_a_server_replaces_again_and_again(here: Here) -> None:
    head, _ = await confirmed_head(here)
    stolen, other = here.teacher, await another_laptop(here, here.teacher)
    await here.sync(stolen, other, head, here.machine)
    await _is_reported(here, head, stolen, other)
    for _ in range(3):
        await _has_it_replaced(here, other)
    await let_in_again(here, stolen, Role.TEACHER, here.room.teacher_person)
    await here.sync(stolen, other, here.machine)
    assert not await opens_what_is_handed_in_now(here, stolen, other)


async def _stolen_after_the_other_one_was_found(here: Here) -> tuple[Device, Device, bytes]:
    """One is reported, of two of which the other was found and confirmed again before; and what that had first."""
    head, _ = await confirmed_head(here)
    stolen, other = here.teacher, await another_laptop(here, here.teacher)
    await here.sync(stolen, other, head, here.machine)
    (granted,) = here.room.territory.replica.door.authorities_of(other.agent.device)
    await lost_and_found(here, head, other, stolen)
    await confirm_each_other(here, stolen, other)
    await here.sync(stolen, other, head, here.machine)
    await _is_reported(here, head, stolen, other)
    return stolen, other, granted.grant


def _never_reported(roster: Roster, reports: Mapping[bytes, int]) -> frozenset[bytes]:
    return held_on(roster, reports) - reports.keys()


@pytest.mark.parametrize("times", [1, 2])
@attack(ROW, off={"protocol.rights.roster._held_on": _never_reported})
async def test_so_is_one_that_was_found_and_confirmed_again_before(here: Here, times: int) -> None:
    stolen, other, _ = await _stolen_after_the_other_one_was_found(here)
    for _ in range(times):
        await _has_it_replaced(here, other)
    await let_in_again(here, stolen, Role.TEACHER, here.room.teacher_person)
    await here.sync(stolen, other, here.machine)
    assert not await opens_what_is_handed_in_now(here, stolen, other)


def _who_is_not_held(waiting: Sequence[Return], held: Container[Return], *_: object) -> Sequence[Return]:
    return [one for one in waiting if one not in held]


@attack(ROW, off={"protocol.rights.turns._most": _who_is_not_held})
async def test_a_device_for_which_her_other_one_waits_lets_no_reported_one_in_before_it(here: Here) -> None:
    stolen, other, granted = await _stolen_after_the_other_one_was_found(here)
    hers = here.room.teacher_person
    await here.name_the_spy(hers)
    await here.say(Kind.VOUCH, Vouch().encode(), hers, target=granted)
    await let_in_again(here, stolen, Role.TEACHER, hers)
    await here.sync(stolen, other, here.machine, stolen, other)
    work = await here.room.hand_in(here.machine, here.item, {"b.odt": b"neu"})
    await here.sync(stolen, other, here.machine)
    handed_in = (await here.room.territory.replica.view(here.room.space)).coursework.hand_ins[work]
    assert content_key_of(handed_in, await keys_that_open(here, stolen.agent)) is None
    voices = (await here.machine.agent.replica.view(here.room.space)).roster.voices
    assert voices.waits_for[own_device(stolen.agent)] == {own_device(other.agent)}
    assert voices.waits_for[own_device(other.agent)] == {own_keys(here.spy)}, "her page says which one to have cut off"


@attack(ROW, off={"protocol.rights.turns.former_ones_together": lambda *_: []})
async def test_two_that_were_found_together_and_confirmed_each_other_are_asked_when_one_is_stolen_later(
    here: Here,
) -> None:
    head, _ = await confirmed_head(here)
    stolen, other = here.teacher, await another_laptop(here, here.teacher)
    await here.sync(stolen, other, head, here.machine)
    await lost_and_found(here, head, stolen, other)
    await lost_and_found(here, head, other, stolen)
    await confirm_each_other(here, stolen, other)
    await here.sync(stolen, other, head, here.machine)
    await _is_reported(here, head, stolen, other)
    await let_in_again(here, stolen, Role.TEACHER, here.room.teacher_person)
    await here.sync(stolen, other, here.machine)
    assert not await opens_what_is_handed_in_now(here, stolen, other)
