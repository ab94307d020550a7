"""A PC that a stolen key let in, and honest hands into more classes, is named once that is known (docs/attacks.md)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Code, Refused
from protocol.identity import DeviceKeys
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Invite, Revocation
from protocol.replica.office.arrivals import note_arrivals
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device as Pair
from protocol.roles import Role
from protocol.trust.invitation import Invitation
from tests.attacks.test_whose_a_device_is_at_a_server import Thieving, spy
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.kept_town import town_at_work
from tests.harness.year_at_work import Year

ROW = "a thief's PC is let into more classes"


async def _no_machines(*_: object) -> list[Pair]:
    """As it was: teachers' computers alone were looked at."""
    return []


async def _always(*_: object) -> bool:
    return True


def _by_whomever(roster: Roster, **_: object) -> frozenset[bytes]:
    return roster.held_back


@pytest.fixture
async def thieving(tmp_path: Path) -> AsyncIterator[Thieving]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        yield Thieving(Year(here, *at_work, tmp_path))


async def _another_class(thieving: Thieving) -> bytes:
    made = await thieving.year.do("space add", name="CM1", school="0180001D")
    return bytes.fromhex(made["space"])


async def _let_in(thieving: Thieving, machine: DeviceKeys, space: bytes) -> None:
    """By an operator, who takes the device for one of the school's."""
    await thieving.year.do("grant", device=machine.signing.public.hex(), space=[space.hex()])
    thieving.clock.advance(DAY_MS)


async def _by_the_head(thieving: Thieving, head: Device, payload: bytes, space: bytes) -> None:
    right = next(each.grant for each in thieving.office.server.replica.door.authorities_of(head.agent.device))
    await thieving.brings(Kind.GRANT, payload, space=space, key=head.agent.keys.signing, under=right)


async def _told_after_since(thieving: Thieving) -> str:
    del thieving.office.said.lines[:]
    await thieving.new_keys(since=True)
    return "\n".join(thieving.office.said.lines)


async def _enrolled_meanwhile(thieving: Thieving) -> DeviceKeys:
    """A PC that is installed, by a code of the server's, before anybody knows of the theft."""
    machine = spy()
    await thieving.office.enrol(await thieving.office.invite("machine"), machine)
    await note_arrivals(thieving.office.server.store, thieving.clock())
    return machine


@attack(ROW, off={"sync_server.operations.newcomers.given_on_elsewhere": _no_machines})
async def test_a_pc_that_a_stolen_key_let_in_and_a_head_into_another_class_is_named(thieving: Thieving) -> None:
    his, cm1, head = spy(), await _another_class(thieving), await thieving.here.head_of_the_school()
    await thieving.is_stolen()
    await thieving.brings(Kind.GRANT, thieving.let_in(his, Role.MACHINE))
    await _by_the_head(thieving, head, thieving.let_in(his, Role.MACHINE), cm1)
    told = await _told_after_since(thieving)
    assert not await thieving.reads(his, thieving.here.space)
    assert await thieving.reads(his, cm1)
    assert "not cut off: machines that a word let in which counts no more, and that a head teacher's" in told
    assert his.signing.public.hex() in told


async def _named_before_it_was_known(thieving: Thieving) -> None:
    his, cm1 = spy(), await _another_class(thieving)
    await thieving.is_stolen()
    await thieving.brings(Kind.GRANT, thieving.let_in(his, Role.MACHINE))
    await thieving.new_keys()
    await _let_in(thieving, his, cm1)
    assert await thieving.reads(his, cm1)
    told = await _told_after_since(thieving)
    assert not await thieving.reads(his, cm1)
    assert his.signing.public.hex() in told


@attack(ROW, off={"sync_server.operations.newcomers.cut_off_where_given_on": _no_machines})
async def test_one_that_this_server_has_let_into_another_is_cut_off_there_and_named(thieving: Thieving) -> None:
    await _named_before_it_was_known(thieving)


@attack(ROW, off={"protocol.replica.office.known_here._counts_no_more": _always})
async def test_that_somebody_had_named_it_before_that_was_known_does_not_keep_it_in(thieving: Thieving) -> None:
    await _named_before_it_was_known(thieving)


