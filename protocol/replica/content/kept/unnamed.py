"""Chunks that no list names any more, where something was destroyed: they go, once they have lain so for a week (R7).

Of what is destroyed, the chunks are known by its list. Where that never came, or went before, nobody can say whose the
chunks are; what an earlier version left lies there likewise. docs/protocol.md, "Erasure".

Rules:
- only a replica that has destroyed something looks, once in `WAIT_MS`, and gives up no more than `_MOST` packs a time;
- a chunk goes that no list names, in whatever space, at two looks: what arrives in several packs, its list the last, is
  given that long, and is asked for again afterwards;
- where the clock was set back, the wait begins anew; over how long it leapt, nothing has waited (`pace`).
"""

from __future__ import annotations

from typing import Final

from protocol.limits import ERASURE_DELAY_MS
from protocol.replica.interfaces import ContentStore, EntryStore
from protocol.transfer.chunking import HASH_BYTES

UNNAMED_MARK: Final = "unnamed-chunks"
"""→ 8 bytes of ms: when the last look was; the hashes of the packs that held such chunks then."""
WAIT_MS: Final = ERASURE_DELAY_MS
_MOST: Final = 256
_AT_ONCE: Final = 8
_TIME_BYTES: Final = 8


async def let_go_of_unnamed(store: EntryStore, content: ContentStore, now_ms: int) -> None:
    """Look, if a look is due. Raises `LocalFailure`; what it was cut off in is done by the next one."""
    noted = await store.mark(UNNAMED_MARK)
    since_ms = now_ms if noted is None else _since(noted)
    before = _packs(noted or b"")
    if noted is not None and since_ms <= now_ms < since_ms + WAIT_MS:
        return
    if since_ms > now_ms:
        await store.set_marks({UNNAMED_MARK: _mark(now_ms, before)})
        return
    found = await content.unnamed(_MOST)
    waited = [pack for pack in found if pack in before]
    gone: set[bytes] = set()
    for start in range(0, len(waited), _AT_ONCE):
        gone.update(await content.forget_unnamed(waited[start : start + _AT_ONCE]))
    await store.set_marks({UNNAMED_MARK: _mark(now_ms, [pack for pack in found if pack not in gone])})


async def waited_less(store: EntryStore, leapt_ms: int) -> dict[str, bytes]:
    """The mark to note when the own clock has leapt by so many ms."""
    noted = await store.mark(UNNAMED_MARK)
    return {} if noted is None else {UNNAMED_MARK: _mark(_since(noted) + leapt_ms, _packs(noted))}


def _since(noted: bytes) -> int:
    return int.from_bytes(noted[:_TIME_BYTES], "big", signed=True)


def _packs(noted: bytes) -> list[bytes]:
    return [noted[at : at + HASH_BYTES] for at in range(_TIME_BYTES, len(noted), HASH_BYTES)]


def _mark(at_ms: int, packs: list[bytes]) -> bytes:
    return at_ms.to_bytes(_TIME_BYTES, "big", signed=True) + b"".join(packs)
