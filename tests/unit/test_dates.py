"""Dates as people give them."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code
from sync_agent.coursework.dates import due_ms

PARIS_WINTER = dt.timezone(dt.timedelta(hours=1))


def test_a_bare_date_means_the_end_of_that_day_where_the_machine_is() -> None:
    assert rfc3339(due_ms("2026-12-24", PARIS_WINTER)) == "2026-12-24T22:59:59.999Z"


def test_a_time_without_a_zone_is_the_machines_and_one_with_a_zone_is_taken_as_it_is() -> None:
    assert rfc3339(due_ms("2026-12-24T18:00", PARIS_WINTER)) == "2026-12-24T17:00:00.000Z"
    assert rfc3339(due_ms("2026-12-24T18:00:00Z", PARIS_WINTER)) == "2026-12-24T18:00:00.000Z"
    assert rfc3339(due_ms("2026-12-24T18:00+02:00", PARIS_WINTER)) == "2026-12-24T16:00:00.000Z"


@pytest.mark.parametrize("text", ["20261224", "2026-W52-4", " 2026-12-24 "])
def test_the_other_spellings_of_iso_8601_mean_the_same_day(text: str) -> None:
    assert due_ms(text, dt.UTC) == due_ms("2026-12-24", dt.UTC)


@pytest.mark.parametrize(
    "text", ["", "demain", "24/12/2026", "2026-13-01", "2026-02-30", "1969-12-31", "0001-01-01", "2026-12-24T25:00"]
)
def test_what_is_no_date_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        due_ms(text, dt.UTC)
    assert refused.value.code is Code.BAD_DATE


@given(st.text(max_size=40))
def test_any_text_is_a_date_or_is_refused(text: str) -> None:
    try:
        assert due_ms(text) >= 0
    except BadInput:
        return
