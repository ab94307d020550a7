"""Random histories in CI; what a rule broken on purpose does to them; that a seed always gives the same history."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.mutations import BROKEN_RULES, Broken
from tests.simulation.run import live
from tests.simulation.shrink import shrunk

SEEDS = 2_000
AT_ONCE = 2
SEEDS_FOR_A_BROKEN_RULE = 250


def command(*arguments: str) -> subprocess.Popen[str]:
    """`python -m tests.simulation …`, begun."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.simulation", *arguments],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_nothing_acknowledged_is_lost_and_all_replicas_agree_whatever_happens() -> None:
    share = SEEDS // AT_ONCE
    running = [command("--seeds", f"{first}-{first + share - 1}") for first in range(0, SEEDS, share)]
    for each in running:
        said, _ = each.communicate()
        assert each.returncode == 0, said[-20_000:]


def test_a_seed_replays_byte_for_byte() -> None:
    for seed in range(3):
        assert live(seed).digest == live(seed).digest
    one, other = (command("--seed", "7").communicate()[0] for _ in range(2))
    assert one == other
    assert "trace" in one


@pytest.mark.parametrize("broken", BROKEN_RULES)
def test_a_rule_broken_on_purpose_is_noticed(broken: Broken) -> None:
    assert any(live(seed, broken).problems for seed in range(SEEDS_FOR_A_BROKEN_RULE))


def test_a_failing_history_is_made_small_and_still_fails() -> None:
    broken = BROKEN_RULES[0]
    lived = next(lived for seed in range(SEEDS_FOR_A_BROKEN_RULE) if (lived := live(seed, broken)).problems)
    small = shrunk(lived, broken)
    assert small.problems
    assert len(small.plan.steps) < len(lived.plan.steps)
