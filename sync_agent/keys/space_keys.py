"""What a device does for the keys of its spaces: it seals those that it can open to members who lack them.

The server does so at once when it lets somebody in; a device is needed for a server that was made anew, and where there
is none. docs/protocol.md, "Space keys".
"""

from __future__ import annotations

from protocol.errors import Refused
from protocol.model.entry import Kind
from sync_agent.app import Agent


async def tend_space_keys(agent: Agent) -> int:
    """Seal the keys in force to whom they are for; how many entries that took."""
    async with agent.writing:
        drafts = []
        for space in await agent.spaces():
            if await agent.keyring.missing(space):
                try:
                    right = await agent.right(space, Kind.SPACE_WRAP)
                except Refused:
                    continue  # a grant in a class opens the spaces above it, and says nothing there
                drafts += await agent.keyring.wraps_due(space, right.grant, agent.entropy)
        if drafts:
            await agent.write(*drafts)
    return len(drafts)
