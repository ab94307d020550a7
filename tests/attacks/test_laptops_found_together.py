"""A reported laptop is let in again, and her other one had come back too: it is asked (docs/adr/0265)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random

import pytest

from protocol.folds.hand_in_keys import content_key_of
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, PersonRecord, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.rights.door import Door
from protocol.rights.innermost import Walk
from protocol.rights.letting_back import LetInAgain
from protocol.rights.letting_back import let_in_again as those_let_in_again
from protocol.rights.turns import Lacking, Return, Turns
from protocol.rights.vouching import Device as VouchedDevice
from protocol.rights.vouching import Vouch, device_id
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.keys.key_wraps import reading_keys
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import (
    another_laptop,
    confirm_each_other,
    cut_off,
    keys_that_open,
    let_in_again,
    lost_and_found,
    report_on_a_heads,
)
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class
from tests.harness.territory import new_device

ROW = "a server's operator names a device of their own as a teacher's"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def _two_laptops(here: Here) -> tuple[Device, Device, Device]:
    """A head teacher's computer, and two of the teacher's that have confirmed each other."""
    head, _ = await confirmed_head(here)
    stolen, other = here.teacher, await another_laptop(here, here.teacher)
    await here.sync(stolen, other, head, here.machine)
    return head, stolen, other


async def _found_together(here: Here, head: Device, stolen: Device, other: Device) -> None:
    """Before the theft: they were lost together and found, and she has confirmed each on the other one since."""
    await lost_and_found(here, head, stolen, other)
    await lost_and_found(here, head, other, stolen)
    await _confirmed_again(here, head, other)


async def _confirmed_again(here: Here, head: Device, other: Device) -> None:
    await confirm_each_other(here, here.teacher, other)
    await here.sync(here.teacher, other, head, here.machine)


async def _is_reported(here: Here, head: Device, stolen: Device, other: Device) -> None:
    await report_on_a_heads(here, head, stolen)
    await here.sync(other, here.machine)


async def _has_it_replaced(here: Here, laptop: Device) -> bytes:
    """The server grants a laptop once more, as programs do, and ends what it had."""
    territory, space = here.room.territory, here.room.space
    had = (await territory.replica.view(space)).roster.authority_of(laptop.agent.device)
    assert had is not None
    grant = await let_in_again(here, laptop, Role.TEACHER, here.room.teacher_person)
    await cut_off(here, laptop, ends=had.grant)
    await here.sync(laptop, here.machine, laptop)
    return grant


async def _opens_what_comes(here: Here, stolen: Device, other: Device) -> tuple[bool, bool]:
    """Whether the stolen one opens what is handed in now, and whether hers, which nobody has cut off, does."""
    territory, space = here.room.territory, here.room.space
    assert other.agent.device not in (await territory.replica.view(space)).roster.cut
    await here.sync(*3 * (here.machine, other, stolen))
    work = await here.room.hand_in(here.machine, here.item, {"b.odt": b"neu"})
    await here.sync(*2 * (here.machine, other, stolen))
    handed_in = (await territory.replica.view(space)).coursework.hand_ins[work]
    by_stolen = content_key_of(handed_in, await keys_that_open(here, stolen.agent)) is not None
    return by_stolen, content_key_of(handed_in, reading_keys(other.agent)) is not None


class _Line:
    """Devices as honest laptops would be, each found and confirmed by the one before and the one after."""

    def __init__(self, here: Here, person: bytes) -> None:
        self.here, self.person = here, person
        self.granted: list[tuple[DeviceKeys, bytes]] = []

    async def grows(self) -> None:
        territory, space = self.here.room.territory, self.here.room.space
        keys = new_device(Random(len(self.granted)).randbytes)
        let = await territory.let_in(keys, Role.TEACHER, space, person=self.person)
        self.granted.append((keys, let[0].id))
        if len(self.granted) == 1:
            return
        await self._says(-2, -1)
        await self._says(-1, -2)
        found = self.granted[-2][0]
        tips = tuple(await territory.replica.tips(space, found.signing.public))
        cut = await territory.say(space, Kind.REVOKE, Revocation(found.signing.public, tips).encode())
        pair = found.signing.public, found.agreement.public
        given = Grant(*pair, found.tls.fingerprint, Role.TEACHER, self.person, None, None).encode()
        self.granted[-2] = found, (await territory.say(space, Kind.GRANT, given, parents=(cut.id,))).id
        await self._says(-1, -2)
        if len(self.granted) > 2:
            await self._says(-3, -2)

    async def _says(self, one: int, other: int) -> None:
        territory, (keys, grant) = self.here.room.territory, self.granted[one]
        target = self.granted[other][1]
        said = Draft(self.here.room.space, Kind.VOUCH, grant, Vouch().encode(), subject=self.person, target=target)
        await territory.replica.write(
            [said], author=keys.signing, now_ms=territory.clock(), entropy=territory.entropy, unsent=False
        )


def _each_kind_by_itself(turns: Turns, waiting: Sequence[Return], lacking: Sequence[Lacking]) -> Sequence[Return]:
    for kind, left in turns._left.items():
        if left and (again := kind(waiting, lacking)):
            turns._left[kind] -= 1
            return again
    return ()


def _any_of_them(walks: Sequence[Walk]) -> frozenset[VouchedDevice]:
    return frozenset(device for walk in walks for device in walk.devices)


IN_NO_ORDER: dict[str, object] = {
    "protocol.rights.turns.Turns.next": _each_kind_by_itself,
    "protocol.rights.turns.innermost": _any_of_them,
}


@attack(ROW, off=IN_NO_ORDER)
async def test_a_line_of_invented_devices_lets_no_reported_laptop_in_before_hers(here: Here) -> None:
    head, stolen, other = await _two_laptops(here)
    await _found_together(here, head, stolen, other)
    await _is_reported(here, head, stolen, other)
    somebody = bytes(15) + b"q"
    listed = PersonRecord("M. Roux", PersonRole.TEACHER).encode()
    await here.room.territory.say(here.room.space, Kind.PERSON, listed, subject=somebody)
    line = _Line(here, somebody)
    for _ in range(10):
        await line.grows()
    await let_in_again(here, stolen, Role.TEACHER, here.room.teacher_person)
    by_stolen, by_hers = await _opens_what_comes(here, stolen, other)
    assert not by_stolen
    assert by_hers


def _without_what_is_held_back(
    entries: Iterable[Entry],
    held: Mapping[bytes, int],
    door: Door,
    revocations: Mapping[bytes, bytes],
    ends: Container[bytes],
) -> LetInAgain:
    return those_let_in_again((each for each in entries if held.get(each.id, 0) == 0), door, revocations, ends)


async def _by_a_head_who_is_held_back(here: Here, lost: Device) -> None:
    """A head's computer that the server invented lets it in again, and is cut off; a further grant names that one."""
    territory, keys, space, school = (
        here.room.territory,
        lost.agent.keys,
        here.room.space,
        here.room.territory.schools[0],
    )
    head = new_device(Random(7).randbytes)
    let = await territory.let_in(head, Role.HEAD, school)
    roster = (await territory.replica.view(space)).roster
    reports = [cut for cut, key in roster.revocations.items() if key == lost.agent.device and cut not in roster.ends]
    pair = keys.signing.public, keys.agreement.public
    given = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, here.room.teacher_person, None, None).encode()
    (between,) = await territory.replica.write(
        [Draft(space, Kind.GRANT, let[0].id, given, parents=tuple(reports))],
        author=head.signing,
        now_ms=territory.clock(),
        entropy=territory.entropy,
        unsent=False,
    )
    await territory.say(school, Kind.REVOKE, Revocation(head.signing.public, ()).encode())
    await territory.say(space, Kind.GRANT, given, parents=(between.id,))


