"""What this machine's zlib reproduces, and what the server's does (docs/protocol.md, "Reflate", "Sync")."""

from __future__ import annotations

from typing import Final

from protocol.replica.content.deltas.levels import known_levels, levels_in, levels_value
from protocol.replica.interfaces import EntryStore
from protocol.transfer.deflate_parameters import ALL_LEVELS, Profile
from sync_agent.app import Agent

SERVER_LEVELS_MARK: Final = "server-deflates"
"""→ 2 bytes: the levels that the server says it reproduces; none for all."""


async def own_levels(agent: Agent) -> Profile:
    """What this machine reproduces."""
    if agent.levels is None:
        agent.levels = await known_levels(agent.replica.store)
    return agent.levels


async def server_levels(store: EntryStore) -> Profile:
    """What the server was last heard to reproduce."""
    noted = await store.mark(SERVER_LEVELS_MARK)
    return ALL_LEVELS if noted is None else levels_in(noted)


async def note_server_levels(store: EntryStore, levels: Profile) -> None:
    """The server has said what it reproduces."""
    if levels != await server_levels(store):
        await store.set_marks({SERVER_LEVELS_MARK: None if levels == ALL_LEVELS else levels_value(levels)})
