from __future__ import annotations

from dataclasses import replace

import pytest

from sync_server.handlers.overview.devices import DeviceState, Signs, state_of

NOW_MS = 1_795_000_000_000
MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS

FINE = Signs(
    now_ms=NOW_MS,
    cut=False,
    trouble=None,
    seen_ms=NOW_MS - 5_000,
    current_ms=NOW_MS - 5_000,
    enrolled_ms=NOW_MS - 30 * DAY_MS,
    backlog=0,
)


def test_a_device_that_called_just_now_and_holds_everything_is_up_to_date() -> None:
    assert state_of(FINE) is DeviceState.UP_TO_DATE


@pytest.mark.parametrize(
    ("signs", "state"),
    [
        (replace(FINE, cut=True), DeviceState.RETIRED),
        (replace(FINE, seen_ms=None, current_ms=None), DeviceState.NEVER_SEEN),
        (replace(FINE, trouble="paused"), DeviceState.PAUSED),
        (replace(FINE, trouble="paused", seen_ms=NOW_MS - 20 * DAY_MS), DeviceState.PAUSED),
        (replace(FINE, trouble="disk-full"), DeviceState.DISK_FULL),
        (replace(FINE, trouble="damaged"), DeviceState.ERROR),
        (replace(FINE, seen_ms=NOW_MS - 7 * DAY_MS), DeviceState.SILENT),
        (replace(FINE, seen_ms=NOW_MS - 7 * DAY_MS + 1), DeviceState.OFFLINE),
        (replace(FINE, seen_ms=NOW_MS - 16 * MINUTE_MS), DeviceState.OFFLINE),
        (replace(FINE, current_ms=NOW_MS - 61 * MINUTE_MS), DeviceState.LATE),
        (replace(FINE, current_ms=None), DeviceState.LATE),
        (replace(FINE, current_ms=None, enrolled_ms=NOW_MS - MINUTE_MS), DeviceState.SYNCING),
        (replace(FINE, current_ms=None, enrolled_ms=None), DeviceState.SYNCING),
        (replace(FINE, current_ms=NOW_MS - MINUTE_MS), DeviceState.SYNCING),
        (replace(FINE, backlog=1), DeviceState.SYNCING),
    ],
)
def test_the_state_says_what_is_wrong(signs: Signs, state: DeviceState) -> None:
    assert state_of(signs) is state


def test_the_first_thing_that_is_wrong_is_said() -> None:
    wrong = replace(FINE, cut=True, trouble="disk-full", seen_ms=NOW_MS - 8 * DAY_MS, current_ms=None)
    seen = [state_of(wrong)]
    for mended in ({"cut": False}, {"trouble": "damaged"}, {"trouble": None}, {"seen_ms": NOW_MS - DAY_MS}):
        wrong = replace(wrong, **mended)
        seen.append(state_of(wrong))
    assert seen == [
        DeviceState.RETIRED,
        DeviceState.DISK_FULL,
        DeviceState.ERROR,
        DeviceState.SILENT,
        DeviceState.OFFLINE,
    ]


def test_a_clock_that_was_set_back_makes_nobody_silent() -> None:
    assert state_of(replace(FINE, now_ms=NOW_MS - DAY_MS)) is DeviceState.UP_TO_DATE
