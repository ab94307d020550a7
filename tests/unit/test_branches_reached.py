"""A run that counts branches fails when too few of protocol/ are reached, and says which (ADR 0169)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
MODULE = """
def sign(number: int) -> str:
    if number < 0:
        return "negative"
    return "positive"
"""
TEST = "from protocol.signs import sign\n\ndef test_sign():\n    assert sign({0}) == {1!r}\n"
CONFTEST = """
from pathlib import Path
from tests.harness.branches import Branches

def pytest_configure(config):
    testing = hasattr(config, "workerinput") or not config.getoption("numprocesses")
    config.pluginmanager.register(Branches(testing=testing, project=Path(__file__).parent))
"""


def test_a_branch_that_no_test_reached_is_named_and_fails_the_run(tmp_path: Path) -> None:
    (tmp_path / "protocol").mkdir()
    (tmp_path / "protocol" / "__init__.py").touch()
    (tmp_path / "protocol" / "signs.py").write_text(MODULE)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_positive.py").write_text(TEST.format(1, "positive"))
    status, said = counted(tmp_path, processes=1)
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "1 passed" in said
    assert "protocol/signs.py: 4" in said.splitlines()

    (tmp_path / "test_negative.py").write_text(TEST.format(-1, "negative"))
    status, said = counted(tmp_path, processes=0)
    assert status == pytest.ExitCode.OK, said
    assert "100.00 %" in said


def counted(project: Path, processes: int) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", str(processes), "-p", "no:cacheprovider", "--asyncio-mode", "auto", "."],
        cwd=project,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(project), str(PROJECT)))},
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr
