"""What was destroyed here is not brought back by a disk, and not carried on (docs/protocol.md, "Courier disks").

What an erasure covers is hidden at once and destroyed when it is due (`protocol.replica.eraser`). From then on this
device takes bare headers of it only; it has no others to give.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from protocol.entry import Entry, Kind
from protocol.erasing import is_destroyed_by
from protocol.errors import PeerFault
from protocol.replica.destroyed import destroyed_names
from protocol.rights import Door
from protocol.structure import Erasure
from sync_agent.app import Agent
from sync_agent.erasing import destroy_erased


class Erased:
    """What is destroyed in each space. Made by `of`."""

    def __init__(self, names: Mapping[bytes, set[bytes]], door: Door) -> None:
        self._names = names
        self._door = door

    @classmethod
    async def of(cls, agent: Agent) -> Erased:
        """As things stand once what is due has been destroyed. Raises `LocalFailure`."""
        await destroy_erased(agent)
        store = agent.replica.store
        done = await destroyed_names(store)
        names: defaultdict[bytes, set[bytes]] = defaultdict(set)
        for entry in await store.scan_kinds([Kind.ERASE]) if done else ():
            try:
                covers = Erasure.parse(entry.payload or b"").covers
            except PeerFault:
                continue
            if covers in done:
                names[entry.header.space].add(covers)
        return cls(names, agent.replica.door)

    def spare(self, entry: Entry) -> Entry:
        """The entry as it may come in."""
        if not self._names:
            return entry
        covers = {name for space in self._door.lineage(entry.header.space) for name in self._names.get(space, ())}
        return replace(entry, salt=None, payload=None) if is_destroyed_by(entry, covers) else entry
