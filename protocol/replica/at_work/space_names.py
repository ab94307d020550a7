"""What renamed spaces are called: the latest word that no revocation holds back (docs/protocol.md, "Roster")."""

from __future__ import annotations

from collections import defaultdict

from protocol.model.ancestry import moments
from protocol.model.entry import Entry, Kind, parsed
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
    return {space: name for space, (name, _) in (await changes_shown(replica)).items()}


async def changes_shown(replica: Replica) -> dict[bytes, tuple[str, bytes]]:
    """The names of renamed spaces, each with the entry that says so.

    The latest counts, of those that name what they replace by what that is: of a clock that was years ahead, and of a
    thief, nobody could take a name back otherwise. So also through a word that is held back since.
    """
    ever: defaultdict[bytes, dict[bytes, Entry]] = defaultdict(dict)
    names: defaultdict[bytes, dict[bytes, str]] = defaultdict(dict)
    for entry in await replica.store.scan_kinds([Kind.SPACE_CHANGE]):
        ever[entry.header.space][entry.id] = entry
        if (await replica.view(entry.header.space)).roster.hides(entry):
            continue
        if (change := parsed(entry, SpaceChange.parse)) is not None:
            names[entry.header.space][entry.id] = change.name
    found = {}
    for space, counting in names.items():
        said = moments(ever[space])
        latest = max(counting, key=lambda name: (said[name], name))
        found[space] = counting[latest], latest
    return found
