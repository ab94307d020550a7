"""Chunks that no list names any more, where something was destroyed: they go, once they have lain so for a week (R7).

Of what is destroyed, the chunks are known by its list. Where that never came, or went before, nobody can say whose the
chunks are; what an earlier version left lies there likewise. docs/protocol.md, "Erasure".

Rules:
- only a replica that has destroyed something looks, once in `WAIT_MS`, and notes all such packs: whoever brings many
  before others puts nothing off by weeks (docs/adr/0564). Each is noted in less than what its row takes;
- a chunk goes that no list names, in whatever space, at two looks: what arrives in several packs, its list the last, is
  given that long, and is asked for again afterwards;
- what was noted goes `_ROUNDS` times `_AT_ONCE` packs an hour, and anew is noted only once all of it has gone. While
  something is written here, it waits;
- where the clock was set back, the wait begins anew; over how long it leapt, nothing has waited (`pace`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from protocol.limits import ERASURE_DELAY_MS, MAX_PACK_BYTES
from protocol.replica.interfaces import ContentStore, EntryStore
from protocol.transfer.chunking import HASH_BYTES

UNNAMED_MARK: Final = "unnamed-chunks"
"""→ 8 bytes of ms: when the last look was; the hashes of the packs that held such chunks then, and have yet to go."""
WAIT_MS: Final = ERASURE_DELAY_MS
_ROUNDS: Final = 32
_AT_ONCE: Final = 256
_BYTES_AT_ONCE: Final = 8 * MAX_PACK_BYTES
"""What is written anew of so many packs lies beside them meanwhile."""
_TIME_BYTES: Final = 8


async def let_go_of_unnamed(store: EntryStore, content: ContentStore, now_ms: int) -> None:
    """Look, if a look is due. Raises `LocalFailure`; what it was cut off in is done by the next one."""
    noted = await store.mark(UNNAMED_MARK)
    since_ms = now_ms if noted is None else _since(noted)
    waited = _packs(noted or b"")
    if noted is not None and since_ms <= now_ms < since_ms + WAIT_MS:
        return
    if since_ms > now_ms:
        await store.set_marks({UNNAMED_MARK: _mark(now_ms, waited)})
        return
    if waited := await _let_go(content, waited):
        await store.set_marks({UNNAMED_MARK: _mark(since_ms, waited)})
        return
    await store.set_marks({UNNAMED_MARK: _mark(now_ms, await content.unnamed())})


async def _let_go(content: ContentStore, waited: Sequence[bytes]) -> list[bytes]:
    """Let go of what has waited, as far as it is unnamed still; what is left for the next hour."""
    sizes = await content.pack_sizes() if waited else {}
    here = [pack for pack in waited if pack in sizes]
    for _, some in zip(range(_ROUNDS), _in_rounds(here, sizes), strict=False):
        if await content.is_building():
            break
        await content.forget_unnamed(some)
        here = here[len(some) :]
    return here


def _in_rounds(packs: Sequence[bytes], sizes: Mapping[bytes, int]) -> Iterator[Sequence[bytes]]:
    """These packs in their order, as many at once as these bounds allow."""
    first, weight = 0, 0
    for at, pack in enumerate(packs):
        if at > first and (at - first == _AT_ONCE or weight + sizes[pack] > _BYTES_AT_ONCE):
            yield packs[first:at]
            first, weight = at, 0
        weight += sizes[pack]
    if packs:
        yield packs[first:]


async def waited_less(store: EntryStore, leapt_ms: int) -> dict[str, bytes]:
    """The mark to note when the own clock has leapt by so many ms."""
    noted = await store.mark(UNNAMED_MARK)
    return {} if noted is None else {UNNAMED_MARK: _mark(_since(noted) + leapt_ms, _packs(noted))}


def _since(noted: bytes) -> int:
    return int.from_bytes(noted[:_TIME_BYTES], "big", signed=True)


def _packs(noted: bytes) -> list[bytes]:
    return [noted[at : at + HASH_BYTES] for at in range(_TIME_BYTES, len(noted), HASH_BYTES)]


def _mark(at_ms: int, packs: Sequence[bytes]) -> bytes:
    return at_ms.to_bytes(_TIME_BYTES, "big", signed=True) + b"".join(packs)
