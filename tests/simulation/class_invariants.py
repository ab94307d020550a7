"""What must hold in the end of what is one class's, or one space's, and is found in another (docs/adr/0215, 0222).

30. Where a teacher's laptop is cut off, none of the keys that hers use there is one that it ever made or was given, in
    whichever class, by whomever.
31. Nobody holds an entry in another space than that for which it was signed, nor one under a right that does not hold
    there.

That a key of one class is given in no other is 14's to say (`school_invariants`), that nobody holds what they may not
read 7's (`invariants`).
"""

from __future__ import annotations

import contextlib
from typing import Final

from protocol.errors import PeerFault
from protocol.identity import AgreementKey
from protocol.model.entry import Entry, Kind, parsed
from protocol.roles import HAS_READING_KEYS
from protocol.trust.person_keys import KeyWraps, open_reading_key
from tests.simulation.claims import laptops
from tests.simulation.ledger import BrokenError
from tests.simulation.machine import Machine
from tests.simulation.sound import server_of, sound
from tests.simulation.world import World


async def _lost_keys(world: World) -> None:
    lost = {machine.device: machine for machine in laptops(world) if machine.revoked}
    ours = [(machine, agent) for machine, agent in sound(world) if machine.birth.role in HAS_READING_KEYS]
    opened: dict[bytes, set[bytes]] = {}
    for machine, agent in ours if lost else ():
        for space in (await agent.spaces()).keys() - world.trust.closed:
            key, roster = agent.reading_keys.newest_of(space), (await agent.replica.view(space)).roster
            for device in sorted(lost.keys() & roster.cut) if key is not None else ():
                if device not in opened:
                    opened[device] = await _opened_by(world, lost[device])
                if key is not None and key.public in opened[device]:
                    raise BrokenError(f"{machine.name} goes on with a key that {lost[device].name} has, cut off there")


async def _opened_by(world: World, lost: Machine) -> set[bytes]:
    """The reading keys that whoever has a laptop opens of all that lies on it and at the server."""
    server = server_of(world.office)
    wraps = {entry.id: entry for entry in lost.disk.store._entries.values() if entry.header.kind == Kind.KEY_WRAP}
    wraps |= {entry.id: entry for entry in await server.store.scan_kinds([Kind.KEY_WRAP])}
    spaces = (*server.door.spaces(), None)
    return {name for entry in wraps.values() for space in spaces for name in _opened(entry, space, lost.keys.agreement)}


def _opened(entry: Entry, space: bytes | None, mine: AgreementKey) -> set[bytes]:
    record, found = parsed(entry, KeyWraps.parse), set[bytes]()
    for to, sealed in () if record is None else record.wraps:
        if record is not None and to == mine.public:
            with contextlib.suppress(PeerFault):
                found.add(open_reading_key(sealed, space, entry.header.subject or b"", record.agreement, mine).public)
    return found


async def _where_said(world: World) -> None:
    moved = sorted(world.trust.moved)
    ours = [(machine.name, agent.replica) for machine, agent in sound(world)] if moved else []
    for who, replica in (("server", server_of(world.office)), *ours) if moved else ():
        for name, entry in sorted((await replica.store.get(moved)).items()):
            kind = Kind(entry.header.kind).name
            raise BrokenError(f"{who} holds {kind} {name.hex()[:8]} where nobody who may has said it")


CLASSES: Final = (_lost_keys, _where_said)
