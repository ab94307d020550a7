"""That a teacher has looked at a reader ends once this device sees that they are gone: back they are news.

Rules (docs/protocol.md, "Confirmed devices"; docs/adr/0600):
- whatever took somebody away, and whatever brings them back: that they read no more is seen, and no word is asked for;
- gone is who stands in a class no more as whom they were looked at; who spoke, and waits, was seen to wait;
- what they could read until then is noted: that a colleague leaves is no news, what is sealed to them later is;
- of a class that is hidden, or in which this device itself has no right for now, nothing is seen: there all are gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from protocol.rights.roster import Roster
from protocol.rights.vouching import device_id
from sync_agent.app import Agent
from sync_agent.keys.confirming import list_readers, read_here, speakers
from sync_agent.keys.past_readers import list_past_readers, works_seen
from sync_agent.keys.seen_readers import left_of
from sync_agent.machine.marks import KNOWN_READER_MARKS


async def note_who_is_gone(agent: Agent) -> None:
    """Note of whom the teacher has looked at that they read no more. To be called after what may have brought that."""
    gone = await _gone(agent)
    if not gone:
        return
    marks: dict[str, bytes | None] = {**gone}
    for past in await list_past_readers(agent, await list_readers(agent), gone):
        leaving = [each for each in past.noted if each.leaves]
        if past.person is not None and leaving:
            marks |= await works_seen(agent, past.person, leaving)
    await agent.replica.store.set_marks(marks)


async def _gone(agent: Agent) -> dict[str, bytes]:
    """The marks of those who are, as they are to be."""
    store, found = agent.replica.store, dict[str, bytes]()
    looked_at = await store.marks(KNOWN_READER_MARKS)
    for place in await read_here(agent) if looked_at else ():
        roster = (await agent.replica.view(place.space)).roster
        if place.space in roster.erased:
            continue
        prefix, here = f"{KNOWN_READER_MARKS}{place.space.hex()}/", _standing_here(roster)
        for name, mark in looked_at.items():
            if name.startswith(prefix):
                left = left_of(mark, here.get(bytes.fromhex(name.removeprefix(prefix)), {}))
                if left != mark:
                    found[name] = left
    return found


def _standing_here(roster: Roster) -> Mapping[bytes, Mapping[bytes, bool]]:
    """Of each device as whose it stands in a class, and whether it speaks as that."""
    found = defaultdict[bytes, dict[bytes, bool]](dict)
    for device, grant in speakers(roster):
        if grant.person is not None and grant.key not in roster.cut:
            found[device_id(device)][grant.person] = grant.grant not in roster.unconfirmed
    return found
