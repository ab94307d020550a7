"""Which reports of devices lie here, and despite which of them the teacher has said on this device that one is hers.

Rules (docs/protocol.md, "Confirmed devices", C17; docs/adr/0568):
- a report lies here whatever has become of it: whoever has the server holds one back for as long as one look takes;
- a yes is about the reports that lay here as it was said: of one that comes later the teacher has not heard.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import Revocation
from sync_agent.app import Agent
from sync_agent.machine.beginnings import beginnings, noting
from sync_agent.machine.marks import YES_DESPITE_MARKS


class Report(NamedTuple):
    """The entry that says that a device is out, and the device's key."""

    entry: Entry
    key: bytes


async def reports_here(agent: Agent) -> Mapping[bytes, Sequence[Report]]:
    """All reports that lie here, by space. That an access has ended is none."""
    found = defaultdict[bytes, list[Report]](list)
    for entry in await agent.replica.store.scan_kinds([Kind.REVOKE]):
        cut = parsed(entry, Revocation.parse) if entry.header.target is None else None
        if cut is not None:
            found[entry.header.space].append(Report(entry, cut.key))
    return found


async def said_yes_despite(agent: Agent, key: bytes) -> dict[str, bytes]:
    """The mark that the teacher has said of the device with this key that it is hers, despite what is known of it."""
    known = {one.entry.id for some in (await reports_here(agent)).values() for one in some if one.key == key}
    if not known:
        return {}
    mark = YES_DESPITE_MARKS + key.hex()
    return {mark: noting(known | beginnings(await agent.replica.store.mark(mark)))}


async def answered(agent: Agent) -> Mapping[bytes, frozenset[bytes]]:
    """Of each key the beginnings of the reports despite which the teacher has said that its device is hers."""
    marks = await agent.replica.store.marks(YES_DESPITE_MARKS)
    return {bytes.fromhex(name.removeprefix(YES_DESPITE_MARKS)): beginnings(value) for name, value in marks.items()}
