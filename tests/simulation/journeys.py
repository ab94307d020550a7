"""A teacher's laptop as courier: what a class says without a server goes home with it, and next morning answers come.

What the laptop held when its sync at home began is at the server when that has ended, whoever said it; and of whose
work it holds the server's receipt, that machine has it after they have met (docs/protocol.md, "Peers").
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Final

from protocol.folds.coursework import HandInState
from protocol.model.entry import Entry, Kind
from protocol.roles import SHARED, Role
from tests.simulation.at_school import exchange
from tests.simulation.doing import Event, do
from tests.simulation.ledger import BrokenError, holds
from tests.simulation.lines import CALM
from tests.simulation.machine import Machine, SimAgent
from tests.simulation.people import STATE_RANK
from tests.simulation.plan import Step

if TYPE_CHECKING:
    from tests.simulation.world import World

LESSON_S: Final = 60.0
NIGHT_S: Final = 300.0


async def home(world: World, machine: Machine, random: Random) -> str:
    """Pupils hand in, and nobody reaches the server; a laptop meets their machines, goes home, and meets them again."""
    on = [other for other in world.machines if other.agent is not None and not other.revoked]
    laptops = [other for other in on if other.birth.role is Role.TEACHER]
    school = [other for other in on if other.birth.role in SHARED]
    if not laptops or not school:
        return "-"
    laptop = machine if machine in laptops else random.choice(laptops)
    for other in school:
        other.line.up = False
        step = Step(random.randrange(10**6, 10**7), 0, "hand in", 0, random.randrange(2**32))
        other.spawn(world.act(other, step))

    async def journey(world: World, machine: Machine, agent: SimAgent, _random: Random) -> str:
        await asyncio.sleep(LESSON_S)
        return await _journey(world, machine, agent, school)

    laptop.spawn(do(world, laptop, "home", journey, random))
    return f"{laptop.name} for {' '.join(other.name for other in school)}"


async def _journey(world: World, laptop: Machine, agent: SimAgent, school: Sequence[Machine]) -> str:
    for other in school:
        await exchange(world, laptop, other, CALM)
    laptop.line.up, laptop.line.weather = True, CALM
    held, server = await _held(world, agent), world.office.server
    result = await laptop.sync()
    lacking = [name for name in held if not holds(world.office.disk.store, name)]
    stood = server is not None and server is world.office.server and laptop.agent is agent
    if server is not None and stood and world.says(laptop):
        waiting = {one.entry.id for one in await server.store.held()}
        for name in lacking:
            if name not in waiting:
                kind = Kind(held[name].header.kind).name
                raise BrokenError(f"the laptop was at home, and the server lacks {kind} {name.hex()[:8]}")
    await asyncio.sleep(NIGHT_S)
    for other in school:
        if await exchange(world, laptop, other, CALM) and laptop.agent is agent:
            await _check_receipts(world, agent, other)
    return f"{result.sent} sent, {result.received} received"


async def _held(world: World, agent: SimAgent) -> Mapping[bytes, Entry]:
    """What a laptop holds that is promised to arrive: the words of whose rights are in no doubt."""
    return {
        stored.entry.id: stored.entry
        for space in await agent.spaces()
        for stored in await agent.replica.store.scan(space)
        if stored.entry.header.author not in world.doubtful
    }


async def _check_receipts(world: World, laptop: SimAgent, machine: Machine) -> None:
    agent = machine.agent
    if agent is None or world.doubtful:
        return
    for space in (await agent.spaces()).keys() & (await laptop.spaces()).keys():
        here = (await agent.replica.view(space)).coursework.hand_ins
        there = (await laptop.replica.view(space)).coursework.hand_ins
        for name in sorted(here.keys() & there.keys()):
            least = min(STATE_RANK[there[name].state], STATE_RANK[HandInState.SERVER])
            if agent.made(here[name]) and STATE_RANK[here[name].state] < least:
                raise BrokenError(f"the laptop brought no receipt to {machine.name} for {name.hex()[:8]}")


EVENTS: Final[Mapping[str, Event]] = {"home": home}