@attack(ROW, off={"protocol.replica.office.held_in_space._fell": _by_whomever})
async def test_nor_where_the_stolen_key_had_cut_it_off_and_let_it_back_in_one_breath(thieving: Thieving) -> None:
    his, cm1 = spy(), await _another_class(thieving)
    await thieving.is_stolen()
    given = thieving.let_in(his, Role.MACHINE)
    await thieving.brings(Kind.GRANT, given)
    cut = await thieving.brings(Kind.REVOKE, Revocation(his.signing.public, ()).encode())
    await thieving.brings(Kind.GRANT, given, parents=[cut.id])
    await thieving.new_keys()
    await _let_in(thieving, his, cm1)
    assert await thieving.reads(his, cm1)
    await thieving.new_keys(since=True)
    assert not await thieving.reads(his, cm1)


async def test_nor_where_a_lost_laptop_of_a_heads_has_let_it_back_that_still_counts(thieving: Thieving) -> None:
    his, cm1, head = spy(), await _another_class(thieving), await thieving.here.head_of_the_school()
    key, door = head.agent.keys.signing, thieving.office.server.replica.door
    right, given = door.authorities_of(head.agent.device)[0].grant, thieving.let_in(his, Role.MACHINE)
    await thieving.is_stolen()
    await thieving.brings(Kind.GRANT, given)
    cut = await thieving.brings(Kind.REVOKE, Revocation(his.signing.public, ()).encode(), key=key, under=right)
    await thieving.brings(Kind.GRANT, given, key=key, under=right, parents=[cut.id])
    await thieving.new_keys()
    await _let_in(thieving, his, cm1)
    assert his.signing.public.hex() in await _told_after_since(thieving)
    assert not await thieving.reads(his, cm1)


@attack(ROW, off={"protocol.replica.office.held_in_space._fell": _by_whomever})
async def test_no_pc_goes_since_a_lost_laptop_of_a_heads_cut_it_off_and_let_it_back(thieving: Thieving) -> None:
    head, pc, server = await thieving.here.head_of_the_school(), thieving.year.machine, thieving.office.server.replica
    key, right = head.agent.keys.signing, server.door.authorities_of(head.agent.device)[0].grant
    tips = tuple(await server.tips(thieving.here.space, pc.agent.device))
    order = Revocation(pc.agent.device, tips).encode()
    cut = await thieving.brings(Kind.REVOKE, order, key=key, under=right)
    back = thieving.let_in(pc.agent.keys, Role.MACHINE)
    await thieving.brings(Kind.GRANT, back, key=key, under=right, parents=[cut.id])
    await thieving.is_stolen()
    assert "machines" not in await _told_after_since(thieving)
    assert await thieving.reads(pc, thieving.here.space)


async def test_nor_does_one_that_was_taken_out_of_a_class_and_let_in_again_before_the_theft(thieving: Thieving) -> None:
    pc, space, cm1 = thieving.year.machine, thieving.here.space, await _another_class(thieving)
    await thieving.year.do("ungrant", device=pc.agent.device.hex(), space=[space.hex()])
    thieving.clock.advance(DAY_MS)
    await thieving.year.do("grant", device=pc.agent.device.hex(), space=[space.hex(), cm1.hex()])
    thieving.clock.advance(30 * DAY_MS)
    await thieving.is_stolen()
    assert "machines" not in await _told_after_since(thieving)
    assert all([await thieving.reads(pc, each) for each in (space, cm1)])


async def test_pcs_of_the_school_that_are_let_in_again_stay_and_are_named_no_more(thieving: Thieving) -> None:
    cm1, head = await _another_class(thieving), await thieving.here.head_of_the_school()
    await thieving.is_stolen()
    room = [await _enrolled_meanwhile(thieving) for _ in range(3)]
    for machine in room:
        await _by_the_head(thieving, head, thieving.let_in(machine, Role.MACHINE), cm1)
    (line,) = [each for each in (await _told_after_since(thieving)).splitlines() if "machines" in each]
    assert all(machine.signing.public.hex() in line for machine in room)
    assert not any([await thieving.reads(machine, thieving.here.space) for machine in room])
    for machine in room:
        await _let_in(thieving, machine, thieving.here.space)
    assert "machines" not in await _told_after_since(thieving)
    for machine in room:
        assert await thieving.reads(machine, thieving.here.space)
        assert await thieving.reads(machine, cm1)


