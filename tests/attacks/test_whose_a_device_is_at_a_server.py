"""A server's own `grant --person` takes along what its key called somebody's, in other hands (docs/attacks.md)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Code, LocalFailure, Refused
from protocol.identity import DeviceKeys, SigningKey
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, Invite, Revocation
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.operation import JSON, NO_FILES
from protocol.replica.office import grants, known_here
from protocol.replica.office.acquaintance import Acquaintance
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.bureau import Office
from protocol.replica.office.device_cuts import orders_by_key
from protocol.replica.office.held_in_space import grants_not_held_back
from protocol.replica.office.known_here import teachers_devices
from protocol.rights.door import Authority
from protocol.rights.vouching import Device as Pair
from protocol.rights.vouching import device_id, device_words
from protocol.roles import Role
from protocol.trust.invitation import Invitation
from sync_agent.keys.confirming import confirm, own_device
from sync_server.handlers.by_kit.newcomers import CameIn
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Received
from tests.harness.kept_town import town_at_work
from tests.harness.spied_class import own_keys
from tests.harness.territory import new_device
from tests.harness.year_at_work import Year

ROW = "a thief's device comes along into the next class"


async def _everybody(*_: object) -> Callable[[Pair], Acquaintance]:
    """As it was while the server asked nobody."""
    return lambda _: Acquaintance.KNOWN


async def _all_codes_alike(*_: object) -> bool:
    return True


def _any_school(_: object, right: object) -> bool:
    return right is not None


async def _nobody_given_on(*_: object) -> list[Pair]:
    return []


class Thieving:
    """A class at work, and somebody with a copy of the server's key, and a device of their own."""

    def __init__(self, year: Year) -> None:
        self.year, self.here, self.office, self.clock = year, year.here, year.here.office, year.here.office.clock
        self.said = 0
        self.key: SigningKey = self.office.server.keys.signing
        self.right = self.office.server.grant
        self.stolen_ms = 0

    async def is_stolen(self) -> None:
        await note_arrivals(self.office.server.store, self.clock())
        self.stolen_ms = self.clock()
        self.clock.advance(3_600_000)

    async def brings(
        self,
        kind: Kind,
        payload: bytes,
        *,
        space: bytes | None = None,
        key: SigningKey | None = None,
        under: bytes = b"",
        parents: Iterable[bytes] = (),
        target: bytes | None = None,
        subject: bytes | None = None,
    ) -> Entry:
        """An entry with the stolen key, or another, by way of some PC."""
        self.said += 1
        entry = compose(
            author=key or self.key,
            space=space or self.here.space,
            kind=kind,
            grant=under or self.right,
            at=(self.clock() << 16) + self.said,
            payload=payload,
            salt=bytes(16),
            parents=tuple(parents),
            target=target,
            subject=subject,
        )
        admission = await self.office.server.replica.admit([entry], source=b"a PC", now_ms=self.clock())
        assert admission.admitted
        await note_arrivals(self.office.server.store, self.clock())
        return entry

    def let_in(self, spy: DeviceKeys, role: Role = Role.TEACHER, person: str | None = None) -> bytes:
        whose = bytes.fromhex(person or self.year.person) if role is Role.TEACHER else None
        return Grant(spy.signing.public, spy.agreement.public, spy.tls.fingerprint, role, whose, None).encode()

    async def new_keys(self, *, since: bool = False) -> None:
        ago_s = (self.clock() - self.stolen_ms) // 1000 - 60
        await self.year.with_kit("rotate server", **({"since": f"{ago_s}s"} if since else {}))
        for device in self.here.devices:
            with suppress(Refused):  # whom this keeps out
                await self.here.sync(device)
        self.clock.advance(DAY_MS)

    async def next_class(self, *persons: str) -> bytes:
        """A class of the next year, into which these teachers are let."""
        made = await self.year.do("space add", name="CM2", school="0180001D", year="2027-2028")
        del self.office.said.lines[:]
        for person in persons or (self.year.person,):
            await self.year.do("grant", person=person, space=[made["space"]])
        await note_arrivals(self.office.server.store, self.clock())
        return bytes.fromhex(made["space"])

    async def reads(self, device: Device | DeviceKeys, space: bytes) -> bool:
        key = device.agent.device if isinstance(device, Device) else device.signing.public
        return space in await self.office.server.replica.readable(key)


