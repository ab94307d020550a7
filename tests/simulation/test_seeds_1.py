"""Random histories: the second of four shares."""

from __future__ import annotations

from tests.simulation.command import check_seeds


def test_nothing_acknowledged_is_lost_and_all_replicas_agree_whatever_happens() -> None:
    check_seeds(500, 999)
