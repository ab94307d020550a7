"""Whose name is left nowhere here, and which devices were theirs alone (docs/protocol.md, "Erasure").

"Portable de Léa" says who somebody was, as her name does: so a device that was let in as somebody's, and all of whose
persons are forgotten, has no report here any more, and none is taken. A right in nobody's name makes it nobody else's:
whoever has a copy of the server's key writes one in a moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from protocol.replica.at_work.destroyed import destroyed_names
from protocol.replica.at_work.replica import Replica
from protocol.rights.door import Authority


async def devices_of_forgotten(replica: Replica, devices: Iterable[bytes]) -> set[bytes]:
    """Those of these devices that were let in as somebody's, and whose persons were all destroyed and forgotten."""
    if not replica.door.has_erasures:
        return set()
    persons = {device: _persons(replica.door.authorities_of(device)) for device in devices}
    gone = await destroyed_names(replica.store)
    some = {device: named for device, named in persons.items() if named and named <= gone}
    # to look at all names that there are is only worth it where somebody's devices may be concerned
    forgotten = await replica.forgotten() if some else frozenset[bytes]()
    return {device for device, named in some.items() if named <= forgotten}


def _persons(rights: Sequence[Authority]) -> set[bytes]:
    """Whose a device is by all rights that it ever had; nobody's where it was nobody's by the first that came."""
    if not rights or rights[0].person is None:
        return set()
    return {right.person for right in rights if right.person is not None}


async def forget_reports(replica: Replica) -> None:
    """Let go of what such devices reported."""
    held = {row.device for row in await replica.store.registers()} if replica.door.has_erasures else set()
    if gone := await devices_of_forgotten(replica, held):
        await replica.store.drop_registers(gone)
