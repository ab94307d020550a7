"""Which erasures have come to the point where nothing of what they cover may be carried.

Rules:
- hiding is the fold's, at once; destroying is local: an erasure that the kit signed counts at once, any other once it
  has been here for `ERASURE_REST_MS` by this device's own clock, so that a stolen server destroys nothing unnoticed;
- from then on a disk takes and brings bare headers only, and a bundle that still holds payloads is written anew.

docs/protocol.md, "Courier disks".
"""

from __future__ import annotations

from dataclasses import replace

from protocol.entry import Entry, Kind
from protocol.errors import PeerFault
from protocol.limits import ERASURE_REST_MS
from protocol.rights import is_erasable
from protocol.structure import Erasure
from sync_agent.app import ERASURE_MARKS, Agent


class Erased:
    """What is to be carried as bare headers. Made by `of`."""

    def __init__(self, names: dict[bytes, set[bytes]], agent: Agent) -> None:
        self._names = names
        self._door = agent.replica.door

    @classmethod
    async def of(cls, agent: Agent) -> Erased:
        """As things stand."""
        seen = await note_erasures(agent)
        names: dict[bytes, set[bytes]] = {}
        now_ms = agent.now_ms()
        for entry in await agent.replica.store.scan_kinds([Kind.ERASE]):
            since_ms = int.from_bytes(seen[_mark(entry)], "big")
            if entry.header.grant is not None and now_ms - since_ms < ERASURE_REST_MS:
                continue
            if entry.id in (await agent.replica.view(entry.header.space)).roster.held_back:
                continue
            try:
                covers = Erasure.parse(entry.payload or b"").covers
            except PeerFault:
                continue
            names.setdefault(covers, set()).add(entry.header.space)
        return cls(names, agent)

    def covers(self, entry: Entry) -> bool:
        """Whether an entry's payload is not to be carried."""
        if not self._names or not is_erasable(entry.header):
            return False
        header = entry.header
        line = self._door.lineage(header.space)
        named = (header.subject, header.target, entry.id, header.space)
        return any(name is not None and not self._names.get(name, set()).isdisjoint(line) for name in named)

    def spare(self, entry: Entry) -> Entry:
        """The entry as it may be carried."""
        return replace(entry, salt=None, payload=None) if self.covers(entry) else entry


async def note_erasures(agent: Agent) -> dict[str, bytes]:
    """Note when erasures were first seen here; all that is noted. To be called after what may have brought some."""
    store = agent.replica.store
    entries = await store.scan_kinds([Kind.ERASE])
    seen = await store.marks(ERASURE_MARKS) if entries else {}
    now = agent.now_ms().to_bytes(8, "big")
    fresh = {_mark(entry): now for entry in entries if _mark(entry) not in seen}
    await store.set_marks(fresh)
    return {**seen, **fresh}


def _mark(erasure: Entry) -> str:
    return f"{ERASURE_MARKS}{erasure.id.hex()}"
