"""What a server goes by once entries of its store were lost: a power cut, a bad disk (docs/adr/0349, docs/adr/0350).

It goes on by itself with what could be read of its damaged database, or with the rest where bad entries were moved
aside, under the same generation: what it lacks comes back with machines, as far as they call.

Rules:
- what was told to the store as it was has not been told to what is left of it: that has another name each time;
- nothing in it counts for having been there before notes of it began, or for having come first: the order of arrival is
  another one, and whoever brings back what was lost chooses when;
- a class that was closed has no more entries that had come by then than are left.

Marks of what arrived by a given time stay, and say themselves that they are of another order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from blake3 import blake3

from protocol.model.structure import GENERATION_BYTES
from protocol.replica.interfaces import EntryStore
from protocol.replica.office.known_here import begin_noting
from protocol.replica.upkeep.rebuild import Loss

CLOSED_MARKS: Final = "closed/"
"""+ space in hex → 8 bytes: how many entries the class had when it was closed here."""
_NUMBER_BYTES: Final = 8


def store_name(generation: bytes, loss: Loss | None) -> bytes:
    """What machines have told all: a store of this generation, as it is since entries were lost there last."""
    if loss is None:
        return generation
    return blake3(generation + loss.at_ms.to_bytes(_NUMBER_BYTES, "big")).digest()[:GENERATION_BYTES]


async def take_losses(store: EntryStore, root: bytes, loss: Loss | None) -> None:
    """Have notes say no more than they can of a store that lost entries so, before anything comes back to it."""
    await begin_noting(store, root, is_whole=loss is None)
    if loss is not None:
        await store.set_marks(await _bounded_counts(store))


async def _bounded_counts(store: EntryStore) -> Mapping[str, bytes | None]:
    held = await store.spaces()
    found: dict[str, bytes | None] = {}
    for mark, noted in (await store.marks(CLOSED_MARKS)).items():
        left = held.get(bytes.fromhex(mark.removeprefix(CLOSED_MARKS)), 0)
        if left < int.from_bytes(noted, "big"):
            found[mark] = left.to_bytes(_NUMBER_BYTES, "big")
    return found
