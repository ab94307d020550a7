"""What all tests share: no law is judged by how fast a busy machine checks it; programs start as installed ones do.

Branches are counted where tests aim at them (ADR 0122, 0140, 0154). What goes over the same branches thousands of times
takes twice as long when each is counted: what counts must reach them without it.
"""

from __future__ import annotations

import compileall
import gc
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from _pytest.assertion import rewrite
from coverage import Coverage
from hypothesis import HealthCheck, is_hypothesis_test, settings

PROGRAMS = ("protocol", "sync_agent", "sync_server")
TESTS = Path(__file__).parent
COUNTED = (
    *(TESTS / folder for folder in ("unit", "contract", "attacks")),
    *(
        TESTS / "integration" / f"test_{topic}.py"
        for topic in (
            "access",
            "bad_disks",
            "control",
            "control_channel",
            "control_door",
            "control_lock",
            "measures",
            "rebuild",
            "server_codes",
            "server_commands",
            "server_http",
            "server_rights",
            "strong",
            "tls",
        )
    ),
)
UNCOUNTED = (
    TESTS / "attacks" / "test_refused_packs.py",
    *(
        TESTS / "unit" / f"test_{topic}.py"
        for topic in (
            "admin_addresses",
            "arrival_order",
            "hostile_folds",
            "scheduler",
            "watch_rules",
            "what_hand_ins_claim",
        )
    ),
)
"""Many calls that go where others go: what counting them costs, and what they alone reach, was measured (ADR 0154)."""
EXAMPLES_COUNTED = 10

settings.register_profile("relais", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relais")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the programs compiled, as pip installs them, even where Python is told to write no bytecode by itself.

    Tests start them a thousand times, and each would compile some three hundred modules anew: a quarter of a second.
    """
    if missing := [str(place) for place in (*COUNTED, *UNCOUNTED) if not place.exists()]:
        raise pytest.UsageError(f"branches are to be counted in what is not there: {missing}")
    if not hasattr(config, "workerinput"):
        for program in PROGRAMS:
            compileall.compile_dir(Path(__file__).parents[1] / program, quiet=1)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Rewrite the assertions of a share of the tests, where several processes test: each finds those of others done.

    Otherwise all of them would do it for every module, at the same time: two thirds of what collecting costs. First of
    all: branches are not counted yet.
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
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Count in one process alone while tests are collected: what loading a module reaches is the same in all of them.

    Nor is garbage looked for, among half a million things that stay, then or later.
    """
    counting = Coverage.current()
    elsewhere = getattr(session.config, "workerinput", {"workerid": "gw0"})["workerid"] != "gw0"
    gc.disable()
    if counting is not None and elsewhere:
        counting.stop()
    try:
        return (yield)
    finally:
        if counting is not None and elsewhere:
            counting.start()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let random histories come first: each file of them is one test of minutes, and nothing else may wait for its end.

    Whoever hands out files gives each process two to begin with, and the next when only two tests are left.
    """
    items.sort(key=lambda item: item.path.parent != TESTS / "simulation")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Count branches while a test runs for which they count, its fixtures included."""
    counting = Coverage.current()
    if counting is None:
        return (yield)
    if not _counts(item):
        counting.stop()
        try:
            return (yield)
        finally:
            counting.start()
    law: Any = getattr(item, "obj", None)
    if not is_hypothesis_test(law):
        return (yield)
    with _first_examples(counting, law.hypothesis):
        return (yield)


def _counts(item: pytest.Item) -> bool:
    """An attack without its defence goes where it goes with it, as far as it comes."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return (
        any(item.path.is_relative_to(place) for place in COUNTED)
        and item.path not in UNCOUNTED
        and parameters.get("defence") is not False
    )


@contextmanager
def _first_examples(counting: Coverage, law: Any) -> Iterator[None]:
    """Count no more branches once a law has been tried `EXAMPLES_COUNTED` times."""
    plain: Callable[..., object] = law.inner_test
    tried = 0

    def tried_again(*values: object, **named: object) -> object:
        nonlocal tried
        tried += 1
        if tried == EXAMPLES_COUNTED + 1:
            counting.stop()
        return plain(*values, **named)

    law.inner_test = tried_again
    try:
        yield
    finally:
        law.inner_test = plain
        if tried > EXAMPLES_COUNTED:
            counting.start()
