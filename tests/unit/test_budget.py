"""When content may travel: rules over the time, what was spent, a person's pause and the connection."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import BadInput, Code
from sync_agent.config import RunConfig
from sync_agent.pacing.budget import (
    MIN_RATE_BYTES_S,
    OPEN,
    Bucket,
    Hold,
    Limits,
    Metered,
    Pausing,
    Spent,
    Verdict,
    rate_of,
    size_of,
    span_ms_of,
    verdict,
    windows_of,
)
from sync_agent.pacing.metered import answer_of, default_device, is_modem

PARIS = ZoneInfo("Europe/Paris")
HOUR_MS = 3_600_000


def local(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=PARIS)


def judged(
    text: str,
    limits: Limits,
    *,
    spent: Spent | None = None,
    metered: bool | None = None,
    pausing: Pausing | None = None,
) -> Verdict:
    moment = local(text)
    return verdict(in_ms(text), moment, spent or Spent(), limits, metered=metered, pausing=pausing)


def in_ms(text: str) -> int:
    return round(local(text).timestamp() * 1000)


def quiet(*texts: str) -> Limits:
    return Limits(quiet=windows_of(texts))


# --- quiet hours ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "moment", "until"),
    [
        ("08:30-16:30", "2026-11-24T08:30", "2026-11-24T16:30"),
        ("08:30-16:30", "2026-11-24T16:29:59", "2026-11-24T16:30"),
        ("08:30-16:30", "2026-11-24T16:30", None),
        ("08:30-16:30", "2026-11-24T08:29:59", None),
        ("22:00-06:00", "2026-11-24T23:00", "2026-11-25T06:00"),
        ("22:00-06:00", "2026-11-24T05:59", "2026-11-24T06:00"),
        ("22:00-06:00", "2026-11-24T12:00", None),
        ("00:00-24:00", "2026-11-24T12:00", "2026-11-25T00:00"),
        ("mon-fri 08:30-16:30", "2026-11-27T09:00", "2026-11-27T16:30"),
        ("mon-fri 08:30-16:30", "2026-11-28T09:00", None),
        ("fri 22:00-06:00", "2026-11-28T05:00", "2026-11-28T06:00"),
        ("fri 22:00-06:00", "2026-11-27T05:00", None),
        ("sat-sun 08:00-09:00", "2026-11-29T08:30", "2026-11-29T09:00"),
        ("08:30-12:00, 12:00-16:00", "2026-11-24T11:00", "2026-11-24T12:00"),
    ],
)
def test_quiet_hours_hold_content_on_their_days_until_they_end(text: str, moment: str, until: str | None) -> None:
    found = judged(moment, quiet(text))
    assert found == (OPEN if until is None else Verdict(Hold.QUIET_HOURS, in_ms(until)))


@given(st.integers(0, 23 * 60 + 59), st.integers(0, 23 * 60 + 59), st.integers(0, 23 * 60 + 59))
def test_a_window_and_its_complement_share_the_day(begin: int, end: int, minute: int) -> None:
    if begin == end:
        return
    times = [f"{at // 60:02}:{at % 60:02}" for at in (begin, end)]
    moment = f"2026-11-24T{minute // 60:02}:{minute % 60:02}"
    inside = judged(moment, quiet("-".join(times))).hold is not None
    outside = judged(moment, quiet("-".join(reversed(times)))).hold is not None
    assert inside != outside


@pytest.mark.parametrize(
    "text", ["8h30-16h30", "08:30", "25:00-26:00", "08:61-09:00", "lun 08:00-09:00", "24:01-08:00"]
)
def test_what_is_no_window_is_wrong_usage(text: str) -> None:
    with pytest.raises(BadInput, match="one looks like 08:30-16:30") as caught:
        windows_of([text])
    assert caught.value.code is Code.USAGE


@pytest.mark.parametrize("text", ["08:30-16:30", "mon-fri 08:30-16:30", "sat 00:00-06:00"])
def test_windows_are_shown_as_they_are_written(text: str) -> None:
    assert [str(window) for window in windows_of([text])] == [text]


# --- the day's budget -------------------------------------------------------------------------------------------------


def test_a_spent_budget_holds_content_until_local_midnight() -> None:
    limits = Limits(daily_bytes=100)
    spent = Spent().plus(local("2026-11-24T00:00").toordinal(), 99)
    assert judged("2026-11-24T23:00", limits, spent=spent) == OPEN
    spent = spent.plus(spent.day, 1)
    assert judged("2026-11-24T23:00", limits, spent=spent) == Verdict(Hold.DAILY_BUDGET, in_ms("2026-11-25T00:00"))
    assert judged("2026-11-25T00:00", limits, spent=spent) == OPEN


def test_a_clock_that_comes_back_from_the_future_does_not_spend_its_days() -> None:
    spent = Spent().plus(local("2040-01-01T00:00").toordinal(), 10_000)
    assert judged("2026-11-24T10:00", Limits(daily_bytes=100), spent=spent) == OPEN
    assert spent.plus(local("2026-11-24T00:00").toordinal(), 5).size == 5


# --- pauses and connections -------------------------------------------------------------------------------------------


def test_a_pause_holds_until_its_time_and_before_everything_else() -> None:
    pausing = Pausing(in_ms("2026-11-24T10:00"), in_ms("2026-11-24T12:00"))
    limits = quiet("08:00-18:00")
    assert judged("2026-11-24T11:59", limits, pausing=pausing) == Verdict(Hold.PAUSED, in_ms("2026-11-24T12:00"))
    assert judged("2026-11-24T12:00", limits, pausing=pausing).hold is Hold.QUIET_HOURS
    assert judged("2040-11-24T12:00", limits, pausing=Pausing(0)) == Verdict(Hold.PAUSED)


def test_a_clock_set_back_by_years_does_not_pause_for_years() -> None:
    pausing = Pausing(in_ms("2040-01-01T10:00"), in_ms("2040-01-01T12:00"))
    assert judged("2026-11-24T11:00", Limits(), pausing=pausing) == OPEN


@pytest.mark.parametrize(
    ("said", "told", "held"),
    [("auto", True, True), ("auto", False, False), ("auto", None, False), ("yes", None, True), ("no", True, False)],
)
def test_a_metered_connection_holds_content_where_it_is_known_or_said(said: str, told: bool | None, held: bool) -> None:
    found = judged("2026-11-24T10:00", Limits(metered=Metered(said)), metered=told)
    assert (found.hold is Hold.METERED) is held


ROUTES = """Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
wwan0	00000000	00000000	0003	0	0	700	00000000	0	0	0
eth0	00000000	010200C0	0003	0	0	100	00000000	0	0	0
eth0	000200C0	00000000	0001	0	0	100	00FFFFFF	0	0	0
"""


def test_the_device_that_is_asked_about_is_that_of_the_best_default_route() -> None:
    assert default_device(ROUTES) == "eth0"
    assert default_device(ROUTES.splitlines()[0]) is None


@pytest.mark.parametrize(
    ("said", "metered"),
    [("yes\n", True), ("yes (guessed)\n", True), ("no (guessed)\n", False), ("unknown\n", None), ("", None)],
)
def test_networkmanagers_guess_counts(said: str, metered: bool | None) -> None:
    assert answer_of(said) is metered


def test_a_mobile_modem_is_known_by_its_name_or_by_the_kernel() -> None:
    assert is_modem("ppp0", "")
    assert is_modem("enx0", "DEVTYPE=wwan\nINTERFACE=enx0\n")
    assert not is_modem("eth0", "INTERFACE=eth0\n")


# --- the rate ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 300_000), min_size=20, max_size=60), st.integers(MIN_RATE_BYTES_S, 10_000_000))
def test_whoever_waits_as_told_keeps_to_the_rate(sizes: list[int], rate: int) -> None:
    bucket, now_s = Bucket(), 0.0
    for size in sizes:
        bucket, delay_s = bucket.take(size, rate, now_s)
        now_s += delay_s
    assert sum(sizes) <= rate * (now_s + 0.5) + 1


def test_both_directions_share_the_rate() -> None:
    bucket, _ = Bucket().take(1_000, 1_000, 0.0)
    _, delay_s = bucket.take(1_000, 1_000, 0.0)
    assert delay_s == pytest.approx(2.0)


# --- what a person writes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "size"), [("500000", 500_000), ("200M", 200_000_000), ("1.5 GB", 1_500_000_000)])
def test_sizes_are_decimal(text: str, size: int) -> None:
    assert size_of(text, "--daily-budget") == size


@pytest.mark.parametrize(("text", "span_ms"), [("2h", 2 * HOUR_MS), ("1d12h", 36 * HOUR_MS), ("90s", 90_000)])
def test_spans(text: str, span_ms: int) -> None:
    assert span_ms_of(text, "--for") == span_ms


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "400d", "0m"])
def test_what_is_no_span_is_wrong_usage(text: str) -> None:
    with pytest.raises(BadInput):
        span_ms_of(text, "--for")


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(daily_budget="much"),
        RunConfig(daily_budget="5/s"),
        RunConfig(metered="maybe"),
        RunConfig(quiet_hours=("noon",)),
        RunConfig(rate_limit="15k"),
        RunConfig(rate_limit="auto"),
    ],
)
def test_run_refuses_limits_that_it_does_not_understand(config: RunConfig) -> None:
    with pytest.raises(BadInput):
        config.limits()


def test_the_options_of_run_become_limits() -> None:
    config = RunConfig(daily_budget="1G", metered="no", quiet_hours=("08:30-16:30",), rate_limit="200k/s")
    assert config.limits() == Limits(10**9, Metered.NO, windows_of(["08:30-16:30"]), 200_000)
    assert rate_of("2M", "--rate-limit") == 2_000_000
