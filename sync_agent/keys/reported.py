"""Of which devices no program of their teacher's says by itself, in a further class, that they are hers.

Rules (docs/protocol.md, "Confirmed devices", C17; docs/adr/0568):
- of who was reported a human alone says so, in every class: whatever has become of that report, whoever holds it back,
  and whatever the device was let in as since, until a human says so despite it, on this device;
- where a report is in force, and the device is back and confirmed again, a human has said so;
- a report is one by whose rank the device could be cut off as what it was let in as there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from protocol.model.entry import Kind
from protocol.rights.door import Door
from protocol.rights.roster import Roster
from sync_agent.app import Agent
from sync_agent.keys.confirming import own_in_use
from sync_agent.keys.reports_known import Report, answered, reports_here
from sync_agent.machine.beginnings import BEGINNING_BYTES


async def reported(agent: Agent) -> frozenset[bytes]:
    """The keys of devices that were reported, or are back and not confirmed again, where this one spoke of keys.

    In any class of these; but for who is another's there now, and this one's teacher has confirmed as that.
    Also where it has no right any more: whoever takes that would have it forget.
    """
    found: set[bytes] = set()
    said = await agent.replica.store.scan_kinds([Kind.PERSON_KEY, Kind.VOUCH])
    spoken_as: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for entry in said:
        if entry.header.author == agent.device and entry.header.subject is not None:
            spoken_as[entry.header.space].add(entry.header.subject)
    lying, yes, door = await reports_here(agent), await answered(agent), agent.replica.door
    for space, persons in sorted(spoken_as.items()):
        roster = (await agent.replica.view(space)).roster
        reports = [one for each in door.lineage(space) for one in lying.get(each, ())]
        found |= {key for one, key in reports if one.id in roster.revocations and key in roster.cut}
        found |= _not_in_force(reports, roster, door, yes)
        if back := {key for (key, _), _ in roster.away.back}:
            found |= back - {key for each in persons for key, _ in own_in_use(agent, roster, each)}
    return frozenset(found - {agent.device})


def _not_in_force(
    reports: Iterable[Report], roster: Roster, door: Door, yes: Mapping[bytes, frozenset[bytes]]
) -> set[bytes]:
    """The keys of which some of these reports says that they are out, and does not count by now.

    But for those despite which a human has said `yes`.
    """
    rank: dict[bytes, int] = {}
    for given in roster.granted.values():
        rank[given.key] = min(given.rank, rank.get(given.key, given.rank))
    return {
        key
        for one, key in reports
        if one.id not in roster.revocations
        and door.rank_of(one.header) > rank.get(key, door.rank_of(one.header))
        and one.id[:BEGINNING_BYTES] not in yes.get(key, frozenset())
    }
