"""Attacks: what a server adds to a device's grants is repeated in a head teacher's own, which outlive the server's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.identity import DeviceKeys
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation, Successor
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.bureau import Office
from protocol.replica.office.grants import _has_a_say, standing_grants
from protocol.rights.door import Authority
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_server.handlers.by_kit.territory import kit_in
from tests.attacks.test_codes_that_thieves_name import a_head, code, those_there
from tests.attacks.test_cut_off_and_let_back_in_one_breath import as_it_was_called_then
from tests.attacks.test_whose_a_device_is_at_a_server import Thieving, spy
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import town
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.year_at_work import Year

GIVEN_FIRST = "a server lets an honest laptop in first, with a key of a thief's"
ADDED = "a server adds a role, an end or a code to what a device was granted"


def _same_key_and_role(_office: Office, grant: Authority, like: Authority) -> bool:
    """As if it were enough that somebody has let the same key in, as anything."""
    return (grant.key, grant.role) == (like.key, like.role)


async def _the_last_of_all(_office: Office, alike: Sequence[Authority], known: Sequence[Authority]) -> Authority:
    """As if role, end and code were those that came last."""
    highest = max(grant.rank for grant in alike)
    last = [grant for grant in alike if grant.rank == highest][-1]
    ends = [grant.until_ms for grant in known]
    until_ms = None if None in ends else max(end for end in ends if end is not None)
    return replace(last, agreement=alike[0].agreement, tls_sha256=alike[0].tls_sha256, until_ms=until_ms)


def _granted(agent: Agent, space: str, device: bytes) -> Authority:
    (grant,) = [
        each
        for each in agent.replica.door.authorities_of(device)
        if each.space.hex() == space and each.author == agent.device
    ]
    return grant


async def _let_in_further(desk: Desk, device: Agent) -> Authority:
    """What a head's computer grants a device, named there, in one more class."""
    space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
    await desk.ask("grant", device=device.device.hex(), space=[space])
    return _granted(desk.agent, space, device.device)


async def _substitute(here: SpiedClass, ends_ms: int) -> tuple[bytes, Device]:
    """Somebody who stays until then, and their laptop."""
    person = await here.room.territory.person("M. Remplaçant", PersonRole.TEACHER, here.room.space)
    return person, await here.room.device(Role.TEACHER, person=person, until_ms=ends_ms)


@attack(GIVEN_FIRST, off={"protocol.replica.office.grants._says": _same_key_and_role})
async def test_a_laptop_that_a_head_lets_in_has_the_class_whatever_the_server_had_given_it_before(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        keys, head = here.teacher.agent.keys, (await confirmed_head(here))[0]
        await here.sync(head, here.teacher, head)
        desk = Desk(head.agent)
        space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
        await here.sync(head)
        pair = keys.signing.public, here.spy.agreement.public
        false = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, here.room.teacher_person, None, None)
        await here.room.territory.say(bytes.fromhex(space), Kind.GRANT, false.encode())
        await here.sync(head)
        await desk.ask("grant", device=keys.signing.public.hex(), space=[space])
        await here.sync(head, here.teacher, head, here.teacher, head, here.teacher)
        assert await here.teacher.agent.keyring.current(bytes.fromhex(space)) is not None


