"""What an agent makes of how its lines for news stood and fell: rules tried as numbers."""

from __future__ import annotations

from protocol.limits import CAPABILITY_LIFETIME_S
from sync_agent.sync.hearing import (
    AFTER_FALL_S,
    MOMENT_S,
    MOST_MOMENT_S,
    MOST_YOUNG_FALLS,
    PUSH_AGAIN_S,
    YOUNG_S,
    Ear,
    Heard,
    moment_s,
    pause_s,
)

BLOCKED = Heard(tried=True, pushed_s=None, asked_s=3_600.0)
DOWN = Heard(tried=True, pushed_s=None, asked_s=None)
YOUNG = Heard(tried=True, pushed_s=YOUNG_S / 2, asked_s=None)
OLD = Heard(tried=True, pushed_s=YOUNG_S, asked_s=None)


def highest(_low: float, high: float) -> float:
    return high


def test_where_asking_stood_and_no_websocket_did_asking_comes_first_and_a_websocket_now_and_then() -> None:
    ear = Ear().after(BLOCKED, 1_000)
    assert ear.asks_first
    assert not ear.pushes(1_000 + PUSH_AGAIN_S - 1)
    assert ear.pushes(1_000 + PUSH_AGAIN_S)
    again = ear.after(BLOCKED, 5_000)
    assert again.asks_first
    assert not again.pushes(5_001)


def test_a_server_that_is_down_says_nothing_about_websockets() -> None:
    assert Ear().after(DOWN, 1_000) == Ear()
    blocked = Ear().after(BLOCKED, 1_000)
    assert blocked.after(Heard(tried=False, pushed_s=None, asked_s=None), 2_000) == blocked


def test_websockets_that_fall_young_again_and_again_are_left_for_a_while() -> None:
    ear = Ear()
    for number in range(MOST_YOUNG_FALLS):
        assert ear.pushes(number)
        ear = ear.after(YOUNG, number)
    assert not ear.pushes(MOST_YOUNG_FALLS)
    assert ear.after(OLD, 10_000) == Ear(), "one that stood is as good as ever"


def test_only_a_line_that_lived_as_long_as_its_capability_is_made_anew_at_once() -> None:
    for lived in (None, 5.0, CAPABILITY_LIFETIME_S / 2):
        assert pause_s(Heard(tried=True, pushed_s=lived, asked_s=None), highest) == AFTER_FALL_S[1]
    whole = float(CAPABILITY_LIFETIME_S)
    assert pause_s(Heard(tried=True, pushed_s=None, asked_s=whole), highest) == MOMENT_S


def test_the_more_devices_hear_the_same_news_the_longer_they_take_to_ask_and_never_long() -> None:
    assert moment_s(0) == moment_s(1) == MOMENT_S
    assert moment_s(12) > moment_s(6) > MOMENT_S
    assert moment_s(30) == moment_s(3_000) == MOST_MOMENT_S
