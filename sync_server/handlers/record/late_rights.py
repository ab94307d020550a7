"""Rights that came to this server only after it had cut their device off (docs/operate.md, "Backups").

A server that was made anew learns of rights as machines call. Whoever reports a laptop in those days cuts it off where
it is known, and it goes on where a right of it comes later. Nothing in the set says that this is not meant: so who runs
the server is told, and says it again.

Rules:
- what was given after the cut, as both date themselves, is a device that was found again: nothing is said of it;
- a head teacher's word reaches her school alone: only what the server itself, or the kit, has cut off is looked at; and
  a copy of its key cuts off who never was there, so that an honest laptop would be reported for it (docs/adr/0503).
"""

from __future__ import annotations

from protocol.replica.office.device_cuts import orders_by_key
from protocol.replica.office.said_here import cuts_of_servers
from sync_server.handlers.store.notices import Notice
from sync_server.opened.app import Server


async def late_rights(server: Server) -> list[bytes]:
    """The devices that were cut off here and have a right elsewhere which was given before that."""
    replica, door = server.replica, server.replica.door
    said = orders_by_key(await cuts_of_servers(server))
    cut = {key: max(order.header.at for order in orders) for key, orders in said.items()}
    found: dict[bytes, None] = {}
    for key, at in cut.items():
        for space in {right.space for right in door.authorities_of(key)}:
            held = (await replica.view(space)).roster.authority_of(key)
            if held is not None and held.at < at:
                found[key] = None
    return list(found)


async def late_right_notices(server: Server) -> list[Notice]:
    """That somebody should say again which device was lost, which nobody sees who does not look for it."""
    devices = await late_rights(server)
    return [Notice("late-rights", {"count": len(devices), "device": devices[0].hex()})] if devices else []