@pytest.fixture
async def thieving(tmp_path: Path) -> AsyncIterator[Thieving]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        yield Thieving(Year(here, *at_work, tmp_path))


def spy() -> DeviceKeys:
    return new_device(os.urandom)


@attack(ROW, off={"protocol.replica.office.grants.acquaintances_of": _everybody})
async def test_a_device_that_a_stolen_key_called_a_teachers_does_not_come_along_and_is_told(thieving: Thieving) -> None:
    his = spy()
    await thieving.is_stolen()
    await thieving.brings(Kind.GRANT, thieving.let_in(his))
    await thieving.new_keys()
    space = await thieving.next_class()
    assert [await thieving.reads(each, space) for each in (thieving.year.teacher, his)] == [True, False]
    (line,) = thieving.office.said.lines
    assert device_words(own_keys(his)) in line


@attack(ROW, off={"protocol.replica.office.known_here.KnownHere.is_made_by_somebody_known": _all_codes_alike})
async def test_nor_one_that_came_in_at_the_server_by_a_code_that_the_stolen_key_made(thieving: Thieving) -> None:
    his, server = spy(), thieving.office.server
    await thieving.is_stolen()
    code = Invitation.create(server.replica.territory, os.urandom(10))
    lasts_ms = thieving.clock() + DAY_MS
    made = Invite(
        code.secret_hash, Role.TEACHER, (thieving.here.space,), bytes.fromhex(thieving.year.person), 1, lasts_ms
    )
    await thieving.brings(Kind.INVITE, made.encode())
    await thieving.office.enrol(code.code(), his)
    await thieving.new_keys()
    assert not await thieving.reads(his, await thieving.next_class())


@attack(ROW, off={"protocol.replica.office.known_here.KnownHere._is_school": _any_school})
async def test_nor_one_that_was_let_in_by_a_head_teacher_whom_the_stolen_key_made_up(thieving: Thieving) -> None:
    his, head = spy(), spy()
    await thieving.is_stolen()
    right = await thieving.brings(Kind.GRANT, thieving.let_in(head, Role.HEAD), space=thieving.here.school)
    await thieving.brings(Kind.GRANT, thieving.let_in(his), key=head.signing, under=right.id)
    await thieving.new_keys()
    assert not await thieving.reads(his, await thieving.next_class())


async def _but_whom_anybody_cut_off(office: Office, person: bytes) -> tuple[list[Authority], list[Authority]]:
    """As it was: whom any word cut off, or held back, had never been anybody's."""
    said = await office.replica.store.scan_kinds([Kind.REVOKE])
    counting = await grants_not_held_back(office.replica, teachers_devices(office, person))
    counting = [each for each in counting if each.key not in orders_by_key(said)]
    return counting, counting


async def _all_cuts(office: Office) -> list[Entry]:
    return await office.replica.store.scan_kinds([Kind.REVOKE])


async def _cut_off(thieving: Thieving, device: bytes, space: bytes, *, with_its_words: bool) -> None:
    """By the stolen key, with what the device has said, or so that this stays."""
    stay = () if with_its_words else tuple(await thieving.office.server.replica.tips(space, device))
    await thieving.brings(Kind.REVOKE, Revocation(device, stay).encode(), space=space)


WHOMEVER_IT_CUTS_OFF = {"protocol.replica.office.acquaintance._called_at_the_server": _but_whom_anybody_cut_off}


