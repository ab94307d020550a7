"""Whom and what this replica has destroyed: marks of its own, and no part of any set (docs/protocol.md, "Erasure").

Rules:
- what was destroyed once stays destroyed: it is neither shown nor asked for nor kept again here, whoever takes the
  erasure back, until the root itself does (`protocol.roster`);
- so a server in wrong hands brings nobody back where they had been forgotten, whatever backup it has.
"""

from __future__ import annotations

from typing import Final

from protocol.replica.interfaces import EntryStore

DONE_MARKS: Final = "erased/"
"""+ what was destroyed in hex → 4 bytes: the local day; 0 if the kit had signed."""


async def destroyed_days(store: EntryStore) -> dict[bytes, int]:
    """Each name that was destroyed, with the local day; 0 for those that the kit had signed."""
    marks = await store.marks(DONE_MARKS)
    return {bytes.fromhex(key.removeprefix(DONE_MARKS)): int.from_bytes(day, "big") for key, day in marks.items()}


async def destroyed_names(store: EntryStore) -> frozenset[bytes]:
    """Whom and what this replica has destroyed by now."""
    return frozenset(await destroyed_days(store))
