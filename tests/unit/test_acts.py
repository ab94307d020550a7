"""The trail of who did what: lines that follow each other, what shows when one was altered, and how many there are."""

from __future__ import annotations

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.limits import ACTS_KEPT_MS, MAX_ACT_CHARS, MAX_FAILED_SIGN_INS_PER_DAY
from protocol.replica.office import acts
from protocol.replica.office.acts import ACT_MARKS, TOLD_BROKEN, Act, Trail, broken_in, ids_told, numbered, taken_over
from protocol.replica.storage.memory import MemoryStore
from tests.harness.territory import SimClock


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def clock() -> SimClock:
    return SimClock()


async def raw(store: MemoryStore) -> dict[int, bytes]:
    return numbered(await store.marks(ACT_MARKS))


def mark(number: int) -> str:
    return f"{ACT_MARKS}{number:016x}"


async def three(store: MemoryStore, clock: SimClock) -> Trail:
    trail = Trail(store, clock)
    for what in ("sign-in", "confirm", "backup"):
        await trail.note(what, "Anne", "ab12")
    return trail


async def test_a_line_says_when_who_what_and_about_whom_and_names_the_one_before(
    store: MemoryStore, clock: SimClock
) -> None:
    trail = await three(store, clock)
    await trail.note("export-person", "command line: root", "cd34", with_kit=True)
    first, second, _, last = await trail.lines()
    assert (first.number, first.act.by, first.act.what, first.act.about) == (1, "Anne", "sign-in", "ab12")
    assert (first.act.at_ms, first.act.before) == (clock(), bytes(32))
    assert second.act.before == first.hash
    assert (last.act.with_kit, last.act.failed) == (True, False)
    assert await trail.end() == (4, last.hash)
    assert await trail.broken() == []


async def test_lines_go_on_where_they_were_after_a_restart(store: MemoryStore, clock: SimClock) -> None:
    await three(store, clock)
    await Trail(store, clock).note("status", "Benoît")
    assert [line.number for line in await Trail(store, clock).lines()] == [1, 2, 3, 4]
    assert broken_in(await raw(store)) == []


async def test_what_fails_has_a_second_line(store: MemoryStore, clock: SimClock) -> None:
    trail = Trail(store, clock)

    async def failing() -> None:
        async with trail.noted("erase", "Anne", "ab12"):
            assert [line.act.failed for line in await trail.lines()] == [False]
            raise BadInput(Code.USAGE, "not so")

    with pytest.raises(BadInput):
        await failing()
    assert [(line.act.what, line.act.failed) for line in await trail.lines()] == [("erase", False), ("erase", True)]


@pytest.mark.parametrize("by", ["Berthe", ""])
async def test_a_line_that_was_altered_shows(store: MemoryStore, clock: SimClock, by: str) -> None:
    trail = await three(store, clock)
    second = (await trail.lines())[1].act
    altered = acts.Act(second.at_ms, by, second.what, second.about, False, False, second.before)
    await store.set_marks({mark(2): altered.encode() if by else b"\xc1"})
    assert 3 in await trail.broken()


async def test_a_line_that_was_taken_out_shows_and_so_does_a_beginning_that_is_none(
    store: MemoryStore, clock: SimClock
) -> None:
    trail = await three(store, clock)
    await store.set_marks({mark(2): None})
    assert await trail.broken() == [3]
    await store.set_marks({mark(1): None, mark(2): None, mark(3): None, mark(4): None})
    anew = Trail(store, clock)
    await anew.note("backup", "Anne")
    assert await anew.broken() == []
    await store.set_marks({mark(1): acts.Act(1, "Anne", "backup", "", False, False, bytes(31) + b"\1").encode()})
    assert await anew.broken() == [1]


async def test_of_what_was_told_a_line_tells_from_then_on_and_of_what_is_altered_later_none_does(
    store: MemoryStore, clock: SimClock
) -> None:
    trail = await three(store, clock)
    await store.set_marks({mark(2): None})
    await trail.note(TOLD_BROKEN, "Anne", "3")
    assert await trail.broken() == []
    await trail.note("backup", "Anne")
    await store.set_marks({mark(4): None})
    assert await trail.broken() == [3, 5]


