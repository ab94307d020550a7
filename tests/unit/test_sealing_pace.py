"""How often a device seals keys to who comes later (docs/adr/0240, docs/adr/0612)."""

from __future__ import annotations

from protocol.clock import DAY_MS
from sync_agent.keys.space_keys import MAX_SEALINGS_A_DAY, SEALING_PAUSE_MS, is_enough


def test_who_has_sealed_often_today_seals_to_all_who_came_since_each_half_hour() -> None:
    often = list(range(MAX_SEALINGS_A_DAY))
    assert not is_enough(often[1:])
    assert is_enough(often)
    assert not is_enough([age_ms + SEALING_PAUSE_MS for age_ms in often])
    assert is_enough([*often, SEALING_PAUSE_MS])
    assert not is_enough([*often[1:], DAY_MS])
    assert not is_enough([])


def test_a_clock_that_was_set_back_makes_nobody_wait() -> None:
    assert not is_enough([-2 * DAY_MS] * MAX_SEALINGS_A_DAY)
    assert not is_enough([*[-2 * DAY_MS] * MAX_SEALINGS_A_DAY, 1])
