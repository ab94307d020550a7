"""A machine that has nothing and a thin line: 600 ms and 1 Mbit/s, the peers beside it, each over a line of its own.

All three fetch at the same time: they wait for their lines, not for the processor. What the server prepares for such
machines is counted apart, beside what `tar` and `zstd -19 --long=27` make of the catalogue.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.first_sync import PUPIL, TEACHER, compare
from bench.peers import ending, free_port, rsync_daemon, syncthing_pair, versions, wait_until
from bench.relais import School
from bench.relay import Relay
from bench.results import Catalogue, Figure, Result
from bench.sampling import Tree, watched
from bench.thin_line import ThinLine

ROUND_TRIP_S: Final = 0.6
BITS_PER_S: Final = 1e6
THIN: Final = "over 600 ms and 1 Mbit/s"
GOAL_S: Final = 130.0
FLOOR_PART: Final = 0.95
PATIENCE_S: Final = 3_600.0
PREPARED: Final = re.compile(r"prepared (\d+) bytes for first syncs")


def measure(catalogue: Catalogue, work: Path, floor: int) -> Iterator[Result]:
    """What is prepared of a small catalogue, then its first sync over the thin line."""
    table = f"first sync {THIN}: {catalogue.name}"
    source = catalogue.folder
    with _published(source, work) as (school, item):
        yield _line(table, school, floor)
    line = ThinLine(school.ports.server, school.ports.relay, round_trip_s=ROUND_TRIP_S, bits_per_s=BITS_PER_S)
    with ThreadPoolExecutor() as pool, school.serving_alone(), line:
        peers = [pool.submit(peer, source, work / peer.__name__) for peer in (_rsync, _syncthing)]
        began = time.monotonic()
        done = school.tell(PUPIL, "sync")
        figures: dict[str, Figure] = {
            "wall_s": time.monotonic() - began,
            "both_bytes": done["bytes_in"] + done["bytes_out"],
            "requests": done["round_trips"],
        }
        yield Result(table, "Relais: first sync", figures, {"wall_s": GOAL_S})
        for name, peer in zip(("rsync -az, zstd", "Syncthing"), peers, strict=True):
            found = peer.result()
            if found:
                yield Result(table, f"{name}: first sync", found)
    school.tell(PUPIL, "checkout", item, str(work / "copy"))
    compare(source, work / "copy")
    shutil.rmtree(work)


def prepared(school: School, name: str, floor: Callable[[], int]) -> Result:
    """What the server, which is running, prepares of a large catalogue; the floor is found meanwhile."""
    with ThreadPoolExecutor() as pool:
        return _line(f"first sync {THIN}: {name}", school, pool.submit(floor))


@contextmanager
def _published(source: Path, work: Path) -> Iterator[tuple[School, str]]:
    """A server that has the catalogue, and a machine that has nothing."""
    school = School.found(work)
    space = school.add_class("CM1")
    person = school.tell_server("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"]
    with school.serving():
        school.tell(TEACHER, *school.enrolment("teacher", [space], person))
        school.tell(PUPIL, *school.enrolment("machine", [space]))
        item = school.tell(TEACHER, "publish", str(source), "--space", space, "--title", "Cours")["item"]
        school.tell(TEACHER, "sync")
        yield school, item


def _line(table: str, school: School, floor: int | Future[int]) -> Result:
    began = time.monotonic()
    log = school.folder / "server.log"
    server = school.server_process
    if server is None:
        raise AssertionError("the server runs while it prepares")
    tree = Tree([server.pid])
    with watched(tree, period_s=0.2):
        wait_until(
            lambda: PREPARED.search(log.read_text()) is not None, "what the server prepares", patience_s=PATIENCE_S
        )
    took_s = time.monotonic() - began
    found = PREPARED.search(log.read_text())
    floor_bytes = floor if isinstance(floor, int) else floor.result()
    figures: dict[str, Figure] = {
        "prepared_bytes": float(found[1]) if found else 0.0,
        "prepare_s": took_s,
        "prepare_cpu_s": tree.cost().cpu_s,
        "prepare_peak_bytes": tree.cost().peak_bytes,
        "floor_bytes": floor_bytes,
    }
    return Result(table, "Relais: prepared by the server", figures, {"prepared_bytes": FLOOR_PART * floor_bytes})


def _rsync(source: Path, work: Path) -> dict[str, Figure]:
    if "rsync" not in versions():
        return {}
    with rsync_daemon(source, work) as (_, relay), _thin(relay) as port:
        began = time.monotonic()
        address = f"rsync://127.0.0.1:{port}/catalogue/"
        subprocess.run(["rsync", "-az", "--compress-choice=zstd", address, str(work / "copy")], check=True)
        return {"wall_s": time.monotonic() - began, "both_bytes": relay.traffic().both}


def _syncthing(source: Path, work: Path) -> dict[str, Figure]:
    if "syncthing" not in versions():
        return {}
    port = free_port()
    with syncthing_pair(source, work, port=port) as (server, client, relay), ending(server.start()):
        wait_until(server.settled, "Syncthing's first scan")
        with _thin(relay, port):
            relay.reset()
            began = time.monotonic()
            with ending(client.start()):
                wait_until(
                    lambda: client.agrees_with(server), "Syncthing's first sync", patience_s=PATIENCE_S, pause_s=0.2
                )
                return {"wall_s": time.monotonic() - began, "both_bytes": relay.traffic().both}


@contextmanager
def _thin(relay: Relay, port: int | None = None) -> Iterator[int]:
    """A thin line before a relay; the port to call."""
    chosen = port or free_port()
    with ThinLine(relay.port, chosen, round_trip_s=ROUND_TRIP_S, bits_per_s=BITS_PER_S):
        yield chosen
