"""Attacks: who is cut off and let back in one breath loses nothing, and what it was let in as before counts no more."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Refused
from protocol.identity import DeviceKeys, SigningKey
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, Invite, Revocation, Successor
from protocol.replica.at_work.replica import Draft
from protocol.replica.office import grants
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.bureau import Office
from protocol.replica.office.device_cuts import cuts_said_here, orders_by_key
from protocol.replica.office.held_in_space import grants_not_held_back
from protocol.replica.office.stays import end_stays
from protocol.rights.door import Authority
from protocol.rights.vouching import device_words
from protocol.roles import Role
from tests.attacks.test_whose_a_device_is_at_a_server import Thieving, spy
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.kept_town import town_at_work
from tests.harness.spied_class import SpiedClass, own_keys, spied_class
from tests.harness.territory import Territory
from tests.harness.year_at_work import Year

ROW = "a server adds a role, an end or a code to what a device was granted"
WHOSE = "a thief's device comes along into the next class"
LOOK_ALIKE = "a thief's word that waits looks like an honest one"


async def _whoever_holds_it_back(office: Office, grants: Collection[Authority]) -> list[Authority]:
    """As if it did not matter whose word holds a grant back."""
    return await grants_not_held_back(office.replica, grants)


AS_IT_WAS = {"protocol.replica.office.grants.grants_not_held_back_by_this_office": _whoever_holds_it_back}


@pytest.fixture(name="thieving")
async def _thieving(tmp_path: Path) -> AsyncIterator[Thieving]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        made = Thieving(Year(here, *at_work, tmp_path))
        await made.is_stolen()
        yield made


def _as(
    role: Role, keys: DeviceKeys, person: str | None = None, *, code: bytes | None = None, until_ms: int | None = None
) -> bytes:
    whose = None if person is None else bytes.fromhex(person)
    return Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, role, whose, code, until_ms).encode()


async def _cut_off(thieving: Thieving, device: bytes, *, with_all: bool = False) -> list[bytes]:
    """Wherever a device was let in; `with_all`, with all that it has said."""
    server, said = thieving.office.server.replica, []
    for space in {each.space for each in server.door.authorities_of(device)}:
        heads = () if with_all else tuple(await server.tips(space, device))
        said.append(await thieving.brings(Kind.REVOKE, Revocation(device, heads).encode(), space=space))
    return [each.id for each in said]


async def _in_one_breath(thieving: Thieving, keys: DeviceKeys, back: bytes) -> None:
    names = await _cut_off(thieving, keys.signing.public)
    await thieving.brings(Kind.GRANT, back, parents=names)
    thieving.clock.advance(3_600_000)
    for device in thieving.here.devices:
        with suppress(Refused):  # whom this keeps out
            await thieving.here.sync(device)


async def _given_on(thieving: Thieving, device: bytes) -> Authority:
    """What the server's own `grant --device` says of a device in the class of the next year."""
    made = await thieving.year.do("space add", name="CM2", school="0180001D", year="2027-2028")
    await thieving.year.do("grant", device=device.hex(), person=None, space=[made["space"]])
    (given,) = _in(thieving, device, made["space"])
    return given


def _in(thieving: Thieving, device: bytes, space: str) -> list[Authority]:
    return [each for each in thieving.office.server.replica.door.authorities_of(device) if each.space.hex() == space]


@pytest.mark.parametrize("new_keys", [False, True])
@attack(ROW, off=AS_IT_WAS)
async def test_a_pc_that_a_stolen_key_let_back_as_a_teachers_is_a_pc_in_the_next_class(
    thieving: Thieving, *, new_keys: bool
) -> None:
    keys = thieving.year.machine.agent.keys
    await _in_one_breath(thieving, keys, _as(Role.TEACHER, keys, thieving.year.person))
    if new_keys:
        await thieving.new_keys()
    given = await _given_on(thieving, keys.signing.public)
    assert (given.role, given.person) == (Role.MACHINE, None)
    assert any("grants call it teacher as well" in line for line in thieving.office.said.lines)


