"""`python -m tests.simulation …` as a test runs it: in a process in which sets are always walked in the same order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.harness.attack import Share

PROJECT = Path(__file__).parents[2]


def simulate(*arguments: str, folder: Path = PROJECT) -> tuple[int, str]:
    """Exit status, and what was said, in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def check_seeds(first: int, last: int, turn: str | None) -> None:
    """All invariants hold at the end of each of these histories, or of those whose turn it is (`--histories`).

    The test files share them, as workers share files.
    """
    seeds = range(first, last + 1)
    if turn is not None:
        seeds = Share.parse(turn).part(seeds)
    status, said = simulate("--seeds", f"{seeds[0]}-{seeds[-1]}")
    assert status == 0, said[-20_000:]