async def test_after_a_year_lines_go_and_the_chain_holds_from_the_first_that_is_left(
    store: MemoryStore, clock: SimClock
) -> None:
    trail = await three(store, clock)
    clock.advance(ACTS_KEPT_MS)
    await trail.note("sign-in", "Anne")
    assert [line.number for line in await trail.lines()] == [1, 2, 3, 4]
    clock.advance(1)
    await trail.note("sign-in", "Anne")
    assert [line.number for line in await trail.lines()] == [4, 5]
    assert await trail.broken() == []


async def test_a_line_that_cannot_be_read_goes_with_the_next_that_is_old(store: MemoryStore, clock: SimClock) -> None:
    trail = await three(store, clock)
    await store.set_marks({mark(1): b"\xc1"})
    await trail.note("sign-in", "Anne")
    assert sorted(await raw(store)) == [1, 2, 3, 4]
    clock.advance(ACTS_KEPT_MS + 1)
    await trail.note("sign-in", "Anne")
    assert sorted(await raw(store)) == [5]


async def test_there_are_so_many_lines(store: MemoryStore, clock: SimClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "MAX_ACTS", 5)
    trail = Trail(store, clock)
    for number in range(12):
        await trail.note("confirm", "Anne", f"{number:08x}")
    assert [line.number for line in await trail.lines()] == [8, 9, 10, 11, 12]
    assert await Trail(store, clock).broken() == []


async def test_looking_again_within_the_hour_is_no_other_line(store: MemoryStore, clock: SimClock) -> None:
    trail = Trail(store, clock)
    for _ in range(3):
        await trail.note_lookup("person list", "Anne", "ab12")
        await trail.note_lookup("person list", "Anne", "cd34")
    clock.advance(3600 * 1000)
    await trail.note_lookup("person list", "Anne", "ab12")
    assert [line.act.about for line in await trail.lines()] == ["ab12", "cd34", "ab12"]


async def test_of_sign_ins_that_fail_a_day_has_so_many_and_the_last_line_says_so(
    store: MemoryStore, clock: SimClock
) -> None:
    trail = Trail(store, clock)
    for _ in range(MAX_FAILED_SIGN_INS_PER_DAY + 5):
        await trail.note_failed_sign_in("?", "passphrase")
    lines = await trail.lines()
    assert len(lines) == MAX_FAILED_SIGN_INS_PER_DAY
    assert lines[-1].act.about == "passphrase; no more of this day are written"
    clock.advance(DAY_MS)
    await trail.note_failed_sign_in("?", "passphrase")
    assert (await trail.lines())[-1].act.about == "passphrase"


async def test_of_a_foreign_store_lines_are_taken_over_and_nothing_else(store: MemoryStore, clock: SimClock) -> None:
    await three(store, clock)
    marks = await store.marks(ACT_MARKS)
    odd = {f"{ACT_MARKS}zz": b"", f"{ACT_MARKS}{'0' * 15}٣": b"", mark(9): b"nothing"}
    assert taken_over({**marks, **odd}) == marks


async def test_no_line_of_a_foreign_store_has_a_number_after_which_nothing_is_read(
    store: MemoryStore, clock: SimClock
) -> None:
    last = Act(clock(), "somebody", "erase", "", False, False, bytes(32)).encode()
    await store.set_marks(taken_over({f"{ACT_MARKS}{'f' * 16}": last}))
    await Trail(store, clock).note("rewrap", "command line: root", with_kit=True)
    assert [line.act.what for line in await Trail(store, clock).lines()] == ["erase", "rewrap"]
    assert await Trail(store, clock).broken() == []


async def test_a_line_holds_what_there_is_room_for(store: MemoryStore, clock: SimClock) -> None:
    trail = Trail(store, clock)
    await trail.note("erase", "A\x1b[2J" + "n" * 5_000, ids_told([f"{number:032x}" for number in range(100)]))
    (line,) = await trail.lines()
    assert line.act.by.startswith("A\\x1b[2Jn")
    assert len(line.act.by) == MAX_ACT_CHARS
    assert line.act.about.endswith(" and 71 more")
