"""What a stranger needs to admit an entry: the chain under it, in order (R7; docs/protocol.md, "Admission").

Rules:
- what is needed are the grants under which it was written, up to the root, the `space` entries above them, one
  rotation from each root to the next, and the lists, or the grant that it ends, without which a revocation does not
  count;
- nothing recursive: a machine may have been cloned more often than the interpreter may recurse.
"""

from __future__ import annotations

from collections.abc import Iterable

from protocol.model.entry import Entry, Kind
from protocol.model.structure import Revocation, SpaceRecord
from protocol.replica.interfaces import EntryStore
from protocol.rights.door import Door


async def credentials_of(store: EntryStore, door: Door, territory: bytes, ids: Iterable[bytes]) -> tuple[Entry, ...]:
    """The entries of `ids` with all that a stranger needs to admit them, in an admissible order."""
    makers: dict[bytes, Entry] = {}
    for made in await store.scan_kinds([Kind.SPACE]):
        makers.setdefault(SpaceRecord.parse(made.payload or b"").space_of(made, territory), made)
    steps = await store.get(door.steps) if door.steps else {}
    found = {step: steps[step] for step in door.steps if step in steps}
    missing: set[bytes] = set()
    pending = list(ids)[::-1]
    while pending:
        wanted = pending[-1]
        entry = None if wanted in found else (await store.get([wanted])).get(wanted)
        if entry is None:
            missing.add(wanted)
            pending.pop()
            continue
        above = [makers[space].id for space in reversed(door.lineage(entry.header.space)) if space in makers]
        grant = () if entry.header.grant is None else (entry.header.grant,)
        led_by = (*above, *grant, *lists_of(entry), *_ended_by(entry, door))
        needed = [name for name in led_by if name not in found and name not in missing]
        if needed:
            pending.extend(reversed(needed))
        else:
            found[wanted] = entry
            pending.pop()
    return tuple(found.values())


def lists_of(entry: Entry) -> tuple[bytes, ...]:
    """The lists without which a root's revocation does not count; none for any other entry."""
    if entry.header.kind != Kind.REVOKE or entry.header.grant is not None or entry.payload is None:
        return ()
    return Revocation.parse(entry.payload).lists


def _ended_by(entry: Entry, door: Door) -> tuple[bytes, ...]:
    """The grant that a revocation ends, if it is one."""
    target = entry.header.target if entry.header.kind == Kind.REVOKE else None
    return () if target is None or door.authority(target) is None else (target,)
