"""What the server has refused, as this machine remembers it; and when that is offered once more.

Rules:
- a refusal is one answer's word: who has a copy of the server's keys, and a line for one question, says it too. What
  was refused is offered again a day later, to the same server as well, and at once to another one (other keys, or
  another store);
- what cuts off, forgets or takes back does not wait for that: it stays in the outbox until it was taken;
- what is refused counts as not told yet (docs/adr/0337, docs/adr/0338).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocol.clock import DAY_MS, milliseconds_of
from protocol.errors import Code
from protocol.model.entry import Entry, Kind
from protocol.replica.interfaces import EntryStore
from sync_agent.machine.marks import REFUSED_MARKS, REFUSED_SINCE_MARK, REFUSER_MARK

OFFERED_AGAIN_MS: Final = DAY_MS
_PASSING: Final = frozenset({Code.MISSING_GRANT, Code.OVER_QUOTA, Code.DISK_FULL})
"""A quarantine that is full says that the grant is missing, a quota or a disk that there is no room: not for good."""
_NEVER_FOR_GOOD: Final = frozenset({Kind.REVOKE, Kind.ERASE, Kind.RULING})
_TIME_BYTES: Final = 8


def passes(entry: Entry, code: Code) -> bool:
    """Whether an entry that is refused so stays in the outbox."""
    return code in _PASSING or entry.header.kind in _NEVER_FOR_GOOD


async def refused_ids(store: EntryStore) -> set[bytes]:
    """What the server has refused, and was not offered since."""
    return {bytes.fromhex(mark.removeprefix(REFUSED_MARKS)) for mark in await store.marks(REFUSED_MARKS)}


async def note_refusals(store: EntryStore, codes: Mapping[bytes, Code], refuser: bytes, now_ms: int) -> None:
    """`refuser`, a server and its store, has refused these; since when it refuses anything is noted with the first."""
    marks = {f"{REFUSED_MARKS}{lost.hex()}": code.encode() for lost, code in codes.items()}
    since = await store.mark(REFUSED_SINCE_MARK) or now_ms.to_bytes(_TIME_BYTES, "big")
    await store.set_marks({**marks, REFUSER_MARK: refuser, REFUSED_SINCE_MARK: since})


async def offer_again(store: EntryStore, refuser: bytes, now_ms: int) -> None:
    """Put what was refused back into the outbox once it is due, or where it is another who is asked."""
    refused = await refused_ids(store)
    if refused and (await store.mark(REFUSER_MARK) != refuser or await _is_due(store, now_ms)):
        await store.mark_unsent(refused)
        gone = [f"{REFUSED_MARKS}{name.hex()}" for name in refused]
        await store.set_marks({**dict.fromkeys(gone), REFUSER_MARK: None, REFUSED_SINCE_MARK: None})


async def oldest_refused_hand_in(store: EntryStore, refused: set[bytes]) -> int | None:
    """When the oldest of the hand-ins among what was refused was made (ms)."""
    entries = (await store.get(list(refused))).values()
    return min((milliseconds_of(each.header.at) for each in entries if each.header.kind == Kind.HAND_IN), default=None)


async def _is_due(store: EntryStore, now_ms: int) -> bool:
    since = await store.mark(REFUSED_SINCE_MARK)
    return since is None or not 0 <= now_ms - int.from_bytes(since, "big") < OFFERED_AGAIN_MS
