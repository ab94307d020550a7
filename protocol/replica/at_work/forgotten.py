"""Whose name is left nowhere here, and which devices were theirs alone (docs/protocol.md, "Erasure").

"Portable de Léa" says who somebody was, as her name does: so a device that was let in as somebody's, and all of whose
persons are forgotten, has no report here any more, and none is taken. A right in nobody's name makes it nobody else's:
whoever has a copy of the server's key writes one in a moment. Nor do keys that it gives itself: they are in nobody's
name, and it calls itself as before.
"""

from __future__ import annotations

from collections.abc import Iterable

from protocol.replica.at_work.destroyed import destroyed_names
from protocol.replica.at_work.replica import Replica
from protocol.rights.door import Door


async def devices_of_forgotten(replica: Replica, devices: Iterable[bytes]) -> set[bytes]:
    """Those of these devices that were let in as somebody's, and whose persons were all destroyed and forgotten."""
    if not replica.door.has_erasures:
        return set()
    door = replica.door
    persons = {device: persons_of(door, device) for device in devices if _began_as_somebodys(door, device)}
    gone = await destroyed_names(replica.store)
    some = {device: named for device, named in persons.items() if named and named <= gone}
    # to look at all names that there are is only worth it where somebody's devices may be concerned
    forgotten = await replica.forgotten() if some else frozenset[bytes]()
    return {device for device, named in some.items() if named <= forgotten}


def persons_of(door: Door, device: bytes) -> set[bytes]:
    """Whose a device is by all rights that it, or a key which it came of, ever had."""
    rights, keys = [*door.authorities_of(device)], {device}
    for right in rights:
        if right.predecessor is not None and right.predecessor not in keys:
            keys.add(right.predecessor)
            rights += door.authorities_of(right.predecessor)
    return {right.person for right in rights if right.person is not None}


def _began_as_somebodys(door: Door, device: bytes) -> bool:
    """Whether a device was somebody's by the first right that came: a PC is no child's for what is written later."""
    rights = door.authorities_of(device)
    return bool(rights) and door.began_with(rights[0]).person is not None


async def forget_reports(replica: Replica) -> None:
    """Let go of what such devices reported."""
    held = {row.device for row in await replica.store.registers()} if replica.door.has_erasures else set()
    if gone := await devices_of_forgotten(replica, held):
        await replica.store.drop_registers(gone)