@pytest.mark.parametrize("new_keys", [False, True])
@attack(ROW, off=AS_IT_WAS)
async def test_a_laptop_that_it_let_back_until_a_day_comes_along_for_good_and_is_asked_about_when_the_class_closes(
    thieving: Thieving, *, new_keys: bool
) -> None:
    keys, device = thieving.year.teacher.agent.keys, thieving.year.teacher.agent.device
    until_ms = thieving.clock() + 30 * DAY_MS
    await _in_one_breath(thieving, keys, _as(Role.TEACHER, keys, thieving.year.person, until_ms=until_ms))
    if new_keys:
        await thieving.new_keys()
    space = await thieving.next_class()
    await thieving.here.sync(thieving.year.teacher)
    await thieving.here.asks_for_work(thieving.year.teacher, space)
    await thieving.here.sync(thieving.year.teacher)
    thieving.clock.advance(40 * DAY_MS)
    await end_stays(thieving.office.server)
    assert [each.until_ms for each in _in(thieving, device, space.hex())] == [None]
    closing = await thieving.office.do("space close", space=space.hex())
    assert device.hex() in [row["device"] for row in closing["unheard"]]


async def _code_of_its_head(thieving: Thieving) -> bytes:
    """A code of a head's that the stolen key made up."""
    here, head = thieving.here, spy()
    right = await thieving.brings(Kind.GRANT, thieving.let_in(head, Role.HEAD), space=here.school)
    made = Invite(os.urandom(32), Role.MACHINE, (here.space,), None, 1, thieving.clock() + DAY_MS).encode()
    return (await thieving.brings(Kind.INVITE, made, space=here.school, key=head.signing, under=right.id)).id


@attack(ROW, off=AS_IT_WAS)
async def test_a_pc_that_it_let_back_with_a_code_of_a_heads_that_it_made_up_names_none_in_the_next_class(
    thieving: Thieving,
) -> None:
    keys, code = thieving.year.machine.agent.keys, await _code_of_its_head(thieving)
    await _in_one_breath(thieving, keys, _as(Role.MACHINE, keys, code=code))
    assert (await _given_on(thieving, keys.signing.public)).invite != code


_repeated = grants._repeated


async def _of_what_has_not_ended(office: Office, alike: Sequence[Authority], known: Sequence[Authority]) -> Authority:
    """As if keys and code were said by the first right that has not ended."""
    return replace(await _repeated(office, alike, known), invite=alike[0].invite)


@attack(ROW, off={"protocol.replica.office.grants._repeated": _of_what_has_not_ended})
async def test_nor_does_her_laptop_whose_first_right_it_ended_to_say_another_with_such_a_code(
    thieving: Thieving,
) -> None:
    keys, code, server = thieving.year.teacher.agent.keys, await _code_of_its_head(thieving), thieving.office.server
    device, space = keys.signing.public, thieving.here.space
    (first,) = server.replica.door.authorities_of(device)
    heads = tuple(await server.replica.tips(space, device))
    await thieving.brings(Kind.REVOKE, Revocation(device, heads).encode(), target=first.grant)
    await thieving.brings(Kind.GRANT, _as(Role.TEACHER, keys, thieving.year.person, code=code))
    assert (await _given_on(thieving, device)).invite == first.invite


async def _as_what_it_is_called_there(
    office: Office, device: bytes, spaces: Sequence[bytes], _is_so: object
) -> grants.Raised | None:
    """As if all that is said with the server's key in the new class were said by the server."""
    known = await grants.standing_grants(office, device)
    given = [each for each in known if each.space in spaces and each.author == office.own_device[0]]
    here, highest = grants._latest(given), grants._latest(known)
    return grants.Raised(here.role, highest.role if highest.rank > here.rank else None)


@pytest.mark.parametrize("whose", ["a PC", "her laptop"])
@attack(ROW, off={"protocol.replica.office.grants.raised": _as_what_it_is_called_there})
async def test_that_a_stolen_key_calls_a_device_more_in_the_new_class_beforehand_is_told_all_the_same(
    thieving: Thieving, whose: str
) -> None:
    office, is_pc = thieving.year, whose == "a PC"
    keys = (office.machine if is_pc else office.teacher).agent.keys
    device, more = keys.signing.public.hex(), Role.TEACHER if is_pc else Role.HEAD
    space = (await office.do("space add", name="CM2", school="0180001D", year="2027-2028"))["space"]
    await thieving.brings(Kind.GRANT, _as(more, keys, office.person), space=bytes.fromhex(space))
    await office.do("grant", space=[space], **({"device": device} if is_pc else {"person": office.person}))
    assert any(f"grants call it {more} as well" in line for line in thieving.office.said.lines)


async def as_it_was_called_then(office: Office, successor: Authority) -> Authority:
    """As if a copy were what the grant says under which the machine signed for it."""
    said = (await office.replica.store.get([successor.grant]))[successor.grant]
    under = office.replica.door.authority(said.header.grant)
    return successor if under is None else replace(successor, role=under.role, person=under.person)


