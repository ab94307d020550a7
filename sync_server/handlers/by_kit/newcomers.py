"""Who came in by codes of the server's old keys where these wrote no grant: at a head teacher's computer (§5).

Rules:
- her computer honours a code by itself (docs/adr/0142): the grant is hers, and stands when the key of the code is cut
  off;
- what old keys had said since a time is held back, their codes with it: whoever came in by one of these is cut off as
  well, as with `lost`, in the new server's name; a grant to the device itself lets it back in, for good;
- nor does it end what this server has given on since, with keys that still count, to a teacher's device whose first
  grant is held back: it is cut off there, unless somebody has let it in by its own name, or a later code has;
- without a time nobody knows which of them a thief had let in: each is told by its words, for somebody to look at.
"""

from __future__ import annotations

from collections.abc import Collection

from protocol.model.entry import Kind
from protocol.replica.office.held_codes import let_in_by_held_codes
from protocol.replica.office.held_in_space import counting_where_they_lie, not_held_back
from protocol.replica.office.known_here import let_in_by_name
from protocol.replica.office.withdrawals import revoke_device
from protocol.replica.office.words_of_office import in_force
from protocol.rights.door import Authority
from protocol.rights.vouching import Device
from protocol.roles import DEVICES, HAS_READING_KEYS, Role
from sync_server.opened.app import Server


def old_keys(server: Server) -> list[bytes]:
    """The keys of servers before this one."""
    return [key for key in server.replica.door.server_keys() if key != server.keys.signing.public]


async def keys_that_still_count(server: Server) -> list[bytes]:
    """Those of the old keys that nobody has cut off: `restore` and `init --recover` end none by themselves."""
    cut = (await server.replica.view(server.replica.door.territory)).roster.cut
    return [key for key in old_keys(server) if key not in cut]


async def came_in_elsewhere(server: Server, old: Collection[bytes]) -> list[Device]:
    """The devices in use that somebody else let in by a code of these keys."""
    door = server.replica.door
    made = await server.store.scan_kinds([Kind.INVITE])
    codes = {entry.id for entry in made if entry.header.author in old}
    found: dict[Device, None] = {}
    for grant in door.authorities():
        author = door.authority(grant.under)
        is_elsewhere = grant.invite in codes and author is not None and author.role is not Role.SERVER
        if is_elsewhere and (await server.replica.view(grant.space)).roster.may_read(grant.key):
            found[grant.key, grant.agreement] = None
    return list(found)


async def cut_off_with_codes(server: Server, old: Collection[bytes]) -> list[bytes]:
    """Cut off whoever came in by a code of these keys that is held back; those that were cut off by this.

    But for whom somebody has let in by its own name since: this is said again once machines have called.
    """
    found, by_name = [], {key for key, _ in await let_in_by_name(server.store)}
    for key in old:
        for device, led in (await let_in_by_held_codes(server, key)).items():
            if device not in by_name and await server.replica.readable(device):
                await revoke_device(server, device, anyway=True, within=led)
                found.append(device)
    return list(dict.fromkeys(found))


async def cut_off_where_given_on(server: Server, old: Collection[bytes]) -> list[Device]:
    """Cut off where this server let them in further: teachers' devices whose first grant is these keys', and held back.

    Those that were cut off by this.
    """
    found = []
    for key, standing in (await _given_on(server, old)).items():
        by_servers = [each for each in standing if not _is_below(server.replica.door.authority(each.under))]
        if by_servers:
            await revoke_device(server, key, anyway=True, within=frozenset(each.space for each in by_servers))
            found.append((key, by_servers[0].agreement))
    return found


async def given_on_elsewhere(server: Server, old: Collection[bytes]) -> list[Device]:
    """Such devices as a head teacher's computer has let in further: that is her word, and stays."""
    return [(key, standing[0].agreement) for key, standing in (await _given_on(server, old)).items()]


async def _given_on(server: Server, old: Collection[bytes]) -> dict[bytes, list[Authority]]:
    """By what teachers' devices are in still whose first grant is these keys', and held back; not those named since."""
    door, by_name = server.replica.door, await let_in_by_name(server.store)
    found = {}
    for key in await _begun_by_what_is_held_back(server, old):
        standing = [each for each in door.authorities_of(key) if await in_force(server.replica, each)]
        if not any([await _is_let_in_anew(server, each, old, by_name) for each in standing]):
            found[key] = [each for each in standing if each.role in HAS_READING_KEYS]
    return {key: standing for key, standing in found.items() if standing}


async def _begun_by_what_is_held_back(server: Server, old: Collection[bytes]) -> list[bytes]:
    """The devices whose first grant here these keys wrote, or somebody whom these let in, and nothing lets count."""
    door, first = server.replica.door, dict[bytes, Authority]()
    for each in door.authorities():
        if each.role in DEVICES:
            first.setdefault(each.key, each)
    rights = {each.grant: door.authority(each.under) for each in first.values()}
    by_theirs = {name: right for name, right in rights.items() if right is not None and right.author in old}
    theirs = [each for each in first.values() if each.author in old or each.grant in by_theirs]
    looked = [*theirs, *by_theirs.values()]
    counting = await counting_where_they_lie(
        server.replica, looked, lambda each: each.space, lambda roster, each: each.grant not in roster.held_back
    )
    standing = {each.grant for each in counting}

    def is_theirs(each: Authority) -> bool:
        return each.author in old or by_theirs[each.grant].grant not in standing

    return [each.key for each in theirs if each.grant not in standing and is_theirs(each)]


async def _is_let_in_anew(server: Server, given: Authority, old: Collection[bytes], by_name: set[Device]) -> bool:
    """Whether somebody has let a device in by its own name, or by a code of keys that count."""
    if (given.key, given.agreement) in by_name:
        return True
    code = None if given.invite is None else (await server.store.get([given.invite])).get(given.invite)
    return code is not None and code.header.author not in old and bool(await not_held_back(server.replica, [code]))


def _is_below(right: Authority | None) -> bool:
    """Whether a right is that of somebody who is no server."""
    return right is not None and right.role is not Role.SERVER
