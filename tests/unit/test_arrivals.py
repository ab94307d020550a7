"""What a replica knows of when things came: by its own clock, and never too much."""

from __future__ import annotations

import pytest

from protocol.replica.arrivals import authored_by, note_arrivals
from protocol.replica.memory import MemoryStore
from tests.harness.entries import EntryMaker

HOUR_MS = 3_600_000


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
    found = [await authored_by(store, author, when) for when in (0, HOUR_MS, 2 * HOUR_MS - 1, 2 * HOUR_MS)]
    assert found == [set(), {first.id}, {first.id}, {first.id, second.id}]


async def test_notes_are_few_and_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.replica.arrivals.MAX_ARRIVAL_NOTES", 3)
    store, make = MemoryStore(), EntryMaker()
    entries = make.entries(5)
    for hour, entry in enumerate(entries, 1):
        await store.append([entry])
        await note_arrivals(store, hour * HOUR_MS)
    author = [entries[0].header.author]
    found = [len(await authored_by(store, author, hour * HOUR_MS)) for hour in (2, 3, 5)]
    assert found == [0, 3, 5]


async def test_a_clock_that_was_set_back_dates_nothing_earlier() -> None:
    store, make = MemoryStore(), EntryMaker()
    early, late = make.entry(), make.entry()
    await store.append([early])
    await note_arrivals(store, 9 * HOUR_MS)
    await store.append([late])
    await note_arrivals(store, 2 * HOUR_MS)
    author = [early.header.author]
    assert await authored_by(store, author, HOUR_MS) == set()
    assert await authored_by(store, author, 9 * HOUR_MS) == {early.id, late.id}
