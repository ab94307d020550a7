"""What this device has learnt from other devices, and does not know whether the server holds (R1).

Rules:
- entries that a peer brought leave a mark for their space, in the transaction that admits them: a crash forgets none;
- at the next sync with the server a marked space is compared by its fingerprint, else reconciled, so that exactly what
  the server lacks goes into the outbox, whoever brought it first;
- a mark is taken back only if nothing came in meanwhile, until the very transaction that takes it back;
- a space that is only named (by a server, a peer or a stick in wrong hands) leaves no mark that lasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from protocol.messages.parts import SpacePage
from protocol.replica.at_work.replica import Entropy, News, Replica
from protocol.replica.interfaces import EntryStore
from sync_agent.machine.marks import CURSOR_MARKS, PROVEN_MARKS

PEER_NEWS_MARKS: Final = "peer-news/"
"""+ space in hex → 8 random bytes, others each time: entries of it came from other devices."""

_BYTES: Final = 8


def news_marks(spaces: Iterable[bytes], entropy: Entropy) -> dict[str, bytes | None]:
    """The marks to set with entries of these spaces that did not come from the server."""
    return {PEER_NEWS_MARKS + space.hex(): entropy(_BYTES) for space in spaces}


def news_of(entropy: Entropy) -> News:
    """The same, for `Replica.admit`: of the spaces of which something came, whatever names others."""
    return lambda spaces: news_marks(spaces, entropy)


async def unsettled(store: EntryStore) -> dict[bytes, bytes]:
    """Each marked space, with what its mark says now."""
    marks = await store.marks(PEER_NEWS_MARKS)
    return {bytes.fromhex(key.removeprefix(PEER_NEWS_MARKS)): value for key, value in marks.items()}


async def forget_unknown(store: EntryStore) -> None:
    """Let go of what is noted of spaces of which nothing is here, and nothing waits: somebody named them, no more."""
    known = await store.spaces()
    named = [
        (key, bytes.fromhex(key.removeprefix(prefix)))
        for prefix in (CURSOR_MARKS, PEER_NEWS_MARKS, PROVEN_MARKS)
        for key in await store.marks(prefix)
    ]
    if any(space not in known for _, space in named):
        waiting = {held.entry.header.space for held in await store.held()}
        await store.set_marks({key: None for key, space in named if space not in known and space not in waiting})


async def unproven(replica: Replica, news: Iterable[bytes], pages: Iterable[SpacePage]) -> set[bytes]:
    """Of the marked spaces, those that these pages do not prove equal to the server's."""
    shown = {page.checkpoint.space: page.checkpoint.fingerprint for page in pages if not page.more}
    return {space for space in news if shown.get(space) != await replica.fingerprint(space)}


async def settle(store: EntryStore, seen: Mapping[bytes, bytes]) -> None:
    """The server turned out to hold, or has been promised, all that was there when these marks were read."""
    if seen:
        await store.drop_marks({PEER_NEWS_MARKS + space.hex(): value for space, value in seen.items()})
