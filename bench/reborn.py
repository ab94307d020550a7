"""A server that burnt is born again from its kit alone, and filled by fifty agents that all come at once.

Fifty classes, each with a teacher's machine that holds its 2,000 names and 20 MB of lessons: 100,000 entries and 1 GB.
The server's folder is lost. `init --recover` makes it anew, and the agents sync, each a process of its own: counted is
the time from the server's start until the last agent has nothing left to send or fetch; then sets, content and entries
are compared with what was. The agents work on the server's machine, so that the time holds their work too.

What comes before the fire is not measured, and is done by the agents' own functions in a few processes, not by 250
commands: enrolled, published and acknowledged by the first server over the same wire.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any, Final

from bench.relais import School
from bench.results import Result, Setting
from bench.sampling import Tree, watched
from protocol.replica.console.frame import Notices
from protocol.replica.console.operation import NO_FILES, Table
from protocol.replica.console.ownership import acquire
from sync_agent.console.intake import files_of
from sync_agent.enrollment.by_code import enroll
from sync_agent.operations import opened

AGENTS: Final = int(os.environ.get("RELAIS_BENCH_AGENTS", "50"))
PERSONS: Final = int(os.environ.get("RELAIS_BENCH_PERSONS", "2000"))
LESSON_BYTES: Final = int(os.environ.get("RELAIS_BENCH_LESSON_BYTES", "20000000"))
MOST_TRIES: Final = 10
_SIZE: Final = f"{AGENTS * PERSONS:,} entries, {AGENTS * LESSON_BYTES / 1e9:g} GB"
_TABLE: Final = f"a server born again: {AGENTS} agents, {_SIZE}"


@dataclass(frozen=True, slots=True)
class _Teacher:
    """A teacher's machine to be: its folder and name, where it enrols with which code, its class."""

    folder: Path
    name: str
    url: str
    code: str
    space: str
    seed: int


def measure(setting: Setting) -> Iterator[Result]:
    """One line: all agents at once."""
    school = School.found(setting.work / "reborn")
    began = time.monotonic()
    before = _filled(school)
    prepared_s = time.monotonic() - began
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
    apart = [agent for agent, sets in enumerate(_fingerprints(school)) if not sets.items() <= after["sets"].items()]
    if apart or after["chunks"] < before["chunks"] or after["entries"] < before["entries"]:
        raise AssertionError(f"the server born again does not hold what it held: {before} {after} {apart}")
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
        note=f"every class compared with its machine; all content is there; {again} syncs were cut and tried again; "
        f"made ready in {prepared_s:.0f} s; agents and server share the machine",
    )
    shutil.rmtree(school.folder)


def _all_in_step(school: School) -> int:
    """All agents sync at once; who is cut, two cores being few for fifty, tries again as a daemon does. How often."""
    left, tries = list(range(AGENTS)), 0
    while left and tries < MOST_TRIES * AGENTS:
        tries += len(left)
        syncs = [(number, school.begin(_name(number), "sync")) for number in left]
        left = [number for number, sync in syncs if sync.wait()]
    if left:
        raise AssertionError(f"{len(left)} agents did not come to an end")
    return tries - AGENTS


def _filled(school: School) -> dict[str, Any]:
    """What the server holds once every teacher's machine has fetched its class and published a lesson."""
    classes = school.add_classes(AGENTS)
    school.add_people([(space, PERSONS) for space in classes])
    codes = school.invite_teachers(classes)
    teachers = [
        _Teacher(school.folder / _name(number), _name(number), school.url, code, space, number)
        for number, (space, code) in enumerate(zip(classes, codes, strict=True))
    ]
    with school.serving(), _workers() as pool:
        for _ in pool.map(_teach, teachers):
            pass
    return _held(school)


def _fingerprints(school: School) -> list[dict[str, str]]:
    """What each agent holds of its classes."""
    with _workers() as pool:
        return list(pool.map(_sets_of, (school.folder / _name(number) for number in range(AGENTS))))


def _workers() -> ProcessPoolExecutor:
    """As many processes as cores. They begin empty: this one has threads, which a copy would not have."""
    return ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"))


def _teach(teacher: _Teacher) -> None:
    """A teacher's machine that has fetched its class, and published a lesson that the server holds."""
    asyncio.run(_enrol_and_publish(teacher))


async def _enrol_and_publish(teacher: _Teacher) -> None:
    source = teacher.folder.with_suffix(".mp4")
    source.write_bytes(Random(teacher.seed).randbytes(LESSON_BYTES))
    owner = acquire(teacher.folder, create=True)
    assert owner is not None  # noqa: S101  (nobody else knows the folder)
    with owner:
        await enroll(
            teacher.folder, teacher.url, teacher.code, teacher.name, now_ms=_now_ms, entropy=secrets.token_bytes
        )
    async with _agent(teacher.folder) as table:
        lesson = {"space": teacher.space, "title": f"Film {teacher.seed}", "kind": None, "item": None}
        files = files_of([str(source)], required=True, data_dir=teacher.folder)
        await table["publish"](lesson, files, Notices())
        await table["sync"]({}, NO_FILES, Notices())
    source.unlink()


def _sets_of(folder: Path) -> dict[str, str]:
    return asyncio.run(_status_sets(folder))


async def _status_sets(folder: Path) -> dict[str, str]:
    async with _agent(folder) as table:
        status: Any = await table["status"]({}, NO_FILES, Notices())
    return {row["space"]: row["fingerprint"] for row in status["spaces"]}


@asynccontextmanager
async def _agent(folder: Path) -> AsyncIterator[Table]:
    owner = acquire(folder)
    assert owner is not None  # noqa: S101  (as above)
    with owner:
        async with opened(folder, now_ms=_now_ms, entropy=secrets.token_bytes) as table:
            yield table


def _name(number: int) -> str:
    return f"agent{number}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _held(school: School) -> dict[str, Any]:
    """What the server holds of every class."""
    status = school.tell_server("status")
    rows = school.tell_server("space", "list")
    return {
        "entries": sum(row["entries"] for row in rows),
        "sets": {row["space"]: row["fingerprint"] for row in rows},
        "chunks": status["chunks"],
    }
