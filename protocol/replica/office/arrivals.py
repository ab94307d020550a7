"""What this replica held when: noted now and then, to tell later what a device had brought by a given time.

Times in entries are their authors' word, and a thief's word may be any. What counts here is this replica's own clock
when an entry had arrived. Rounded down: what came between two notes counts as having come with the later one.

Rules:
- of a time before the first note, or of a store that was made anew since, nothing is known: that is said, and is not
  the same as that nothing had come;
- a clock is wrong at times, for one look after a start or for months: notes never go because another one contradicts
  them. Of those that cannot all be true, the longest run counts in which later arrivals are not dated earlier; and
  none that is ahead of the clock of whoever asks.

Notes are marks of this replica, and no part of any set. docs/protocol.md, "Roster".
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from protocol.clock import rfc3339
from protocol.limits import MAX_ARRIVAL_NOTES
from protocol.replica.console.text import local_time
from protocol.replica.interfaces import EntryStore

NOTE_INTERVAL_S: Final = 600.0
ARRIVAL_MARKS: Final = "arrivals/"
_TIME_DIGITS: Final = 20


class _Note(NamedTuple):
    """What `EntryStore.latest` said, and when: in the order of arrival."""

    latest: tuple[int, bytes]
    at_ms: int

    @property
    def mark(self) -> str:
        return f"{ARRIVAL_MARKS}{self.at_ms:0{_TIME_DIGITS}}"


async def note_arrivals(store: EntryStore, now_ms: int) -> None:
    """Note what is here now, unless that is what was noted last. Keeps the latest `MAX_ARRIVAL_NOTES`."""
    latest = await store.latest()
    if latest is None:
        return
    notes = await _notes(store)
    if notes and notes[-1].latest == latest:
        return
    gone = [note.mark for note in notes[: max(0, len(notes) + 1 - MAX_ARRIVAL_NOTES)]]
    value = latest[0].to_bytes(8, "big") + latest[1]
    await store.set_marks({**dict.fromkeys(gone), _Note(latest, max(0, now_ms)).mark: value})


async def authored_by(store: EntryStore, authors: Iterable[bytes], when_ms: int, now_ms: int) -> set[bytes] | None:
    """The ids of what these keys had brought by `when_ms`, as far as this replica noted; None if it knows nothing."""
    by_then = [note for note in await _believed(store, now_ms) if note.at_ms <= when_ms]
    if not by_then:
        return None
    found: set[bytes] = set()
    for author in authors:
        written = await store.authored_by_then(author, by_then[-1].latest)
        if written is None:
            return None
        found |= written
    return found


async def noted_since_ms(store: EntryStore, now_ms: int) -> int | None:
    """The time of the first note that counts: of what was before, nothing is known."""
    return next((note.at_ms for note in await _believed(store, now_ms)), None)


async def first_note(store: EntryStore, now_ms: int) -> str:
    """The same, as people read it."""
    first_ms = await noted_since_ms(store, now_ms)
    return "none yet" if first_ms is None else local_time(rfc3339(first_ms) or "")


async def _notes(store: EntryStore) -> list[_Note]:
    found = (
        _Note((int.from_bytes(value[:8], "big"), value[8:]), int(mark.removeprefix(ARRIVAL_MARKS)))
        for mark, value in (await store.marks(ARRIVAL_MARKS)).items()
    )
    return sorted(found)


async def _believed(store: EntryStore, now_ms: int) -> list[_Note]:
    return _longest_run([note for note in await _notes(store) if note.at_ms <= now_ms])


def _longest_run(notes: Sequence[_Note]) -> list[_Note]:
    """The most notes of which none is dated before an earlier one; of several such runs the one that says the least."""
    begins: list[int] = []  # by length, the note with which a run to the end begins, as late as may be
    negated: list[int] = []  # their times, negated, so that they ascend
    follows: dict[int, int] = {}
    for index in reversed(range(len(notes))):
        place = bisect_right(negated, -notes[index].at_ms)
        if place:
            follows[index] = begins[place - 1]
        begins[place : place + 1] = [index]
        negated[place : place + 1] = [-notes[index].at_ms]
    run = begins[-1:]
    while run and run[-1] in follows:
        run.append(follows[run[-1]])
    return [notes[index] for index in run]
