"""Work that was opened, and whoever a stolen server names weeks later (docs/adr/0303, 0449).

Whoever has the server's key has her word count for nothing: that a PC has heard it is no less so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.folds.hand_in_keys import content_key_of
from protocol.limits import ACQUAINTANCE_MS
from protocol.model.entry import Kind, compose
from protocol.model.structure import Erasure, Grant, PersonKey, Revocation, Ruling
from protocol.model.work import Receipt
from protocol.replica.at_work.destroyed import destroyed_names
from protocol.rights.vouching import Device as VouchedDevice
from protocol.roles import PersonRole, Role
from sync_agent.hand_ins.wraps import Kept
from sync_agent.keys.key_wraps import reading_keys
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, assignment, classroom, work_of
from tests.harness.commands import Desk
from tests.harness.lan import exchange
from tests.harness.lost_laptop import another_laptop
from tests.harness.passing_days import pass_days
from tests.harness.spied_class import SpiedClass
from tests.harness.territory import new_device

ROW = "work that was opened is given to whoever is named later"
WEEK_DAYS = ACQUAINTANCE_MS // DAY_MS + 1


@dataclass
class Here:
    """A class whose PC met Mme Petit first, and in which M. X's device may be named."""

    room: Classroom
    petit: Device
    machine: Device
    item: bytes
    spied: SpiedClass

    async def sync(self, *devices: Device) -> None:
        for device in devices:
            await device.session.sync()

    async def pass_days(self, count: int) -> None:
        await pass_days(self.room.territory, count, self.machine)
        await self.sync(self.machine)

    async def comes(self, name: str) -> Device:
        """One more teacher, of whom the PC hears."""
        person = await self.room.territory.person(name, PersonRole.TEACHER, self.room.space)
        device = await self.room.device(Role.TEACHER, person=person)
        await self.sync(device, self.machine, device)
        return device

    async def hand_in(self, *devices: Device) -> bytes:
        """Work of a pupil's, which these devices have too."""
        work = await self.room.hand_in(self.machine, self.item, {"r.odt": b"the work of a pupil"})
        await self.sync(self.machine, *devices)
        return work

    async def opens(self, teacher: Device, work: bytes) -> None:
        """A teacher does, and says so; nobody has heard of it."""
        await Desk(teacher.agent).files("open-hand-in", id=work.hex())
        await Desk(teacher.agent).ask("confirm-opened", id=work.hex())

    async def x_is_named(self) -> bytes:
        person = await self.room.territory.person("M. X", PersonRole.TEACHER, self.room.space)
        await self.spied.name_the_spy(person)
        await self.sync(self.machine)
        return person

    async def x_claims(self, person: bytes, key: bytes) -> None:
        await self.spied.say(Kind.PERSON_KEY, PersonKey(key).encode(), person)

    async def x_says_opened(self, work: bytes) -> None:
        stream = (await work_of(self.machine, self.room, work)).record.content.stream
        await self.spied.say(Kind.RECEIPT_TEACHER, Receipt(stream).encode(), self.room.pupil_person, target=work)
        await self.sync(self.machine)

    async def leaves(self, device: Device) -> None:
        """In good order: nothing that it has said is held back."""
        await self.cut(device.agent.device)

    async def cut(self, key: bytes, *, heads: Iterable[bytes] | None = None) -> bytes:
        """Cut a key off as of these entries, or of all that it has said."""
        territory, space = self.room.territory, self.room.space
        known = await territory.replica.tips(space, key) if heads is None else heads
        return (await territory.say(space, Kind.REVOKE, Revocation(key, tuple(known)).encode())).id

    async def hold_back_since(self, device: Device, heads: Iterable[bytes]) -> None:
        """The server cuts a laptop off as of these entries, and lets it in again in the same breath."""
        territory = self.room.territory
        (was,) = territory.replica.door.authorities_of(device.agent.device)
        cut = await self.cut(device.agent.device, heads=heads)
        again = Grant(was.key, was.agreement, was.tls_sha256 or b"", was.role, was.person, None, None).encode()
        await territory.say(self.room.space, Kind.GRANT, again, parents=(cut,))

    async def is_given(self, teacher: Device, work: bytes) -> bool:
        await self.sync(teacher, self.machine, teacher)
        found = await work_of(teacher, self.room, work)
        return content_key_of(found, reading_keys(teacher.agent)) is not None


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with classroom(tmp_path) as room:
        petit, machine = await room.teacher(), await room.machine()
        await petit.session.sync()
        item = await assignment(room, petit, machine)
        await petit.session.sync()
        spied = SpiedClass(room, petit, machine, item, b"", new_device(Random(6).randbytes))
        yield Here(room, petit, machine, item, spied)


