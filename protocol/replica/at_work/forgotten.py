"""Whose name is left nowhere here, and which devices were theirs alone (docs/protocol.md, "Erasure").

"Portable de Léa" says who somebody was, as her name does: so a device all of whose persons are forgotten has no report
here any more, and none is taken.
"""

from __future__ import annotations

from collections.abc import Iterable

from protocol.replica.at_work.destroyed import destroyed_names
from protocol.replica.at_work.replica import Replica


async def devices_of_forgotten(replica: Replica, devices: Iterable[bytes]) -> set[bytes]:
    """Those of these devices that were let in for persons alone, all of whom were destroyed here and are forgotten."""
    if not replica.door.has_erasures:
        return set()
    persons = {device: {grant.person for grant in replica.door.authorities_of(device)} for device in devices}
    gone = await destroyed_names(replica.store)
    some = {device: named for device, named in persons.items() if named and named <= gone}
    # to look at all names that there are is only worth it where somebody's devices may be concerned
    forgotten = await replica.forgotten() if some else frozenset[bytes]()
    return {device for device, named in some.items() if named <= forgotten}


async def forget_reports(replica: Replica) -> None:
    """Let go of what such devices reported."""
    held = {row.device for row in await replica.store.registers()} if replica.door.has_erasures else set()
    if gone := await devices_of_forgotten(replica, held):
        await replica.store.drop_registers(gone)
