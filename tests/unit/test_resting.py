"""Work that comes now and then is followed by no rest; work without end leaves most of the time to others."""

from __future__ import annotations

import pytest

from sync_agent.pacing.resting import FREE_S, MOST_S, SHARE, Rest


def test_one_piece_now_and_then_needs_no_rest() -> None:
    rest, now_s = Rest(), 0.0
    for _ in range(100):
        rest, pause_s = rest.after(now_s, now_s + 0.5)
        assert pause_s == 0.0
        now_s += 2.0


def test_work_without_end_leaves_others_their_share() -> None:
    rest, now_s, worked_s = Rest(), 0.0, 0.0
    for _ in range(200):
        rest, pause_s = rest.after(now_s, now_s + 0.5)
        worked_s += 0.5
        now_s += 0.5 + pause_s
    assert worked_s / now_s == pytest.approx(1 / (1 + SHARE), rel=0.05)


def test_the_rest_after_very_long_work_has_an_end() -> None:
    rest, pause_s = Rest().after(0.0, 600.0)
    assert pause_s == MOST_S
    assert rest.after(600.0 + MOST_S, 600.1 + MOST_S)[1] == pytest.approx(SHARE * 0.1)
    assert rest.after(10_000.0, 10_000.0 + FREE_S / SHARE)[1] == 0.0
