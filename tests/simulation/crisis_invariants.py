"""What must hold in the end of what a school is told to do, and of classes that end, beside what `invariants` says.

20. Drills and quarantines that are over hold nobody back (what holds while they last is in `orders`).
21. Of a class that was closed nothing is shown anywhere, and no payload is left a week later, whatever comes back.
23. All who are ours know the server's keys and the root that are in force, whichever were replaced, and nobody reads
    anything whom keys let in that had been replaced before.
24. Who was let go reads nothing under what it held then, whichever server was born or restored since.
25. What somebody else has signed with a key of the server's, and it holds, it has noted as spoken elsewhere; nothing
    that it said itself, but where it was set back to what it was before.
"""

from __future__ import annotations

from typing import Final

from protocol.model.entry import Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.views import Views
from protocol.rights.door import is_erasable
from sync_agent.school.measures import ordered
from sync_agent.transport.sealed_calls import newest_server
from tests.simulation.ledger import BrokenError, holds
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


async def _keys(world: World) -> None:
    server = server_of(world.office)
    office = world.office.birth.keys.signing.public
    if server.door.root_now != world.kit.root.public:
        raise BrokenError("the root in force is another one than that of the kit")
    for machine, agent in sound(world):
        known = await newest_server(agent.replica)
        if known is None or known[0].key != office:
            raise BrokenError(f"{machine.name} knows other keys of the server than those that it has")
        if agent.replica.door.root_now != world.kit.root.public:
            raise BrokenError(f"{machine.name} knows another root than the one in force")
    for device, cuts in world.trust.let_in_by_former.items():
        if device not in world.trust.named and all(holds(world.office.disk.store, cut) for cut in cuts):
            for who, replica in _ours(world):
                if await replica.readable(device):
                    raise BrokenError(f"at {who} {device.hex()[:8]} may read, whom keys let in that were replaced")


async def _gone(world: World) -> None:
    """One revocation for each right: what a replica has not heard of, or nobody has any more, ends nothing there."""
    for device, gone in world.trust.gone.items():
        for who, replica in _ours(world):
            for right in (await replica.readable(device)).values():
                in_force = (await replica.view(right.space)).roster.revocations
                if right.grant in gone.grants and gone.cuts & in_force.keys():
                    raise BrokenError(f"at {who} {device.hex()[:8]} reads on, which was let go")


def _ours(world: World) -> list[tuple[str, Replica]]:
    return [("server", server_of(world.office)), *((machine.name, agent.replica) for machine, agent in sound(world))]


async def _elsewhere(world: World) -> None:
    server = world.office.server
    if server is None:
        return
    noted = {name for heard in server.elsewhere.by_key.values() for name in heard.ids}
    if not (world.was_set_back or noted <= world.trust.forged):
        raise BrokenError("the server's own words count as spoken elsewhere")
    held = await server.store.get(sorted(world.trust.forged))
    for each in held.values():
        heard = server.elsewhere.by_key.get(each.header.author)
        is_told = heard is not None and (each.id in heard.ids or heard.count > len(heard.ids))
        if each.header.author in server.own_keys and not is_told:
            raise BrokenError("the server has not noted that its key has spoken elsewhere")


CRISIS: Final = (_orders, _closed, _keys, _gone, _elsewhere)
