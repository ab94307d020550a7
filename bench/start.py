"""Start to ready: from the command that a service manager runs to the line “ready”, over a store with a catalogue.

An agent with its portal and a server, each started and ended ten times, the files warm in the system's cache as they
are after the first start of a day. Beside them a Syncthing that holds the same, until it listens.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from bench.first_sync import PUPIL, school_of
from bench.peers import accepts, ending, syncthing_pair, versions, wait_until
from bench.results import Figure, Result, Setting

STARTS: Final = 10
GOAL_S: Final = 1.5
_TABLE: Final = "start to ready"
_READY: Final = b"ready"
_LOOK_S: Final = 0.005


def measure(setting: Setting) -> Iterator[Result]:
    """Agent, server, and Syncthing."""
    catalogue = setting.catalogues[0]
    school = school_of(setting, catalogue)
    goals = {"p95_s": GOAL_S}
    with school.serving():
        log = school.folder / f"{PUPIL}.log"
        figures = _starts(lambda: school.running(PUPIL, "--portal", "127.0.0.1:0"), lambda at: _says(log, at), log)
    yield Result(_TABLE, "Relais: agent with its portal", figures, goals)
    log = school.folder / "server.log"
    yield Result(_TABLE, "Relais: server", _starts(school.serving_alone, lambda at: _says(log, at), log), goals)
    if "syncthing" in versions():
        work = setting.work / "syncthing-start"
        shutil.rmtree(work, ignore_errors=True)
        with syncthing_pair(catalogue.folder, work) as (server, _, _):
            port = server.port
            figures = _starts(lambda: ending(server.start()), lambda _: accepts(port), None)
        yield Result(_TABLE, f"Syncthing {versions()['syncthing']}: it listens", figures)


def _starts(
    start: Callable[[], AbstractContextManager[object]], is_ready: Callable[[int], bool], log: Path | None
) -> dict[str, Figure]:
    taken = []
    for _ in range(STARTS):
        at = log.stat().st_size if log is not None and log.exists() else 0
        began = time.monotonic()
        with start():
            wait_until(lambda at=at: is_ready(at), "ready", pause_s=_LOOK_S)  # type: ignore[misc]
            taken.append(time.monotonic() - began)
    taken.sort()
    return {"median_s": taken[len(taken) // 2], "p95_s": taken[-(-len(taken) * 95 // 100) - 1], "most_s": taken[-1]}


def _says(log: Path, at: int) -> bool:
    with log.open("rb") as file:
        file.seek(at)
        return _READY in file.read()