@attack(ROW, off={"protocol.rights.roster._let_in_again": _without_what_is_held_back})
async def test_a_reported_laptop_let_in_through_a_grant_that_is_held_back_waits_for_hers(here: Here) -> None:
    head, stolen, other = await _two_laptops(here)
    for _ in range(3):  # her rights on it are renewed, and each time she says that it is hers
        await _has_it_replaced(here, stolen)
        await here.sync(other)
        await confirm(other.agent, device_id(own_device(stolen.agent)), shown_as="own")
        await here.sync(other, stolen, other, here.machine)
    await _is_reported(here, head, stolen, other)
    await _has_it_replaced(here, other)
    await _by_a_head_who_is_held_back(here, stolen)
    by_stolen, _ = await _opens_what_comes(here, stolen, other)
    assert not by_stolen


@attack(ROW, off={"protocol.rights.letting_back.Returns._that_may_go_on": lambda *_: frozenset()})
async def test_a_device_that_speaks_of_two_grants_of_hers_lets_no_reported_laptop_in_before_it(here: Here) -> None:
    head, stolen, other = await _two_laptops(here)
    (first,) = here.room.territory.replica.door.authorities_of(other.agent.device)
    await lost_and_found(here, head, other, stolen)
    await _confirmed_again(here, head, other)
    await _is_reported(here, head, stolen, other)
    last = [await _has_it_replaced(here, other) for _ in range(2)][-1]
    await here.name_the_spy(here.room.teacher_person)
    for grant in (first.grant, last):
        await here.say(Kind.VOUCH, Vouch().encode(), here.room.teacher_person, target=grant)
    await let_in_again(here, stolen, Role.TEACHER, here.room.teacher_person)
    by_stolen, _ = await _opens_what_comes(here, stolen, other)
    assert not by_stolen, "hers may be silent: she has the other device cut off"


def _all_of_them(returns: Sequence[Return], _: object) -> Sequence[Return]:
    return returns


@attack(ROW, off={"protocol.rights.turns._earliest": _all_of_them})
async def test_a_return_that_is_invented_beside_an_earlier_one_goes_after_that(here: Here) -> None:
    head, stolen, other = await _two_laptops(here)
    await _found_together(here, head, stolen, other)
    await _is_reported(here, head, stolen, other)
    await _has_it_replaced(here, other)
    grant = await let_in_again(here, stolen, Role.TEACHER, here.room.teacher_person)
    here.room.territory.clock.advance(1)
    await let_in_again(here, stolen, Role.TEACHER, here.room.teacher_person)
    await cut_off(here, stolen, ends=grant)
    by_stolen, by_hers = await _opens_what_comes(here, stolen, other)
    assert not by_stolen
    assert by_hers


@attack(ROW, off={"protocol.rights.turns.innermost": _any_of_them})
async def test_a_third_laptop_that_is_reported_goes_after_two_that_wait_for_each_other_alone(here: Here) -> None:
    head, _ = await confirmed_head(here)
    stolen, first, second = here.teacher, await here.room.teacher(), await here.room.teacher()
    await here.sync(first, second, stolen, head)
    await confirm_each_other(here, first, second)
    await here.sync(first, second, head, here.machine)
    await lost_and_found(here, head, first, second)
    await lost_and_found(here, head, second, first)
    await confirm_each_other(here, first, second)
    for other in (first, second):
        await here.sync(first, second, stolen)
        await confirm_each_other(here, stolen, other)
    await here.sync(first, second, stolen, head, here.machine)
    await _is_reported(here, head, stolen, first)
    await let_in_again(here, stolen, Role.TEACHER, here.room.teacher_person)
    by_stolen, by_hers = await _opens_what_comes(here, stolen, first)
    assert not by_stolen
    assert by_hers
