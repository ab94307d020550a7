"""Attacks without their defences and random histories come in turns: none is left out of all of them.

What is touched waits for no turn.
"""

from __future__ import annotations

import pytest

from tests.harness.attack import Share

FILE = "tests/attacks/test_readers.py"
OFF = [f"{FILE}::test_{number}[defence-off]" for number in range(200)]


@pytest.mark.parametrize("turns", [1, 2, 4])
def test_in_so_many_runs_in_a_row_each_attack_succeeds_once_without_its_defence(turns: int) -> None:
    runs = [Share.parse(f"{count}/{turns}") for count in range(1340, 1340 + turns)]
    assert all(sum(run.holds(name, ()) for run in runs) == 1 for name in OFF)
    assert all(any(run.holds(name, ()) for name in OFF) for run in runs)


def test_with_its_defence_a_test_always_runs_and_in_a_touched_file_all_do() -> None:
    share = Share.parse("0/4")
    assert share.holds(f"{FILE}::test_1[defended]", ())
    assert not all(share.holds(name, ()) for name in OFF)
    assert all(share.holds(name, [FILE]) for name in OFF)


@pytest.mark.parametrize("turns", [1, 2, 3, 7])
def test_in_so_many_runs_in_a_row_each_history_is_lived_once(turns: int) -> None:
    parts = [Share.parse(f"{count}/{turns}").part(range(500, 1000)) for count in range(1340, 1340 + turns)]
    assert all(parts)
    assert sorted(seed for part in parts for seed in part) == list(range(500, 1000))


@pytest.mark.parametrize("text", ["", "1", "1/0", "a/4"])
def test_what_is_no_share_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Share.parse(text)
