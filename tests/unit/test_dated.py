"""Days as they are typed for a command with the kit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date

import pytest

from protocol.clock import at_from
from protocol.errors import BadInput, Code
from protocol.model.entry import Entry, Kind, compose
from sync_server.kit.dated import Days, days_of
from tests.harness.territory import new_device

NEW_YEAR_MS = 1_798_761_600_000
"""2027-01-01T00:00Z."""


def entry(at_ms: int) -> Entry:
    author = new_device(bytes).signing
    at = at_from(at_ms)
    return compose(author=author, space=bytes(32), kind=Kind.ERASE, grant=None, at=at, payload=b"x", salt=bytes(16))


@pytest.fixture
def in_paris() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "CET-1")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_paris")
def test_a_day_is_this_machines_as_times_are_told_or_that_of_utc_as_scripts_have_it() -> None:
    late = entry(NEW_YEAR_MS - 60_000)
    assert days_of(late) == [date(2027, 1, 1), date(2026, 12, 31)]
    for typed, holds in (("2027-01-01", True), ("2026-12-31", True), ("2027-01-02", False), ("2026-12-30", False)):
        assert Days([typed]).hold(late) is holds


def test_several_days_are_typed_one_by_one_or_as_the_first_and_the_last() -> None:
    some = [entry(NEW_YEAR_MS + days * 86_400_000 + 43_200_000) for days in range(4)]
    assert [Days(["2027-01-01", "2027-01-03"]).hold(one) for one in some] == [True, False, True, False]
    assert [Days(["2027-01-02..2027-01-04"]).hold(one) for one in some] == [False, True, True, True]
    assert not any(map(Days([]).hold, some))


def test_an_erasure_that_somebody_dates_at_the_end_of_time_has_a_day() -> None:
    assert Days(["9999-12-31"]).hold(entry(2**48 - 1))


@pytest.mark.parametrize("typed", ["", "yesterday", "2026-13-01", "2026-03-02..", "..2026-03-02", "2026-03-02...2"])
def test_what_is_no_day_is_refused(typed: str) -> None:
    with pytest.raises(BadInput) as refused:
        Days([typed])
    assert refused.value.code is Code.BAD_DATE
