"""What is held back in a space, and lies in it.

What is held back above, a thief's words by the thousand, is so in each space below it. Whoever looks through many
spaces looks in each at no more than has been said in it.
"""

from __future__ import annotations

from collections.abc import Collection

from protocol.model.entry import Entry
from protocol.replica.at_work.replica import Replica


async def held_in(
    replica: Replica, space: bytes, size: int, kinds: Collection[int], *, most: int | None = None
) -> list[Entry]:
    """Of these kinds what is held back in a space that holds `size` entries, and lies there; and so many at `most`.

    What somebody has refused is among it. With `most`, what waits for a word is looked at alone, and no more of it.
    """
    if not size:
        return []
    roster = (await replica.view(space)).roster
    waiting = roster.held_back if most is None else roster.held_back - roster.refused
    if size <= len(waiting):
        said = [stored.entry for stored in await replica.store.of_kinds(space, kinds)]
        return [entry for entry in said if entry.id in waiting][:most]
    for above in replica.door.lineage(space)[1:]:
        waiting -= (await replica.view(above)).roster.held_back
    names = sorted(waiting)[:most]
    found = await replica.store.get(names) if names else {}
    return [entry for entry in found.values() if entry.header.space == space and entry.header.kind in kinds]
