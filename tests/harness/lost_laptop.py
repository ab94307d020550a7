"""A teacher's laptop is lost and reported: does who holds it open what is handed in from then on?"""

from __future__ import annotations

import contextlib
from random import Random
from typing import Any, Final

from protocol.clock import DAY_MS
from protocol.errors import PeerFault
from protocol.folds.hand_in_keys import content_key_of
from protocol.identity import AgreementKey
from protocol.model.entry import Kind, parsed
from protocol.model.structure import Grant, PersonKey, PersonRecord, Revocation
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import KeyWraps, open_reading_key
from sync_agent.app import Agent
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.keys.phrases import new_phrase
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.territory import new_device

CHEAP: Final = Argon2Cost(8, 1, 1)


def _nothing_is_replaced(*_: object) -> frozenset[bytes]:
    return frozenset()


NO_NEW_KEY: dict[str, object] = {"protocol.rights.roster.replaced_keys": _nothing_is_replaced}
"""Her other laptops go on with the keys that they had, as far as nobody knows that the lost one was given them."""


async def report_by_head(here: Here, head: Device) -> None:
    """The teacher's first laptop is lost: the head teacher says so."""
    await Desk(head.agent).ask("lost", device=here.teacher.agent.device.hex())


async def report_by_kit(here: Here, _head: Device) -> None:
    """The same, said by the root."""
    territory, laptop = here.room.territory, here.teacher.agent.device
    said = tuple(await territory.replica.tips(here.room.space, laptop))
    await territory.kit_says(here.room.space, Kind.REVOKE, Revocation(laptop, said).encode())


async def let_in_again(here: Here, lost: Device, role: Role, person: bytes | None, agreement: bytes = b"") -> bytes:
    """The server takes back what cut a device off: it is this one's now, beside its own X25519 key or another."""
    territory, keys, space = here.room.territory, lost.agent.keys, here.room.space
    roster = (await territory.replica.view(space)).roster
    cuts = tuple(cut for cut, key in roster.revocations.items() if key == lost.agent.device)
    pair = keys.signing.public, agreement or keys.agreement.public
    again = Grant(*pair, keys.tls.fingerprint, role, person, None, None).encode()
    return (await territory.say(space, Kind.GRANT, again, parents=cuts)).id


async def cut_off(here: Here, lost: Device, *, ends: bytes | None = None) -> None:
    """The server reports a laptop, or ends one of its grants, with all that it has seen of it."""
    territory, space, laptop = here.room.territory, here.room.space, lost.agent.device
    cut = Revocation(laptop, tuple(await territory.replica.tips(space, laptop))).encode()
    await territory.say(space, Kind.REVOKE, cut, target=ends)


async def lost_and_found(here: Here, head: Device, laptop: Device, *others: Device) -> None:
    """A laptop is reported on a head's computer, and let in again there by its name."""
    await here.sync(head)
    await Desk(head.agent).ask("lost", device=laptop.agent.device.hex())
    await here.sync(head, here.machine, *others)
    await Desk(head.agent).ask("grant", device=laptop.agent.device.hex(), space=[here.room.space.hex()])
    await here.sync(head, laptop, here.machine, *others, laptop)


async def a_year_on_a_found_laptop(here: Here, words: str) -> tuple[str, Device]:
    """Her only laptop is reported and found, she answers a pupil on it, and it is lost; the paper, and the head's."""
    clock = here.room.territory.clock
    head, _ = await confirmed_head(here)
    paper = await new_phrase(here.teacher.agent, CHEAP)
    await here.sync(here.teacher, here.machine, head)
    clock.advance(30 * DAY_MS)
    await lost_and_found(here, head, here.teacher)
    clock.advance(100 * DAY_MS)
    await Desk(here.teacher.agent).ask("feedback", id=here.work.hex(), text=words)
    await here.sync(here.teacher, here.machine, head)
    clock.advance(30 * DAY_MS)
    await report_on_a_heads(here, head, here.teacher)
    return paper, head


async def report_on_a_heads(here: Here, head: Device, laptop: Device) -> None:
    """Any of her laptops is reported, on a head's computer."""
    await here.sync(head)
    await Desk(head.agent).ask("lost", device=laptop.agent.device.hex())
    await here.sync(head, here.machine)


