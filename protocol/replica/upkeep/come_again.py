"""Since when what had been destroyed has been here again, by the own clock (docs/protocol.md, "Erasure").

It goes at the next look, but for what an entry may name that is still to come, with the list that names it: for that a
week is waited, watched as of all that waits. Something lacks always somewhere, if only because a thief names it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from protocol.limits import ERASURE_DELAY_MS
from protocol.replica.interfaces import EntryStore
from protocol.replica.lain_since import LainSince

AGAIN_MARK: Final = "come-again"
"""→ for each stream, 8 bytes of ms and its name."""
WAITING_MS: Final = ERASURE_DELAY_MS
_AGAIN: Final = LainSince(AGAIN_MARK, 32)


async def waited_for_long(store: EntryStore, streams: Collection[bytes], now_ms: int) -> set[bytes]:
    """Those of these streams, all that are here again, for which nothing that lacks is waited for any more."""
    since = await _AGAIN.look(store, streams, now_ms)
    return {name for name, at_ms in since.items() if at_ms <= now_ms - WAITING_MS}


async def here_less(store: EntryStore, leapt_ms: int) -> dict[str, bytes | None]:
    """The mark to note when the own clock has leapt by so many ms."""
    return await _AGAIN.less(store, leapt_ms)
