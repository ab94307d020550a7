"""That the server's key speaks elsewhere, as the server itself has said: whoever goes by its lists here is told.

Rules:
- said once it stays, however the next answer is: whoever has the key answers too, and says nothing of it;
- it is of a key: once the newest server that is known here has another one, nothing is told;
- the earliest time counts that was said.

docs/protocol.md, "Sync"; docs/adr/0536.
"""

from __future__ import annotations

from typing import Final

from protocol.replica.interfaces import EntryStore
from sync_agent.app import Agent
from sync_agent.machine.marks import ELSEWHERE_MARK
from sync_agent.transport.sealed_calls import newest_server

_KEY_BYTES: Final = 32
_TIME_BYTES: Final = 8


async def note_elsewhere(store: EntryStore, key: bytes, since_ms: int | None) -> None:
    """The server has said, with this key, since when (ms) it is brought words under it that it did not say."""
    if since_ms is None:
        return
    known_ms = await _said_of(store, key)
    if known_ms is None or since_ms < known_ms:
        await store.set_marks({ELSEWHERE_MARK: key + since_ms.to_bytes(_TIME_BYTES, "big")})


async def elsewhere_since(agent: Agent) -> int | None:
    """Since when (ms, by the server's clock) the server has said so of the key that it has; None where it has not."""
    newest = await newest_server(agent.replica)
    return None if newest is None else await _said_of(agent.replica.store, newest[0].key)


async def _said_of(store: EntryStore, key: bytes) -> int | None:
    noted = await store.mark(ELSEWHERE_MARK)
    return None if noted is None or noted[:_KEY_BYTES] != key else int.from_bytes(noted[_KEY_BYTES:], "big")
