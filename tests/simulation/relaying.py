"""A relay in front of a whole school: thirty machines reach the server by it alone, until it dies.

- *relay: gather*: the machines' own lines are down; each exchanges with the relay, which reaches the server;
- *relay: dies*: it goes off for good, and as often as not its disk with it: one from an image takes its place later.

25. Work that a relay has signed for as a second copy stays with its author until the server has it: the author has all
    of it whatever became of the relay. Without relay and server the machines come to agree among themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Final

from protocol.folds.coursework import HandInState
from protocol.roles import Role
from tests.simulation.at_school import exchange
from tests.simulation.doing import Event
from tests.simulation.ledger import holds_sealed
from tests.simulation.machine import Machine
from tests.simulation.people import STATE_RANK, works_of

if TYPE_CHECKING:
    from tests.simulation.world import World

LONGEST_WAY_S: Final = 120.0


async def gather(world: World, _machine: Machine, random: Random) -> str:
    """Everybody exchanges with the relay, in any order, and it with the server."""
    relay = _relay(world)
    others = [machine for machine in world.machines if machine is not relay and machine.agent is not None]
    if relay is None or relay.agent is None:
        return "-"
    if random.random() < 0.5:
        relay.power.cut_in(random.randrange(1, 200), after=random.random() < 0.5)
    for machine in others:
        machine.line.up = False
        machine.spawn(_visit(world, machine, relay, random.random() * LONGEST_WAY_S))
    relay.spawn(world.sync(relay))
    return f"{len(others)} machines to {relay.name}"


async def _visit(world: World, machine: Machine, relay: Machine, after_s: float) -> None:
    await asyncio.sleep(after_s)
    if machine.agent is not None and relay.agent is not None:
        await exchange(world, machine, relay, world.plan.weather)


async def dies(world: World, _machine: Machine, random: Random) -> str:
    """The relay is off, and its disk may be gone."""
    relay = _relay(world)
    if relay is None:
        return "-"
    await relay.switch_off()
    burnt = random.random() < 0.5
    if burnt:
        world.change_disk(relay, world.images[relay][0].image())
        relay.remembers = False
    for machine in world.machines:
        await _check_kept(world, machine)
    return f"{relay.name}{', and its disk' if burnt else ''}"


async def _check_kept(world: World, machine: Machine) -> None:
    agent = machine.agent
    if agent is None or not machine.remembers or machine.revoked or not world.says(machine):
        return
    for work in await works_of(agent):
        at_server = STATE_RANK[work.state] >= STATE_RANK[HandInState.SERVER]
        due = agent.made(work) and not at_server and work.person not in world.erased
        if due and not holds_sealed(machine.disk, work):
            world.problem(f"{machine.name}: hand-in {work.id.hex()[:8]} was left to the relay, which died")


def _relay(world: World) -> Machine | None:
    relays = (machine for machine in world.machines if machine.birth.role is Role.RELAY and not machine.revoked)
    return next(relays, None)


EVENTS: Final[Mapping[str, Event]] = {"relay: gather": gather, "relay: dies": dies}