async def test_so_does_one_that_has_come_into_another_class_by_a_heads_code_since(thieving: Thieving) -> None:
    cm1, head = await _another_class(thieving), await thieving.here.head_of_the_school()
    right = next(each.grant for each in thieving.office.server.replica.door.authorities_of(head.agent.device))
    await thieving.is_stolen()
    machine = await _enrolled_meanwhile(thieving)
    await thieving.new_keys(since=True)
    code = Invitation.create(thieving.office.server.replica.territory, os.urandom(10))
    made = Invite(code.secret_hash, Role.MACHINE, (cm1,), None, 1, 2**52)
    await thieving.brings(
        Kind.INVITE, made.encode(), space=thieving.here.school, key=head.agent.keys.signing, under=right
    )
    await thieving.office.enrol(code.code(), machine)
    await thieving.new_keys(since=True)
    assert await thieving.reads(machine, cm1)


async def test_pcs_that_were_there_before_the_theft_go_on_in_each_class_and_nothing_is_told(
    thieving: Thieving,
) -> None:
    cm1, head, machine = await _another_class(thieving), await thieving.here.head_of_the_school(), spy()
    await thieving.office.enrol(await thieving.office.invite("machine"), machine)
    await thieving.is_stolen()
    await _by_the_head(thieving, head, thieving.let_in(machine, Role.MACHINE), cm1)
    await thieving.new_keys()
    after = await _another_class(thieving)
    await _let_in(thieving, machine, after)
    assert "machines" not in await _told_after_since(thieving)
    assert all([await thieving.reads(machine, space) for space in (thieving.here.space, cm1, after)])


async def test_a_pc_that_came_in_at_a_heads_by_a_code_of_the_stolen_key_stays_once_it_is_let_in_again(
    thieving: Thieving,
) -> None:
    machine, head = spy(), await thieving.here.head_of_the_school()
    await thieving.is_stolen()
    code = Invitation.create(thieving.office.server.replica.territory, os.urandom(10))
    lasts_ms = thieving.clock() + DAY_MS
    made = Invite(code.secret_hash, Role.MACHINE, (thieving.here.space,), None, 1, lasts_ms)
    invite = await thieving.brings(Kind.INVITE, made.encode())
    keys = (machine.signing.public, machine.agreement.public, machine.tls.fingerprint)
    given = Grant(*keys, Role.MACHINE, None, invite.id)
    await _by_the_head(thieving, head, given.encode(), thieving.here.space)
    assert machine.signing.public.hex() in await _told_after_since(thieving)
    assert not await thieving.reads(machine, thieving.here.space)
    for _ in range(2):
        await _let_in(thieving, machine, thieving.here.space)
        await thieving.new_keys(since=True)
        assert await thieving.reads(machine, thieving.here.space)


def _by_whose_alone(person: bytes | None, _role: Role) -> str:
    return "" if person is None else person.hex()


@attack(ROW, off={"protocol.replica.office.known_here._whose": _by_whose_alone})
async def test_a_pc_that_this_server_knows_is_no_heads_computer_by_a_word_of_the_stolen_key(
    thieving: Thieving,
) -> None:
    machine = spy()
    await thieving.office.enrol(await thieving.office.invite("machine"), machine)
    await thieving.is_stolen()
    school = thieving.here.school
    right = await thieving.brings(Kind.GRANT, thieving.let_in(machine, Role.HEAD), space=school)
    await thieving.new_keys()
    code = Invitation.create(thieving.office.server.replica.territory, os.urandom(10))
    made = Invite(code.secret_hash, Role.MACHINE, (thieving.here.space,), None, 1, 2**52)
    await thieving.brings(Kind.INVITE, made.encode(), space=school, key=machine.signing, under=right.id)
    with pytest.raises(Refused) as refused:
        await thieving.office.enrol(code.code(), spy())
    assert refused.value.code is Code.CODE_WRONG
