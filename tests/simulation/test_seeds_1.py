"""Random histories: the second of four shares."""

from __future__ import annotations

import pytest

from tests.simulation.command import check_seeds


def test_nothing_acknowledged_is_lost_and_all_replicas_agree_whatever_happens(pytestconfig: pytest.Config) -> None:
    check_seeds(500, 999, pytestconfig.getoption("histories"))
