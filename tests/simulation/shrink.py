"""A failing history made small: steps are left out as long as it still fails in the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

from tests.simulation.lines import CALM
from tests.simulation.plan import Plan, Step
from tests.simulation.run import Break, Lived, live_plan


def shrunk(lived: Lived, broken: Break = nullcontext) -> Lived:
    """The smallest history found that fails as `lived` does."""
    best = lived

    def fails(plan: Plan) -> bool:
        nonlocal best
        tried = live_plan(plan, broken)
        if tried.problems and _kind(tried) == _kind(lived):
            best = tried
            return True
        return False

    fails(replace(best.plan, weather=CALM))
    fails(replace(best.plan, daemons=False))
    fails(replace(best.plan, small_bounds=False))
    fails(replace(best.plan, isolated=False))
    fails(replace(best.plan, frozen=None))
    _leave_out(best.plan.steps, lambda steps: fails(replace(best.plan, steps=tuple(steps))))
    for number in reversed(range(2, len(best.plan.machines))):
        machines = best.plan.machines
        if best.plan.frozen is not None and number <= best.plan.frozen:
            continue
        fails(replace(best.plan, machines=(*machines[:number], *machines[number + 1 :])))
    return best


def _leave_out(steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool]) -> None:
    """Halves first, then quarters, … then single steps. (Zeller, Hildebrandt, "Simplifying Failure-Inducing Input".)"""
    size = max(1, len(steps) // 2)
    while True:
        start = 0
        while start < len(steps):
            fewer = [*steps[:start], *steps[start + size :]]
            if fails(fewer):
                steps = fewer
            else:
                start += size
        if size == 1:
            return
        size = max(1, size // 2)


def _kind(lived: Lived) -> str:
    """The kind of the first problem, without names and numbers."""
    return "".join(c for c in lived.problems[0].partition(": ")[0] if c.isalpha())
