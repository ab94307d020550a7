"""What is left of it that a teacher has looked at a device (docs/adr/0600)."""

from __future__ import annotations

import pytest

from sync_agent.keys.seen_readers import is_looked_at, left_of
from sync_agent.machine.marks import WAS_GONE, WAS_THERE

X, Y = bytes([1]) * 16, bytes([2]) * 16
X_SPOKE, X_WAITED, Y_SPOKE = b"\x01" + X, b"\x00" + X, b"\x01" + Y


@pytest.mark.parametrize("mark", [X_SPOKE, X_WAITED, X_SPOKE + Y_SPOKE, b"", WAS_THERE, WAS_GONE])
def test_of_who_is_gone_nothing_is_left_and_they_are_news_as_anybody(mark: bytes) -> None:
    assert left_of(mark, {}) == WAS_GONE
    assert not is_looked_at(left_of(mark, {}), X, speaks=True)
    assert not is_looked_at(left_of(mark, {}), X, speaks=False)


@pytest.mark.parametrize("mark", [X_SPOKE, X_WAITED, X_SPOKE + Y_SPOKE, b"", WAS_THERE, WAS_GONE])
def test_of_who_stands_as_they_did_everything_is(mark: bytes) -> None:
    assert left_of(mark, {X: True, Y: True}) == mark


def test_who_spoke_and_waits_is_no_news_as_that_and_is_once_they_speak_again() -> None:
    left = left_of(X_SPOKE, {X: False})
    assert is_looked_at(left, X, speaks=False)
    assert not is_looked_at(left, X, speaks=True)


def test_as_whom_a_device_stands_no_more_it_is_news_and_as_the_others_it_is_not() -> None:
    left = left_of(X_SPOKE + Y_SPOKE, {Y: True})
    assert is_looked_at(left, Y, speaks=True)
    assert not is_looked_at(left, X, speaks=True)
