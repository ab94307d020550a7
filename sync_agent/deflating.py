"""What this machine's zlib reproduces, and what the server's does (docs/protocol.md, "Reflate", "Sync").

Rules:
- the self-test costs a fifth of a second of a core, an old PC's a whole one: its result is kept for as long as the
  library says the same about itself;
- a result that is wrong costs bytes only: hashes decide what a file is, and packs bring what deltas do not.
"""

from __future__ import annotations

import asyncio
import platform
import sys
import zlib
from typing import Final

from protocol.deflate_parameters import ALL_LEVELS, Profile, profile, recall
from protocol.replica.interfaces import EntryStore
from sync_agent.app import Agent

LEVELS_MARK: Final = "deflates"
"""→ 2 bytes: the levels, then what the library said about itself when they were tested."""
SERVER_LEVELS_MARK: Final = "server-deflates"
"""→ 2 bytes: the levels that the server says it reproduces; none for all."""

_LEVELS_BYTES: Final = 2


async def own_levels(agent: Agent) -> Profile:
    """What this machine reproduces; tested if that is not known of this very library."""
    if agent.levels is None:
        library = _library()
        noted = await agent.replica.store.mark(LEVELS_MARK)
        if noted is not None and noted[_LEVELS_BYTES:] == library:
            agent.levels = _levels(noted)
            recall(agent.levels)
        else:
            agent.levels = await asyncio.to_thread(profile)
            await agent.replica.store.set_marks({LEVELS_MARK: agent.levels.to_bytes(_LEVELS_BYTES, "big") + library})
    return agent.levels


async def server_levels(store: EntryStore) -> Profile:
    """What the server was last heard to reproduce."""
    noted = await store.mark(SERVER_LEVELS_MARK)
    return ALL_LEVELS if noted is None else _levels(noted)


async def note_server_levels(store: EntryStore, levels: Profile) -> None:
    """The server has said what it reproduces."""
    if levels != await server_levels(store):
        noted = None if levels == ALL_LEVELS else levels.to_bytes(_LEVELS_BYTES, "big")
        await store.set_marks({SERVER_LEVELS_MARK: noted})


def _levels(noted: bytes) -> Profile:
    return Profile(int.from_bytes(noted[:_LEVELS_BYTES], "big") & ALL_LEVELS)


def _library() -> bytes:
    return f"{zlib.ZLIB_RUNTIME_VERSION} {sys.version} {platform.machine()}".encode()
