"""Entries that should enter no replica, and times that should move no clock (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol.clock import at_from, milliseconds_of
from protocol.errors import RelaisError
from protocol.identity import SigningKey
from protocol.model.entry import Entry, Header, Kind, commitment, compose, encode_header, from_wire, restore, to_wire
from protocol.model.structure import Grant
from protocol.model.work import ContentRef, ItemKind, Revision
from protocol.replica.at_work.replica import Admission, Draft, Replica
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.storage.memory import MemoryStore
from protocol.rights.door import WRITERS
from protocol.roles import Role
from tests.harness.attack import attack
from tests.harness.entries import SOME_WORK
from tests.harness.history import NOW_MS, YEAR_MS, World, Writer

CARRIER = b"a carrier"
IDENTITY_POINT = (1).to_bytes(32, "little")
EVERYBODY = frozenset(Role)


@pytest.fixture
def world() -> World:
    return World(Random(5))


async def opened(world: World) -> Replica:
    replica = await Replica.open(world.root.key.public, MemoryStore(), MemoryPacks())
    await admit(replica, world.entries)
    return replica


async def admit(replica: Replica, entries: Sequence[Entry]) -> Admission:
    return await replica.admit(entries, source=CARRIER, now_ms=NOW_MS)


async def holds(replica: Replica, entry: Entry) -> bool:
    return bool(await replica.store.get([entry.id]))


def lesson() -> bytes:
    return Revision(ItemKind.LESSON, "Fausse leçon", None, None, ContentRef(bytes(32), 1, 1)).encode()


@attack("arbitrary data", off={"protocol.replica.at_work.quarantine.signature_holds": lambda _: True})
async def test_what_the_teacher_did_not_sign_enters_no_replica(world: World) -> None:
    teacher = world.enrol(Role.TEACHER, world.classes[0])
    replica = await opened(world)
    forged = compose(
        author=SigningKey(bytes(32)),
        space=teacher.space,
        kind=Kind.REVISION,
        grant=teacher.grant,
        at=at_from(NOW_MS),
        payload=lesson(),
        salt=bytes(16),
    )
    data = encode_header(replace(forged.header, author=teacher.key.public))
    entry = restore(data, forged.signature, forged.salt, forged.payload)
    await admit(replica, [entry])
    assert not await holds(replica, entry)


@attack("arbitrary data", off={"protocol.model.entry.commitment": lambda _salt, _payload: bytes(32)})
async def test_a_signed_header_carries_no_other_payload(world: World) -> None:
    honest = compose(
        author=world.root.key,
        space=world.territory,
        kind=Kind.REVISION,
        grant=None,
        at=at_from(NOW_MS),
        payload=lesson(),
        salt=bytes(16),
    )
    header, signature, salt, _ = to_wire(honest)
    with pytest.raises(RelaisError):
        from_wire([header, signature, salt, lesson()[::-1]])


@attack("arbitrary data", off={"protocol.rights.door.WRITERS": dict.fromkeys(WRITERS, EVERYBODY)})
async def test_a_pupils_machine_publishes_no_lesson(world: World) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    entry = world.say(machine, machine.space, Kind.REVISION, lesson())
    assert not await holds(await opened(world), entry)


@attack(
    "universal forgery by a weak key",
    off={"protocol.identity._loaded": Ed25519PublicKey.from_public_bytes},
)
async def test_a_key_with_which_everybody_can_sign_signs_nothing(world: World) -> None:
    grant = Grant(IDENTITY_POINT, bytes(32), bytes(32), Role.TEACHER, None, None)
    admitted = world.say(world.server, world.classes[0], Kind.GRANT, grant.encode())
    payload, salt = lesson(), bytes(16)
    header = Header(
        world.classes[0], Kind.REVISION, IDENTITY_POINT, admitted.id, None, at_from(NOW_MS), None, (), (),
        commitment(salt, payload), len(payload),
    )  # fmt: skip
    nobodys_signature = IDENTITY_POINT + bytes(32)
    entry = restore(encode_header(header), nobodys_signature, salt, payload)
    replica = await opened(world)
    await admit(replica, [entry])
    assert not await holds(replica, entry)


@attack(
    "fast-forward",
    off={
        "protocol.clock.observe": lambda last, seen, _reference: max(last, seen),
        "protocol.clock.believable": lambda last, _now, _proven: last,
    },
)
async def test_an_entry_from_2040_moves_nobodys_clock(world: World) -> None:
    teacher = world.enrol(Role.TEACHER, world.classes[0])
    ahead = Writer(teacher.key, Role.TEACHER, teacher.space, teacher.grant, skew_ms=14 * YEAR_MS)
    replica = await opened(world)
    await admit(replica, [world.say(ahead, teacher.space, Kind.REVISION, lesson())])
    machine = world.enrol(Role.MACHINE, world.classes[0])
    await admit(replica, world.entries)
    draft = Draft(machine.space, Kind.HAND_IN, machine.grant, SOME_WORK)
    written = await replica.write([draft], author=machine.key, now_ms=NOW_MS, entropy=Random(1).randbytes)
    assert milliseconds_of(written[0].header.at) < NOW_MS + YEAR_MS