@attack(ROW, off=WHOMEVER_IT_CUTS_OFF)
async def test_nor_does_it_take_the_place_of_hers_while_the_stolen_key_has_hers_cut_off(thieving: Thieving) -> None:
    his, hers = spy(), thieving.year.teacher.agent.device
    await thieving.is_stolen()
    await thieving.brings(Kind.GRANT, thieving.let_in(his))
    await _cut_off(thieving, hers, thieving.here.space, with_its_words=False)
    assert not await thieving.reads(his, await thieving.next_class())
    told = "\n".join(thieving.office.said.lines)
    assert device_words(own_keys(his)) in told
    assert f"the device {hers.hex()} stays out" in told


@attack(ROW, off=WHOMEVER_IT_CUTS_OFF)
async def test_nor_while_the_stolen_key_has_the_head_cut_off_who_let_hers_in(thieving: Thieving) -> None:
    his, hers, head = spy(), spy(), await thieving.here.head_of_the_school()
    person = await thieving.office.add_person("M. Durand", "teacher")
    right = next(each.grant for each in thieving.office.server.replica.door.authorities_of(head.agent.device))
    given = thieving.let_in(hers, person=person)
    await thieving.brings(Kind.GRANT, given, key=head.agent.keys.signing, under=right)
    await thieving.is_stolen()
    await thieving.brings(Kind.GRANT, thieving.let_in(his, person=person))
    await _cut_off(thieving, head.agent.device, thieving.here.school, with_its_words=True)
    assert not await thieving.reads(hers, thieving.here.space)
    assert not await thieving.reads(his, await thieving.next_class(person))


@attack(ROW, off={"protocol.replica.office.acquaintance.cuts_said_here": _all_cuts})
async def test_nor_where_nobody_is_known_while_the_stolen_key_has_cut_off_who_came_first(thieving: Thieving) -> None:
    his, store = spy(), thieving.office.server.store
    await store.set_marks(dict.fromkeys(await store.marks(known_here.WHOSE_MARKS)))
    await thieving.is_stolen()
    await thieving.brings(Kind.GRANT, thieving.let_in(his))
    await _cut_off(thieving, thieving.year.teacher.agent.device, thieving.here.space, with_its_words=False)
    assert not await thieving.reads(his, await thieving.next_class())


async def test_where_nobody_is_known_whom_this_server_has_cut_off_itself_makes_room_for_the_next(
    thieving: Thieving,
) -> None:
    store, second = thieving.office.server.store, await thieving.here.device("teacher", thieving.year.person)
    await store.set_marks(dict.fromkeys(await store.marks(known_here.WHOSE_MARKS)))
    await thieving.year.do("lost", device=thieving.year.teacher.agent.device.hex())
    assert await thieving.reads(second, await thieving.next_class())
    assert "comes along" in "\n".join(thieving.office.said.lines)


async def test_whose_laptop_was_reported_begins_with_another_that_came_in_by_a_code(thieving: Thieving) -> None:
    await thieving.year.do("lost", device=thieving.year.teacher.agent.device.hex())
    second = await thieving.here.device("teacher", thieving.year.person)
    assert await thieving.reads(second, await thieving.next_class())
    (line,) = thieving.office.said.lines
    assert f"the device {thieving.year.teacher.agent.device.hex()} stays out" in line


@attack(ROW, off={"sync_server.operations.newcomers.cut_off_where_given_on": _nobody_given_on})
async def test_what_the_server_gave_on_to_it_ends_when_the_words_of_the_stolen_key_do(thieving: Thieving) -> None:
    his, person = spy(), await thieving.office.add_person("M. Durand", "teacher")  # who has no computer yet
    await thieving.is_stolen()
    await thieving.brings(Kind.GRANT, thieving.let_in(his, person=person))
    await thieving.new_keys()
    space = await thieving.next_class(person)
    (line,) = thieving.office.said.lines
    assert "comes along, and nobody here knows it yet" in line
    assert "if it does not: `sync-server revoke " in line
    assert await thieving.reads(his, space)
    await thieving.new_keys(since=True)
    assert not await thieving.reads(his, space)
    assert any(device_words(own_keys(his)) in each for each in thieving.office.said.lines)


