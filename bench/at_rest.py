"""At rest: memory, CPU seconds and bytes of a daemon with nothing to do, a minute after it was started.

A server and three agents that hold a catalogue of 6,000 files (one alone, one with its portal, one that looks for
neighbours as well), and two Syncthings that hold the same, are started together and left alone. CPU seconds and bytes
are those of the minute, starting included; and apart, those after the first ten seconds.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from typing import Final

from bench.first_sync import school_of
from bench.peers import ending, syncthing_pair, versions, wait_until
from bench.relais import School
from bench.relay import Relay
from bench.results import Figure, Result, Setting
from bench.sampling import Tree

_GOALS: Final[dict[str, dict[str, float]]] = {
    "agent": {"rss_bytes": 70e6, "later_cpu_s": 0.06, "later_bytes": 3000},
    "server": {"rss_bytes": 90e6},
}
START_S: Final = 10.0
KOLIBRI: Final[dict[str, Figure]] = {"rss_bytes": "96–107 MB", "cpu_s": "0.3–0.5"}
KOLIBRI_NOTE: Final = "quoted from an earlier run, a facility on loopback"
CONFIGURATIONS: Final[dict[str, tuple[str, ...]]] = {
    "agent": (),
    "agent with its portal": ("--portal", "127.0.0.1:0"),
    "agent with portal and neighbours": ("--portal", "127.0.0.1:0", "--lan", "127.0.0.1:0"),
}
QUIET_LOOK_S: Final = 25.0
"""The server looks every 20 s for something to prepare."""
QUIET_CPU_S: Final = 0.1
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
        relays = {name: stack.enter_context(Relay(("127.0.0.1", school.ports.server))) for name in CONFIGURATIONS}
        with school.serving_alone():
            for name, relay in relays.items():
                _fill(school, name, relay)
            _wait_for_quiet(school)
        between_all = stack.enter_context(school.serving())
        if school.server_process is None:
            raise AssertionError("the server does not run")
        watching["Relais: server"] = (Tree([school.server_process.pid]), between_all)
        for name, options in CONFIGURATIONS.items():
            relays[name].reset()
            agent = stack.enter_context(school.running(name, *options))
            watching[f"Relais: {name}"] = (Tree([agent.pid]), relays[name])
        time.sleep(START_S)
        for tree, _ in watching.values():
            tree.sample()
        early = {what: (tree.cpu_s(), counted.traffic().both) for what, (tree, counted) in watching.items()}
        time.sleep(setting.rest_s - START_S)
        yield from (_line(what, *watching[what], *early[what]) for what in sorted(watching))
    yield Result(_TABLE, "Kolibri 0.19.5", KOLIBRI, note=KOLIBRI_NOTE)


def _fill(school: School, machine: str, relay: Relay) -> None:
    """Enrol a machine through a relay of its own, and let it fetch all that there is."""
    shutil.rmtree(school.folder / machine, ignore_errors=True)
    spaces = [space["space"] for space in school.tell_server("space", "list")]
    school.tell(machine, *school.enrolment("machine", spaces, url=f"http://127.0.0.1:{relay.port}"))
    school.tell(machine, "sync")


def _wait_for_quiet(school: School) -> None:
    """Let the server end what it prepares once for everybody."""
    if school.server_process is None:
        raise AssertionError("the server does not run")
    tree = Tree([school.server_process.pid])
    spent_s, before_s = 1.0, 0.0
    while spent_s > QUIET_CPU_S:
        time.sleep(QUIET_LOOK_S)
        tree.sample()
        spent_s, before_s = tree.cpu_s() - before_s, tree.cpu_s()


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
    return Result(_TABLE, what, figures, _GOALS.get(what.split()[1], {}))
