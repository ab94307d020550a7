"""Ends or fails a program at every call by which it changes a folder, one run for each call.

A first run under `strace` writes down the calls; each further run is stopped by `strace` at one of them, before the
kernel carries it out. What the caller says about the folder after each run is then true for every moment of the
program's work: between two calls the folder does not change.

The program must make the same calls in the same order each time, as far as each of its threads and files is concerned;
a run that does not come to its point is reported. `strace` counts the calls of each thread by itself, so a program that
lets several threads make the same call on the same file hides some of its points; that is reported too.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

WRITES: Final = ("write", "writev", "pwrite64", "pwritev", "pwritev2", "sendfile", "copy_file_range", "fallocate")
FLUSHES: Final = ("fsync", "fdatasync", "sync_file_range", "msync")
NAMES: Final = (
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "truncate",
    "ftruncate",
)
ALL_CALLS: Final = (*WRITES, *FLUSHES, *NAMES)

KILL: Final = "signal=SIGKILL"
_KILLED_STATUS: Final = (-9, 128 + 9)
_CALL: Final = re.compile(r"^(\d+) +(\w+)\((?:\d+<([^>]+)>|(?:AT_FDCWD[^,]*, )?\"([^\"]*)\")")


class Program(Protocol):
    """Something that works in a folder and can be run under `strace`."""

    def run(self, folder: Path, strace: Sequence[str]) -> tuple[int, str]:
        """One run under `strace` with these options: its exit status and what it printed."""


def python_environment() -> dict[str, str]:
    """What an interpreter without site packages of its own needs to find the modules that the tests find."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path), "PYTHONHASHSEED": "0"}


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """The `nth` time (from 1) that one thread makes this call on this path below the folder."""

    call: str
    path: str
    nth: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: its exit status, whether it was killed, and the lines that it had printed."""

    status: int
    lines: tuple[str, ...]

    @property
    def killed(self) -> bool:
        """Whether the run ended at its point."""
        return self.status in _KILLED_STATUS


AfterEach = Callable[[Path, Point, Outcome], None]


def points_of(program: Program, folder: Path, calls: Sequence[str] = ALL_CALLS) -> tuple[list[Point], int]:
    """Every call of one unharmed run that changes something in the folder, in order; and how many are hidden."""
    log = folder.with_name(f"{folder.name}.calls")
    status, printed = program.run(folder, ["-y", "-s0", "-o", str(log), "-e", f"trace={','.join(calls)}"])
    assert status == 0, f"the unharmed run failed: {printed}"
    seen: Counter[tuple[str, str, str]] = Counter()
    points: dict[Point, None] = {}
    for line in log.read_text().splitlines():
        if (match := _CALL.match(line)) and (path := _below(match[3] or match[4], folder)) is not None:
            seen[match[1], match[2], path] += 1
            points[Point(match[2], path, seen[match[1], match[2], path])] = None
    return list(points), seen.total() - len(points)


def run_to(point: Point, program: Program, folder: Path, fault: str, *, lasting: bool = False) -> Outcome:
    """Run the program until `point`, where `fault` happens instead of the call (if `lasting`, from then on)."""
    when = f"{point.nth}+" if lasting else str(point.nth)
    options = ["-o", os.devnull, "-P", str(folder / point.path), "-e", f"trace={point.call}"]
    status, printed = program.run(folder, [*options, "-e", f"inject={point.call}:{fault}:when={when}"])
    return Outcome(status, tuple(printed.splitlines()))


def fault_at_every_point(
    program: Program,
    watch_folder: Path,
    after_each: AfterEach,
    *,
    fault: str,
    calls: Sequence[str],
    lasting: bool = False,
    template: Path | None = None,
    allow_hidden: bool = False,
) -> int:
    """Run the program once for every point, with this fault there; returns how many points there were.

    Each run has a folder of its own beside `watch_folder`, a copy of `template` if there is one, and is judged by
    `after_each`. Two runs go on at a time.
    """

    def fresh(name: str) -> Path:
        folder = watch_folder.with_name(f"{watch_folder.name}-{name}")
        if template is not None:
            shutil.copytree(template, folder)
        return folder

    def judge(numbered: tuple[int, Point]) -> None:
        number, point = numbered
        folder = fresh(str(number))
        after_each(folder, point, run_to(point, program, folder, fault, lasting=lasting))
        shutil.rmtree(folder)

    points, hidden = points_of(program, fresh("unharmed"), calls)
    assert hidden == 0 or allow_hidden, f"{hidden} calls cannot be told apart from those of other threads"
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(judge, enumerate(points)):
            pass
    return len(points)


def kill_at_every_point(
    program: Program,
    watch_folder: Path,
    after_each: AfterEach,
    *,
    calls: Sequence[str] = ALL_CALLS,
    template: Path | None = None,
    allow_hidden: bool = False,
) -> int:
    """Kill the program before every call that changes the folder; see `fault_at_every_point`."""

    def judge(folder: Path, point: Point, outcome: Outcome) -> None:
        assert outcome.killed, f"the run never came to {point}: {outcome}"
        after_each(folder, point, outcome)

    return fault_at_every_point(
        program, watch_folder, judge, fault=KILL, calls=calls, template=template, allow_hidden=allow_hidden
    )


def acknowledged(lines: Iterable[str]) -> int:
    """How many steps a program has acknowledged, by lines `ack 0`, `ack 1` …"""
    return sum(line.startswith("ack ") for line in lines)


def _below(path: str, folder: Path) -> str | None:
    try:
        return Path(path).relative_to(folder).as_posix()
    except ValueError:
        return None
