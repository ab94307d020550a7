"""Since when what had been destroyed has been here again, by the own clock (docs/protocol.md, "Erasure").

It goes at the next look, but for what an entry may name that is still to come, with the list that names it: for that a
week is waited, watched as of all that waits. Something lacks always somewhere, if only because a thief names it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from protocol.limits import ERASURE_DELAY_MS
from protocol.replica.interfaces import EntryStore

AGAIN_MARK: Final = "come-again"
"""→ for each stream, its name and 8 bytes of ms."""
WAITING_MS: Final = ERASURE_DELAY_MS
_NAME_BYTES: Final = 32
_ROW_BYTES: Final = _NAME_BYTES + 8


async def waited_for_long(store: EntryStore, streams: Collection[bytes], now_ms: int) -> set[bytes]:
    """Those of these streams, all that are here again, for which nothing that lacks is waited for any more."""
    noted = await _noted(store)
    since = {name: min(noted.get(name, now_ms), now_ms) for name in sorted(streams)}
    if since != noted:
        await store.set_marks({AGAIN_MARK: _mark(since)})
    return {name for name, at_ms in since.items() if at_ms <= now_ms - WAITING_MS}


async def here_less(store: EntryStore, leapt_ms: int) -> dict[str, bytes | None]:
    """The mark to note when the own clock has leapt by so many ms."""
    noted = await _noted(store)
    return {AGAIN_MARK: _mark({name: at_ms + leapt_ms for name, at_ms in noted.items()})} if noted else {}


async def _noted(store: EntryStore) -> dict[bytes, int]:
    mark = await store.mark(AGAIN_MARK) or b""
    rows = (mark[at : at + _ROW_BYTES] for at in range(0, len(mark), _ROW_BYTES))
    return {row[:_NAME_BYTES]: int.from_bytes(row[_NAME_BYTES:], "big", signed=True) for row in rows}


def _mark(since: Mapping[bytes, int]) -> bytes | None:
    return b"".join(name + at_ms.to_bytes(8, "big", signed=True) for name, at_ms in since.items()) or None
