"""Who has stolen a laptop, or a server's key, says words without end (docs/protocol.md, "Admission")."""

from __future__ import annotations

import pytest

from protocol.errors import Code
from protocol.identity import SigningKey
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Replica
from protocol.roles import Role
from tests.harness.attack import attack
from tests.harness.classroom import Classroom
from tests.harness.entries import SOME_RECEIPT

NOISE = bytes(100)


def flood(
    writer: SigningKey, grant: bytes, space: bytes, kind: Kind, at_ms: int, payload: bytes = NOISE
) -> list[Entry]:
    """Eight entries."""
    return [
        compose(
            author=writer,
            space=space,
            kind=kind,
            grant=grant,
            at=(at_ms << 16) + number,
            payload=payload,
            salt=bytes(16),
            target=bytes(32) if kind == Kind.RECEIPT_SAFE else None,
        )
        for number in range(8)
    ]


@attack(
    "a stolen laptop says words without end", off={"protocol.replica.at_work.quotas.Quotas._counts": lambda *_: False}
)
@pytest.mark.parametrize(
    ("bound", "most"), [("MAX_STAFF_ENTRIES_PER_DEVICE", 5), ("MAX_STAFF_ENTRY_BYTES_PER_DEVICE", 550)]
)
@pytest.mark.parametrize(
    ("role", "kind"), [(Role.TEACHER, Kind.REVISION), (Role.TEACHER, Kind.FEEDBACK), (Role.HEAD, Kind.RULING)]
)
async def test_nobody_carries_all_that_a_stolen_laptop_says_without_end(
    room: Classroom, monkeypatch: pytest.MonkeyPatch, role: Role, kind: Kind, bound: str, most: int
) -> None:
    school = room.school
    space = room.space if role is Role.TEACHER else school
    thief = await room.device(role, space, person=room.teacher_person)
    await thief.session.sync()
    monkeypatch.setattr(f"protocol.replica.at_work.quotas.{bound}", most)
    grant, now_ms = (await thief.agent.right(space, kind)).grant, room.territory.clock()
    said = flood(thief.agent.keys.signing, grant, space, kind, now_ms)
    came, refused = 0, set[Code]()
    for some in (said[:6], said[6:]):
        admission = await room.territory.replica.admit(some, source=thief.agent.device, now_ms=now_ms, bounded=True)
        came += len(admission.admitted)
        refused |= {refusal.code for refusal in admission.refused}
    assert came <= 5
    assert refused == {Code.OVER_QUOTA}


async def anybody_with_its_key(replica: Replica, source: bytes) -> bool:
    return any(authority.role is Role.SERVER for authority in replica.door.authorities_of(source))


@attack(
    "a stolen laptop says words without end",
    off={"protocol.replica.at_work.replica.Replica._is_server": anybody_with_its_key},
)
async def test_a_servers_key_that_was_cut_off_brings_no_flood(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.replica.at_work.quotas.MAX_ENTRIES_PER_KEY", 5)
    territory, machine = room.territory, await room.machine()
    grant, now_ms = (await machine.agent.replica.authorities(machine.agent.device))[0].grant, territory.clock()
    said = flood(machine.agent.keys.signing, grant, room.space, Kind.RECEIPT_SAFE, now_ms, SOME_RECEIPT)
    stolen = territory.keys.signing.public
    taken = await territory.replica.admit(said[:6], source=stolen, now_ms=now_ms, bounded=True)
    assert len(taken.admitted) == 6, "what a server holds is taken"
    await territory.kit_says(territory.id, Kind.REVOKE, Revocation(stolen, ()).encode())
    late = await territory.replica.admit(said[6:], source=stolen, now_ms=now_ms, bounded=True)
    assert not late.admitted
