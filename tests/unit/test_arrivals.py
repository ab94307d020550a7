"""What a replica knows of when things came: by its own clock, and never too much."""

from __future__ import annotations

import pytest

from protocol.clock import DAY_MS
from protocol.model.entry import Entry
from protocol.replica.office.arrivals import RunningTime, authored_by, has_been_here, note_arrivals, noted_since_ms
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


class Program:
    """One that notes: of its two clocks, one can be set."""

    def __init__(self, store: MemoryStore, wall_ms: int = NOW_MS, beginning: bytes = b"", steady_ms: int = 0) -> None:
        self.store, self.wall_ms, self.steady_ms = store, wall_ms, steady_ms
        self.running = RunningTime(lambda: self.steady_ms, beginning)

    def passes(self, ms: int) -> None:
        self.wall_ms, self.steady_ms = self.wall_ms + ms, self.steady_ms + ms

    async def note(self, entry: Entry | None = None) -> int:
        if entry is not None:
            await self.store.append([entry])
        return await note_arrivals(self.store, self.wall_ms, self.running)


async def test_what_came_while_the_clock_was_set_back_counts_with_the_first_note_of_the_right_one() -> None:
    store, entries = MemoryStore(), EntryMaker().entries(4)
    program, author = Program(store), [entries[0].header.author]
    for entry in entries[:2]:
        program.passes(DAY_MS)
        assert not await program.note(entry)
    program.passes(18 * HOUR_MS)
    program.wall_ms -= 17 * HOUR_MS
    assert await program.note(entries[2]) == 17 * HOUR_MS, "it is told"
    program.passes(HOUR_MS)
    assert not await program.note(), "once"
    program.wall_ms += 17 * HOUR_MS
    program.passes(HOUR_MS)
    await program.note(entries[3])
    found = [
        await authored_by(store, author, NOW_MS + 2 * DAY_MS + hours * HOUR_MS, program.wall_ms)
        for hours in (2, 19, 20)
    ]
    assert found == [{entry.id for entry in entries[:2]}] * 2 + [{entry.id for entry in entries}]


async def test_clocks_that_are_set_right_by_moments_and_nights_without_a_program_take_no_note_away() -> None:
    store, entries = MemoryStore(), EntryMaker().entries(40)
    program, author, noted = Program(store), [entries[0].header.author], []
    for day, entry in enumerate(entries):
        if day % 2:
            program = Program(store, program.wall_ms + 14 * HOUR_MS)
        program.wall_ms += (-1) ** day * 40
        program.passes(10 * HOUR_MS)
        await program.note(entry)
        noted.append(program.wall_ms)
    for count, at_ms in enumerate(noted, 1):
        found = await authored_by(store, author, at_ms, program.wall_ms)
        assert found == {entry.id for entry in entries[:count]}


async def test_a_clock_that_was_ahead_for_an_hour_costs_the_notes_of_that_hour_and_no_others() -> None:
    store, entries = MemoryStore(), EntryMaker().entries(6)
    program, author = Program(store), [entries[0].header.author]
    for day, entry in enumerate(entries):
        ahead_ms = 2 * DAY_MS if day == 1 else 0
        program.wall_ms += ahead_ms
        await program.note(entry)
        program.wall_ms -= ahead_ms
        program.passes(DAY_MS)
    found = [await authored_by(store, author, NOW_MS + day * DAY_MS, program.wall_ms) for day in range(6)]
    assert found == [{entry.id for entry in entries[:count]} for count in (1, 1, 3, 4, 5, 6)]


async def test_small_steps_back_before_each_look_add_up() -> None:
    store, entries = MemoryStore(), EntryMaker().entries(60)
    program, author = Program(store), [entries[0].header.author]
    for number, entry in enumerate(entries):
        program.passes(DAY_MS if number < 40 else 10 * 60_000)
        program.wall_ms -= 0 if number < 40 else 10 * 60_000 - 1000
        await program.note(entry)
    found = await authored_by(store, author, program.wall_ms, program.wall_ms + DAY_MS)
    assert found is not None
    assert len(found) <= 41, "what came while the clock stood still has not come by then"


async def test_that_programs_ran_is_noted_though_nothing_comes_and_goes_on_with_the_next_program() -> None:
    store, entry = MemoryStore(), EntryMaker().entry()
    program = Program(store)
    await program.note(entry)
    for _ in range(3 * 60):
        program.passes(60_000)
        await program.note()
    assert len(await store.marks("arrivals/")) == 4, "once an hour"
    assert await has_been_here(store, entry, 3 * HOUR_MS, program.running)
    another = Program(store, IN_2009_MS)
    await another.note()
    another.passes(HOUR_MS)
    assert await has_been_here(store, entry, 4 * HOUR_MS, another.running), "whatever its clock says"
    assert not await has_been_here(store, entry, 5 * HOUR_MS, another.running)


@pytest.mark.parametrize("beginning", [b"since it was on.", b""], ids=["since it was on", "nobody knows since when"])
async def test_between_two_programs_a_clock_of_the_same_beginning_has_watched(beginning: bytes) -> None:
    store, entry = MemoryStore(), EntryMaker().entry()
    await Program(store, beginning=beginning).note(entry)
    another = Program(store, IN_2009_MS, beginning, 4 * HOUR_MS)
    assert await has_been_here(store, entry, 4 * HOUR_MS, another.running) is bool(beginning)
    third = Program(store, IN_2009_MS, b"since this noon.", 9 * HOUR_MS)
    assert not await has_been_here(store, entry, 5 * HOUR_MS, third.running), "that is another clock"


async def test_notes_of_an_earlier_version_count() -> None:
    store, entries = MemoryStore(), EntryMaker().entries(2)
    await store.append([entries[0]])
    value = (1).to_bytes(8, "big") + entries[0].id
    await store.set_marks({f"arrivals/{NOW_MS:020}": value})
    program, author = Program(store, NOW_MS + DAY_MS), [entries[0].header.author]
    await program.note(entries[1])
    found = [await authored_by(store, author, NOW_MS + day * DAY_MS, program.wall_ms) for day in (0, 1)]
    assert found == [{entries[0].id}, {entry.id for entry in entries}]