async def _nobody_said_so(*_: object) -> bool:
    return False


HEARS_OF_NOTHING: dict[str, object] = {"sync_agent.hand_ins.wraps.has_heard_opened": _nobody_said_so}


@attack(ROW, off=HEARS_OF_NOTHING)
async def test_what_her_colleague_opened_after_a_teacher_was_forgotten_is_given_to_nobody_who_comes(here: Here) -> None:
    durand = await here.comes("M. Durand")
    await here.leaves(here.petit)
    await here.room.territory.say(here.room.territory.id, Kind.ERASE, Erasure(here.room.teacher_person).encode())
    await here.sync(here.machine, durand)
    await here.pass_days(2 * WEEK_DAYS)
    said = await here.machine.agent.replica.store.of_kinds(here.room.space, [Kind.PERSON_KEY])
    assert [one for one in said if one.entry.payload is None], "her word is gone from the PC"
    work = await here.hand_in(durand)
    await here.opens(durand, work)
    await here.sync(durand, here.machine)
    await here.x_is_named()
    assert not await here.spied.opens(work)


@attack(ROW, off=HEARS_OF_NOTHING)
async def test_nor_where_somebody_who_was_there_for_an_hour_said_her_key_as_his(here: Here) -> None:
    person = await here.x_is_named()
    durand = await here.comes("M. Durand")
    his = durand.agent.reading_keys.newest_of(here.room.space)
    assert his is not None
    await here.x_claims(person, his.public)
    await here.sync(here.machine)
    await here.cut(here.spied.spy.signing.public)
    await here.leaves(here.petit)
    await here.sync(here.machine, durand)
    await here.pass_days(WEEK_DAYS)
    work = await here.hand_in(durand)
    await here.opens(durand, work)
    await here.sync(durand, here.machine)
    here.spied = replace(here.spied, spy=new_device(Random(7).randbytes))
    await here.x_is_named()
    assert not await here.spied.opens(work)


@attack(ROW, off=HEARS_OF_NOTHING)
async def test_what_a_server_held_back_before_her_laptop_brings_it_by_the_schools_network_is_opened(here: Here) -> None:
    work = await here.hand_in(here.petit)
    before = await here.room.territory.replica.tips(here.room.space, here.petit.agent.device)
    await here.opens(here.petit, work)
    await here.sync(here.petit)
    await here.hold_back_since(here.petit, before)
    await here.sync(here.petit)
    await exchange(here.machine.agent, here.petit.agent)
    assert not (await work_of(here.machine, here.room, work)).opened, "it is held back"
    await here.x_is_named()
    assert not await here.spied.opens(work)


def _whom_it_knows(known: Iterable[VouchedDevice], *_: object) -> set[VouchedDevice]:
    return set(known)


@attack(ROW, off={"protocol.folds.openers._ever_led_to": _whom_it_knows})
async def test_nor_is_what_her_second_laptop_opened_where_her_word_for_that_is_held_back_with_it(here: Here) -> None:
    space, tips = here.room.space, here.room.territory.replica.tips
    before = await tips(space, here.petit.agent.device)
    second = await another_laptop(here.spied, here.petit)
    for _ in range(2):
        await here.sync(second, here.petit)
    work = await here.hand_in(here.petit, second, here.petit, second)
    since = await tips(space, second.agent.device)
    await here.opens(second, work)
    await here.sync(second)
    await here.hold_back_since(here.petit, before)
    await here.hold_back_since(second, since)
    await here.sync(second)
    await exchange(here.machine.agent, second.agent)
    await here.x_is_named()
    assert not await here.spied.opens(work)


@attack(ROW, off={"protocol.folds.openers.said_by": lambda *_: {}})
async def test_what_a_new_teacher_opened_in_her_first_week_is_given_to_nobody_who_comes_after_her(here: Here) -> None:
    durand = await here.comes("M. Durand")
    work = await here.hand_in(durand)
    await here.opens(durand, work)
    await here.sync(durand, here.machine)
    await here.x_is_named()
    assert not await here.spied.opens(work)


def _forgetful(kept: Kept) -> bytes:
    return _ENCODE(replace(kept, heard_ms=None))


_ENCODE = Kept.encode


@attack(
    ROW,
    off={
        "sync_agent.hand_ins.wraps.Kept.encode": _forgetful,
        "sync_agent.hand_ins.wraps._kit_opens": lambda *_: False,
    },
)
async def test_nor_where_somebody_says_her_key_as_theirs_later(here: Here) -> None:
    durand = await here.comes("M. Durand")
    his = durand.agent.reading_keys.newest_of(here.room.space)
    assert his is not None
    work = await here.hand_in(durand)
    await here.opens(durand, work)
    await here.sync(durand, here.machine)
    person = await here.room.territory.person("M. X", PersonRole.TEACHER, here.room.space)
    await here.spied.name_the_spy(person)
    await here.x_claims(person, his.public)
    await here.sync(here.machine)
    assert not await here.spied.opens(work)


@attack(ROW, off={"protocol.folds.openers._came_alone": lambda *_: False})
async def test_nor_where_somebody_has_said_a_key_by_a_header_that_came_alone(here: Here) -> None:
    territory, space = here.room.territory, here.room.space
    durand = await here.comes("M. Durand")
    z = await territory.person("M. Z", PersonRole.TEACHER, space)
    hidden = await territory.say(space, Kind.ERASE, Erasure(z).encode())
    await _a_key_is_said_without_more(here, z)
    await territory.say(space, Kind.RULING, Ruling((), (hidden.id,)).encode())
    await here.sync(here.machine, durand)
    work = await _opened_in_her_first_week(here, durand)
    await here.x_is_named()
    assert not await here.spied.opens(work)


async def _opened_in_her_first_week(here: Here, newcomer: Device) -> bytes:
    work = await here.hand_in(newcomer)
    await here.opens(newcomer, work)
    await here.sync(newcomer, here.machine)
    return work


async def _a_key_is_said_without_more(here: Here, person: bytes) -> None:
    """By a device that is let in as this person's, who is erased by then: of its word a replica is given the header."""
    territory, space, other = here.room.territory, here.room.space, new_device(Random(9).randbytes)
    (right,) = await territory.let_in(other, Role.TEACHER, space, person=person)
    word = compose(
        author=other.signing,
        space=space,
        kind=Kind.PERSON_KEY,
        grant=right.id,
        at=(territory.clock() << 16) + 1,
        payload=PersonKey(other.agreement.public).encode(),
        salt=bytes(16),
        subject=person,
    )
    alone = replace(word, salt=None, payload=None)
    done = await territory.replica.admit([alone], source=b"the operator", now_ms=territory.clock())
    assert done.admitted


@attack(ROW, off={"protocol.folds.openers._came_alone": lambda *_: False})
async def test_nor_where_a_header_came_alone_about_somebody_who_was_forgotten_before(here: Here) -> None:
    territory, space = here.room.territory, here.room.space
    zoe = await territory.person("Zoé", PersonRole.PUPIL, space)
    await here.sync(here.machine)
    await territory.say(space, Kind.ERASE, Erasure(zoe).encode())
    await here.sync(here.machine)
    await here.pass_days(2 * WEEK_DAYS)
    assert zoe in await destroyed_names(here.machine.agent.replica.store)
    durand = await here.comes("M. Durand")
    await _a_key_is_said_without_more(here, zoe)
    await here.sync(here.machine, durand)
    work = await _opened_in_her_first_week(here, durand)
    await here.x_is_named()
    assert not await here.spied.opens(work)


@attack(ROW, off={"protocol.folds.openers.claimed_keys": lambda *_: frozenset()})
async def test_who_says_her_key_as_his_and_that_all_was_opened_keeps_no_substitute_out(here: Here) -> None:
    work, hers = await here.hand_in(), here.petit.agent.reading_keys.newest_of(here.room.space)
    person = await here.x_is_named()
    assert hers is not None
    await here.x_claims(person, hers.public)
    await here.x_says_opened(work)
    assert await here.is_given(await here.comes("Mme Roy"), work)


@attack(ROW, off={"protocol.replica.upkeep.eraser.key_word_marks": lambda _gone: {}})
async def test_nor_who_says_the_key_of_a_teacher_who_is_forgotten_as_his(here: Here) -> None:
    territory, hers = here.room.territory, here.petit.agent.reading_keys.newest_of(here.room.space)
    work = await here.hand_in()
    assert hers is not None
    await territory.say(territory.id, Kind.ERASE, Erasure(here.room.teacher_person).encode())
    await here.sync(here.machine)
    await here.pass_days(2 * WEEK_DAYS)
    person = await here.x_is_named()
    await here.x_claims(person, hers.public)
    await here.x_says_opened(work)
    assert await here.is_given(await here.comes("Mme Roy"), work)


async def _of_no_kit(_: object) -> frozenset[bytes]:
    return frozenset()


@attack(ROW, off={"sync_agent.hand_ins.heard_opened.recovery_keys_ever": _of_no_kit})
async def test_nor_does_who_says_the_kits_key_as_his(here: Here) -> None:
    work, kits = await here.hand_in(), here.room.territory.keys.recovery.public
    person = await here.x_is_named()
    await here.x_claims(person, kits)
    await here.x_says_opened(work)
    assert await here.is_given(await here.comes("Mme Roy"), work)
