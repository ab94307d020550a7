"""Which grants of a key are in force, what they open, and which revocations stand against it (R7, R11).

Over the door and the folds; docs/protocol.md, "Rights", "Sync".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

from protocol.replica.at_work.deserted import DesertedByRoot, but_for_deserted
from protocol.replica.at_work.views import SpaceView
from protocol.rights.door import Authority, Door

View: TypeAlias = Callable[[bytes], Awaitable[SpaceView]]
"""A space → its fold."""


async def authorities_in_force(door: Door, view: View, key: bytes) -> list[Authority]:
    """The grants of a key that no revocation cuts and nothing holds back."""
    found = []
    for authority in door.authorities_of(key):
        roster = (await view(authority.space)).roster
        if key not in roster.cut and not (authority.grant in roster.held_back or authority.grant in roster.void):
            found.append(authority)
    return found


async def revocations_against(door: Door, view: View, device: bytes, spaces: Iterable[bytes]) -> list[bytes]:
    """The revocations in force in `spaces` of a device's key, and of those whose grants let it in."""
    keys, pending = set[bytes](), [device]
    while pending:
        if (key := pending.pop()) not in keys:
            keys.add(key)
            pending += [authority.author for authority in door.authorities_of(key)]
    found: dict[bytes, None] = {}
    for space in spaces:
        cuts = (await view(space)).roster.revocations
        found.update({name: None for name, key in cuts.items() if key in keys})
    return list(found)


def ever_opened_to(door: Door, key: bytes) -> set[bytes]:
    """The spaces into which anybody ever let a key in, or above which; whatever became of that."""
    return {space for each in door.authorities_of(key) for space in door.below(each.space)}


async def readable_by(door: Door, view: View, by_root: DesertedByRoot, key: bytes) -> dict[bytes, Authority]:
    """The spaces that a key may read, as `Replica.readable` gives them."""
    grants = sorted(await authorities_in_force(door, view, key), key=lambda grant: (grant.rank, grant.grant))
    below = {space for grant in grants for space in door.below(grant.space)}
    # of what a thief made up by the thousand nothing is folded, nor asked for, once the root has taken it back
    within = await but_for_deserted(door, by_root, below)
    from_below = {space: grant for grant in grants for space in door.lineage(grant.space)[1:]}
    found: dict[bytes, Authority] = {}
    for space in sorted(within | from_below.keys(), key=lambda space: (len(door.lineage(space)), space)):
        # a grant from above does not open a space in which it is held back, or the key has been cut
        holding = (await view(space)).roster.authority_of(key) if space in within else None
        opening = holding or from_below.get(space)
        if opening is not None:
            found[space] = opening
    return found
