"""That the server's key speaks elsewhere, as the server itself has said: whoever goes by its lists here is told.

Rules:
- said once it stays, whatever the next answer says: whoever has the key answers too, and says nothing of it;
- it is of a key: once the newest server that is known here has another one, nothing is told;
- since when, the server's own pages say: a time that an answer names is anybody's who has the key.

docs/protocol.md, "Sync"; docs/adr/0536.
"""

from __future__ import annotations

from protocol.replica.interfaces import EntryStore
from sync_agent.app import Agent
from sync_agent.machine.marks import ELSEWHERE_MARK
from sync_agent.transport.sealed_calls import newest_server


async def note_elsewhere(store: EntryStore, key: bytes) -> None:
    """The server has said, with this key, that it was brought words under it that it did not say."""
    if await store.mark(ELSEWHERE_MARK) != key:
        await store.set_marks({ELSEWHERE_MARK: key})


async def has_spoken_elsewhere(agent: Agent) -> bool:
    """Whether the server has said so of the key that it has."""
    newest, noted = await newest_server(agent.replica), await agent.replica.store.mark(ELSEWHERE_MARK)
    return newest is not None and newest[0].key == noted