@attack(ROW, off={"sync_server.operations.newcomers.given_on_elsewhere": _nobody_given_on})
async def test_what_a_head_teacher_gave_on_to_it_is_named_when_the_words_of_the_stolen_key_end(
    thieving: Thieving,
) -> None:
    his, head = spy(), await thieving.here.head_of_the_school()
    right = next(each.grant for each in thieving.office.server.replica.door.authorities_of(head.agent.device))
    await thieving.is_stolen()
    await thieving.brings(Kind.GRANT, thieving.let_in(his))
    thieving.clock.advance(DAY_MS)
    await thieving.brings(Kind.GRANT, thieving.let_in(his), key=head.agent.keys.signing, under=right)
    await thieving.new_keys(since=True)
    assert await thieving.reads(his, thieving.here.space)
    words = device_words(own_keys(his))
    assert any(words in line and "not cut off" in line for line in thieving.office.said.lines)


async def _comes_in_until_it_is_said_since_when(thieving: Thieving, his: DeviceKeys, person: str) -> None:
    """Into the next class, once keys were replaced; the words of the stolen one end when they are, with a time."""
    await thieving.new_keys()
    space = await thieving.next_class(person)
    assert await thieving.reads(his, space)
    await thieving.new_keys(since=True)
    assert not await thieving.reads(his, space)


async def _by_these_keys_alone(replica: Replica, keys: Collection[bytes]) -> set[bytes]:
    """As it was while one step was looked at."""
    return {each.grant for each in replica.door.authorities() if each.author in keys}


@attack(ROW, off={"sync_server.handlers.by_kit.newcomers.fallen": _by_these_keys_alone})
async def test_nor_does_it_matter_through_how_many_hands_the_stolen_key_called_it_a_teachers(
    thieving: Thieving,
) -> None:
    his, head, above = spy(), spy(), spy()
    person = await thieving.office.add_person("M. Durand", "teacher")
    await thieving.is_stolen()
    territory = thieving.office.server.replica.territory
    right = await thieving.brings(Kind.GRANT, thieving.let_in(above, Role.ADMIN), space=territory)
    right = await thieving.brings(
        Kind.GRANT, thieving.let_in(head, Role.HEAD), space=thieving.here.school, key=above.signing, under=right.id
    )
    await thieving.brings(Kind.GRANT, thieving.let_in(his, person=person), key=head.signing, under=right.id)
    await _comes_in_until_it_is_said_since_when(thieving, his, person)
    assert any(device_words(own_keys(his)) in each for each in thieving.office.said.lines)


async def _all_that_name_one(_: object, given: Iterable[Authority], *_rest: object) -> list[Authority]:
    return [each for each in given if each.invite is not None]


async def _whatever_is_named(_: object, given: Collection[Authority], __: object) -> bool:
    return bool(given)


@attack(
    ROW,
    off={
        "sync_server.handlers.by_kit.newcomers._any_by_a_code": _whatever_is_named,
        "sync_server.handlers.by_kit.newcomers._shown": _all_that_name_one,
    },
)
async def test_a_grant_that_names_something_of_anothers_as_its_code_shows_none(thieving: Thieving) -> None:
    his, person = spy(), await thieving.office.add_person("M. Durand", "teacher")
    work = bytes.fromhex(await thieving.year.work())
    await thieving.is_stolen()
    let_in = Grant(*_of(his), Role.TEACHER, bytes.fromhex(person), work)
    await thieving.brings(Kind.GRANT, let_in.encode())
    await _comes_in_until_it_is_said_since_when(thieving, his, person)


