"""A teacher of two classes with three laptops, as most in two schools: what one class has heard another has not.

- *three laptops*: somebody who has one laptop teaches one class more, and comes with two further ones, of which the
  last may be in that class alone (docs/adr/0215);
- *hers confirm*: on each of the three its teacher confirms the others, as far as these are there and nobody has lost
  them.

Which of them is reported, at which school, and what is granted afterwards is the head's to say (`claims`), and of
whoever has the server's key (`usurping`).
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Final

from protocol.replica.office.grants import grant_device
from protocol.replica.office.invitations import Wanted
from protocol.roles import Role
from sync_agent.keys.confirming import list_readers
from sync_server.opened.app import Server
from tests.simulation.at_server import at_server
from tests.simulation.claims import WEEK_MS, enters, laptops, let_in_as
from tests.simulation.devices import confirm_as_shown
from tests.simulation.doing import Event, do
from tests.simulation.machine import Machine, SimAgent

if TYPE_CHECKING:
    from tests.simulation.world import World

_ELSEWHERE: Final = 0.7
"""How often the other class is one of another school, whose head nobody's report reaches."""
_CONFIRMS: Final = 0.8


async def three_laptops(world: World, _machine: Machine, random: Random) -> str:
    """See the module."""
    there = [each for each in laptops(world) if not each.revoked and each.device not in world.trust.thieves]
    if not there or world.trust.of_three:
        return "-"
    first, person = (machine := random.choice(there)), let_in_as(machine).person or b""
    is_elsewhere, is_apart = random.random() < _ELSEWHERE, random.random() < _ELSEWHERE

    async def let_in(server: Server) -> None:
        if world.trust.of_three:
            return
        door = server.replica.door
        own = [each.space for each in door.authorities_of(first.device) if each.person == person]
        schools = {door.parent(space) for space in own}
        others = [space for space in world.founding.spaces if space not in own and door.knows_space(space)]
        wanted = [space for space in others if (door.parent(space) not in schools) == is_elsewhere] or others
        if not wanted:
            return
        world.trust.of_three.add(first.device)
        other = random.choice(wanted)
        await grant_device(server, first.device, [other])
        for name, spaces in (("second", [own[0], other]), ("third", [other] if is_apart else [own[0], other])):
            code = Wanted(Role.TEACHER, spaces, person, 1, WEEK_MS)
            machine = await enters(world, server, f"{first.name}-{name}", code)
            world.trust.of_three.add(machine.device)

    return await at_server(world, f"{first.name} is one of three", let_in)


async def hers_confirm(world: World, _machine: Machine, random: Random) -> str:
    """See the module."""
    hers = [each for each in world.machines if each.device in world.trust.of_three and not each.revoked]
    for machine in hers:
        machine.spawn(do(world, machine, "hers confirm", _confirm_hers, Random(random.random())))
    return f"{len(hers)} laptops"


async def _confirm_hers(world: World, machine: Machine, agent: SimAgent, random: Random) -> str:
    known = world.trust.of_three - world.trust.thieves - {agent.device}
    asked = [each for each in await list_readers(agent) if each.mine and not each.confirmed and each.device in known]
    shown = [each for each in {each.id: each for each in asked}.values() if random.random() < _CONFIRMS]
    said = [await confirm_as_shown(world, machine, agent, reader) for reader in shown]
    return ", ".join(said) or "-"


EVENTS: Final[Mapping[str, Event]] = {"three laptops": three_laptops, "hers confirm": hers_confirm}
