"""What a device has said that others are bound by: whom it let in, cut off, forgot, and which codes it made.

Rules:
- the keys that came of a device by successors speak for it;
- a grant that somebody else wrote because of its code is its doing;
- what a revocation holds back is shown all the same: it binds nobody, and whoever wants it accepts it (`waiting`).
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.entry import Entry, Kind
from protocol.errors import PeerFault
from protocol.replica.office.spaces import space_records
from protocol.replica.replica import Replica
from protocol.structure import Erasure, Grant, Invite, PersonRecord, Revocation, SpaceChange, SpaceRecord
from protocol.successions import successors_of
from sync_server.app import Server

KINDS = (
    Kind.GRANT,
    Kind.INVITE,
    Kind.REVOKE,
    Kind.ERASE,
    Kind.PERSON,
    Kind.SPACE,
    Kind.SPACE_CHANGE,
    Kind.RULING,
    Kind.DRILL,
    Kind.QUARANTINE,
)


@dataclass(frozen=True, slots=True)
class Said:
    """One such entry; `about` says whom or what it concerns, `counts` whether it binds anybody now."""

    entry: Entry
    about: str | None
    counts: bool


async def words_of_office(server: Server, device: bytes) -> tuple[Said, ...]:
    """All that a device and its successors have said of this kind, the latest arrival first."""
    replica = server.replica
    line = {device, *successors_of(device, replica.door.authorities())}
    entries = await server.store.scan_kinds(KINDS)
    codes = {entry.id for entry in entries if entry.header.kind == Kind.INVITE and entry.header.author in line}
    invited = {grant.grant for grant in replica.door.authorities() if grant.invite in codes}
    chosen = [entry for entry in entries if entry.header.author in line or entry.id in invited]
    return tuple([Said(entry, await about(server, entry), await counts(replica, entry)) for entry in reversed(chosen)])


async def let_in_by_held_codes(server: Server, device: bytes) -> list[bytes]:
    """The devices that came in by a code of this device, or of its successors, which a revocation holds back."""
    replica = server.replica
    line = {device, *successors_of(device, replica.door.authorities())}
    made = [entry for entry in await server.store.scan_kinds([Kind.INVITE]) if entry.header.author in line]
    held = {entry.id for entry in made if entry.id in (await replica.view(entry.header.space)).roster.held_back}
    return list(dict.fromkeys(grant.key for grant in replica.door.authorities() if grant.invite in held))


async def counts(replica: Replica, entry: Entry) -> bool:
    """Whether an entry is in force where it lies."""
    roster = (await replica.view(entry.header.space)).roster
    if entry.id in roster.held_back or entry.id in roster.undone:
        return False
    granted = replica.door.authority(entry.id)
    return granted is None or granted.key not in roster.cut


async def about(server: Server, entry: Entry) -> str | None:
    """Whom or what an entry of `KINDS` concerns: a name where one is known, else an id; of a grant or code the role."""
    payload = entry.payload or b""
    try:
        match entry.header.kind:
            case Kind.GRANT:
                given = Grant.parse(payload)
                return f"{given.role.value} {_device(server, given.signing)}"
            case Kind.INVITE:
                return Invite.parse(payload).role.value
            case Kind.REVOKE:
                return _device(server, Revocation.parse(payload).key)
            case Kind.ERASE:
                return await _covered(server, entry.header.space, Erasure.parse(payload).covers)
            case Kind.PERSON:
                return PersonRecord.parse(payload).name
            case Kind.SPACE:
                return SpaceRecord.parse(payload).name
            case Kind.SPACE_CHANGE:
                return SpaceChange.parse(payload).name
    except PeerFault:
        pass
    return None


def _device(server: Server, key: bytes) -> str:
    return server.contacts.of(key).name or key.hex()


async def _covered(server: Server, space: bytes, covers: bytes) -> str:
    """The name of whom, or of what space, an erasure covers, while it is shown."""
    for below in server.replica.door.below(space):
        if below == covers and (record := (await space_records(server)).get(below)) is not None:
            return record.name
        person = (await server.replica.view(below)).roster.persons.get(covers)
        if person is not None:
            return person.name
    return covers.hex()
