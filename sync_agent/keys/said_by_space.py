"""What was ever said of one kind, space by space.

It is read once for all spaces: a page asks it of each of a teacher's classes, and whoever had the server's key makes up
as many classes, and words in them, as they like.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from protocol.model.entry import Entry, Kind
from sync_agent.app import Agent


async def said_by_space(agent: Agent, kind: Kind) -> Mapping[bytes, Sequence[Entry]]:
    """The entries of a kind, by the space in which they lie, in order of arrival; of one without any it has none."""
    found: defaultdict[bytes, list[Entry]] = defaultdict(list)
    for entry in await agent.replica.store.scan_kinds([kind]):
        found[entry.header.space].append(entry)
    return dict(found)
