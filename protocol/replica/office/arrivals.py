"""What this replica held when: noted now and then, to tell later what a device had brought by a given time.

Times in entries are their authors' word, and a thief's word may be any. What counts here is this replica's own clock
when an entry had arrived. Rounded down: what came between two notes counts as having come with the later one.

Rules:
- of a time before the first note, or of a store that was made anew since, nothing is known: that is said, and is not
  the same as that nothing had come;
- a clock is wrong at times, for one look after a start or for months, and whoever answers for the time on a network
  can set it: notes never go because another one contradicts them. Of those that cannot all be true, the longest run
  counts in which no two are dated closer together than this replica was watched between them, by a clock that nobody
  sets; and none that is ahead of the clock of whoever asks;
- where programs ran and nothing came, that they ran is noted now and then, and that the clock was set;
- that goes on between two programs where the clock that nobody sets has the same beginning for both (`steady`): others
  say how often a store is opened. Over time for which nothing was watched nobody here can tell how much it was.

Notes are marks of this replica, and no part of any set. docs/protocol.md, "Roster".
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Final, NamedTuple

from protocol.clock import rfc3339
from protocol.limits import MAX_ARRIVAL_NOTES
from protocol.model.entry import Entry
from protocol.replica.console.text import local_time
from protocol.replica.interfaces import EntryStore
from protocol.replica.steady import note_of, passed_ms

NOTE_INTERVAL_S: Final = 600.0
ARRIVAL_MARKS: Final = "arrivals/"
CLOCK_SET_BACK: Final = (
    "this computer's clock was set back by %d minutes; if it was right before, set it: what comes meanwhile counts for "
    "--since as having come later"
)
_TIME_DIGITS: Final = 20
_SET_MS: Final = 10 * 60 * 1000
"""By less a clock is set right all the time; as it is counted from one line, small steps add up."""
_RAN_NOTED_EVERY_MS: Final = 60 * 60 * 1000


class Ran(NamedTuple):
    """How long programs had run, and what was noted of `steady` then."""

    ms: int = 0
    note: bytes = b""


class RunningTime:
    """How long programs of this replica have run, by a clock that nobody sets; over what nobody watched it stands.

    `steady_ms` reads such a clock, in ms.
    """

    def __init__(self, steady_ms: Callable[[], int], beginning: bytes = b"") -> None:
        self._steady_ms = steady_ms
        self._beginning = beginning
        self._last: tuple[int, int] | None = None

    def now(self, noted: Ran) -> Ran:
        """Where it stands, where that is the last that was noted of it."""
        steady_ms = self._steady_ms()
        if self._last is None:
            ran_ms = noted.ms + max(0, passed_ms(noted.note, steady_ms, self._beginning) or 0)
        else:
            ran_ms = self._last[0] + max(0, steady_ms - self._last[1])
        self._last = ran_ms, steady_ms
        return Ran(ran_ms, note_of(steady_ms, self._beginning))


class _Note(NamedTuple):
    """What `EntryStore.latest` said, and when: in the order of arrival.

    `ran` is how long programs had run then, `line_ms` what the clock would have said before they had: it grows where
    none ran or the clock was set ahead, and shrinks where that was set back alone.
    """

    latest: tuple[int, bytes]
    ran: Ran
    at_ms: int
    line_ms: int

    @classmethod
    def parse(cls, mark: str, value: bytes) -> _Note:
        """A note as it lies in a store; of an earlier version, which had not watched, without what follows."""
        at_ms = int(mark.removeprefix(ARRIVAL_MARKS))
        latest, ran, line = (int.from_bytes(value[:8], "big"), value[8:40]), value[40:48], value[48:56]
        if not line:
            return cls(latest, Ran(), at_ms, at_ms)
        return cls(latest, Ran(int.from_bytes(ran, "big"), value[56:]), at_ms, int.from_bytes(line, "big", signed=True))

    @property
    def mark(self) -> str:
        return f"{ARRIVAL_MARKS}{self.at_ms:0{_TIME_DIGITS}}"

    @property
    def value(self) -> bytes:
        seq, entry = self.latest
        return (
            seq.to_bytes(8, "big")
            + entry
            + self.ran.ms.to_bytes(8, "big")
            + self.line_ms.to_bytes(8, "big", signed=True)
            + self.ran.note
        )


async def note_arrivals(store: EntryStore, now_ms: int, running: RunningTime | None = None) -> int:
    """Note what is here now, unless that is what was noted last. Keeps the latest `MAX_ARRIVAL_NOTES`.

    Says by how many ms the clock was set back since the last note. Without `running` nothing was watched.
    """
    latest = await store.latest()
    if latest is None:
        return 0
    notes = await _notes(store)
    last = notes[-1] if notes else None
    note = _next_note(notes, latest, max(0, now_ms), running)
    if last is not None and last.latest == latest and not (running and _is_news(last, note)):
        return 0
    gone = [note.mark for note in notes[: max(0, len(notes) + 1 - MAX_ARRIVAL_NOTES)]]
    await store.set_marks({**dict.fromkeys(gone), note.mark: note.value})
    return 0 if last is None or running is None else max(0, last.line_ms - note.line_ms)


def _next_note(notes: Sequence[_Note], latest: tuple[int, bytes], now_ms: int, running: RunningTime | None) -> _Note:
    ran = _last_of(notes) if running is None else running.now(_last_of(notes))
    line_ms = now_ms - ran.ms
    if running is not None:
        # two clocks are never read at once: what is as good as a line of before is that line
        nearest_ms = min((note.line_ms for note in notes), key=lambda each: abs(each - line_ms), default=line_ms)
        line_ms = nearest_ms if abs(nearest_ms - line_ms) < _SET_MS else line_ms
    return _Note(latest, ran, now_ms, line_ms)


def _is_news(last: _Note, note: _Note) -> bool:
    """Whether a note of the same arrivals says more than the last one: that the clock was set, or that time passed."""
    return note.line_ms != last.line_ms or note.ran.ms - last.ran.ms >= _RAN_NOTED_EVERY_MS


async def noted_ran(store: EntryStore) -> Ran:
    """How long programs had run when that was noted last: where `RunningTime` goes on."""
    return _last_of(await _notes(store))


def _last_of(notes: Sequence[_Note]) -> Ran:
    return notes[-1].ran if notes else Ran()


async def authored_by(store: EntryStore, authors: Iterable[bytes], when_ms: int, now_ms: int) -> set[bytes] | None:
    """The ids of what these keys had brought by `when_ms`, as far as this replica noted; None if it knows nothing."""
    by_then = list(takewhile(lambda note: note.at_ms <= when_ms, await _believed(store, now_ms)))
    if not by_then:
        return None
    found: set[bytes] = set()
    for author in authors:
        written = await store.authored_by_then(author, by_then[-1].latest)
        if written is None:
            return None
        found |= written
    return found


async def has_been_here(store: EntryStore, entry: Entry, for_ms: int, running: RunningTime) -> bool:
    """Whether programs are known to have run for so long since an entry had come here, whatever the clock says."""
    notes = await _notes(store)
    if not notes:
        return False
    until_ms = running.now(_last_of(notes)).ms - for_ms
    by_then = [note for note in notes if note.ran.ms <= until_ms]
    if not by_then:
        return False
    return entry.id in (await store.authored_by_then(entry.header.author, by_then[-1].latest) or ())


async def noted_since_ms(store: EntryStore, now_ms: int) -> int | None:
    """The time of the first note that counts: of what was before, nothing is known."""
    return next((note.at_ms for note in await _believed(store, now_ms)), None)


async def first_note(store: EntryStore, now_ms: int) -> str:
    """The same, as people read it."""
    first_ms = await noted_since_ms(store, now_ms)
    return "none yet" if first_ms is None else local_time(rfc3339(first_ms) or "")


async def _notes(store: EntryStore) -> list[_Note]:
    return sorted(_Note.parse(mark, value) for mark, value in (await store.marks(ARRIVAL_MARKS)).items())


async def _believed(store: EntryStore, now_ms: int) -> list[_Note]:
    return _longest_run([note for note in await _notes(store) if note.at_ms <= now_ms])


def _longest_run(notes: Sequence[_Note]) -> list[_Note]:
    """The most notes of which no later one is of an earlier line; of several such runs the one that says the least."""
    begins: list[int] = []  # by length, the note with which a run to the end begins, as late as may be
    negated: list[int] = []  # their lines, negated, so that they ascend
    follows: dict[int, int] = {}
    for index in reversed(range(len(notes))):
        place = bisect_right(negated, -notes[index].line_ms)
        if place:
            follows[index] = begins[place - 1]
        begins[place : place + 1] = [index]
        negated[place : place + 1] = [-notes[index].line_ms]
    run = begins[-1:]
    while run and run[-1] in follows:
        run.append(follows[run[-1]])
    return [notes[index] for index in run]
