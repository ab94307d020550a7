"""Something that is done at a machine, as a task that its power may end; errors that nobody foresees are problems."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from random import Random
from typing import TYPE_CHECKING

from protocol.errors import RelaisError
from protocol.roles import Role
from tests.simulation.ledger import BrokenError
from tests.simulation.machine import Machine, SimAgent

if TYPE_CHECKING:
    from tests.simulation.world import World

Event = Callable[["World", Machine, Random], Awaitable[str]]
Deed = Callable[["World", Machine, SimAgent, Random], Awaitable[str]]


def done_at_machine(deed: Deed, roles: Collection[Role]) -> Event:
    """The event that somebody does this at the machine that the step names, or at one that is fit for it."""
    what = deed.__name__.replace("_", " ")

    async def event(world: World, machine: Machine, random: Random) -> str:
        if machine.birth.role not in roles:
            fit = [other for other in world.machines if other.birth.role in roles and not other.revoked]
            machine = random.choice(fit or [machine])
        if machine.agent is None or machine.birth.role not in roles:
            return "-"
        machine.spawn(do(world, machine, what, deed, random))
        return machine.name

    return event


async def do(world: World, machine: Machine, what: str, deed: Deed, random: Random) -> None:
    """The same to its end."""
    agent = machine.agent
    if agent is None:
        return
    try:
        said = await deed(world, machine, agent, random)
    except RelaisError as error:
        said = f"{type(error).__name__} {error.code}"
        if not world.foreseen(machine, error, healing=False):
            world.problem(f"{machine.name}: {what}: {said}: {error}")
    except BrokenError as broken:
        said = "broken"
        world.problem(f"{machine.name}: {what}: {broken}")
    if said != "-":
        machine.note(f"{what}: {said}")
