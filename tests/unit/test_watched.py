"""The clock by which somebody becomes known: what was watched, whatever the machine's own clock says."""

from __future__ import annotations

import pytest

from protocol.clock import DAY_MS
from protocol.limits import MAX_UNWATCHED_MS
from sync_agent.machine.watched import WATCHED_MARK, WatchedTime

SEPTEMBER_MS = 1_790_000_000_000
DEAD_BATTERY_MS = 1_230_768_000_000


class Machine:
    """A machine's two clocks, and the mark that is left when a program ends."""

    def __init__(self) -> None:
        self.wall_ms, self.steady_ms, self.beginning = SEPTEMBER_MS, 5_000, b""
        self.mark: bytes | None = None

    def program(self, latest_ms: int = 0) -> WatchedTime:
        watched = WatchedTime(lambda: (self.wall_ms, self.steady_ms), self.beginning)
        watched.resume(self.mark, latest_ms)
        return watched

    def note(self, watched: WatchedTime) -> None:
        self.mark = watched.marks().get(WATCHED_MARK, self.mark)

    def passes(self, ms: int) -> None:
        self.wall_ms += ms
        self.steady_ms += ms


def test_while_a_program_runs_the_own_clock_may_be_set_to_whatever() -> None:
    machine = Machine()
    watched = machine.program()
    before = watched.now_ms()
    for wrong_ms in (DEAD_BATTERY_MS, SEPTEMBER_MS * 2, SEPTEMBER_MS):
        machine.wall_ms = wrong_ms
        machine.steady_ms += DAY_MS
        before += DAY_MS
        assert watched.now_ms() == before


@pytest.mark.parametrize(
    ("passed_ms", "counts_ms"), [(DAY_MS, DAY_MS), (90 * DAY_MS, MAX_UNWATCHED_MS), (-17 * 365 * DAY_MS, 0)]
)
def test_of_what_passes_while_no_program_runs_some_days_count_and_nothing_goes_back(
    passed_ms: int, counts_ms: int
) -> None:
    machine = Machine()
    first = machine.program()
    machine.note(first)
    machine.wall_ms, machine.steady_ms = machine.wall_ms + passed_ms, 0
    assert machine.program().now_ms() == first.now_ms() + counts_ms


def test_between_two_programs_a_clock_of_the_same_beginning_has_watched() -> None:
    machine = Machine()
    machine.beginning = b"since this noon."
    first = machine.program()
    machine.note(first)
    began_ms, an_hour_ms = first.now_ms(), 3_600_000
    for hours, set_ms in enumerate((30 * DAY_MS, -30 * DAY_MS, 3 * DAY_MS), start=1):
        machine.passes(an_hour_ms)
        machine.wall_ms += set_ms
        again = machine.program()
        machine.note(again)
        assert again.now_ms() == began_ms + hours * an_hour_ms
    machine.beginning, machine.steady_ms = b"it was off since", 0
    machine.wall_ms += DAY_MS
    assert machine.program().now_ms() == began_ms + 3 * an_hour_ms + DAY_MS, "nobody watched"


def test_programs_of_some_seconds_one_after_another_count_for_what_passes_between_them() -> None:
    machine = Machine()
    began = machine.program().now_ms()
    machine.note(machine.program())
    for _ in range(200):
        machine.passes(60_000)
        machine.note(machine.program())
    assert machine.program().now_ms() == began + 200 * 60_000


def test_it_is_noted_now_and_then_and_not_at_each_look() -> None:
    machine = Machine()
    watched = machine.program()
    noted: list[str] = []
    for _ in range(60):
        machine.passes(60_000)
        noted += watched.marks()
    assert 5 <= len(noted) <= 7


def test_a_first_look_by_a_clock_that_is_behind_begins_no_earlier_than_what_was_noted() -> None:
    machine = Machine()
    machine.wall_ms = DEAD_BATTERY_MS
    assert machine.program(SEPTEMBER_MS).now_ms() == SEPTEMBER_MS
