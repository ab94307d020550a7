"""`python -m tests.simulation …` as a test runs it: in a process in which sets are always walked in the same order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def simulate(*arguments: str) -> tuple[int, str]:
    """Exit status, and what was said."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        check=False,
        cwd=PROJECT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def check_seeds(first: int, last: int) -> None:
    """All invariants hold at the end of each of these histories; the test files share them, as workers share files."""
    status, said = simulate("--seeds", f"{first}-{last}")
    assert status == 0, said[-20_000:]
