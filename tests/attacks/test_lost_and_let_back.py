"""Whoever has the server and a lost laptop has it let in again with its teacher (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import DAY_MS, at_from
from protocol.limits import SALT_BYTES
from protocol.model.entry import Kind, compose
from protocol.model.structure import Grant, PersonRecord, Revocation
from protocol.replica.office.acquaintance import _own_words
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device as VouchedDevice
from protocol.rights.vouching import Vouch, device_id, device_words
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.school.devices import reported_ms
from sync_agent.school.office import SchoolOffice
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head, let_into_another_class, take_back
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import own_keys, spied_class

ROW = "a lost laptop comes back in with its teacher"


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Here]:
    monkeypatch.setattr("sync_agent.keys.acquaintances.ACQUAINTANCE_MS", -DAY_MS)  # they have known each other for long
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def _nothing_stands(*_: Any) -> list[Any]:
    return []


async def _is_hers_in_another_class(here: Here, _head: Device) -> None:
    """The server calls it hers in a class of its own, and lists her as having left where it was cut off."""
    territory, room, person = here.room.territory, here.room, here.room.teacher_person
    await territory.let_in(here.teacher.agent.keys, Role.TEACHER, await territory.classroom("CX"), person=person)
    listed = (await territory.replica.view(room.space)).roster.persons[person].entry
    left = PersonRecord("Mme Petit", PersonRole.TEACHER, left=True).encode()
    await territory.say(room.space, Kind.PERSON, left, subject=person, parents=(listed,))


async def _is_let_in_by_the_server(here: Here, head: Device) -> None:
    """The server's own grant names what the head teacher's computer said."""
    keys, space = here.teacher.agent.keys, here.room.space
    cuts = [
        entry.id
        for entry in await head.agent.replica.store.authored(space, head.agent.device)
        if entry.header.kind == Kind.REVOKE
    ]
    pair = keys.signing.public, keys.agreement.public
    again = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, here.room.teacher_person, None, None).encode()
    await here.room.territory.say(space, Kind.GRANT, again, parents=tuple(cuts))


async def _what_the_head_said_is_held_back(here: Here, head: Device) -> None:
    await take_back(here.room.territory, head)


WAYS = [_is_hers_in_another_class, _is_let_in_by_the_server, _what_the_head_said_is_held_back]
Way = Callable[[Here, Device], Awaitable[None]]


async def _lose(here: Here, head: Device, way: Way) -> None:
    await here.sync(head)
    await Desk(head.agent).ask("lost", device=here.teacher.agent.device.hex())
    await here.sync(head)
    await way(here, head)
    await here.sync(head)
    await here.sync(head)


@pytest.mark.parametrize("way", WAYS)
@attack(ROW, off={"protocol.replica.office.grants.standing_cuts": _nothing_stands})
async def test_a_laptop_that_a_heads_computer_cut_off_comes_with_its_teacher_into_no_class(
    here: Here, way: Way
) -> None:
    head, _ = await confirmed_head(here)
    await _lose(here, head, way)
    desk, device, space = Desk(head.agent), here.teacher.agent.device, here.room.space
    inside, told = await let_into_another_class(head, here.room.teacher_person)
    assert device not in inside
    assert f"the device {device.hex()} stays out" in told
    await desk.ask("grant", person=here.room.teacher_person.hex(), space=[space.hex()])
    grants = head.agent.replica.door.authorities_of(device)
    assert head.agent.device not in {grant.author for grant in grants}


async def _none_by_rank(*_: object) -> set[bytes]:
    return set()


@attack(ROW, off={"protocol.replica.office.device_cuts._outranked": _none_by_rank})
async def test_that_another_heads_computer_reported_a_laptop_is_told_though_a_server_has_made_it_a_heads_since(
    here: Here,
) -> None:
    reporting, _ = await confirmed_head(here)
    head, _ = await confirmed_head(here)
    keys, person = here.teacher.agent.keys, here.room.teacher_person
    await here.sync(head, reporting)
    await Desk(reporting.agent).ask("lost", device=keys.signing.public.hex())
    await here.sync(reporting, head)
    await here.room.territory.let_in(keys, Role.HEAD, here.room.space, person=person)
    await here.sync(head)
    _, told = await let_into_another_class(head, person)
    assert f"the device {keys.signing.public.hex()} stays out: it was reported lost, or cut off" in told
    beside_it_on_the_page = await reported_ms(await SchoolOffice.of(head.agent), [keys.signing.public])
    assert keys.signing.public in beside_it_on_the_page


async def test_where_else_a_laptop_that_was_found_stays_cut_off_is_told_and_taken_back_by_one_command(
    here: Here,
) -> None:
    head, _ = await confirmed_head(here)
    person, keys, space = here.room.teacher_person, here.teacher.agent.keys, here.room.space
    others = [await here.room.territory.classroom(name) for name in ("CM2", "CP")]
    for other in others:
        await here.room.territory.let_in(keys, Role.TEACHER, other, person=person)
    await here.sync(head)
    desk, device = Desk(head.agent), keys.signing.public
    await desk.ask("lost", device=device.hex())
    await desk.ask("grant", device=device.hex(), space=[space.hex()])
    told = "".join(desk.told)
    assert all(f"--space {other.hex()}" in told for other in others)
    assert device not in (await let_into_another_class(head, person))[0]
    await desk.ask("grant", device=device.hex(), space=[other.hex() for other in others])
    assert device in (await let_into_another_class(head, person, "CE1"))[0]


async def _nowhere(*_: Any) -> set[bytes]:
    return set()


@attack(ROW, off={"protocol.replica.office.withdrawals._gone_with_somebody": _nowhere})
async def test_a_laptop_that_was_lost_after_its_teacher_had_left_the_class_comes_with_her_into_no_other(
    here: Here,
) -> None:
    head, _ = await confirmed_head(here)
    person, keys = here.room.teacher_person, here.teacher.agent.keys
    await Desk(head.agent).ask("ungrant", person=person.hex(), space=[here.room.space.hex()])
    await Desk(head.agent).ask("lost", device=keys.signing.public.hex())
    await here.room.territory.let_in(keys, Role.TEACHER, await here.room.territory.classroom("CX"), person=person)
    await here.sync(head)
    inside, told = await let_into_another_class(head, person)
    assert keys.signing.public not in inside
    assert keys.signing.public.hex() in told


async def _the_heads_right_is_ended(here: Here, head: Device) -> None:
    """The server ends the right under which the head's computer has said all that it ever said."""
    (held,) = head.agent.replica.door.authorities_of(head.agent.device)
    ends = Revocation(head.agent.device, ()).encode()
    await here.room.territory.say(held.space, Kind.REVOKE, ends, target=held.grant)