@pytest.mark.parametrize("new_keys", [False, True])
@attack(ROW, off={"protocol.replica.office.grants._as_before": as_it_was_called_then})
async def test_a_copied_pc_that_it_let_back_as_a_teachers_is_a_pc_when_somebody_confirms_it(
    thieving: Thieving, *, new_keys: bool
) -> None:
    keys, space, copy = thieving.year.machine.agent.keys, thieving.here.space, spy()
    await _in_one_breath(thieving, keys, _as(Role.TEACHER, keys, thieving.year.person))
    called = thieving.office.server.replica.door.authorities_of(keys.signing.public)[-1]
    if new_keys:
        await thieving.new_keys()
    pair = copy.signing, copy.agreement.public, copy.tls.fingerprint
    agreed = Successor.agreed(*pair, space, keys.signing.public).encode()
    await thieving.brings(Kind.SUCCESSOR, agreed, key=keys.signing, under=called.grant)
    await thieving.year.do("confirm", device=copy.signing.public.hex(), restore=True)
    given = thieving.office.server.replica.door.authorities_of(copy.signing.public)
    assert {(each.role, each.person) for each in given if each.predecessor is None} == {(Role.MACHINE, None)}


@attack(
    LOOK_ALIKE,
    off={"sync_server.handlers.by_kit.said_again.grants_not_held_back_by_this_office": _whoever_holds_it_back},
)
async def test_a_right_that_waits_is_said_again_with_her_certificate_though_it_let_her_laptop_back_with_his(
    thieving: Thieving,
) -> None:
    here, keys, server = thieving.here, thieving.year.teacher.agent.keys, thieving.office.server
    head, space = await here.head_of_the_school(), await _class_of_this_year(thieving)
    await here.sync()
    await note_arrivals(server.store, thieving.clock())
    thieving.clock.advance(DAY_MS)
    await Desk(head.agent).ask("grant", device=keys.signing.public.hex(), space=[space])
    await here.sync(head)
    (waits,) = _in(thieving, keys.signing.public, space)
    await note_arrivals(server.store, thieving.clock())
    await thieving.year.do("lost", device=head.agent.device.hex(), since="12h")
    names = await _cut_off(thieving, keys.signing.public)
    his = replace(keys, tls=spy().tls)
    back = _as(Role.TEACHER, his, thieving.year.person)
    for where in (here.space, bytes.fromhex(space)):
        await thieving.brings(Kind.GRANT, back, space=where, parents=names)
    await thieving.year.do("accept", named=[waits.grant.hex()])
    again = _in(thieving, keys.signing.public, space)[-1]
    assert (again.author, again.tls_sha256) == (server.keys.signing.public, keys.tls.fingerprint)


async def _class_of_this_year(thieving: Thieving) -> str:
    made = await thieving.year.do("space add", name="CE2", school="0180001D", year="none")
    space: str = made["space"]
    return space


async def _of_who_lets_nobody_in(office: Office) -> list[Entry]:
    """As if a server believed what is said of whoever lets others in."""
    said = orders_by_key(await office.replica.store.scan_kinds([Kind.REVOKE]))
    letting_in = {each.author for each in office.replica.door.authorities()}
    return [one for key, words in said.items() for one in words if key not in letting_in]


@attack(ROW, off={"protocol.replica.office.held_by_others._words_of_others": _of_who_lets_nobody_in})
async def test_nor_is_a_pc_a_teachers_there_whose_head_a_stolen_key_cut_off_with_all_that_she_said(
    thieving: Thieving,
) -> None:
    head, pc, here = await thieving.here.head_of_the_school(), spy(), thieving.here
    right = next(each.grant for each in thieving.office.server.replica.door.authorities_of(head.agent.device))
    let_in = _as(Role.MACHINE, pc)
    await thieving.brings(Kind.GRANT, let_in, space=here.space, key=head.agent.keys.signing, under=right)
    await _cut_off(thieving, head.agent.device, with_all=True)
    await thieving.brings(Kind.GRANT, _as(Role.TEACHER, pc, thieving.year.person))
    given = await _given_on(thieving, pc.signing.public)
    assert (given.role, given.person) == (Role.MACHINE, None)


