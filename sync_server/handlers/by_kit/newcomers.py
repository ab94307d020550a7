"""Who came in by codes of the server's old keys where these wrote no grant: at a head teacher's computer (§5).

Rules:
- her computer honours a code by itself (docs/adr/0142): the grant is hers, and stands when the key of the code is cut
  off;
- what old keys had said since a time is held back, their codes with it: whoever came in by one of these is cut off as
  well, as with `lost`, in the new server's name; a grant to the device itself lets it back in;
- without a time nobody knows which of them a thief had let in: each is told by its words, for somebody to look at.
"""

from __future__ import annotations

from collections.abc import Collection

from protocol.model.entry import Kind
from protocol.replica.office.held_codes import let_in_by_held_codes
from protocol.replica.office.withdrawals import revoke_device
from protocol.rights.vouching import Device
from protocol.roles import Role
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
    """Cut off whoever came in by a code of these keys that is held back; those that were cut off by this."""
    found = []
    for key in old:
        for device, led in (await let_in_by_held_codes(server, key)).items():
            if await server.replica.readable(device):
                await revoke_device(server, device, anyway=True, within=led)
                found.append(device)
    return list(dict.fromkeys(found))