async def _in_no_doubt(*_: Any) -> set[bytes]:
    return set()


@pytest.mark.parametrize("way", [_what_the_head_said_is_held_back, _the_heads_right_is_ended])
@attack(ROW, off={"protocol.replica.office.device_cuts._in_doubt": _in_no_doubt})
async def test_a_laptop_that_another_heads_computer_reported_comes_with_its_teacher_into_no_class(
    here: Here, way: Way
) -> None:
    reporting, _ = await confirmed_head(here)
    head, _ = await confirmed_head(here)
    device, person = here.teacher.agent.device, here.room.teacher_person
    await here.sync(head, reporting)
    await Desk(reporting.agent).ask("lost", device=device.hex())
    await here.sync(reporting, head)
    await way(here, reporting)
    await here.sync(head)
    assert device not in (await head.agent.replica.view(here.room.space)).roster.cut
    inside, told = await let_into_another_class(head, person)
    assert device not in inside
    assert f"the device {device.hex()} stays out" in told
    # a human there has looked at it
    await Desk(head.agent).ask("grant", device=device.hex(), space=[here.room.space.hex()])
    inside, told = await let_into_another_class(head, person, "CM1")
    assert device in inside
    assert not told


def _is_ours(*_: Any) -> bool:
    return True


@attack(ROW, off={"protocol.replica.office.device_cuts.is_ours": _is_ours})
async def test_a_head_whom_the_server_invents_to_report_her_laptop_makes_her_begin_anew_with_no_other(
    here: Here,
) -> None:
    head, _ = await confirmed_head(here)
    territory, person, laptop = here.room.territory, here.room.teacher_person, here.teacher.agent.device
    invented = await here.room.device(Role.HEAD, here.room.space)
    await here.sync(invented)
    await Desk(invented.agent).ask("lost", device=laptop.hex())
    await here.sync(invented, head)
    await territory.say(here.room.space, Kind.REVOKE, Revocation(invented.agent.device, ()).encode())
    await here.name_the_spy(person)
    await here.sync(head)
    inside, told = await let_into_another_class(head, person)
    assert not inside & {laptop, here.spy.signing.public}
    assert f"the device {laptop.hex()}" in told
    assert device_words(own_keys(here.spy)) in told


def _whatever_it_says(rosters: Sequence[Roster], _silent: Collection[bytes]) -> dict[VouchedDevice, set[VouchedDevice]]:
    return _own_words(rosters, ())


@pytest.mark.parametrize("of_another", [False, True], ids=["its-own-report", "another-heads-report"])
@attack(ROW, off={"protocol.replica.office.acquaintance._own_words": _whatever_it_says})
async def test_what_a_lost_laptop_says_in_a_class_of_the_servers_lets_no_device_in(
    here: Here, of_another: bool
) -> None:
    head, _ = await confirmed_head(here)
    reporting = (await confirmed_head(here))[0] if of_another else head
    territory, person, lost = here.room.territory, here.room.teacher_person, here.teacher.agent
    await confirm(head.agent, device_id(own_device(lost)), shown_as="other")
    await here.sync(reporting)
    await Desk(reporting.agent).ask("lost", device=lost.device.hex())
    await here.sync(reporting)
    space = await territory.classroom("CX")
    (granted,) = await territory.let_in(lost.keys, Role.TEACHER, space, person=person)
    (named,) = await territory.let_in(here.spy, Role.TEACHER, space, person=person)
    word = compose(
        author=lost.keys.signing,
        space=space,
        kind=Kind.VOUCH,
        grant=granted.id,
        at=at_from(territory.clock()),
        payload=Vouch().encode(),
        salt=bytes(SALT_BYTES),
        subject=person,
        target=named.id,
    )
    assert (await territory.replica.admit([word], source=b"the thief", now_ms=territory.clock())).admitted
    following = await here.room.device(Role.TEACHER, here.room.space, person=person)
    await here.sync(following, head)
    inside, told = await let_into_another_class(head, person)
    assert here.spy.signing.public not in inside
    assert device_words(own_keys(here.spy)) in told
