"""What this replica held when: noted now and then, to tell later what a device had brought by a given time.

Times in entries are their authors' word, and a thief's word may be any. What counts here is this replica's own clock
when an entry had arrived. Rounded down: what came between two notes counts as having come with the later one, and of a
time before the first note, or of a store that was made anew since, nothing is known to have come.

Notes are marks of this replica, and no part of any set. docs/protocol.md, "Roster".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from protocol.limits import MAX_ARRIVAL_NOTES
from protocol.replica.interfaces import EntryStore

NOTE_INTERVAL_S: Final = 600.0
_MARKS: Final = "arrivals/"
_TIME_DIGITS: Final = 20


async def note_arrivals(store: EntryStore, now_ms: int) -> None:
    """Note what is here now, unless that is what was noted last. Keeps the latest `MAX_ARRIVAL_NOTES`."""
    latest = await store.latest()
    if latest is None:
        return
    noted = await store.marks(_MARKS)
    value = latest[0].to_bytes(8, "big") + latest[1]
    key = f"{_MARKS}{now_ms:0{_TIME_DIGITS}}"
    # a clock that was set back must not make later notes count as earlier: those ahead of it go
    ahead = [other for other in noted if other > key]
    known = sorted(noted.keys() - set(ahead))
    if not ahead and known and noted[known[-1]] == value:
        return
    gone = [*ahead, *known[: max(0, len(known) + 1 - MAX_ARRIVAL_NOTES)]]
    await store.set_marks({**dict.fromkeys(gone), key: value})


async def authored_by(store: EntryStore, authors: Iterable[bytes], when_ms: int) -> set[bytes]:
    """The ids of what these keys had brought by `when_ms`, as far as this replica knows."""
    key = f"{_MARKS}{when_ms:0{_TIME_DIGITS}}"
    earlier = [value for at, value in sorted((await store.marks(_MARKS)).items()) if at <= key]
    if not earlier:
        return set()
    latest = int.from_bytes(earlier[-1][:8], "big"), earlier[-1][8:]
    return {entry_id for author in authors for entry_id in await store.authored_by_then(author, latest)}
