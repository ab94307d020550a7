"""What renamed spaces are called: the latest word that no revocation holds back (docs/protocol.md, "Roster")."""

from __future__ import annotations

from protocol.errors import PeerFault
from protocol.model.entry import Kind
from protocol.model.structure import SpaceChange, SpaceRecord
from protocol.replica.at_work.replica import Replica


async def made_spaces(replica: Replica) -> dict[bytes, SpaceRecord]:
    """What the `space` entries say, by the space that they make.

    Of several for a school the earliest counts (least `at`, then id) that no revocation holds back, if there is one:
    the same on every replica, whichever came first.
    """
    entries = await replica.store.scan_kinds([Kind.SPACE])
    found: dict[bytes, SpaceRecord] = {}
    held_back = (await replica.view(replica.territory)).roster.held_back
    for entry in sorted(entries, key=lambda entry: (entry.id in held_back, entry.header.at, entry.id)):
        record = SpaceRecord.parse(entry.payload or b"")
        found.setdefault(record.space_of(entry, replica.territory), record)
    return found


async def changed_names(replica: Replica) -> dict[bytes, str]:
    """The names of renamed spaces; those that were never renamed are not in it."""
    entries = await replica.store.scan_kinds([Kind.SPACE_CHANGE])
    found: dict[bytes, str] = {}
    for entry in sorted(entries, key=lambda entry: (entry.header.at, entry.id)):
        space = entry.header.space
        if (await replica.view(space)).roster.hides(entry):
            continue
        try:
            found[space] = SpaceChange.parse(entry.payload or b"").name
        except PeerFault:
            continue
    return found
