"""What all tests share: no law is judged by how fast a busy machine checks it; programs start as installed ones do.

Branches are counted where tests aim at them. The ones below go over the same branches thousands of times, which takes
twice as long when each is counted: the other tests must reach them (ADR 0122).
"""

from __future__ import annotations

import compileall
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from _pytest.assertion import rewrite
from coverage import Coverage
from hypothesis import HealthCheck, settings

PROGRAMS = ("protocol", "sync_agent", "sync_server")
TESTS = Path(__file__).parent
UNCOUNTED = (
    TESTS / "simulation",
    TESTS / "browser",
    TESTS / "integration" / "test_interruptions.py",
    TESTS / "integration" / "test_kill_points.py",
    TESTS / "integration" / "test_kill_programs.py",
    TESTS / "integration" / "test_power_loss.py",
    TESTS / "integration" / "test_week.py",
)

settings.register_profile("relais", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relais")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the programs compiled, as pip installs them, even where Python is told to write no bytecode by itself.

    Tests start them a thousand times, and each would compile some three hundred modules anew: a quarter of a second.
    """
    if not hasattr(config, "workerinput"):
        for program in PROGRAMS:
            compileall.compile_dir(Path(__file__).parents[1] / program, quiet=1)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Rewrite the assertions of a share of the tests, where several processes test: each finds those of others done.

    Otherwise all of them would do it for every module, at the same time: two thirds of what collecting costs.
    """
    if (work := getattr(session.config, "workerinput", None)) is None:
        return
    sys.dont_write_bytecode = False
    share = slice(int(work["workerid"].removeprefix("gw")), None, work["workercount"])
    for file in sorted(TESTS.rglob("test_*.py"))[share]:
        kept = rewrite.get_cache_dir(file) / (file.stem + rewrite.PYC_TAIL)
        if rewrite.try_makedirs(kept.parent) and rewrite._read_pyc(file, kept) is None:
            source, code = rewrite._rewrite_test(file, session.config)
            rewrite._write_pyc(session.config.stash[rewrite.assertstate_key], code, source, kept)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Count no branches while a test of `UNCOUNTED` runs, its fixtures included."""
    counting = Coverage.current()
    if counting is None or not any(item.path.is_relative_to(place) for place in UNCOUNTED):
        return (yield)
    counting.stop()
    try:
        return (yield)
    finally:
        counting.start()
