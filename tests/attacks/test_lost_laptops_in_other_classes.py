"""A lost laptop that was reported in one class is given a teacher's new keys in another one (docs/threat-model.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from protocol.entry import Kind
from protocol.hand_in_keys import content_key_of
from protocol.identity import AgreementKey
from protocol.person_keys import KeyWraps, open_reading_key
from protocol.replica.replica import Draft
from protocol.roles import PersonRole, Role
from protocol.structure import PersonRecord, Revocation
from protocol.vouching import device_id
from sync_agent.confirming import confirm, own_device
from sync_agent.reading_key import reading_keys
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class

ROW = "a lost laptop reads on in another class"
Way = Callable[[Here, Device], Awaitable[None]]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path) as made:
        yield made


async def _nobody(_agent: object) -> frozenset[bytes]:
    return frozenset()


async def _by_head(here: Here, head: Device) -> None:
    await Desk(head.agent).ask("lost", device=here.teacher.agent.device.hex())


async def _by_kit(here: Here, _head: Device) -> None:
    territory, laptop = here.room.territory, here.teacher.agent.device
    said = tuple(await territory.replica.tips(here.room.space, laptop))
    cut = Draft(here.room.space, Kind.REVOKE, None, Revocation(laptop, said).encode())
    await territory.replica.write(
        [cut], author=territory.keys.root, now_ms=territory.clock(), entropy=territory.entropy, unsent=False
    )


async def _another_laptop(here: Here, first: Device) -> Device:
    """One more of the teacher's; it and another one have confirmed each other."""
    second = await here.room.teacher()
    await here.sync(second, first)
    for one, other in ((first, second), (second, first)):
        await confirm(one.agent, device_id(own_device(other.agent)), shown_as="own")
        await here.sync(one, other, one)
    return second


async def _teaches_too(here: Here, space: bytes, *laptops: Device) -> None:
    """The teacher is on the list of another class, and these laptops are let in there as hers."""
    territory, person = here.room.territory, here.room.teacher_person
    await territory.say(space, Kind.PERSON, PersonRecord("Mme Petit", PersonRole.TEACHER).encode(), subject=person)
    for laptop in laptops:
        await territory.let_in(laptop.agent.keys, Role.TEACHER, space, person=person)


async def _keys_sealed_to(here: Here, mine: AgreementKey) -> dict[bytes, AgreementKey]:
    """All that whoever has a device's private key opens of what the server holds."""
    found = {}
    for entry in await here.room.territory.replica.store.scan_kinds([Kind.KEY_WRAP]):
        record = KeyWraps.parse(entry.payload or b"")
        for recipient, sealed in record.wraps:
            if recipient == mine.public:
                key = open_reading_key(sealed, entry.header.subject or b"", record.agreement, mine)
                found[key.public] = key
    return found


async def _opens_what_is_handed_in_now(here: Here, thief: Device, *others: Device) -> bool:
    everybody = (here.machine, *others)
    await here.sync(*everybody, *everybody, *everybody)
    work = await here.room.hand_in(here.machine, here.item, {"b.odt": b"neu"})
    await here.sync(here.machine, *others)
    handed_in = (await here.room.territory.replica.view(here.room.space)).coursework.hand_ins[work]
    assert content_key_of(handed_in, reading_keys(others[0].agent)) is not None, "her other laptop reads it"
    keys = reading_keys(thief.agent) | await _keys_sealed_to(here, thief.agent.keys.agreement)
    return content_key_of(handed_in, keys) is not None


@pytest.mark.parametrize("reported", [_by_head, _by_kit])
@attack(ROW, off={"sync_agent.reading_key.withheld": _nobody})
async def test_a_class_that_a_server_makes_for_a_lost_laptop_gives_it_no_key(here: Here, reported: Way) -> None:
    second = await _another_laptop(here, here.teacher)
    head, _ = await confirmed_head(here)
    await here.sync(head, second, here.machine)
    await reported(here, head)
    await here.sync(head, second, here.machine)
    made = await here.room.territory.classroom("CX")
    await _teaches_too(here, made, here.teacher, second)
    assert not await _opens_what_is_handed_in_now(here, here.teacher, second, head)


@attack(ROW, off={"sync_agent.reading_key.withheld": _nobody})
async def test_a_laptop_that_one_school_reported_lost_gets_no_new_key_through_another_school(here: Here) -> None:
    second = await _another_laptop(here, here.teacher)
    elsewhere = await here.room.territory.classroom("CB", await here.room.territory.school("École B", uai="0180002Y"))
    await _teaches_too(here, elsewhere, here.teacher, second)
    await here.sync(here.teacher, second, here.teacher, second)
    head, _ = await confirmed_head(here)
    await here.sync(head, second, here.machine)
    await _by_head(here, head)
    await here.sync(head, second, second, here.teacher, here.teacher)
    assert not await _opens_what_is_handed_in_now(here, here.teacher, second, head)


@attack(ROW, off={"sync_agent.reading_key.withheld": _nobody})
async def test_a_laptop_that_one_school_reported_lost_lets_nobody_in_to_her_keys_in_another(here: Here) -> None:
    second = await _another_laptop(here, here.teacher)
    elsewhere = await here.room.territory.classroom("CB", await here.room.territory.school("École B", uai="0180002Y"))
    await _teaches_too(here, elsewhere, here.teacher, second)
    await here.sync(here.teacher, second, here.teacher, second)
    head, _ = await confirmed_head(here)
    await here.sync(head, second, here.machine)
    await _by_head(here, head)
    await here.sync(head, second)
    thief = await here.room.device(Role.TEACHER, elsewhere, person=here.room.teacher_person)
    await here.sync(thief, here.teacher)
    await confirm(here.teacher.agent, device_id(own_device(thief.agent)), shown_as="own")
    await here.sync(here.teacher, second, thief)
    assert not await _opens_what_is_handed_in_now(here, thief, second, head)
