"""What this device holds beyond what the server was seen to hold: what was acknowledged, and may not be there.

Rules:
- who has a copy of the server's keys, and a line for one question, says that it has taken what the server never hears
  of; nothing is left to send then, and the cursor stands where the server stood before;
- a cursor that leads to all that is here, and is the server's own, counts as many entries as lie here. Where fewer are
  counted, and nothing of that space that is known to be left to send explains it, the space is compared at the next
  sync, and its device has not told all (docs/adr/0337);
- what is left to send is known by its ids: nobody believes of it that it explains what it does not (docs/adr/0467).
"""

from __future__ import annotations

from sync_agent.app import Agent
from sync_agent.machine.refusals import refused_ids
from sync_agent.sync.cursors import read_cursors


async def left_to_send(agent: Agent) -> int:
    """How many entries are known not to have been taken: unsent ones, and what the server refuses."""
    store = agent.replica.store
    entries, _ = await store.unsent_totals()
    return entries + len(await refused_ids(store))


async def left_by_space(agent: Agent) -> dict[bytes, set[bytes]]:
    """The ids of that, by space."""
    store = agent.replica.store
    left = {space: set(ids) for space, ids in (await store.unsent_ids()).items()}
    refused = await refused_ids(store)
    for entry in (await store.get(list(refused))).values() if refused else ():
        left.setdefault(entry.header.space, set()).add(entry.id)
    return left


async def unseen(agent: Agent) -> dict[bytes, int]:
    """By space: how many more lie here than the server was seen to hold and are left to send."""
    left = await left_by_space(agent)
    store = agent.replica.store
    cursors, held = await read_cursors(store), await store.spaces()
    known = (await agent.spaces()).keys() & cursors.keys()
    beyond = {space: held.get(space, 0) - cursors[space].count - len(left.get(space, ())) for space in known}
    return {space: count for space, count in beyond.items() if count > 0}
