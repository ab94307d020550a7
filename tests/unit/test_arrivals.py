"""What a replica knows of when things came: by its own clock, and never too much."""

from __future__ import annotations

import pytest

from protocol.clock import DAY_MS
from protocol.replica.office.arrivals import authored_by, note_arrivals, noted_since_ms
from protocol.replica.storage.memory import MemoryStore
from tests.harness.entries import EntryMaker

HOUR_MS = 3_600_000
IN_2009_MS = 1_230_768_000_000
NOW_MS = 1_795_000_000_000


async def test_what_came_by_a_time_is_what_was_noted_before_it() -> None:
    store, make = MemoryStore(), EntryMaker()
    await note_arrivals(store, 0)
    first, second = make.entry(), make.entry()
    author = [first.header.author]
    await store.append([first])
    await note_arrivals(store, HOUR_MS)
    await store.append([second])
    await note_arrivals(store, 2 * HOUR_MS)
    await note_arrivals(store, 3 * HOUR_MS)
    times = (0, HOUR_MS, 2 * HOUR_MS - 1, 2 * HOUR_MS)
    found = [await authored_by(store, author, when, 3 * HOUR_MS) for when in times]
    assert found == [None, {first.id}, {first.id}, {first.id, second.id}]
    assert await authored_by(store, [bytes(32)], HOUR_MS, 3 * HOUR_MS) == set(), "it had brought nothing: that is known"
    assert await noted_since_ms(store, 3 * HOUR_MS) == HOUR_MS


async def test_notes_are_few_and_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.replica.office.arrivals.MAX_ARRIVAL_NOTES", 3)
    store, make = MemoryStore(), EntryMaker()
    entries = make.entries(5)
    for hour, entry in enumerate(entries, 1):
        await store.append([entry])
        await note_arrivals(store, hour * HOUR_MS)
    author = [entries[0].header.author]
    found = [await authored_by(store, author, hour * HOUR_MS, 5 * HOUR_MS) for hour in (2, 3, 5)]
    assert found == [None, {entry.id for entry in entries[:3]}, {entry.id for entry in entries}]


async def test_a_clock_that_was_set_back_dates_nothing_earlier() -> None:
    store, make = MemoryStore(), EntryMaker()
    early, late = make.entry(), make.entry()
    await store.append([early])
    await note_arrivals(store, 9 * HOUR_MS)
    await store.append([late])
    await note_arrivals(store, 2 * HOUR_MS)
    author = [early.header.author]
    assert await authored_by(store, author, 8 * HOUR_MS, 9 * HOUR_MS) is None
    assert await authored_by(store, author, 9 * HOUR_MS, 9 * HOUR_MS) == {early.id}


async def test_one_look_in_2009_takes_no_note_away_and_says_of_nothing_that_it_was_here_then() -> None:
    store, entries = MemoryStore(), EntryMaker().entries(4)
    for day, entry in enumerate(entries[:3]):
        await store.append([entry])
        await note_arrivals(store, NOW_MS + day * DAY_MS)
    await store.append([entries[3]])
    await note_arrivals(store, IN_2009_MS)
    now_ms, author = NOW_MS + 3 * DAY_MS, [entries[0].header.author]
    assert await authored_by(store, author, NOW_MS + DAY_MS, now_ms) == {entry.id for entry in entries[:2]}
    assert await authored_by(store, author, NOW_MS - 1, now_ms) is None
    assert await noted_since_ms(store, now_ms) == NOW_MS


async def test_a_clock_that_was_years_ahead_hides_nothing_that_was_noted_since() -> None:
    store, entries = MemoryStore(), EntryMaker().entries(7)
    days = [0, 5_000, 5_001, 5_002, 1, 2]
    for day, entry in zip(days, entries, strict=False):
        await store.append([entry])
        await note_arrivals(store, NOW_MS + day * DAY_MS)
    author, now_ms = [entries[0].header.author], NOW_MS + 3 * DAY_MS
    assert await authored_by(store, author, NOW_MS + DAY_MS, now_ms) == {entry.id for entry in entries[:5]}
    assert await authored_by(store, author, NOW_MS + DAY_MS - 1, now_ms) == {entries[0].id}
