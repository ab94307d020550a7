"""For how long somebody had stood here, listed and under no erasure, when one came (docs/protocol.md, "Erasure").

Whoever has a server's key can say a name and its erasure in one breath, so that no list ever shows it. Such names have
stood for no time, and come after everybody else in the day's number.

Rules:
- listed is whom a `person` entry names; when that arrived, this replica tells by how many entries each space had at its
  looks, once a day: what others say of dates proves nothing;
- it is looked for once, when the first erasure of somebody is seen, and counts up to `FULL_MS`;
- who had stood for less keeps that for good: an erasure that is taken back and said anew brings nobody forward.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from protocol.clock import DAY_MS
from protocol.limits import CURSOR_HASH_BYTES
from protocol.model.entry import Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.interfaces import EntryStore

STOOD_MARKS: Final = "erasure-stood/"
"""+ person in hex → 8 bytes of ms."""
COUNTED_MARKS: Final = "arrivals-counted/"
"""+ space in hex → for each count, 8 bytes of ms when it was taken, 8 of the count, and the chain there."""
FULL_MS: Final = 7 * DAY_MS
_ROW_BYTES: Final = 8 + 8 + CURSOR_HASH_BYTES


class _Count(NamedTuple):
    """So many entries a space had at this time."""

    at_ms: int
    entries: int
    chain: bytes


async def stood(replica: Replica, names: Collection[bytes], now_ms: int) -> dict[bytes, int]:
    """For how many ms those had stood here over whom an erasure holds; noted of whom one is seen for the first time."""
    marks = await replica.store.marks(STOOD_MARKS)
    noted = {bytes.fromhex(key.removeprefix(STOOD_MARKS)): int.from_bytes(at, "big") for key, at in marks.items()}
    fresh = set(names) - noted.keys()
    found = dict.fromkeys(fresh, 0)
    for space in replica.door.spaces() if fresh else ():
        counts = await _that_hold(replica.store, space)
        listed: dict[bytes, int] = {}
        for one in await replica.store.of_kinds(space, [Kind.PERSON]) if counts else ():
            if one.entry.header.subject in fresh:
                listed.setdefault(one.entry.header.subject, one.arrival)
        for name, arrival in listed.items():
            since = (now_ms - count.at_ms for count in counts if count.entries >= arrival)
            found[name] = max(found[name], min(max(since, default=0), FULL_MS))
    over = {name: None for name, for_ms in noted.items() if for_ms == FULL_MS and name not in names}
    news = {name: for_ms.to_bytes(8, "big") for name, for_ms in found.items()}
    await replica.store.set_marks({STOOD_MARKS + name.hex(): mark for name, mark in {**over, **news}.items()})
    return {**noted, **found}


async def count_arrivals(replica: Replica, now_ms: int) -> None:
    """Note how many entries each space has, once a day."""
    marks: dict[str, bytes | None] = {}
    for space in replica.door.spaces():
        noted = _parsed(await replica.store.mark(COUNTED_MARKS + space.hex()))
        counts = [one._replace(at_ms=min(one.at_ms, now_ms)) for one in noted]
        if not counts or counts[-1].at_ms <= now_ms - DAY_MS:
            position = await replica.store.position(space)
            counts.append(_Count(now_ms, position.count, position.chain))
        while len(counts) > 1 and counts[1].at_ms <= now_ms - FULL_MS:
            del counts[0]
        if counts != noted:
            marks[COUNTED_MARKS + space.hex()] = _row(counts)
    await replica.store.set_marks(marks)


async def stood_less(store: EntryStore, leapt_ms: int) -> dict[str, bytes | None]:
    """The marks to note when the own clock has leapt by so many ms."""
    marks = await store.marks(COUNTED_MARKS)
    return {key: _row(one._replace(at_ms=one.at_ms + leapt_ms) for one in _parsed(row)) for key, row in marks.items()}


async def _that_hold(store: EntryStore, space: bytes) -> list[_Count]:
    """The counts of a space, but for those from before its arrivals were numbered anew."""
    counts = _parsed(await store.mark(COUNTED_MARKS + space.hex()))
    return [one for one in counts if not one.entries or await store.chain_at(space, one.entries) == one.chain]


def _parsed(mark: bytes | None) -> list[_Count]:
    rows = [(mark or b"")[at : at + _ROW_BYTES] for at in range(0, len(mark or b""), _ROW_BYTES)]
    return [
        _Count(int.from_bytes(row[:8], "big", signed=True), int.from_bytes(row[8:16], "big"), row[16:]) for row in rows
    ]


def _row(counts: Iterable[_Count]) -> bytes:
    return b"".join(
        one.at_ms.to_bytes(8, "big", signed=True) + one.entries.to_bytes(8, "big") + one.chain for one in counts
    )
