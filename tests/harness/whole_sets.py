"""Folds from nothing, of all that a store holds of a space and above it: what all shorter ways must give."""

from __future__ import annotations

from protocol.folds.growth import SpaceFold, fold_space
from protocol.replica.interfaces import EntryStore
from protocol.rights.door import Door
from protocol.rights.speaking import Remembered


async def folded_from_nothing(
    store: EntryStore,
    door: Door,
    space: bytes,
    remembered: Remembered | None = None,
    destroyed: frozenset[bytes] = frozenset(),
) -> SpaceFold:
    """The folds of a space, with what a replica remembers there and has destroyed."""
    own, *above = [[stored.entry for stored in await store.scan(each)] for each in door.lineage(space)]
    higher = [entry for entries in above for entry in entries]
    return fold_space(space, own, higher, door, remembered or Remembered(), destroyed)
