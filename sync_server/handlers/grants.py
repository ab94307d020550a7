"""Who may come in where: grants for known devices and people, their withdrawal, the revocation of a device (R7).

Rules:
- a revocation names the key's heads as this server knows them, in the space and in all below it: what the device had
  brought by then stays, what turns up later waits for a human;
- `revoke` does so in every space that the device was granted, `ungrant` in the named ones; both may be repeated;
- a cloned machine that took keys of its own works at once; confirming it adds the grant that it would have got;
- a device that comes back gets a grant that names the revocations which it overcomes (`protocol.roster`);
- somebody who is let go leaves the lists of those spaces, and the devices whose grants name them are cut there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from protocol.entry import Entry, Kind
from protocol.errors import BadInput, Code, PeerFault
from protocol.limits import MAX_PARENTS
from protocol.replica.replica import Draft
from protocol.rights import DEVICES, Authority
from protocol.structure import Grant, PersonRecord, Revocation
from sync_server.app import Server
from sync_server.handlers.people import list_draft, listings


async def grant_device(server: Server, device: bytes, spaces: Sequence[bytes]) -> None:
    """Let a known device into more spaces, in the role that it has; a teacher's device brings its teacher along.

    Raises `BadInput(UNKNOWN_DEVICE)`.
    """
    known = _grants_of(server, device)
    person = _latest(known).person
    drafts = [] if person is None else await _listing_drafts(server, person, spaces)
    drafts += await _grant_drafts(server, _latest(known), spaces)
    await _write(server, drafts)


async def grant_person(server: Server, person: bytes, spaces: Sequence[bytes]) -> None:
    """Put somebody on the lists of more spaces, and let in the devices whose grants name them.

    Raises `BadInput(UNKNOWN_PERSON)`.
    """
    drafts = await _listing_drafts(server, person, spaces)
    for device in _devices_of(server, person):
        drafts += await _grant_drafts(server, _latest(_grants_of(server, device)), spaces)
    await _write(server, drafts)


async def ungrant_device(server: Server, device: bytes, spaces: Sequence[bytes]) -> None:
    """Cut a device off in some spaces. Raises `BadInput(UNKNOWN_DEVICE)`."""
    known = _grants_of(server, device)
    covered = [space for space in spaces if any(server.replica.door.covers(grant, space) for grant in known)]
    await _write(server, await _cut_drafts(server, device, covered))


async def ungrant_person(server: Server, person: bytes, spaces: Sequence[bytes]) -> None:
    """Take somebody off the lists of some spaces, and cut off there the devices whose grants name them.

    Raises `BadInput(UNKNOWN_PERSON)`.
    """
    drafts = [
        list_draft(server, person, PersonRecord(listed.name, listed.role, left=True), space, [listed.entry])
        for space, listed in (await listings(server, person)).items()
        if space in spaces and not listed.left
    ]
    for device in _devices_of(server, person):
        theirs = [grant for grant in _grants_of(server, device) if grant.person == person]
        covered = [space for space in spaces if any(grant.space == space for grant in theirs)]
        drafts += await _cut_drafts(server, device, covered)
    await _write(server, drafts)


async def revoke_device(server: Server, device: bytes) -> None:
    """Cut a device off wherever it was granted anything. Raises `BadInput(UNKNOWN_DEVICE)`."""
    spaces = dict.fromkeys(grant.space for grant in _grants_of(server, device))
    await _write(server, await _cut_drafts(server, device, list(spaces)))


async def confirm_clone(server: Server, device: bytes, *, restore: bool = False) -> None:
    """Let a cloned machine in by a grant of its own; with `restore`, in the role and for the person that it had before.

    Raises `BadInput(UNKNOWN_DEVICE)`, also for a device that is no clone.
    """
    passed_on = [grant for grant in _grants_of(server, device) if grant.predecessor is not None]
    if not passed_on:
        raise BadInput(Code.UNKNOWN_DEVICE, f"{device.hex()} is no clone: a person let it in", device=device.hex())
    drafts = []
    for grant in passed_on:
        like = grant
        if restore and (before := server.replica.door.authority(await _named_grant(server, grant))) is not None:
            like = replace(grant, role=before.role, person=before.person)
        drafts += await _grant_drafts(server, like, [grant.space])
    await _write(server, drafts)


async def _named_grant(server: Server, successor: Authority) -> bytes | None:
    """The grant under which the old keys signed a successor."""
    entry = (await server.store.get([successor.grant])).get(successor.grant)
    return None if entry is None else entry.header.grant


async def _write(server: Server, drafts: Sequence[Draft]) -> None:
    if drafts:
        await server.write(drafts)
        await server.space_keeper.tend({draft.space for draft in drafts})


def _grants_of(server: Server, device: bytes) -> list[Authority]:
    found = [
        authority
        for authority in server.replica.door.authorities()
        if authority.key == device and authority.role in DEVICES
    ]
    if not found:
        raise BadInput(Code.UNKNOWN_DEVICE, f"there is no device {device.hex()}; `devices` shows those that there are")
    return found


def _devices_of(server: Server, person: bytes) -> list[bytes]:
    authorities = server.replica.door.authorities()
    return list(dict.fromkeys(authority.key for authority in authorities if authority.person == person))


def _latest(grants: Sequence[Authority]) -> Authority:
    """The grant whose keys and role a further one repeats: of the highest rank, the last that came in."""
    rank = max(grant.rank for grant in grants)
    return [grant for grant in grants if grant.rank == rank][-1]


async def _listing_drafts(server: Server, person: bytes, spaces: Iterable[bytes]) -> list[Draft]:
    """What puts somebody on the lists that they are not on, or have left."""
    listed = await listings(server, person)
    known = next(iter(listed.values()))
    drafts = []
    for space in spaces:
        here = listed.get(space)
        if here is None or here.left:
            record = PersonRecord(known.name, known.role)
            drafts.append(list_draft(server, person, record, space, () if here is None else [here.entry]))
    return drafts


async def _grant_drafts(server: Server, like: Authority, spaces: Iterable[bytes]) -> list[Draft]:
    drafts = []
    for space in spaces:
        roster = (await server.replica.view(space)).roster
        held = [grant for grant in roster.authorities if grant.key == like.key and grant.role == like.role]
        if any(grant.predecessor is None for grant in held) and roster.may_read(like.key):
            continue
        payload = Grant(like.key, like.agreement, like.tls_sha256, like.role, like.person, like.invite).encode()
        overcome = await _revocations(server, like.key, space)
        drafts.append(Draft(space, Kind.GRANT, server.grant, payload, parents=tuple(overcome)))
    return drafts


async def _cut_drafts(server: Server, device: bytes, spaces: Collection[bytes]) -> list[Draft]:
    drafts = []
    for space in spaces:
        if device in (await server.replica.view(space)).roster.cut:
            continue
        heads = [tip for below in _below(server, space) for tip in await server.replica.tips(below, device)]
        drafts.append(Draft(space, Kind.REVOKE, server.grant, Revocation(device, tuple(heads)).encode()))
    return drafts


async def _revocations(server: Server, device: bytes, space: bytes) -> list[bytes]:
    """The revocations that keep a device out of a space."""
    near = {*server.replica.door.lineage(space), *_below(server, space)}
    found = [
        entry.id
        for entry in await server.store.scan_kinds([Kind.REVOKE])
        if entry.header.space in near and _key_cut_by(entry) == device
    ]
    if len(found) > MAX_PARENTS:
        raise BadInput(
            Code.REVOKED, "this device has been let go and taken back too often; enrol it again with new keys"
        )
    return found


def _key_cut_by(entry: Entry) -> bytes | None:
    try:
        return Revocation.parse(entry.payload or b"").key
    except PeerFault:
        return None


def _below(server: Server, space: bytes) -> list[bytes]:
    """The space and all below it."""
    door = server.replica.door
    return [other for other in door.spaces() if space in door.lineage(other)]
