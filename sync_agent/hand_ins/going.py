"""Work of this machine that goes with a class that was closed, and of which nobody is known to have opened it.

It was handed in while nobody could be reached, say, and the class was closed by the kit meanwhile: hidden at once, and
destroyed here a week after this machine has heard of it (docs/adr/0323). Whoever looks after the machine can have that
taken back until then, and nobody else may know that there is such work.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from protocol.clock import rfc3339
from protocol.replica.console.operation import JSON
from protocol.replica.office.erasures import in_force
from protocol.replica.upkeep.orders import ends_of
from sync_agent.app import Agent
from sync_agent.hand_ins.wraps import kept_here
from sync_agent.space_names import space_names


@dataclass(frozen=True, slots=True)
class Going:
    """How many works go with a class, and until when (ms) that can be taken back; None while it is in doubt."""

    space: bytes
    name: str | None
    hand_ins: int
    until_ms: int | None

    def row(self) -> JSON:
        """As `status` has it."""
        return {
            "space": self.space.hex(),
            "name": self.name,
            "hand_ins": self.hand_ins,
            "until": rfc3339(self.until_ms),
        }


async def going_unopened(agent: Agent) -> list[Going]:
    """All of it, but what this machine has heard to have been opened."""
    replica = agent.replica
    kept = await kept_here(agent)
    found = await replica.store.get([work for work, each in kept.items() if each.heard_ms is None])
    counted = Counter(work.header.space for work in found.values() if work.payload is not None)
    erased = [space for space in counted if space in (await replica.view(space)).roster.erased]
    if not erased:
        return []
    ends, names = await _ends_by_space(agent), await space_names(agent)
    return [Going(space, names.get(space), counted[space], ends.get(space)) for space in erased]


async def _ends_by_space(agent: Agent) -> dict[bytes, int]:
    """Until when the first erasure of each space that is in no doubt can be taken back here, in ms."""
    ends, found = await ends_of(agent.replica, agent.now_ms()), dict[bytes, int]()
    for erasure, space in await in_force(agent.replica):
        end_ms = ends.get(erasure.id)
        if end_ms is not None:
            found[space] = min(end_ms, found.get(space, end_ms))
    return found
