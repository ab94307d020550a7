"""What all tests share: no law is judged by how fast a busy machine checks it; programs start as installed ones do.

Files lie in memory where it has room (tests/harness/files_in_memory.py), while their test runs; longer if it fails.

`--branches` counts those of protocol/ that they reach (tests/harness/branches.py). `--defences-off K/N` runs a share of
the attacks without their defences alone (tests/harness/attack.py), `--histories K/N` a share of the random histories.
"""

from __future__ import annotations

import compileall
import gc
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from _pytest.assertion import rewrite
from hypothesis import HealthCheck, settings

from tests.harness.attack import Share
from tests.harness.files_in_memory import put_files_into_memory
from tests.harness.open_connections import tell_of_open_connections

PROGRAMS = ("protocol", "sync_agent", "sync_server")
TESTS = Path(__file__).parent

settings.register_profile("relais", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relais")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let branches be counted, and attacks without their defences and random histories come in turns."""
    parser.addoption("--branches", action="store_true", help="count the branches of protocol/ that are reached")
    parser.addoption("--defences-off", metavar="K/N", help="of attacks without their defence a share")
    parser.addoption("--histories", metavar="K/N", help="of random histories a share")
    parser.addoption("--touched", metavar="FILE", action="append", default=[], help="a file of which all run")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the programs compiled, as pip installs them, even where Python is told to write no bytecode by itself.

    Tests start them a thousand times, and each would compile some three hundred modules anew: a quarter of a second.
    """
    if config.getoption("branches"):
        from tests.harness.branches import Branches  # noqa: PLC0415 — who does not count need not have what counts

        testing = hasattr(config, "workerinput") or not config.getoption("numprocesses", None)
        config.pluginmanager.register(Branches(testing=testing))
    tell_of_open_connections()
    if not hasattr(config, "workerinput"):
        put_files_into_memory()
        for program in PROGRAMS:
            compileall.compile_dir(Path(__file__).parents[1] / program, quiet=1)


@pytest.hookimpl(tryfirst=True)
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


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among half a million things that stay, while tests are collected or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let random histories come first: each file of them is one test of minutes, and nothing else may wait for its end.

    Whoever hands out files gives each process two to begin with, and the next when only two tests are left.
    """
    if asked := config.getoption("defences_off"):
        share, touched = Share.parse(asked), config.getoption("touched")
        holds = {item: share.holds(item.nodeid, touched) for item in items}
        config.hook.pytest_deselected(items=[item for item in items if not holds[item]])
        items[:] = [item for item in items if holds[item]]
    items.sort(key=lambda item: not item.nodeid.startswith("tests/simulation/"))