@attack(ROW, off={"protocol.replica.office.known_here.KnownHere._is_school": _any_school})
async def test_nor_does_one_that_names_a_code_of_another_schools_head_whom_a_copied_key_made_up_before(
    thieving: Thieving,
) -> None:
    his, head, server = spy(), spy(), thieving.office.server
    person = await thieving.office.add_person("M. Durand", "teacher")  # who has no computer yet
    made = await thieving.year.do("space add", name="CE1", school="0180002E", year="none")
    other = bytes.fromhex(made["space"])
    school = server.replica.door.parent(other)
    right = await thieving.brings(Kind.GRANT, thieving.let_in(head, Role.HEAD), space=school)
    await thieving.is_stolen()  # as they believe
    await thieving.brings(Kind.GRANT, thieving.let_in(his, person=person))
    secret = Invitation.create(server.replica.territory, os.urandom(10)).secret_hash
    code = Invite(secret, Role.TEACHER, (other,), bytes.fromhex(person), 1, thieving.clock() + DAY_MS).encode()
    his_code = await thieving.brings(Kind.INVITE, code, space=school, key=head.signing, under=right.id)
    let_in = Grant(*_of(his), Role.TEACHER, bytes.fromhex(person), his_code.id).encode()
    await thieving.brings(Kind.GRANT, let_in, space=other, key=head.signing, under=right.id)
    await _comes_in_until_it_is_said_since_when(thieving, his, person)
    assert any(device_words(own_keys(his)) in each for each in thieving.office.said.lines)


async def code_of_somebody_let_in(thieving: Thieving, role: Role, space: bytes) -> str:
    """The stolen key lets an administrator in, who makes a code."""
    above, server = spy(), thieving.office.server
    territory = server.replica.territory
    right = await thieving.brings(Kind.GRANT, thieving.let_in(above, Role.ADMIN), space=territory)
    code = Invitation.create(territory, os.urandom(10))
    person = bytes.fromhex(thieving.year.person) if role is Role.TEACHER else None
    made = Invite(code.secret_hash, role, (space,), person, 100, 2**52)
    await thieving.brings(Kind.INVITE, made.encode(), space=territory, key=above.signing, under=right.id)
    return code.code()


async def _old_ones_alone(*_: object) -> set[bytes]:
    return set()


@attack(ROW, off={"sync_server.handlers.by_kit.newcomers.fallen": _old_ones_alone})
async def test_who_came_in_by_a_code_of_somebody_whom_the_stolen_key_let_in_goes_with_it(thieving: Thieving) -> None:
    his, head, later = spy(), spy(), spy()
    await thieving.is_stolen()
    by_code = await code_of_somebody_let_in(thieving, Role.TEACHER, thieving.here.space)
    as_head = await code_of_somebody_let_in(thieving, Role.HEAD, thieving.here.school)
    with pytest.MonkeyPatch.context() as before:  # as an earlier version did
        before.setattr("protocol.replica.office.enrolment.Enrolment._check_known", _any_maker)
        await thieving.new_keys()
        await thieving.office.enrol(by_code, his)
        await thieving.office.enrol(as_head, head)
    (right,) = thieving.office.server.replica.door.authorities_of(head.signing.public)
    await thieving.brings(Kind.GRANT, thieving.let_in(later), key=head.signing, under=right.grant)
    assert [await thieving.reads(each, thieving.here.space) for each in (his, head, later)] == [True] * 3
    await thieving.new_keys(since=True)
    assert [await thieving.reads(each, thieving.here.space) for each in (his, head, later)] == [False] * 3
    told = "\n".join(thieving.office.said.lines)
    assert all(device_words(own_keys(each)) in told for each in (his, head))


async def _any_maker(*_: object) -> None:
    pass


@attack(ROW, off={"protocol.replica.office.enrolment.Enrolment._check_known": _any_maker})
async def test_a_code_of_somebody_whom_a_replaced_key_let_in_opens_nothing_at_the_server(thieving: Thieving) -> None:
    await thieving.is_stolen()
    as_head = await code_of_somebody_let_in(thieving, Role.HEAD, thieving.here.school)
    await thieving.new_keys()
    refused = await _refused(thieving, as_head)
    assert refused is not None
    assert refused.code is Code.CODE_WRONG


