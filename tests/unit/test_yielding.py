"""Yielding to people, on a simulated line: one queue that everybody shares, time told by the test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from sync_agent.pacing.yielding import FLOOR_BYTES_S, LATEST, PROBE_S, TARGET_S, Line

STEP_S = 0.05


@dataclass
class Shared:
    """A line of `capacity` bytes a second with a queue of `buffer_s` seconds, and people who take some of it.

    People send at a steady rate and are served in turn with everybody else; what does not fit into the queue is lost.
    """

    capacity: float
    base_s: float = 0.04
    buffer_s: float = 1.0
    people: Callable[[float], float] = field(default=lambda _now_s: 0.0)
    queue: float = 0.0
    now_s: float = 1000.0

    def step(self, ours: float) -> tuple[float, float]:
        """What goes through of ours and of theirs in one step."""
        offered, theirs = ours * STEP_S, self.people(self.now_s) * STEP_S
        whole = self.queue + offered + theirs
        self.queue = min(max(0.0, whole - self.capacity * STEP_S), self.capacity * self.buffer_s)
        passing = min(1.0, self.capacity * STEP_S / (offered + theirs)) if offered + theirs else 1.0
        self.now_s += STEP_S
        return offered * passing, theirs * passing

    @property
    def delay_s(self) -> float:
        return self.base_s + self.queue / self.capacity


@dataclass
class Seen:
    """Seconds of a transfer: what we moved a second, and how long packets queued."""

    ours: list[float] = field(default_factory=list)
    queue_s: list[float] = field(default_factory=list)


def transfer(line: Shared, state: Line, seconds: float, *, fastest: float = 50e6) -> tuple[Line, Seen]:
    """Content moves for so long, as fast as it may, and looks at the delay as it goes."""
    seen = Seen()
    moved, since, second = 0.0, 0.0, 0.0
    for step in range(1, int(seconds / STEP_S) + 1):
        pace = fastest if state.pace_bytes_s is None else min(fastest, state.pace_bytes_s)
        through, _ = line.step(min(pace, 1.2 * line.capacity))
        moved += through
        second += through
        since += STEP_S
        if since >= PROBE_S - 1e-9:
            state = state.after(line.delay_s, int(moved), since, line.now_s)
            moved, since = 0.0, 0.0
        if step % int(1 / STEP_S) == 0:
            seen.ours.append(second)
            seen.queue_s.append(line.queue / line.capacity)
            second = 0.0
    return state, seen


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def learnt(line: Shared) -> Line:
    """A state that knows the free line."""
    return Line().after(line.delay_s, 0, PROBE_S, line.now_s)


@pytest.mark.parametrize("capacity", [60_000, 250_000, 2_000_000, 12_000_000])
def test_alone_on_the_line_content_fills_it_and_makes_only_a_short_queue(capacity: float) -> None:
    line = Shared(capacity)
    _, seen = transfer(line, learnt(line), 60)
    assert mean(seen.ours[20:]) > 0.75 * capacity
    assert mean(seen.queue_s[20:]) < 2 * TARGET_S


@pytest.mark.parametrize("capacity", [250_000, 2_000_000])
def test_when_people_use_the_line_content_steps_back_and_comes_back_when_they_stop(capacity: float) -> None:
    begin_s, end_s = 1030.0, 1060.0
    line = Shared(capacity, people=lambda now_s: 0.7 * capacity if begin_s <= now_s < end_s else 0.0)
    _, seen = transfer(line, learnt(line), 100)
    while_used, afterwards = seen.ours[35:60], seen.ours[75:]
    assert mean(while_used) < 0.45 * capacity, "people get what they ask for"
    assert mean(seen.queue_s[38:60]) < 2 * TARGET_S, "and do not wait for it"
    assert mean(afterwards) > 0.75 * capacity


def test_people_who_want_all_of_the_line_get_nearly_all_and_content_still_creeps() -> None:
    capacity = 250_000.0
    line = Shared(capacity, people=lambda now_s: 1.5 * capacity if now_s > 1010 else 0.0)
    state, seen = transfer(line, learnt(line), 60)
    assert state.pace_bytes_s == FLOOR_BYTES_S
    assert mean(seen.ours[30:]) < 0.1 * capacity


def test_a_transfer_that_does_not_fill_the_line_is_never_paced() -> None:
    line = Shared(2_000_000)
    state, _ = transfer(line, learnt(line), 30, fastest=500_000)
    assert not state.yields


def test_one_slow_answer_is_nothing_and_answers_that_stay_slow_are_something() -> None:
    state = Line()
    for delay_s in (0.04, 0.04, 0.9, 0.04, 0.04, 0.9, 0.04):
        state = state.after(delay_s, 100_000, PROBE_S, 1000)
    assert not state.yields
    for _ in range(LATEST):
        state = state.after(0.9, 100_000, PROBE_S, 1000)
    assert state.yields


def test_no_answer_halves_the_pace_down_to_the_floor() -> None:
    state = Line().after(0.04, 500_000, PROBE_S, 1000)
    paces = []
    for _ in range(12):
        state = state.after(None, 500_000, PROBE_S, 1000)
        paces.append(state.pace_bytes_s or 0)
    assert paces == sorted(paces, reverse=True)
    assert paces[0] == pytest.approx(500_000)
    assert paces[-1] == FLOOR_BYTES_S


def test_a_longer_way_is_learnt_within_ten_minutes() -> None:
    """A laptop that goes from the school's line to a phone's is not taken for a line in use for ever."""
    line = Shared(250_000, base_s=0.02)
    state = learnt(line)
    line.base_s = 0.3
    for minute in range(11):
        for _ in range(LATEST):
            state = state.after(line.delay_s, 10_000, PROBE_S, 1000 + 60 * minute)
    assert state.queue_s == 0.0


def test_between_two_transfers_the_free_line_is_remembered_and_nothing_is_held_back() -> None:
    line = Shared(250_000, people=lambda _now_s: 240_000)
    state, _ = transfer(line, learnt(line), 20)
    assert state.yields
    rested = state.rest()
    assert not rested.yields
    assert min(least for _, least in rested.bases_s) == pytest.approx(0.04)
