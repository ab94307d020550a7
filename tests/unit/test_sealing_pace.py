"""How often a device seals keys to who comes later (docs/adr/0240)."""

from __future__ import annotations

from sync_agent.keys.space_keys import MAX_SEALINGS_A_DAY, SEALING_PAUSE_MS, is_enough


def test_who_has_sealed_often_today_seals_to_all_who_came_since_each_half_hour() -> None:
    day_ms = 24 * 3_600_000
    often = list(range(MAX_SEALINGS_A_DAY))
    assert not is_enough(often[1:], now_ms=MAX_SEALINGS_A_DAY)
    assert is_enough(often, now_ms=MAX_SEALINGS_A_DAY)
    assert not is_enough(often, now_ms=often[-1] + SEALING_PAUSE_MS)
    assert is_enough([*often, often[-1] + SEALING_PAUSE_MS], now_ms=often[-1] + SEALING_PAUSE_MS + 1)
    assert not is_enough(often, now_ms=often[-1] + day_ms)
