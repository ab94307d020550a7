"""That the simulator would notice: rules broken on purpose; that a seed always gives the same history."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.broken_rules import BROKEN_RULES
from tests.simulation.command import simulate
from tests.simulation.plan import plan_of


@pytest.fixture(scope="module")
def noticed() -> dict[str, str]:
    """By the name of a rule what showed that it is broken."""
    _, said = simulate("--broken-rules")
    return dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)


@pytest.mark.parametrize("rule", BROKEN_RULES)
def test_a_rule_broken_on_purpose_is_noticed(rule: str, noticed: dict[str, str]) -> None:
    assert noticed.get(rule, "nothing was said").startswith("seed ")


def test_a_seed_replays_byte_for_byte() -> None:
    one, other = (simulate("--seeds", "0-9", "--digests")[1].splitlines()[:10] for _ in range(2))
    assert one == other
    assert len({line.split()[-1] for line in one}) == 10


def test_a_history_leaves_nothing_in_the_folder_in_which_it_is_lived(tmp_path: Path) -> None:
    assert simulate("--seeds", "0-2", folder=tmp_path)[0] == 0
    assert not [*tmp_path.iterdir()]


def test_a_failing_history_is_made_small_and_still_fails() -> None:
    rule = "forgets_prev"
    seed = BROKEN_RULES[rule].shown_by
    status, said = simulate("--broken", rule, "--seed", str(seed), "--shrink")
    (ended,) = [line for line in said.splitlines() if " steps, " in line]
    assert status == 1
    assert f"seed {seed}, " in ended
    assert said.endswith(f"again: python -m tests.simulation --seed {seed} --broken {rule} --shrink\n")
    assert int(ended.split(" steps, ")[0].split()[-1]) < len(plan_of(seed).steps)


def test_the_command_that_a_failing_seed_ends_with_shows_the_same_again() -> None:
    def told(said: str) -> str:
        return said[: said.index("again: ")].partition("BROKEN")[2]

    status, said = simulate("--broken", "forgets_prev", "--seeds", "1")
    again = said.partition("again: python -m tests.simulation ")[2].splitlines()[0].split()
    assert (status, told(said)) == (1, told(simulate(*again)[1]))
