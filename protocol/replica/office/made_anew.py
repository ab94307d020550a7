"""That a store did not begin with what it holds: it was made of the kit or a backup, or of what a damaged one had left.

Rules:
- it may not have heard of what another one was given since;
- what it holds came to it at once, and what comes later is brought by whoever comes first: none of it was first, and
  nobody is known by having been here (docs/adr/0347, docs/adr/0349, docs/adr/0416).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocol.replica.interfaces import EntryStore

MADE_ANEW_MARK: Final = "made-anew"
"""→ 8 bytes of ms: when it was made of the kit or a backup."""
LOST_MARK: Final = "lost-entries"
"""→ 8 bytes of ms: when entries were last lost here, or may have been; and a byte more if all notes were lost too."""
_TIME_BYTES: Final = 8


def made_anew_mark(at_ms: int) -> Mapping[str, bytes | None]:
    """The mark that says so."""
    return {MADE_ANEW_MARK: at_ms.to_bytes(_TIME_BYTES, "big")}


def made_anew_ms(mark: bytes | None) -> int | None:
    """When that was, by its mark; None for a server that never was."""
    return None if mark is None else int.from_bytes(mark, "big")


async def came_at_once(store: EntryStore) -> bool:
    """Whether nothing that a store holds was first in it."""
    return any([await store.mark(mark) is not None for mark in (MADE_ANEW_MARK, LOST_MARK)])
