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
from protocol.replica.upkeep.orders import ends_of
from sync_agent.app import Agent
from sync_agent.machine.marks import HAND_IN_MARKS
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
    """All of it. Of what was opened and can be opened without this machine it keeps no key, and no mark."""
    replica = agent.replica
    kept = [bytes.fromhex(mark.removeprefix(HAND_IN_MARKS)) for mark in await replica.store.marks(HAND_IN_MARKS)]
    works = [work for work in (await replica.store.get(kept)).values() if work.payload is not None]
    counted = Counter(work.header.space for work in works)
    erased = [space for space in counted if space in (await replica.view(space)).roster.erased]
    if not erased:
        return []
    ends, names = await ends_of(replica, agent.now_ms()), await space_names(agent)
    return [Going(space, names.get(space), counted[space], ends.get(space)) for space in erased]
