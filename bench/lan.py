"""One school on one network: what thirty machines cost its line to the server, and news with no server at all.

Each machine listens at an address of its own on a virtual network inside a namespace of this machine, where multicast
works as on a school's. A teacher publishes; the relay before the server counts what the school's line would carry.
First one machine alone, which is none of the thirty and stays off afterwards: what it has brought none of them can be
given. Then all are switched on at once, in the morning: its lesson and one of the night are new to each of them. Then
a lesson by day; then the server is ended, and what the teacher publishes spreads by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.peers import wait_until
from bench.relais import School
from bench.results import Figure, Result, Setting
from bench.sampling import Tree

MACHINES: Final = int(os.environ.get("RELAIS_BENCH_MACHINES", "30"))
CONTENT_BYTES: Final = 21_600_000
LESSONS: Final = 20
_LESSON_BYTES: Final = 60_000
_NET: Final = "10.93.0."
_PORT: Final = 8095
_LINE: Final = "one school, one download"
_NEWS: Final = "no server: published, then seen on every machine"
_PATIENCE_S: Final = 600.0
_LOOK_S: Final = 0.01


def measure(setting: Setting) -> Iterator[Result]:
    """Both tables, measured in a namespace of their own."""
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *rights, "--net", sys.executable, str(Path(__file__)), str(setting.work / "lan")]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    for line in done.stdout.splitlines():
        yield Result(**json.loads(line))


def _inside(folder: Path) -> Iterator[Result]:
    make_network(MACHINES + 1)
    school = School.found(folder)
    space = school.add_class("CM1")
    person = str(school.tell_server("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"])
    machines = [f"pc{number}" for number in range(1, MACHINES + 1)]
    lone = "lone"
    with contextlib.ExitStack() as server:
        relay = server.enter_context(school.serving())
        school.tell("teacher", *school.enrolment("teacher", [space], person))
        for machine in (lone, *machines):
            school.tell(machine, *school.enrolment("machine", [space]))
        with school.running("teacher"):
            with school.running(lone):
                alone = _spread(school, space, "Seul", [lone])
            _publish(school, space, "Nuit")
            relay.reset()
            with contextlib.ExitStack() as running:
                began = time.monotonic()
                pids = [
                    running.enter_context(school.running(machine, "--lan", f"{_NET}{number}:{_PORT}")).pid
                    for number, machine in enumerate(machines, 1)
                ]
                _wait_for(school, "Nuit", machines)
                _wait_for(school, "Seul", machines)
                morning = {"seen_s": time.monotonic() - began, "down_bytes": relay.traffic().down}
                _wait_for_links(school, machines)
                together = _spread(school, space, "Ensemble", machines, pids)
    goals = {"line_times": 1.05}
    yield Result(_LINE, "one machine", alone)
    # both lessons are new to all of them
    times = [float(morning["down_bytes"]) / 2, float(together["down_bytes"])]
    times = [size / float(alone["down_bytes"]) for size in times]
    found = {**morning, "line_times": times[0]}
    yield Result(_LINE, f"{MACHINES} machines switched on at once: two lessons", found, goals)
    goals["seen_s"] = 1.3 * float(alone["seen_s"]) + 5
    yield Result(_LINE, f"{MACHINES} machines that see each other", {**together, "line_times": times[1]}, goals)
    with contextlib.ExitStack() as running:
        running.enter_context(school.running("teacher", "--lan", f"{_NET}{MACHINES + 1}:{_PORT}"))
        for number, machine in enumerate(machines, 1):
            running.enter_context(school.running(machine, "--lan", f"{_NET}{number}:{_PORT}"))
        _wait_for_links(school, machines)
        yield Result(_NEWS, f"{MACHINES} machines", _news(school, machines), {"p95_s": 2.0})


def _publish(school: School, space: str, title: str) -> None:
    source = school.folder / "source" / f"{title}.bin"
    source.parent.mkdir(exist_ok=True)
    source.write_bytes(Random(title).randbytes(CONTENT_BYTES))
    school.tell("teacher", "publish", str(source), "--space", space, "--title", title)


def _spread(
    school: School, space: str, title: str, machines: Sequence[str], pids: Sequence[int] = ()
) -> dict[str, Figure]:
    """Publish through the server; what came down the line until the last machine shows it, and how long that took.

    `pids` are the machines' processes: what each needed of the processor for it is told as well.
    """
    assert school.relay is not None  # noqa: S101  (the server runs)
    school.relay.reset()
    tree = Tree(pids)
    tree.sample()
    began = time.monotonic()
    _publish(school, space, title)
    _wait_for(school, title, machines)
    seen_s = time.monotonic() - began
    tree.sample()
    time.sleep(5)
    each: dict[str, Figure] = {"cpu_s": tree.cost().cpu_s / len(pids)} if pids else {}
    return {"seen_s": seen_s, "down_bytes": school.relay.traffic().down, **each}


def _wait_for(school: School, title: str, machines: Sequence[str]) -> None:
    wait_until(lambda: all(shown(school, name, title) for name in machines), title, patience_s=_PATIENCE_S)


def _news(school: School, machines: Sequence[str]) -> dict[str, Figure]:
    rng = Random(2)
    drop = school.folder / "teacher" / "publish" / "CM1"
    taken = []
    for number in range(LESSONS):
        title = f"Sans serveur {number}"
        saved = drop / title / "lecon.html"
        saved.parent.mkdir(parents=True)
        saved.write_bytes(rng.randbytes(_LESSON_BYTES))
        item_there = "teacher", title
        wait_until(lambda wanted=item_there: _published(school, *wanted), "the revision", pause_s=_LOOK_S)  # type: ignore[misc]
        began = time.monotonic()
        waiting = set(machines)
        while waiting:
            seen = {name for name in waiting if shown(school, name, title)}
            taken += [time.monotonic() - began] * len(seen)
            waiting -= seen
            time.sleep(_LOOK_S)
    taken.sort()
    return {"median_s": taken[len(taken) // 2], "p95_s": taken[-(-len(taken) * 95 // 100) - 1], "most_s": taken[-1]}


def shown(school: School, machine: str, title: str) -> bool:
    """Whether the readable copy of an item is on a machine."""
    folder = school.folder / machine / "coursework" / "CM1" / title
    return folder.is_dir() and any(folder.iterdir())


def _published(school: School, machine: str, title: str) -> bool:
    """Whether the teacher's own readable copy shows it: from then on others can have it."""
    return shown(school, machine, title)


def _wait_for_links(school: School, machines: Sequence[str]) -> None:
    def linked() -> bool:
        rows = [school.tell(name, "status")["peers"] for name in machines[:: max(1, len(machines) // 4)]]
        return all(any(row["state"] in {"live", "resting"} for row in found) for found in rows)

    wait_until(linked, "neighbours", patience_s=_PATIENCE_S, pause_s=0.5)
    time.sleep(15)


def make_network(addresses: int) -> None:
    """Addresses of one network, between two ends of a cable that exist in this namespace only."""
    for words in ("link set lo up", "link add lan0 type veth peer name lan1", "link set lan0 up", "link set lan1 up"):
        subprocess.run(["ip", *words.split()], check=True)
    for number in range(1, addresses + 1):
        subprocess.run(["ip", "addr", "add", f"{_NET}{number}/16", "dev", "lan0"], check=True)


if __name__ == "__main__":
    for result in _inside(Path(sys.argv[1])):
        print(json.dumps(asdict(result)), flush=True)
