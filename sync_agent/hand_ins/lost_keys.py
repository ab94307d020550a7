"""Work of this machine whose key opens no more: nobody who comes late is given that by it (`wraps`). And such drafts.

A file of slots was deleted, cut short or spoilt, or may not be read. Whoever had a wrap by then opens the work all the
same; of what is known as opened, teachers' computers pass it on, and nothing is said.
"""

from __future__ import annotations

from sync_agent.app import Agent
from sync_agent.hand_ins.drafts import Kept as Draft
from sync_agent.hand_ins.wraps import kept_here
from sync_agent.machine.marks import DRAFT_MARKS


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


async def lost_drafts(agent: Agent) -> int:
    """How many drafts lie here that nothing opens. Raises `LocalFailure`."""
    opening = agent.key_slots.opening()
    kept = map(Draft.parse, (await agent.replica.store.marks(DRAFT_MARKS)).values())
    return sum(each is not None and opening(each.sealed_key) is None for each in kept)
