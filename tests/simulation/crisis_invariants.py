"""What must hold in the end of what a school is told to do, and of classes that end, beside what `invariants` says.

20. Drills and quarantines that are over hold nobody back (what holds while they last is in `orders`).
21. Of a class that was closed nothing is shown anywhere, and no payload is left a week later, whatever comes back.
"""

from __future__ import annotations

from typing import Final

from protocol.entry import Kind
from protocol.replica.views import Views
from protocol.rights import is_erasable
from sync_agent.measures import ordered
from tests.simulation.ledger import BrokenError
from tests.simulation.sound import destroying, server_of, sound
from tests.simulation.world import World


async def _orders(world: World) -> None:
    for machine, agent in sound(world) if world.orders.given else ():
        now = await ordered(agent)
        if now.quarantined or now.drill is not None:
            raise BrokenError(f"{machine.name} is under orders that are over")


async def _closed(world: World) -> None:
    server = server_of(world.office)
    replicas = destroying(world)
    for space in sorted(world.trust.closed):
        if space not in (await Views(server.store, server.door).view(space)).roster.erased:
            continue
        for who, replica, due in replicas:
            view = await replica.view(space)
            if view.roster.persons or view.coursework.items or view.coursework.hand_ins:
                raise BrokenError(f"{who} still shows the class {space.hex()[:8]}, which was closed")
            for entry in (stored.entry for stored in await replica.store.scan(space)):
                if space in due and entry.payload is not None and is_erasable(entry.header):
                    kind = Kind(entry.header.kind).name
                    raise BrokenError(f"{who} still has {kind} {entry.id.hex()[:8]} of a class that was closed")


CRISIS: Final = (_orders, _closed)