async def test_until_somebody_lets_that_device_in_by_its_name(thieving: Thieving) -> None:
    await thieving.is_stolen()
    by_code = await code_of_somebody_let_in(thieving, Role.TEACHER, thieving.here.space)
    await thieving.new_keys()
    maker = next(each for each in thieving.office.server.replica.door.authorities() if each.role is Role.ADMIN)
    words = device_words((maker.key, maker.agreement))
    (line,) = [line for line in thieving.office.said.lines if words in line]
    assert f"grant --device {maker.key.hex()}" in line
    assert await _refused(thieving, by_code) is not None
    territory = thieving.office.server.replica.territory
    await thieving.year.do("grant", device=maker.key.hex(), space=[territory.hex()])
    assert await _refused(thieving, by_code) is None


async def _nobody(*_: object) -> CameIn:
    return CameIn()


@attack(ROW, off={"sync_server.operations.newcomers.came_in_elsewhere": _nobody})
async def test_who_came_in_by_such_a_code_before_is_named_when_the_keys_are_replaced(thieving: Thieving) -> None:
    his = spy()
    await thieving.is_stolen()
    await thieving.office.enrol(await code_of_somebody_let_in(thieving, Role.TEACHER, thieving.here.space), his)
    await thieving.new_keys()
    words = device_words(own_keys(his))
    assert any(words in line and "stays" in line for line in thieving.office.said.lines)


async def test_codes_of_a_head_whom_the_server_knows_open_after_any_new_keys_and_nothing_is_told(
    thieving: Thieving,
) -> None:
    head = await thieving.here.head_of_the_school()
    right = next(each.grant for each in thieving.office.server.replica.door.authorities_of(head.agent.device))
    del thieving.office.said.lines[:]
    for number in range(2):
        code = Invitation.create(thieving.office.server.replica.territory, os.urandom(10))
        person = bytes.fromhex(thieving.year.person)
        made = Invite(code.secret_hash, Role.TEACHER, (thieving.here.space,), person, 2, 2**52)
        await thieving.brings(
            Kind.INVITE, made.encode(), space=thieving.here.school, key=head.agent.keys.signing, under=right
        )
        assert await _refused(thieving, code.code()) is None, number
        await thieving.new_keys()
        assert await _refused(thieving, code.code()) is None, number
    assert not any("the device" in line for line in thieving.office.said.lines)


async def _refused(thieving: Thieving, code: str) -> Refused | None:
    try:
        await thieving.office.enrol(code, spy())
    except Refused as refused:
        return refused
    return None


async def test_who_was_let_in_by_name_after_the_theft_stays_when_the_words_of_the_stolen_key_end(
    thieving: Thieving,
) -> None:
    person = await thieving.office.add_person("M. Durand", "teacher")
    await thieving.is_stolen()
    laptop = await thieving.here.device("teacher", person)
    await note_arrivals(thieving.office.server.store, thieving.clock())
    await thieving.new_keys(since=True)
    assert not await thieving.reads(laptop, thieving.here.space)
    space = thieving.here.space.hex()
    await thieving.year.do("grant", device=laptop.agent.device.hex(), space=[space])
    await thieving.new_keys(since=True)
    assert await thieving.reads(laptop, thieving.here.space)


async def test_in_an_ordinary_year_teachers_computers_come_along_after_any_new_keys_and_nothing_is_told(
    thieving: Thieving,
) -> None:
    head = await thieving.here.head_of_the_school()
    persons = [thieving.year.person, *[await thieving.office.add_person(f"M. {n}", "teacher") for n in range(3)]]
    laptops = [thieving.year.teacher, *[await thieving.here.device("teacher", person) for person in persons]]
    given = Grant(*_of(by_head := spy()), Role.TEACHER, bytes.fromhex(persons[0]), None)  # on « Mon école »
    right = next(each.grant for each in thieving.office.server.replica.door.authorities_of(head.agent.device))
    await thieving.brings(Kind.GRANT, given.encode(), key=head.agent.keys.signing, under=right)
    for _ in range(2):
        await thieving.new_keys()
    space = await thieving.next_class(*persons)
    everybody: list[Device | DeviceKeys] = [*laptops, by_head]
    assert all([await thieving.reads(each, space) for each in everybody])
    assert thieving.office.said.lines == []