async def her_next_laptop(here: Here, paper: str, head: Device) -> tuple[Device, Desk, dict[str, Any]]:
    """It is let in by a code, and she types her paper."""
    new = await here.room.teacher()
    await here.sync(new)
    desk = Desk(new.agent)
    opened = await desk.ask("key-open", phrase=paper)
    for _ in range(2):
        await here.sync(new, head, here.machine)
    return new, desk, opened


async def another_laptop(here: Here, first: Device) -> Device:
    """One more of the teacher's; it and another one have confirmed each other."""
    second = await here.room.teacher()
    await here.sync(second, first)
    await confirm_each_other(here, first, second)
    return second


async def confirm_each_other(here: Here, first: Device, second: Device) -> None:
    """A human says on each of two laptops of the teacher's that the other one is hers."""
    for one, other in ((first, second), (second, first)):
        await confirm(one.agent, device_id(own_device(other.agent)), shown_as="own")
        await here.sync(one, other, one)


async def teach_too(here: Here, space: bytes, *laptops: Device) -> None:
    """The teacher is on the list of another class, and these laptops are let in there as hers."""
    territory, person = here.room.territory, here.room.teacher_person
    await territory.say(space, Kind.PERSON, PersonRecord("Mme Petit", PersonRole.TEACHER).encode(), subject=person)
    for laptop in laptops:
        await territory.let_in(laptop.agent.keys, Role.TEACHER, space, person=person)


async def invent_and_cut_off(here: Here, number: int) -> None:
    """The server lets a device in as the teacher's that nobody has, and cuts it off."""
    territory, space = here.room.territory, here.room.space
    keys = new_device(Random(number).randbytes)
    await territory.let_in(keys, Role.TEACHER, space, person=here.room.teacher_person)
    await territory.say(space, Kind.REVOKE, Revocation(keys.signing.public, ()).encode())


async def keys_said(here: Here, by: bytes) -> set[bytes]:
    """The reading keys that a device has said in the class."""
    said = await here.room.territory.replica.store.scan_kinds([Kind.PERSON_KEY])
    own = (entry for entry in said if (entry.header.author, entry.header.space) == (by, here.room.space))
    return {key.agreement for entry in own if (key := parsed(entry, PersonKey.parse)) is not None}


async def _keys_sealed_to(here: Here, mine: AgreementKey) -> dict[bytes, AgreementKey]:
    """All that whoever has a device's private key opens of what the server holds."""
    found = {}
    for entry in await here.room.territory.replica.store.scan_kinds([Kind.KEY_WRAP]):
        record = KeyWraps.parse(entry.payload or b"")
        for recipient, sealed in record.wraps:
            # as it is sealed for any class, or by an earlier version: a copy may lie anywhere
            for space in (*here.room.territory.replica.door.spaces(), None) if recipient == mine.public else ():
                with contextlib.suppress(PeerFault):
                    person = entry.header.subject or b""
                    found[record.agreement] = open_reading_key(sealed, space, person, record.agreement, mine)
    return found


async def keys_that_open(here: Here, agent: Agent) -> dict[bytes, AgreementKey]:
    """All reading keys that whoever holds a device has: its own, and what was ever sealed to it."""
    return reading_keys(agent) | await _keys_sealed_to(here, agent.keys.agreement)


async def opens_what_is_handed_in_now(here: Here, thief: Device, *others: Device) -> bool:
    """Whether a thief opens it, by all keys that the device has or that were ever sealed to it; the others do."""
    everybody = (here.machine, *others)
    await here.sync(*everybody, *everybody, *everybody)
    work = await here.room.hand_in(here.machine, here.item, {"b.odt": b"neu"})
    await here.sync(here.machine, *others)
    handed_in = (await here.room.territory.replica.view(here.room.space)).coursework.hand_ins[work]
    assert content_key_of(handed_in, reading_keys(others[0].agent)) is not None, "her other laptop reads it"
    return content_key_of(handed_in, await keys_that_open(here, thief.agent)) is not None
