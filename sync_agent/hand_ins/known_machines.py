"""Since when this device knows the machines on which work is handed in (docs/attacks.md, "work is dated ahead").

Rules:
- lists that end somewhere have room for those of known machines first (`by_turns`): whoever has the server lets in as
  many as they like, each with one piece of work;
- a machine is known where it was let in when this device met the class, or a week ago, as this device has watched
  (`watched`): no date, grant or receipt of others moves that;
- so many of a class are noted; where there is no room, those go that have no right any more. Who comes when as many
  have one is not known: nothing tells invented machines from a school's, but that these were here first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.folds.coursework import Work
from protocol.limits import ACQUAINTANCE_MS
from protocol.rights.roster import Roster
from sync_agent.app import Agent
from sync_agent.machine.marks import MACHINE_BYTES, machines_mark

MAX_MACHINES_NOTED: Final = 1_024
"""Of a class: a school's PCs are some hundred."""


async def note_machines(agent: Agent) -> None:
    """Note which machines there are in each class by now."""
    marks = dict[str, bytes | None]()
    for space in await agent.spaces():
        known, roster = agent.acquainted.machines.get(space, {}), (await agent.replica.view(space)).roster
        now = _with_new(known, roster, agent.watched.now_ms())
        if now != known:
            agent.acquainted.machines[space] = now
            marks |= machines_mark(space, now)
    await agent.acquainted.save(agent.replica.store, marks)


def _with_new(known: dict[bytes, int], roster: Roster, now_ms: int) -> dict[bytes, int]:
    """Those that come later than others are never known as early as these."""
    there = {authority.key[:MACHINE_BYTES] for authority in roster.authorities}
    new = there - known.keys()
    if not new:
        return known
    met_ms = max(now_ms, max(known.values(), default=-1) + 1)
    if len(known) + len(new) > MAX_MACHINES_NOTED:
        known = {machine: since_ms for machine, since_ms in known.items() if machine in there}
    room = max(0, MAX_MACHINES_NOTED - len(known))
    return {**known, **dict.fromkeys(sorted(new)[:room], met_ms)}


def known_since(agent: Agent) -> Callable[[Work], int | None]:
    """Since when the machine of a work is known (ms as `watched` counts); None where it is not yet."""
    now_ms = agent.watched.now_ms()
    first_ms = dict[bytes, int]()

    def since(work: Work) -> int | None:
        if agent.made(work):
            return 0
        met_ms = agent.acquainted.machines.get(work.space, {}).get(work.author[:MACHINE_BYTES])
        if met_ms is None:
            return None
        if work.space not in first_ms:
            first_ms[work.space] = min(agent.acquainted.machines[work.space].values())
        return met_ms if met_ms == first_ms[work.space] or now_ms - met_ms >= ACQUAINTANCE_MS else None

    return since