async def test_of_what_came_before_anything_was_noted_who_came_first_comes_along_and_whom_that_one_confirmed(
    thieving: Thieving,
) -> None:
    second = await thieving.here.device("teacher", thieving.year.person)
    await _as_before_the_upgrade(thieving)
    await thieving.new_keys()
    space = await thieving.next_class()
    assert [await thieving.reads(each, space) for each in (thieving.year.teacher, second)] == [True, False]
    assert device_words(own_device(second.agent)) in thieving.office.said.lines[0]
    await thieving.here.sync()
    await confirm(thieving.year.teacher.agent, device_id(own_device(second.agent)), shown_as="own")
    await thieving.here.sync()
    space = await thieving.next_class()
    assert [await thieving.reads(each, space) for each in (thieving.year.teacher, second)] == [True, True]
    assert thieving.office.said.lines == []


async def test_where_nobody_is_known_who_came_first_comes_along_and_is_told_once(thieving: Thieving) -> None:
    store = thieving.office.server.store
    notes = await store.marks(known_here.WHOSE_MARKS)
    await store.set_marks(dict.fromkeys(notes))
    first = await thieving.next_class()
    assert await thieving.reads(thieving.year.teacher, first)
    (line,) = thieving.office.said.lines
    assert "comes along" in line
    assert device_words(own_device(thieving.year.teacher.agent)) in line
    second = await thieving.next_class()
    assert await thieving.reads(thieving.year.teacher, second)
    assert thieving.office.said.lines == []


_grant_person = grants.grant_person


async def _noted_before(office: Office, person: bytes, spaces: Sequence[bytes]) -> list[grants.Looked]:
    """As it was while whoever came along was noted as told with what let them in."""
    looked = await _grant_person(office, person, spaces)
    for each in looked:
        await known_here.note_told(office, person, each.device)
    return looked


class Closed(Received):
    """A terminal that is gone before who comes along is told."""

    async def progress(self, text: str) -> None:
        if "comes along" in text:
            raise LocalFailure(Code.STORAGE_FAILED, text)


@attack(ROW, off={"protocol.replica.office.grants.grant_person": _noted_before})
async def test_who_comes_along_is_told_by_the_next_try_where_the_first_failed_before_anybody_read_it(
    thieving: Thieving,
) -> None:
    his, do = spy(), thieving.year.do
    none = (await do("person add", name="M. Sicard", role="teacher", space=[thieving.here.space.hex()]))["person"]
    await thieving.brings(Kind.GRANT, thieving.let_in(his, Role.TEACHER, none))
    made = await do("space add", name="CM2", school="0180001D", year="2027-2028")
    asked: dict[str, JSON] = {"person": none, "space": [made["space"]], "device": None}
    with pytest.raises(LocalFailure):
        await thieving.office.table["grant"](asked, NO_FILES, Closed())
    again, third = Received(), Received()
    await thieving.office.table["grant"](asked, NO_FILES, again)
    assert await thieving.reads(his, bytes.fromhex(made["space"]))
    assert any(device_words(own_keys(his)) in line for line in again.lines)
    await thieving.office.table["grant"](asked, NO_FILES, third)
    assert not any("comes along" in line for line in third.lines)


async def _as_before_the_upgrade(thieving: Thieving) -> None:
    store = thieving.office.server.store
    notes = {**await store.marks(known_here.WHOSE_MARKS), **await store.marks(known_here.CODE_MARKS)}
    await store.set_marks(dict.fromkeys([*notes, known_here.WHOSE_SINCE_MARK]))
    await known_here.begin_noting(store, thieving.office.server.replica.door.root_now)


def _of(keys: DeviceKeys) -> tuple[bytes, bytes, bytes]:
    return keys.signing.public, keys.agreement.public, keys.tls.fingerprint
