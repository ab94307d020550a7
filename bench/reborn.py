"""A server that burnt is born again from its kit alone, and filled by fifty agents that all come at once.

Fifty classes, each with a teacher's machine that holds its 2,000 names and 20 MB of lessons: 100,000 entries and 1 GB.
The server's folder is lost. `init --recover` makes it anew, and the agents sync: counted is the time from its start
until the last agent has nothing left to send or fetch; then sets, content and entries are compared with what was.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from random import Random
from typing import Any, Final

from bench.relais import School
from bench.results import Result, Setting
from bench.sampling import Tree, watched

AGENTS: Final = int(os.environ.get("RELAIS_BENCH_AGENTS", "50"))
PERSONS: Final = 2_000
LESSON_BYTES: Final = 20_000_000
MOST_TRIES: Final = 10
_SIZE: Final = f"{AGENTS * PERSONS:,} entries, {AGENTS * LESSON_BYTES / 1e9:g} GB"
_TABLE: Final = f"a server born again: {AGENTS} agents, {_SIZE}"


def measure(setting: Setting) -> Iterator[Result]:
    """One line: all agents at once."""
    school = School.found(setting.work / "reborn")
    classes = school.add_classes(AGENTS)
    school.add_people([(space, PERSONS) for space in classes])
    with school.serving():
        for number, space in enumerate(classes):
            _fill(school, f"agent{number}", space, number)
    before = _held(school)
    shutil.rmtree(school.folder / "server")
    school.tell_server("init", "--name", "Bench", "--recover", str(school.folder / "kit"))
    began = time.monotonic()
    with school.serving() as relay:
        process = school.server_process
        assert process is not None  # noqa: S101  (it has just been started)
        tree = Tree([process.pid])
        with watched(tree):
            again = _all_in_step(school)
        wall_s = time.monotonic() - began
        cost = tree.cost()
        moved = relay.traffic()
        after = _held(school)
    apart = [agent for agent in range(AGENTS) if not _agrees(school, f"agent{agent}", after["sets"])]
    if apart or after["chunks"] < before["chunks"] or after["entries"] < before["entries"]:
        raise AssertionError("the server born again does not hold what it held")
    figures = {
        "wall_s": wall_s,
        "entries_per_s": before["entries"] / wall_s,
        "megabytes_per_s": AGENTS * LESSON_BYTES / 1e6 / wall_s,
        "up_bytes": moved.up,
        "server_cpu_s": cost.cpu_s,
        "server_peak_bytes": cost.peak_bytes,
    }
    yield Result(
        _TABLE,
        "Relais, from the kit alone",
        figures,
        note=f"every class compared with its machine; all content is there; {again} syncs were cut and tried again",
    )
    shutil.rmtree(school.folder)


def _all_in_step(school: School) -> int:
    """All agents sync at once; who is cut, two cores being few for fifty, tries again as a daemon does. How often."""
    left, tries = list(range(AGENTS)), 0
    while left and tries < MOST_TRIES * AGENTS:
        tries += len(left)
        syncs = [(number, school.begin(f"agent{number}", "sync")) for number in left]
        left = [number for number, sync in syncs if sync.wait()]
    if left:
        raise AssertionError(f"{len(left)} agents did not come to an end")
    return tries - AGENTS


def _fill(school: School, agent: str, space: str, seed: int) -> None:
    """A teacher's machine that has fetched its class and published a lesson."""
    person = school.tell_server("person", "add", f"Professeur {seed}", "--role", "teacher", "--space", space)["person"]
    school.tell(agent, *school.enrolment("teacher", [space], str(person)))
    source = school.folder / "film.mp4"
    source.write_bytes(Random(seed).randbytes(LESSON_BYTES))
    school.tell(agent, "publish", str(source), "--space", space, "--title", f"Film {seed}")
    school.tell(agent, "sync")


def _agrees(school: School, agent: str, sets: dict[str, str]) -> bool:
    """Whether an agent's classes are the server's, entry for entry."""
    return all(row["fingerprint"] == sets[row["space"]] for row in school.tell(agent, "status")["spaces"])


def _held(school: School) -> dict[str, Any]:
    """What the server holds of every class."""
    status = school.tell_server("status")
    rows = school.tell_server("space", "list")
    return {
        "entries": sum(row["entries"] for row in rows),
        "sets": {row["space"]: row["fingerprint"] for row in rows},
        "chunks": status["chunks"],
    }
