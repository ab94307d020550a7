"""Drills and quarantines are ordered: by who runs the system, or by the head teacher on her device.

docs/protocol.md, "Measures". What must hold of them is in `orders`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import TYPE_CHECKING, Final

from protocol.errors import Refused
from protocol.folds.measures import MINUTE_MS
from protocol.model.entry import Kind
from protocol.replica.console.operation import JSON
from sync_agent.app import Agent
from sync_agent.school import measure_commands
from sync_server.handlers.record import measures
from sync_server.opened.app import Server
from tests.simulation.at_server import at_server
from tests.simulation.doing import Event, do
from tests.simulation.founding import CM1
from tests.simulation.machine import Machine, SimAgent
from tests.simulation.orders import LONGEST_MINUTES

if TYPE_CHECKING:
    from tests.simulation.world import World

Command = Callable[[Agent, str | None], Awaitable[dict[str, JSON]]]


async def quarantine(world: World, _machine: Machine, random: Random) -> str:
    """Sticks and the school's network are off, by the word of the head teacher or of who runs the system."""
    world.heed_orders()
    head = world.head()
    if head is not None and head.agent is not None and random.random() < 0.5:
        return _at_head(world, head, "quarantine", measure_commands.start_quarantine)

    async def imposed(server: Server) -> None:
        if (school := school_of(world, server)) is not None:
            await measures.start_quarantine(server, school)

    return await at_server(world, "quarantine", imposed)


async def lift(world: World, _machine: Machine, random: Random) -> str:
    """Whoever runs the system lifts it, or the head teacher what she has imposed."""
    head = world.head()
    if head is not None and head.agent is not None and random.random() < 0.3:
        return _at_head(world, head, "lift", measure_commands.stop_quarantine)
    return await at_server(world, "lift", lambda server: lifted(world, server))


async def lifted(world: World, server: Server) -> None:
    """The same at the server, which may lift any."""
    if (school := school_of(world, server)) is not None:
        await measures.stop_quarantine(server, school)


async def drill(world: World, _machine: Machine, random: Random) -> str:
    """For a while the school's machines act as if the server were out of reach."""
    minutes = random.randrange(5, LONGEST_MINUTES)
    if world.orders.over_ms:
        return "-"
    world.heed_orders()
    world.orders.over_ms = world.true_ms() + (minutes + 1) * MINUTE_MS

    async def begun(server: Server) -> None:
        if (school := school_of(world, server)) is not None:
            name = await measures.start_drill(server, school, minutes)
            world.orders.drills[name] = world.true_ms(), minutes

    return await at_server(world, f"drill of {minutes} minutes", begun)


def school_of(world: World, server: Server) -> bytes | None:
    """The school of most machines, as far as the server knows it."""
    return server.replica.door.parent(world.founding.spaces[CM1])


def _at_head(world: World, head: Machine, what: str, command: Command) -> str:
    async def said(_world: World, machine: Machine, agent: SimAgent, _random: Random) -> str:
        try:
            async with agent.writing:
                await command(agent, None)
        except Refused:
            # she lifts what her school has imposed, and nothing else
            if not _is_under_others(machine):
                raise
            return "refused"
        return "ordered"

    head.spawn(do(world, head, what, said, Random(0)))
    return f"by {head.name}"


def _is_under_others(head: Machine) -> bool:
    """Whether she has heard of a quarantine that she has not imposed herself."""
    held = head.disk.store._entries.values()
    return any(entry.header.kind == Kind.QUARANTINE and entry.header.author != head.device for entry in held)


EVENTS: Final[Mapping[str, Event]] = {"quarantine": quarantine, "lift": lift, "drill": drill}
