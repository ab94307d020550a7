"""At rest: memory, CPU seconds and bytes of a daemon with nothing to do, a minute after it was started.

A server and an agent that hold a catalogue of 6,000 files, and two Syncthings that hold the same, are started together
and left alone. CPU seconds and bytes are those of the minute, starting included; and apart, those after the first ten
seconds.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from typing import Final

from bench.first_sync import PUPIL, school_of
from bench.peers import ending, syncthing_pair, versions, wait_until
from bench.relay import Relay
from bench.results import Figure, Result, Setting
from bench.sampling import Tree

AGENT_GOAL_BYTES: Final = 70e6
START_S: Final = 10.0
KOLIBRI: Final[dict[str, Figure]] = {"rss_bytes": "96–107 MB", "cpu_s": "0.3–0.5"}
KOLIBRI_NOTE: Final = "quoted from an earlier run, a facility on loopback"
_TABLE: Final = "at rest"


def measure(setting: Setting) -> Iterator[Result]:
    """Agent, server, and Syncthing's two."""
    catalogue = setting.catalogues[0]
    school = school_of(setting, catalogue)
    watching: dict[str, tuple[Tree, Relay]] = {}
    with contextlib.ExitStack() as stack:
        if "syncthing" in versions():
            work = setting.work / "syncthing-at-rest"
            shutil.rmtree(work, ignore_errors=True)
            server, client, between = stack.enter_context(syncthing_pair(catalogue.folder, work))
            with ending(server.start()), ending(client.start()):
                wait_until(lambda: client.agrees_with(server), "Syncthing's first sync")
            between.reset()
            for name, one in (("client", client), ("server", server)):
                process = stack.enter_context(ending(one.start()))
                watching[f"Syncthing: {name}"] = (Tree([process.pid]), between)
        relay = stack.enter_context(school.serving())
        if school.server_process is None:
            raise AssertionError("the server does not run")
        agent = stack.enter_context(school.running(PUPIL))
        watching["Relais: agent"] = (Tree([agent.pid]), relay)
        watching["Relais: server"] = (Tree([school.server_process.pid]), relay)
        time.sleep(START_S)
        for tree, _ in watching.values():
            tree.sample()
        early = {what: (tree.cpu_s(), counted.traffic().both) for what, (tree, counted) in watching.items()}
        time.sleep(setting.rest_s - START_S)
        yield from (_line(what, *watching[what], *early[what]) for what in sorted(watching))
    yield Result(_TABLE, "Kolibri 0.19.5", KOLIBRI, note=KOLIBRI_NOTE)


def _line(what: str, tree: Tree, relay: Relay, early_cpu_s: float, early_bytes: int) -> Result:
    tree.sample()
    traffic = relay.traffic()
    figures: dict[str, Figure] = {
        "rss_bytes": tree.rss_bytes(),
        "peak_bytes": tree.cost().peak_bytes,
        "cpu_s": tree.cpu_s(),
        "later_cpu_s": tree.cpu_s() - early_cpu_s,
        "both_bytes": traffic.both,
        "later_bytes": traffic.both - early_bytes,
        "requests": traffic.requests,
    }
    return Result(_TABLE, what, figures, {"rss_bytes": AGENT_GOAL_BYTES} if "agent" in what else {})
