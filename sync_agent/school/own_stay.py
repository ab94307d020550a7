"""When this device's access is meant to end, and that it has (docs/adr/0031): told in time, a substitute hands over.

Rules:
- a date warns and refuses nothing: access ends when somebody who may has said so, which this device then hears;
- it is told a week before, by this device's clock; whoever has access to a class for good besides is told nothing;
- once access was taken away, what it was and when it was to end stays known, from the grant that opened it; a server
  that refuses who is over has taken it away, whether or not its word has arrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol.clock import rfc3339
from protocol.replica.console.operation import JSON
from protocol.replica.office.stays import stays
from sync_agent.app import Agent

TOLD_BEFORE_MS: Final = 7 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class OwnStay:
    """The access of this device that ends first: in which space, when, and whether it has been taken away."""

    space: bytes
    until_ms: int
    is_ended: bool

    def is_over(self, now_ms: int) -> bool:
        """Whether its day has passed, or somebody has ended it."""
        return self.is_ended or self.until_ms <= now_ms

    def is_told(self, now_ms: int) -> bool:
        """Whether people are told of it now."""
        return self.is_over(now_ms) or self.until_ms - now_ms <= TOLD_BEFORE_MS


async def own_stay(agent: Agent, *, is_refused: bool = False) -> OwnStay | None:
    """The access that ends first; None for a device whose access has no end. `is_refused`: the server says so now."""
    held = await agent.replica.authorities(agent.device)
    door = agent.replica.door
    known = stays(held or door.authorities_of(agent.device), door)
    found = [stay for stay in known if not stay.for_good]
    if not found:
        return None
    over = found[0].until_ms <= agent.now_ms()
    return OwnStay(found[0].space, found[0].until_ms, not held or (is_refused and over))


async def stay_status(agent: Agent) -> JSON:
    """As `status` has it."""
    stay = await own_stay(agent)
    if stay is None:
        return None
    over = stay.is_over(agent.now_ms())
    return {"space": stay.space.hex(), "until": rfc3339(stay.until_ms), "over": over, "ended": stay.is_ended}
