"""What proves this device to a server that does not know it (docs/protocol.md, "Strangers")."""

from __future__ import annotations

from protocol.entry import Entry, Kind
from protocol.errors import PeerFault
from protocol.limits import MAX_CREDENTIALS
from protocol.replica.replica import Replica
from protocol.structure import SpaceRecord


async def credentials_of(replica: Replica, key: bytes, *, first: bytes | None = None) -> tuple[Entry, ...]:
    """The grants of `key` with the certificate, grants and `space` entries above them, each after what it hangs on.

    As many grants as fit into a message, those that open the space `first` before others.
    """
    chain = await _Chain.of(replica)
    grants = [authority for authority in replica.door.authorities() if authority.key == key]
    grants.sort(key=lambda authority: first is None or authority.space not in replica.door.lineage(first))
    found: dict[bytes, Entry] = {}
    for authority in grants:
        longer = dict(found)
        chain.gather(authority.grant, longer)
        if len(longer) <= MAX_CREDENTIALS:
            found = longer
    return tuple(found.values())


class _Chain:
    """The entries that make authorities and spaces, by id, and the entry that makes each space."""

    def __init__(self, entries: dict[bytes, Entry], makers: dict[bytes, bytes]) -> None:
        self._entries = entries
        self._makers = makers

    @classmethod
    async def of(cls, replica: Replica) -> _Chain:
        kinds = (Kind.CERTIFICATE, Kind.GRANT, Kind.SUCCESSOR, Kind.SPACE)
        entries = {entry.id: entry for entry in await replica.store.scan_kinds(kinds)}
        makers = {}
        for entry in entries.values():
            if entry.header.kind == Kind.SPACE and entry.payload is not None:
                try:
                    record = SpaceRecord.parse(entry.payload)
                except PeerFault:
                    continue
                makers[record.space_of(entry, replica.territory)] = entry.id
        return cls(entries, makers)

    def gather(self, entry_id: bytes | None, found: dict[bytes, Entry]) -> None:
        """Add an entry behind everything that it hangs on."""
        entry = None if entry_id is None else self._entries.get(entry_id)
        if entry is None or entry.id in found:
            return
        self.gather(entry.header.grant, found)
        self.gather(self._makers.get(entry.header.space), found)
        found[entry.id] = entry
