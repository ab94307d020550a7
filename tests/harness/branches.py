"""Which branches of protocol/ the tests reach: counted by every process that tests, judged by the one that began them.

A module is prepared when it is loaded, and each place in it is told of once, the first time that it is reached
(SlipCover, by `sys.monitoring` since Python 3.12): to be counted costs a test nothing that goes where others went, so
all of them are (ADR 0169). Programs, and copies of processes, that a test starts are not counted.

Whoever counts tells what it missed as well: nobody looks through the modules again when all tests have ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import slipcover

PROJECT: Final = Path(__file__).parents[2]
PACKAGE: Final = "protocol"
LEAST_PERCENT: Final = 95
NOT_TO_RUN: Final = ("@overload", "raise NotImplementedError", r"^ +\.\.\.$")
"""Beside what runs only for mypy."""

Place: TypeAlias = "int | tuple[int, int]"
"""A line, or a branch from one line to another (0: out of the function)."""


class Branches:
    """A plugin of pytest that counts, in a process that tests, or gathers what such processes have counted."""

    def __init__(self, *, testing: bool, project: Path = PROJECT) -> None:
        self._project = project
        self._reached: dict[str, set[Place]] = {}
        self._everything: dict[str, set[Place]] = {}
        self._said: list[str] = []
        self._counting: Any = None
        if testing:
            source = [str(project / PACKAGE)]
            self._counting = slipcover.Slipcover(branch=True, source=source, exclude_also=NOT_TO_RUN)
            modules = slipcover.FileMatcher(sources=[project / PACKAGE])
            slipcover.ImportManager(self._counting, modules).__enter__()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Bring what was counted here to where it is judged, or judge."""
        counted = self._counted()
        if (brought := getattr(session.config, "workeroutput", None)) is not None:
            brought["counted"] = json.dumps(counted)
            return
        self._add(counted)
        if not self._judge() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Gather what a process has counted that tested."""
        self._add(json.loads(getattr(node, "workeroutput", {}).get("counted", "{}")))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what no test reached."""
        terminalreporter.section(f"branches of {PACKAGE}/ that no test reached")
        for line in self._said:
            terminalreporter.line(line)

    def _counted(self) -> dict[str, dict[str, list[Any]]]:
        """By file: the lines and branches that this process reached, and those that it missed."""
        if self._counting is None:
            return {}
        return {
            Path(file).resolve().relative_to(self._project).as_posix(): {
                kind: [*found[f"{kind}_lines"], *found[f"{kind}_branches"]] for kind in ("executed", "missing")
            }
            for file, found in self._counting.get_coverage()["files"].items()
        }

    def _add(self, counted: Mapping[str, Mapping[str, Iterable[Any]]]) -> None:
        for file, places in counted.items():
            reached = {_place(place) for place in places["executed"]}
            self._reached.setdefault(file, set()).update(reached)
            self._everything.setdefault(file, set()).update(reached, map(_place, places["missing"]))

    def _judge(self) -> bool:
        """Whether enough was reached; what is said of it is noted."""
        missed = {file: places - self._reached[file] for file, places in sorted(self._everything.items())}
        count = sum(map(len, self._everything.values()))
        percent = 100 * (1 - sum(map(len, missed.values())) / count) if count else 0.0
        self._said = [f"{file}: {_listed(places)}" for file, places in missed.items() if places]
        self._said.append(
            f"{percent:.2f} % of {count} lines and branches reached, at least {LEAST_PERCENT} % are to be"
        )
        return percent >= LEAST_PERCENT


def _place(place: Any) -> Place:
    return place if isinstance(place, int) else (place[0], place[1])


def _listed(places: set[Place]) -> str:
    """Lines that are missed, and branches between lines that are not."""
    lines = {place for place in places if isinstance(place, int)}
    branches = {place for place in places if isinstance(place, tuple) and not lines.intersection(place)}
    said = [(line, str(line)) for line in lines]
    said += [(start, f"{start}->{end or 'exit'}") for start, end in branches]
    return ", ".join(words for _, words in sorted(said))