@attack(ADDED, off={"protocol.replica.office.grants._repeated": _the_last_of_all})
async def test_a_substitute_comes_into_a_further_class_until_the_last_day_of_the_stay_whatever_a_server_adds(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, ends_ms = here.room.territory, here.room.territory.clock() + 15 * DAY_MS
        substitute, laptop = await _substitute(here, ends_ms)
        head, _ = await confirmed_head(here)
        await here.sync(laptop, head, laptop, head)
        other = await territory.classroom("CX")
        await territory.let_in(laptop.agent.keys, Role.TEACHER, other, person=substitute)
        await here.sync(head)
        assert (await _let_in_further(Desk(head.agent), laptop.agent)).until_ms == ends_ms


@attack(ADDED, off={"protocol.replica.office.grants._repeated": _the_last_of_all})
async def test_a_pc_comes_into_a_further_class_as_a_pc_though_a_server_calls_it_a_relay(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        head, _ = await confirmed_head(here)
        other = await here.room.territory.classroom("CX")
        await here.room.territory.let_in(here.machine.agent.keys, Role.RELAY, other)
        await here.sync(head)
        assert (await _let_in_further(Desk(head.agent), here.machine.agent)).role is Role.MACHINE


def _as_it_came(said: Sequence[Authority]) -> list[Authority]:
    """As if what came to a head's computer in one look had come in an order."""
    return list(said)


def _the_first(said: Sequence[Authority], _now_ms: int) -> Authority:
    return said[0]


@attack(
    ADDED,
    off={
        "protocol.replica.office.grants.least_first": _as_it_came,
        "protocol.replica.office.grants.least_of": _the_first,
    },
)
@pytest.mark.parametrize("role", [Role.TEACHER, Role.RELAY])
async def test_so_it_does_on_a_heads_computer_that_came_later_and_heard_of_the_servers_word_first(
    tmp_path: Path, role: Role
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, pc = here.room.territory, here.machine.agent
        alone = await territory.person("M. Roy", PersonRole.TEACHER, here.room.space)
        # a device takes the territory's entries before those of a class, where the PC was let in months ago
        whose = alone if role is Role.TEACHER else None
        await territory.let_in(pc.keys, role, territory.replica.territory, person=whose)
        head, _ = await confirmed_head(here)
        await here.sync(head)
        assert head.agent.replica.door.authorities_of(pc.device)[0].role is role
        desk = Desk(head.agent)
        assert (await _let_in_further(desk, pc)).role is Role.MACHINE
        assert ("grants call it teacher as well" in " ".join(desk.told)) is (role is Role.TEACHER)


async def test_a_laptop_that_a_server_calls_a_pc_comes_along_with_its_teacher_as_hers(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, laptop = here.room.territory, here.teacher.agent
        await territory.let_in(laptop.keys, Role.MACHINE, territory.replica.territory)
        head, _ = await confirmed_head(here)
        await here.sync(head)
        desk = Desk(head.agent)
        space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
        await desk.ask("grant", person=here.room.teacher_person.hex(), space=[space])
        assert _granted(head.agent, space, laptop.device).role is Role.TEACHER


@attack(ADDED, off={"protocol.replica.office.grants.least_of": _the_first})
async def test_nor_is_a_substitutes_stay_longer_for_that(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, ends_ms = here.room.territory, here.room.territory.clock() + 15 * DAY_MS
        substitute, laptop = await _substitute(here, ends_ms)
        await territory.let_in(laptop.agent.keys, Role.TEACHER, territory.replica.territory, person=substitute)
        head, _ = await confirmed_head(here)
        await here.sync(laptop, head, laptop, head)
        assert (await _let_in_further(Desk(head.agent), laptop.agent)).until_ms == ends_ms


def _the_earliest_end(said: Sequence[Authority], _now_ms: int) -> Authority:
    """As if an end that is over were one that gives less than those to come."""
    return min(said, key=lambda each: (each.rank, each.until_ms is None, each.until_ms or 0))


@attack(ADDED, off={"protocol.replica.office.grants.least_of": _the_earliest_end})
async def test_nor_is_it_for_good_by_a_word_that_ended_before_it(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, ends_ms = here.room.territory, here.room.territory.clock() + 15 * DAY_MS
        substitute, laptop = await _substitute(here, ends_ms)
        head, _ = await confirmed_head(here)
        await here.sync(laptop, head, laptop, head)
        ended_ms = head.agent.now_ms() - DAY_MS
        await territory.let_in(laptop.agent.keys, Role.TEACHER, here.room.space, person=substitute, until_ms=ended_ms)
        await here.sync(head)
        assert (await _let_in_further(Desk(head.agent), laptop.agent)).until_ms == ends_ms


@attack(ADDED, off={"protocol.replica.office.grants._repeated": _the_last_of_all})
async def test_a_laptop_that_a_head_lets_in_further_stays_when_codes_end_that_a_server_added_to_it(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        server = here.office.server
        head, _ = await a_head(here)
        laptop, _ = await those_there(here)
        await here.sync(laptop, head, laptop, head)
        keys = laptop.agent.keys
        (first,) = server.replica.door.authorities_of(keys.signing.public)
        (made,) = await server.write([Draft(server.replica.door.territory, Kind.INVITE, server.grant, code(here))])
        pair = keys.signing.public, keys.agreement.public
        again = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, first.person, made.id).encode()
        await server.write([Draft(here.space, Kind.GRANT, server.grant, again)])
        await here.sync(head)
        desk = Desk(head.agent)
        space = (await desk.ask("space add", name="CM2", year="2026-2027"))["space"]
        await desk.ask("grant", device=keys.signing.public.hex(), space=[space])
        await here.sync(head, laptop)
        await note_arrivals(server.store, here.office.clock())
        kit = kit_in(tmp_path / "server" / "kit", None)
        await here.office.with_kit("rotate server", kit, since="12h")
        assert bytes.fromhex(space) in await here.office.server.replica.readable(keys.signing.public)


async def _the_highest_of_all(office: Office, like: Authority) -> Authority:
    """As if a device were, for the server too, the most that any grant calls it."""
    same = [each for each in office.replica.door.authorities_of(like.key) if each.person == like.person]
    return max(same, key=lambda each: each.rank)


@pytest.fixture(name="thieving")
async def _thieving(tmp_path: Path) -> AsyncIterator[Thieving]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        yield Thieving(Year(here, *at_work, tmp_path))


def _given(thieving: Thieving, space: bytes, device: bytes) -> set[Role]:
    return {each.role for each in thieving.office.server.replica.door.authorities_of(device) if each.space == space}


def _as(role: Role, keys: DeviceKeys, person: str | None = None) -> bytes:
    whose = None if person is None else bytes.fromhex(person)
    return Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, role, whose, None).encode()


@pytest.mark.parametrize("where", ["in its class", "in its school"])
@attack(ADDED, off={"protocol.replica.office.grants._first_said": _the_highest_of_all})
async def test_a_pc_that_a_stolen_key_called_an_administrators_is_a_pc_in_the_next_class_at_the_server_too(
    thieving: Thieving, where: str
) -> None:
    keys, here = thieving.year.machine.agent.keys, thieving.here
    await thieving.is_stolen()
    place = here.space if where == "in its class" else here.school
    await thieving.brings(Kind.GRANT, _as(Role.ADMIN, keys), space=place)
    await thieving.new_keys()
    space = await thieving.next_class()
    await thieving.year.do("grant", device=keys.signing.public.hex(), person=None, space=[space.hex()])
    assert _given(thieving, space, keys.signing.public) == {Role.MACHINE}
    (line,) = [each for each in thieving.office.said.lines if keys.signing.public.hex() in each]
    assert "comes in as machine" in line
    assert "grants call it admin as well" in line


async def _by_what_has_not_ended(_office: Office, _honest: Sequence[Authority]) -> list[Authority]:
    return []


@pytest.mark.parametrize("role", [Role.HEAD, Role.TEACHER])
@attack(ADDED, off={"protocol.replica.office.grants._as_shared": _by_what_has_not_ended})
async def test_nor_is_a_pc_a_teachers_there_whose_first_right_a_stolen_key_has_ended(
    thieving: Thieving, role: Role
) -> None:
    keys, here = thieving.year.machine.agent.keys, thieving.here
    device, server = keys.signing.public, thieving.office.server
    (first,) = server.replica.door.authorities_of(device)
    await thieving.is_stolen()
    whose = thieving.year.person if role is Role.TEACHER else None
    await thieving.brings(Kind.GRANT, _as(role, keys, whose), space=here.school if role is Role.HEAD else here.space)
    ending = Revocation(device, tuple(await server.replica.tips(here.space, device))).encode()
    await thieving.brings(Kind.REVOKE, ending, target=first.grant)
    await thieving.new_keys()
    space = await thieving.next_class()
    await thieving.year.do("grant", device=device.hex(), person=None, space=[space.hex()])
    assert _given(thieving, space, device) == {Role.MACHINE}


@pytest.mark.parametrize("by", ["person", "device"])
@attack(ADDED, off={"protocol.replica.office.grants._first_said": _the_highest_of_all})
async def test_a_laptop_that_a_stolen_key_called_a_heads_is_a_teachers_in_the_next_class_at_the_server_too(
    thieving: Thieving, by: str
) -> None:
    keys, person = thieving.year.teacher.agent.keys, thieving.year.person
    await thieving.is_stolen()
    await thieving.brings(Kind.GRANT, _as(Role.HEAD, keys, person))
    await thieving.new_keys()
    if by == "person":
        space = await thieving.next_class()
    else:
        made = await thieving.year.do("space add", name="CM2", school="0180001D", year="2027-2028")
        space = bytes.fromhex(made["space"])
        await thieving.year.do("grant", device=keys.signing.public.hex(), person=None, space=[made["space"]])
    assert _given(thieving, space, keys.signing.public) == {Role.TEACHER}
    assert any("grants call it head as well" in each for each in thieving.office.said.lines)


@attack(ADDED, off={"protocol.replica.office.grants._as_before": as_it_was_called_then})
async def test_a_copied_pc_that_a_stolen_key_called_an_administrators_is_a_pc_when_somebody_confirms_it(
    thieving: Thieving,
) -> None:
    keys, space, copy = thieving.year.machine.agent.keys, thieving.here.space, spy()
    await thieving.is_stolen()
    said = await thieving.brings(Kind.GRANT, _as(Role.ADMIN, keys))
    await thieving.new_keys()
    pair = copy.signing, copy.agreement.public, copy.tls.fingerprint
    agreed = Successor.agreed(*pair, space, keys.signing.public).encode()
    await thieving.brings(Kind.SUCCESSOR, agreed, key=keys.signing, under=said.id)
    await thieving.year.do("confirm", device=copy.signing.public.hex(), restore=True)
    assert _given(thieving, space, copy.signing.public) == {Role.MACHINE}


@attack(ADDED, off={"protocol.replica.office.grants._repeated": _the_last_of_all})
async def test_a_laptop_that_a_stolen_key_let_in_for_good_comes_in_until_the_last_day_of_its_stay(
    thieving: Thieving,
) -> None:
    office, here = thieving.office, thieving.here
    person, laptop = await office.add_person("M. Remplaçant", "teacher"), spy()
    code = (
        await thieving.year.do(
            "invite", role="teacher", space=[here.space.hex()], person=person, ttl="24h", uses=1, **{"for": "15d"}
        )
    )["code"]
    await office.enrol(code, laptop)
    (first,) = office.server.replica.door.authorities_of(laptop.signing.public)
    await thieving.is_stolen()
    await thieving.brings(Kind.GRANT, thieving.let_in(laptop, person=person))
    await thieving.new_keys()
    space = await thieving.next_class(person)
    (given,) = [
        each for each in office.server.replica.door.authorities_of(laptop.signing.public) if each.space == space
    ]
    assert given.until_ms == first.until_ms is not None


async def test_that_a_device_is_let_in_for_good_whose_stay_had_ended_is_told(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        _, laptop = await _substitute(here, here.room.territory.clock() + DAY_MS)
        head, _ = await confirmed_head(here)
        await here.sync(laptop, head, laptop, head)
        desk, device = Desk(head.agent), laptop.agent.device.hex()
        first, second = [(await desk.ask("space add", name=name, year="2026-2027"))["space"] for name in ("CE1", "CE2")]
        await desk.ask("grant", device=device, space=[first])
        assert "for good" not in "".join(desk.told)
        here.room.territory.clock.advance(2 * DAY_MS)
        await here.sync(head)
        await desk.ask("grant", device=device, space=[second])
        assert _granted(head.agent, second, laptop.agent.device).until_ms is None
        assert "now it is let in for good" in "".join(desk.told)


def _whoever_granted_it(_office: Office, known: Sequence[Authority]) -> Sequence[Authority]:
    """As if what a machine was before it took new keys went by what those are called."""
    return [grant for grant in known if grant.predecessor is None] or known


@pytest.mark.parametrize("confirmed", [False, True])
@attack(ADDED, off={"protocol.replica.office.grants._by_what_it_was": _whoever_granted_it})
async def test_a_pc_that_took_new_keys_which_a_stolen_key_called_a_teachers_is_a_pc_in_the_next_class(
    thieving: Thieving, confirmed: bool
) -> None:
    keys, at, copy = thieving.year.machine.agent.keys, thieving.here.space, spy()
    (first,) = thieving.office.server.replica.door.authorities_of(keys.signing.public)
    pair = copy.signing, copy.agreement.public, copy.tls.fingerprint
    agreed = Successor.agreed(*pair, at, keys.signing.public).encode()
    await thieving.brings(Kind.SUCCESSOR, agreed, key=keys.signing, under=first.grant)
    await thieving.is_stolen()
    await thieving.brings(Kind.GRANT, _as(Role.TEACHER, copy, thieving.year.person))
    await thieving.new_keys()
    device = copy.signing.public
    if confirmed:
        await thieving.year.do("confirm", device=device.hex(), restore=False)
    made = await thieving.year.do("space add", name="CM2", school="0180001D", year="2027-2028")
    await thieving.year.do("grant", device=device.hex(), person=None, space=[made["space"]])
    assert _given(thieving, bytes.fromhex(made["space"]), device) == {Role.MACHINE}


async def _with_a_say_alone(office: Office, device: bytes, spaces: Sequence[bytes]) -> list[Authority]:
    """As if at a server who may grant in the class had the first word of a device, so whoever has its key."""
    known = await standing_grants(office, device)
    return [grant for grant in known if _has_a_say(office, grant, spaces)] or known


@attack(ADDED, off={"protocol.replica.office.grants._with_a_say": _with_a_say_alone})
async def test_a_laptop_that_a_head_let_in_comes_into_another_school_as_whose_it_is_whatever_a_stolen_key_says(
    thieving: Thieving,
) -> None:
    office, laptop, head = thieving.office, spy(), await thieving.here.head_of_the_school()
    person = await office.add_person("M. Durand", "teacher")
    right = next(each.grant for each in office.server.replica.door.authorities_of(head.agent.device))
    let_in = thieving.let_in(laptop, person=person)
    await thieving.brings(Kind.GRANT, let_in, key=head.agent.keys.signing, under=right)
    await thieving.is_stolen()
    await thieving.brings(Kind.GRANT, thieving.let_in(laptop))
    await thieving.new_keys()
    made = await thieving.year.do("space add", name="CM2", school="0180002E", year="2027-2028")
    device = laptop.signing.public
    await thieving.year.do("grant", device=device.hex(), person=None, space=[made["space"]])
    (given,) = [each for each in office.server.replica.door.authorities_of(device) if each.space.hex() == made["space"]]
    assert given.person == bytes.fromhex(person)
