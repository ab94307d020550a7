"""That the simulator would notice: rules broken on purpose; that a seed always gives the same history."""

from __future__ import annotations

import pytest

from tests.simulation.command import simulate
from tests.simulation.mutations import BROKEN_RULES


@pytest.mark.parametrize("rule", BROKEN_RULES)
def test_a_rule_broken_on_purpose_is_noticed(rule: str) -> None:
    first = BROKEN_RULES[rule].shown_by
    status, said = simulate("--broken", rule, "--seeds", f"{first}-{first + 99}")
    assert status == 1, said
    assert "BROKEN" in said


def test_a_seed_replays_byte_for_byte() -> None:
    one, other = (simulate("--seeds", "0-9", "--digests")[1].splitlines()[:10] for _ in range(2))
    assert one == other
    assert len({line.split()[-1] for line in one}) == 10


def test_a_failing_history_is_made_small_and_still_fails() -> None:
    rule = "forgets_prev"
    seed = str(BROKEN_RULES[rule].shown_by)
    long, short = simulate("--broken", rule, "--seed", seed), simulate("--broken", rule, "--seed", seed, "--shrink")
    assert long[0] == short[0] == 1
    assert len(short[1]) < len(long[1])
