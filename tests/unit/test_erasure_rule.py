"""Which erasures are due, and over how much time they have waited: the rule alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.clock import DAY_MS
from protocol.folds.erasing import Order, Place, carried_out_whole, due, leap_ms, reckoned
from protocol.limits import ERASURE_DELAY_MS, MAX_ERASED_PER_DAY
from tests.harness.history import NOW_MS

HOUR_MS = 3_600_000

names = st.binary(min_size=16, max_size=16)
when = st.none() | st.integers(0, 20 * DAY_MS)
orders_st = st.builds(Order, names | st.binary(min_size=32, max_size=32), when, when)


def order(name: int, seen_ms: int = 0, *, by_kit: bool = False, is_done: bool = False, length: int = 16) -> Order:
    return Order(bytes([name]) * length, seen_ms, seen_ms if by_kit else None, is_done=is_done)


def test_nothing_is_destroyed_before_a_week_has_passed_here_whoever_signed() -> None:
    orders = [order(1), order(2, by_kit=True)]
    assert due(orders, ERASURE_DELAY_MS - 1, ()) == []
    assert due(orders, ERASURE_DELAY_MS, ()) == orders


def test_a_stolen_server_destroys_five_persons_a_day_and_nothing_else() -> None:
    orders = [order(name, seen_ms=name) for name in range(12)] + [order(99, length=32)]
    first = due(orders, 2 * ERASURE_DELAY_MS, ())
    assert first == orders[:MAX_ERASED_PER_DAY]
    later = [replace(each, is_done=each in first) for each in orders]
    assert due(later, 2 * ERASURE_DELAY_MS, [each.place for each in first]) == later[:MAX_ERASED_PER_DAY]
    assert len(due(later, 2 * ERASURE_DELAY_MS + DAY_MS, ())) == 2 * MAX_ERASED_PER_DAY


def test_a_name_that_is_erased_more_widely_waits_again_and_takes_one_place_of_the_day() -> None:
    narrow, wide = order(1, is_done=True), replace(order(1, seen_ms=DAY_MS), space=b"wide")
    assert due([narrow, wide], ERASURE_DELAY_MS, ()) == [narrow]
    others = [order(name, seen_ms=2 * DAY_MS) for name in range(2, 9)]
    found = due([narrow, wide, *others], 2 * ERASURE_DELAY_MS, ())
    assert found == [narrow, wide, *others[: MAX_ERASED_PER_DAY - 1]]


def test_the_kit_may_erase_many_and_a_whole_space() -> None:
    orders = [*(order(name, by_kit=True) for name in range(40)), order(99, by_kit=True, length=32)]
    assert len(due(orders, ERASURE_DELAY_MS, [order(name).place for name in range(MAX_ERASED_PER_DAY)])) == 41


def test_the_kits_word_waits_a_week_of_its_own_whatever_was_said_before() -> None:
    of_space, of_person = order(99, length=32), order(1)
    signed = [replace(each, kit_seen_ms=DAY_MS) for each in (of_space, of_person)]
    crowd = [order(name) for name in range(2, 2 + MAX_ERASED_PER_DAY)]
    today = {each.place for each in crowd}
    assert due(signed, ERASURE_DELAY_MS, today) == []
    assert due(signed, ERASURE_DELAY_MS, ()) == [signed[1]], "a person may go by the server's word, which has waited"
    assert due(signed, ERASURE_DELAY_MS + DAY_MS, today) == [signed[1], signed[0]]


def in_classes(name: int, count: int) -> list[Order]:
    return [replace(order(name), at=bytes([space])) for space in range(1, count + 1)]


def test_one_name_in_twelve_classes_takes_twelve_places() -> None:
    orders = in_classes(1, 12)
    first = due(orders, ERASURE_DELAY_MS, ())
    assert first == orders[:MAX_ERASED_PER_DAY]
    assert due(orders, ERASURE_DELAY_MS, [each.place for each in first]) == first, "and none twice on that day"
    later = [replace(each, is_done=each in first) for each in orders]
    assert due(later, ERASURE_DELAY_MS + DAY_MS, ()) == later[: 2 * MAX_ERASED_PER_DAY]


def test_a_name_is_destroyed_when_it_has_gone_in_its_last_class_and_no_sooner() -> None:
    orders = [*in_classes(1, 3), *in_classes(2, 2), order(3, by_kit=True)]
    assert carried_out_whole(orders, [*orders[:2], *orders[3:]]) == orders[3:]
    assert carried_out_whole(orders, orders) == orders


def test_whom_a_list_has_shown_for_longer_goes_first_there_and_not_in_other_classes() -> None:
    put_on_others = [replace(each, stood_days=7 if each.at == b"\1" else 0) for each in in_classes(1, 9)]
    late = replace(order(2, seen_ms=1), at=b"\1", stood_days=7)
    found = due([*put_on_others, late], ERASURE_DELAY_MS + 1, ())
    assert found[:2] == [put_on_others[0], late]


@given(st.lists(orders_st, max_size=30), st.integers(0, 40 * DAY_MS), st.integers(0, 9))
def test_without_the_kit_no_more_than_the_days_number_is_ever_new(orders: list[Order], now_ms: int, done: int) -> None:
    found = due(orders, now_ms, [Place(bytes([number]), b"") for number in range(done)])
    unsigned = [each for each in found if each.kit_seen_ms is None or each.kit_seen_ms + ERASURE_DELAY_MS > now_ms]
    assert len({each.covers for each in unsigned}) <= max(0, MAX_ERASED_PER_DAY - done)
    assert all(each.seen_ms is not None and each.seen_ms + ERASURE_DELAY_MS <= now_ms for each in unsigned)
    assert all(each.of_person for each in unsigned)


@pytest.mark.parametrize(
    ("wall_h", "steady_h", "leapt_h"),
    [(1.0, 1.0, 0), (17.0, 1.0, 16), (-17.0, 1.0, -18), (1.5, 1.0, 0), (0.5, 1.0, 0), (100.0, 100.0, 28),
     (60.0, None, 0), (100.0, None, 28), (-50.0, None, -50)],
)  # fmt: skip
def test_time_by_which_a_clock_was_set_or_for_which_nobody_looked_is_none(
    wall_h: float, steady_h: float | None, leapt_h: int
) -> None:
    passed_ms = None if steady_h is None else int(steady_h * HOUR_MS)
    assert leap_ms(int(wall_h * HOUR_MS), passed_ms) == leapt_h * HOUR_MS


@given(st.lists(st.tuples(st.integers(0, 2 * HOUR_MS), st.integers(-HOUR_MS // 2, HOUR_MS // 2)), max_size=60))
def test_however_a_clock_is_set_its_looks_count_what_was_watched_within_an_hour(
    looks: list[tuple[int, int]],
) -> None:
    wall_ms = time_ms = NOW_MS
    watched = leapt = 0
    for passed_ms, step_ms in looks:
        wall_ms += passed_ms + step_ms
        watched += passed_ms
        time_ms, over_ms = reckoned(time_ms, wall_ms, passed_ms)
        leapt += over_ms
        assert abs(time_ms - wall_ms) < HOUR_MS, "it stays the own clock"
        assert time_ms - leapt == NOW_MS + watched, "and what has waited is what was watched"
