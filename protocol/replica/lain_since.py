"""Since when things have lain here, one mark for all of a kind (docs/protocol.md, "Erasure").

Rules:
- it is when a look first saw a thing, by the own clock; for one that is seen no more it is forgotten;
- where the clock was set back, what was seen later begins anew; over how long it leapt, nothing has lain (`pace`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from protocol.replica.interfaces import EntryStore

_TIME_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class LainSince:
    """A mark: for each thing 8 bytes of ms, less than 0 where it lay before the own clock began, and its key."""

    mark: str
    key_bytes: int

    async def look(self, store: EntryStore, here: Iterable[bytes], now_ms: int) -> dict[bytes, int]:
        """Since when each of these, all that are here, has lain; noted from now on."""
        noted = await self._noted(store)
        since = {key: min(noted.get(key, now_ms), now_ms) for key in here}
        if since != noted:
            await store.set_marks({self.mark: _encoded(since)})
        return since

    async def less(self, store: EntryStore, leapt_ms: int) -> dict[str, bytes | None]:
        """The mark to note when the own clock has leapt by so many ms."""
        noted = await self._noted(store)
        return {self.mark: _encoded({key: at_ms + leapt_ms for key, at_ms in noted.items()})} if noted else {}

    async def _noted(self, store: EntryStore) -> dict[bytes, int]:
        mark, size = await store.mark(self.mark) or b"", _TIME_BYTES + self.key_bytes
        rows = (mark[at : at + size] for at in range(0, len(mark), size))
        return {row[_TIME_BYTES:]: int.from_bytes(row[:_TIME_BYTES], "big", signed=True) for row in rows}


def _encoded(since: Mapping[bytes, int]) -> bytes | None:
    rows = (at_ms.to_bytes(_TIME_BYTES, "big", signed=True) + key for key, at_ms in sorted(since.items()))
    return b"".join(rows) or None
