"""Work of this machine whose key it lost: nobody who comes late is given that by it (`wraps`).

The file of slots was deleted, cut short or spoilt. Whoever had a wrap by then opens the work all the same; of what is
known as opened, teachers' computers pass it on, and nothing is said.
"""

from __future__ import annotations

from sync_agent.app import Agent
from sync_agent.hand_ins.wraps import kept_here


async def lost_keys(agent: Agent) -> int:
    """Of how many works. Raises `LocalFailure`."""
    sealed = {work: kept.sealed_key for work, kept in (await kept_here(agent)).items() if kept.sealed_key is not None}
    opening = agent.key_slots.opening()
    found = [work for work, key in sealed.items() if opening(key) is None]
    lost = 0
    for entry in (await agent.replica.store.get(found)).values():
        work = (await agent.replica.view(entry.header.space)).coursework.hand_ins.get(entry.id)
        lost += work is not None and not work.opened
    return lost
