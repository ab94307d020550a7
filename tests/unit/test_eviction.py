"""What goes first when room is needed."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.clock import DAY_MS
from protocol.limits import GiB
from protocol.replica.content.holdings import Need
from sync_agent.machine.eviction import (
    Piece,
    Seen,
    Worth,
    dated_ms,
    is_past,
    left_today,
    plan,
    with_this_store,
    year_began_ms,
)

LATE = (Worth.KEPT, 0)


def piece(name: int, worth: Worth, used_ms: int, *packs: int) -> Piece:
    return Piece(
        Need(bytes(32), name.to_bytes(32, "big"), sealed=False),
        worth,
        used_ms,
        frozenset(bytes([pack]) for pack in packs),
    )


def sizes(*packs: int, size: int = 10) -> dict[bytes, int]:
    return {bytes([pack]): size for pack in packs}


def gone(*packs: int) -> tuple[bytes, ...]:
    return tuple(bytes([pack]) for pack in packs)


def test_what_nothing_names_goes_first_then_withdrawn_superseded_past_and_last_what_was_opened_longest_ago() -> None:
    pieces = [
        piece(1, Worth.SHOWN, 5, 1),
        piece(2, Worth.SHOWN, 3, 2),
        piece(3, Worth.PAST_YEAR, 9, 3),
        piece(4, Worth.SUPERSEDED, 9, 4),
        piece(5, Worth.WITHDRAWN, 9, 5),
    ]
    order = [plan(sizes(1, 2, 3, 4, 5, 6), pieces, wanted, LATE).packs for wanted in (10, 20, 30, 40, 50, 60)]
    assert order == [gone(6, 5, 4, 3, 2, 1)[:count] for count in range(1, 7)]


def test_a_pack_stays_as_long_as_anything_in_it_is_to_stay() -> None:
    pieces = [piece(1, Worth.WITHDRAWN, 1, 1), piece(2, Worth.KEPT, 1, 1)]
    assert plan(sizes(1), pieces, 10, LATE).packs == ()


def test_what_is_kept_never_goes() -> None:
    pieces = [piece(number, Worth.KEPT, 0, number) for number in range(1, 5)]
    assert plan(sizes(1, 2, 3, 4), pieces, 1_000, (Worth.KEPT, 10**15)).packs == ()


def test_what_is_shown_goes_only_for_what_was_used_later() -> None:
    pieces = [piece(1, Worth.SHOWN, 5, 1)]
    assert plan(sizes(1), pieces, 10, (Worth.SHOWN, 5)).packs == ()
    assert plan(sizes(1), pieces, 10, (Worth.SHOWN, 6)).packs == gone(1)


def test_content_of_which_a_part_goes_is_told_and_content_that_stays_is_not() -> None:
    pieces = [piece(1, Worth.SHOWN, 1, 1, 2), piece(2, Worth.SHOWN, 2, 2), piece(3, Worth.SHOWN, 3, 3)]
    found = plan(sizes(1, 2, 3), pieces, 10, LATE)
    assert found.packs == gone(1)
    assert [one.need.stream[-1] for one in found.gone] == [1]


WORTHS = st.sampled_from(list(Worth))


@given(
    st.lists(st.tuples(WORTHS, st.integers(0, 9), st.sets(st.integers(0, 9), min_size=1, max_size=4)), max_size=12),
    st.integers(0, 120),
)
def test_no_plan_takes_a_pack_of_something_worth_more_than_what_stays(
    drawn: list[tuple[Worth, int, set[int]]], wanted: int
) -> None:
    pieces = [piece(number, worth, used, *packs) for number, (worth, used, packs) in enumerate(drawn)]
    all_sizes = sizes(*range(10))
    found = plan(all_sizes, pieces, wanted, LATE)
    taken = set(found.packs)
    assert found.freed_bytes == sum(all_sizes[pack] for pack in taken)
    assert found.freed_bytes < wanted + 10
    for one in pieces:
        hit = not one.packs.isdisjoint(taken)
        assert not (hit and one.worth is Worth.KEPT)
        assert hit == (one in found.gone)


@pytest.mark.parametrize(
    ("year", "today", "past"),
    [
        ("2025-2026", dt.date(2026, 8, 14), False),
        ("2025-2026", dt.date(2026, 8, 15), True),
        ("2026-2027", dt.date(2026, 11, 24), False),
        (None, dt.date(2040, 1, 1), False),
        ("2026-0000", dt.date(2040, 1, 1), False),
        ("2026-\u0662\u0660\u0662\u0667", dt.date(2026, 11, 24), False),
        ("?", dt.date(2040, 1, 1), False),
    ],
)
def test_a_school_year_is_over_in_the_middle_of_august(year: str | None, today: dt.date, past: bool) -> None:
    assert is_past(year, today) is past


@pytest.mark.parametrize(
    ("today", "began"),
    [
        (dt.date(2026, 8, 14), dt.date(2025, 8, 15)),
        (dt.date(2026, 8, 15), dt.date(2026, 8, 15)),
        (dt.date(2027, 1, 1), dt.date(2026, 8, 15)),
    ],
)
def test_a_school_year_begins_when_the_one_before_is_over(today: dt.date, began: dt.date) -> None:
    assert dt.datetime.fromtimestamp(year_began_ms(today) / 1000, dt.UTC).date() == began


def test_a_date_more_than_a_day_ahead_is_none_so_that_nothing_is_the_newest_for_ever() -> None:
    assert [dated_ms(at_ms, 10 * DAY_MS) for at_ms in (1, 11 * DAY_MS, 11 * DAY_MS + 1)] == [1, 11 * DAY_MS, 0]


def test_in_a_day_a_tenth_of_what_is_here_makes_way_and_of_little_a_gigabyte() -> None:
    assert left_today(0, 5 * GiB, is_opened=False) == GiB
    assert left_today(GiB // 4, 40 * GiB, is_opened=False) == 4 * GiB - GiB // 4
    assert left_today(5 * GiB, 40 * GiB, is_opened=False) == 0
    assert left_today(5 * GiB, 40 * GiB, is_opened=True) == 11 * GiB


@pytest.mark.parametrize(
    ("seen", "since", "counted"),
    [
        (Seen(500, 9_000), Seen(400, 1_000), Seen(500, 9_000)),
        (Seen(500, 9_000), Seen(500, 1_000), Seen(500, 1_000)),
        (Seen(500, 9_000), Seen(600, 1_000), Seen(600, 1_000)),
        (None, Seen(600, 1_000), None),
        (Seen(500, 9_000), None, None),
    ],
)
def test_what_was_seen_with_a_store_from_before_counts_from_the_meeting_with_this_one(
    seen: Seen | None, since: Seen | None, counted: Seen | None
) -> None:
    assert with_this_store(seen, since) == counted


def test_what_was_seen_is_read_as_it_was_written() -> None:
    assert Seen.parse(Seen(1, 1 << 60).encode()) == Seen(1, 1 << 60)
