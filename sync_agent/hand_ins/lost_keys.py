"""Work of this machine whose key it lost: nobody who comes late is given that by it (`wraps`).

The file of slots was deleted, cut short or spoilt. Whoever had a wrap by then opens the work all the same; of what is
known as opened, teachers' computers pass it on, and nothing is said.
"""

from __future__ import annotations

from sync_agent.app import Agent
from sync_agent.hand_ins.wraps import Kept
from sync_agent.machine.marks import HAND_IN_MARKS


async def lost_keys(agent: Agent) -> int:
    """Of how many works. Raises `LocalFailure`."""
    found = []
    for name, mark in (await agent.replica.store.marks(HAND_IN_MARKS)).items():
        sealed = Kept.parse(mark).sealed_key
        if sealed is not None and agent.key_slots.open(sealed) is None:
            found.append(bytes.fromhex(name.removeprefix(HAND_IN_MARKS)))
    lost = 0
    for entry in (await agent.replica.store.get(found)).values():
        work = (await agent.replica.view(entry.header.space)).coursework.hand_ins.get(entry.id)
        lost += work is not None and not work.opened
    return lost