async def _but_what_fell_with_old_keys(office: Office, grants: Collection[Authority]) -> list[Authority]:
    """As it was: whatever a key had said that was replaced since, and is held back, was held back by that."""
    counting = await grants_not_held_back(office.replica, grants)
    ended = orders_by_key(await cuts_said_here(office))
    return [each for each in grants if each in counting or each.author not in ended]


@attack(
    WHOSE,
    off={"protocol.replica.office.acquaintance.grants_not_held_back_by_this_office": _but_what_fell_with_old_keys},
)
async def test_nor_does_its_device_come_along_in_the_place_of_hers_that_it_let_back_as_a_pc_once_keys_are_new(
    thieving: Thieving,
) -> None:
    hers, his = thieving.year.teacher.agent.keys, spy()
    await thieving.brings(Kind.GRANT, thieving.let_in(his))
    await _in_one_breath(thieving, hers, _as(Role.MACHINE, hers))
    await thieving.new_keys()
    space = await thieving.next_class()
    assert not await thieving.reads(his, space)
    assert any(device_words(own_keys(his)) in line for line in thieving.office.said.lines)


class _Thief:
    """Who signs as the server, or as a head's laptop that it has let in."""

    def __init__(self, territory: Territory, key: SigningKey, right: bytes) -> None:
        self.territory, self.key, self.right = territory, key, right

    async def says(self, space: bytes, kind: Kind, payload: bytes, parents: Sequence[bytes] = ()) -> bytes:
        territory = self.territory
        draft = Draft(space, kind, self.right, payload, parents=tuple(parents))
        (said,) = await territory.replica.write(
            [draft], author=self.key, now_ms=territory.clock(), entropy=territory.entropy, unsent=False
        )
        return said.id

    async def lets_back(self, space: bytes, keys: DeviceKeys, person: bytes) -> None:
        device, names, server = keys.signing.public, [], self.territory.replica
        for at in {each.space for each in server.door.authorities_of(device)}:
            heads = tuple(await server.tips(at, device))
            names.append(await self.says(at, Kind.REVOKE, Revocation(device, heads).encode()))
        await self.says(space, Kind.GRANT, _as(Role.TEACHER, keys, person.hex()), names)


async def _a_heads_laptop(here: SpiedClass) -> _Thief:
    territory, keys = here.room.territory, spy()
    right = await territory.say(here.room.school, Kind.GRANT, _as(Role.HEAD, keys))
    return _Thief(territory, keys.signing, right.id)


async def _further(desk: Desk, device: bytes) -> Authority:
    """What a head's computer grants a device, named there, in one more class."""
    space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
    await desk.ask("grant", device=device.hex(), space=[space])
    door = desk.agent.replica.door
    (given,) = [each for each in door.authorities_of(device) if each.space.hex() == space]
    return given


@pytest.mark.parametrize("by", ["the server's key", "another head's laptop"])
@attack(ROW, off=AS_IT_WAS)
async def test_nor_is_such_a_pc_a_teachers_in_the_class_into_which_a_heads_computer_lets_it(
    tmp_path: Path, by: str
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, keys = here.room.territory, here.machine.agent.keys
        head, _ = await confirmed_head(here)
        as_the_server = _Thief(territory, territory.keys.signing, territory.certificate.id)
        thief = as_the_server if by == "the server's key" else await _a_heads_laptop(here)
        await thief.lets_back(here.room.space, keys, here.room.teacher_person)
        await here.sync(head)
        desk = Desk(head.agent)
        assert (await _further(desk, keys.signing.public)).role is Role.MACHINE
        assert any("grants call it teacher as well" in line for line in desk.told)


async def _of_whomever(office: Office) -> list[Entry]:
    """As if nothing counted of what a server says of anybody."""
    said: Iterable[Entry] = await office.replica.store.scan_kinds([Kind.REVOKE])
    return [one for one in said if one.header.grant is not None]


@attack(ROW, off={"protocol.replica.office.held_by_others._words_of_others": _of_whomever})
async def test_what_a_heads_laptop_that_the_server_reported_called_a_colleagues_counts_on_no_other_heads(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        hers, head = here.teacher.agent.keys, (await confirmed_head(here))[0]
        stolen = await _a_heads_laptop(here)
        await stolen.says(here.room.space, Kind.GRANT, _as(Role.MACHINE, hers))
        report = Revocation(stolen.key.public, ()).encode()
        await here.room.territory.say(here.room.school, Kind.REVOKE, report)
        await here.sync(head)
        assert (await _further(Desk(head.agent), hers.signing.public)).role is Role.TEACHER
