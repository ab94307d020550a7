"""That the classes of a device were closed: nothing is shown on it, and people are told why.

Where it has another class, nothing is said: a teacher's laptop keeps those of all years.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.replica.office.erasures import closed_by_kit
from protocol.replica.office.spaces import is_hidden
from sync_agent.app import Agent
from sync_agent.space_names import space_names


@dataclass(frozen=True, slots=True)
class Closed:
    """A class by its name, and whether the kit has closed it: what another has hidden is shown again, or may be."""

    space: bytes
    name: str
    by_kit: bool


async def none_but_closed(agent: Agent) -> list[Closed]:
    """The classes of a device all of which are closed, by their names."""
    door = agent.replica.door
    found = [space for space in await agent.spaces() if door.parent(space) not in (None, door.territory)]
    for space in found:
        if not await is_hidden(agent.replica, space):
            return []
    names, over = await space_names(agent), await closed_by_kit(agent.replica)
    closed = (Closed(space, names.get(space, space.hex()), space in over) for space in found)
    return sorted(closed, key=lambda each: (each.name, each.space))
