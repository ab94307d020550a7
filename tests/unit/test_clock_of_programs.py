"""What time a program believes it is."""

from __future__ import annotations

import time

import pytest

from sync_agent.console import calls as cli_calls
from sync_server import cli


@pytest.mark.parametrize("program", [cli_calls, cli])
def test_a_clock_that_is_set_before_1970_says_a_time_that_can_be_noted(
    program: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: -5_000_000_000)
    assert program.now_ms().to_bytes(8, "big") == bytes(8)  # type: ignore[attr-defined]
