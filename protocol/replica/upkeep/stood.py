"""For how long somebody has stood on a list here for all to see (docs/protocol.md, "Erasure"; docs/adr/0264).

Whoever has a server's key can say a name and its erasure in one breath, or a name that no list ever shows: one that has
left, that is somebody else's, that lies above the classes or is held back. Such names have stood for no time, and come
after everybody else in the day's number.

Rules:
- once a day it is counted whom each class's list shows; dates, and when an entry came, prove nothing;
- who is hidden, has left, or is called the same as somebody else, keeps what was counted and is counted no further;
- each list counts for itself: who is put on others to be erased there too takes nobody's turn (docs/adr/0454);
- `FULL_DAYS` count for the most. A day is one of this replica's looks: a clock that leaps makes one of it at most.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from protocol.clock import DAY_MS
from protocol.folds.erasing import Place
from protocol.model.entry import PERSON_BYTES
from protocol.replica.at_work.replica import Replica

LISTED_MARKS: Final = "listed-days/"
"""+ class in hex → 8 bytes of ms of the last count, then for each name that was shown, its 16 bytes and the days."""
FULL_DAYS: Final = 7
_ROW_BYTES: Final = PERSON_BYTES + 1
_CLASS_DEPTH: Final = 3


async def stood(replica: Replica, names: Collection[bytes]) -> dict[Place, int]:
    """For how many days those have stood on the list of each class that ever showed them."""
    return {
        Place(name, bytes.fromhex(key.removeprefix(LISTED_MARKS))): min(days, FULL_DAYS)
        for key, mark in ((await replica.store.marks(LISTED_MARKS)) if names else {}).items()
        for name, days in _days(mark).items()
        if name in names
    }


async def count_listed(replica: Replica, now_ms: int) -> None:
    """Count whom the classes' lists show, once a day."""
    marks: dict[str, bytes | None] = {}
    for space in replica.door.spaces():
        if len(replica.door.lineage(space)) != _CLASS_DEPTH:
            continue
        key = LISTED_MARKS + space.hex()
        mark = await replica.store.mark(key)
        if mark is not None and 0 <= now_ms - int.from_bytes(mark[:8], "big") < DAY_MS:
            continue
        days = _days(mark or b"")
        shown = (await replica.view(space)).roster.persons
        marks[key] = _mark(now_ms, {**days, **{name: min(days.get(name, 0) + 1, FULL_DAYS) for name in shown}})
    await replica.store.set_marks(marks)


def _days(mark: bytes) -> dict[bytes, int]:
    rows = (mark[at : at + _ROW_BYTES] for at in range(8, len(mark), _ROW_BYTES))
    return {row[:PERSON_BYTES]: row[PERSON_BYTES] for row in rows}


def _mark(now_ms: int, days: Mapping[bytes, int]) -> bytes:
    return max(0, now_ms).to_bytes(8, "big") + b"".join(name + bytes([number]) for name, number in days.items())
