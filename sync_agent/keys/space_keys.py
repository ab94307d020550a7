"""What a device does for the keys of its spaces: it seals those that it can open to members who lack them.

The server does so at once when it lets somebody in; a device is needed for a server that was made anew, and where there
is none. docs/protocol.md, "Space keys".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from protocol.clock import DAY_MS
from protocol.errors import Refused
from protocol.model.entry import Kind
from sync_agent.app import Agent

MAX_SEALINGS_A_DAY: Final = 64
"""Entries, each for up to 256 devices: more than come one by one while a school's computers are set up."""
SEALING_PAUSE_MS: Final = 30 * 60_000


def is_enough(sealed_ms: Sequence[int], now_ms: int) -> bool:
    """Whether who sealed a key at these times lets whom it finds now wait, and seals to all of them together then."""
    ages_ms = [abs(now_ms - at_ms) for at_ms in sealed_ms]
    return sum(age_ms < DAY_MS for age_ms in ages_ms) >= MAX_SEALINGS_A_DAY and min(ages_ms) < SEALING_PAUSE_MS


async def has_sealed_enough(agent: Agent, space: bytes, kind: Kind) -> bool:
    """Whether this device lets devices without a key wait, as `is_enough` has it.

    Whoever has the server lets in one device after another: what this one may say is not spent on them (docs/adr/0240).
    """
    said = await agent.replica.store.authored(space, agent.device)
    return is_enough([entry.timestamp_ms for entry in said if entry.header.kind == kind], agent.now_ms())


async def tend_space_keys(agent: Agent) -> int:
    """Seal the keys in force to whom they are for; how many entries that took."""
    async with agent.writing:
        drafts = []
        for space in await agent.spaces():
            if await agent.keyring.missing(space) and not await has_sealed_enough(agent, space, Kind.SPACE_WRAP):
                try:
                    right = await agent.right(space, Kind.SPACE_WRAP)
                except Refused:
                    continue  # a grant in a class opens the spaces above it, and says nothing there
                drafts += await agent.keyring.wraps_due(space, right.grant, agent.entropy)
        return await agent.write_unasked(*drafts)
