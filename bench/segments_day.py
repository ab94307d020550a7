"""School networks that keep devices apart, as they are: namespaces with routers and switches, real programs, no server.

As root; nothing of it leaves this machine.

usage: segments_day.py

A teacher's laptop has a lesson, the server is gone, and a PC of the class is somewhere else on the network:
- in another range of addresses, behind a router: found by its address;
- on a switch that drops multicast: found by its address, and `doctor` says what is in the way;
- on a network with IPv6 only: found by itself;
- on a Wi-Fi that keeps its devices apart: `doctor` says so, and a stick carries the lesson;
- where announcements pass and calls do not (client isolation with an mDNS helper, a firewall): `doctor` says that too.
Each step is printed with its seconds; it ends with an error if one does not come about.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.lan import shown
from bench.peers import ending, wait_until
from bench.relais import ROOT, School

_INSIDE: Final = "RELAIS_INSIDE"
_PORT: Final = 8095
_TITLE: Final = "Pendant"
_PATIENCE_S: Final = 300.0
_SWITCH: Final = (
    "link add name br0 type bridge",
    "link set br0 up",
)


def main() -> int:
    """The command line: itself again, where networks may be made, then one story after the other."""
    if _INSIDE not in os.environ:
        words = ["unshare", "--net", "--mount", sys.executable, __file__]
        return subprocess.run(words, check=False, env={**os.environ, _INSIDE: "1"}).returncode
    Path("/run/netns").mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"], check=True)
    _ip("link set lo up")
    with tempfile.TemporaryDirectory(prefix="relais-segments-") as spare:
        model = Path(spare) / "model"
        _found(model)
        for story in (_two_ranges, _no_multicast, _ipv6_only, _kept_apart, _announced_only):
            _ip("netns add a", "netns add b")
            for name in ("a", "b"):
                _ip(f"-n {name} link set lo up")
            school = _copy(model, Path(spare) / story.__name__)
            print(f"{story.__name__.strip('_').replace('_', ' ')}:", flush=True)
            story(school)
            _ip("netns del a", "netns del b")
            subprocess.run(["ip", "link", "del", "br0"], check=False, capture_output=True)
    return 0


def _found(folder: Path) -> None:
    """A class of which the teacher has published a lesson that nobody has got, the server being gone."""
    school = School.found(folder)
    space = school.add_class("CM1")
    person = str(school.tell_server("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"])
    with school.serving():
        school.tell("teacher", *school.enrolment("teacher", [space], person))
        school.tell("pc", *school.enrolment("machine", [space]))
        school.tell("teacher", "sync")
        school.tell("pc", "sync")
    lesson = folder / "lecon.html"
    lesson.write_text("<h1>Pendant la coupure</h1>")
    school.tell("teacher", "publish", str(lesson), "--space", space, "--title", _TITLE)


def _copy(model: Path, folder: Path) -> School:
    shutil.copytree(model, folder)
    school = School.reopen(folder)
    assert school is not None  # noqa: S101  (it has just been copied)
    return school


def _two_ranges(school: School) -> None:
    for name, host in (("a", "10.94.1"), ("b", "10.94.2")):
        _ip(
            f"link add name r{name} type veth peer name eth0 netns {name}",
            f"addr add {host}.1/24 dev r{name}",
            f"link set r{name} up",
            f"-n {name} addr add {host}.2/24 dev eth0",
            f"-n {name} link set eth0 up",
            f"-n {name} route add default via {host}.1",
        )
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    with _running(school, "10.94.1.2", "10.94.2.2", peer="10.94.1.2"):
        _step("the lesson comes by the address that was named", lambda: shown(school, "pc", _TITLE))


def _no_multicast(school: School) -> None:
    _switch("10.94.3.2/24", "10.94.3.3/24", "mcast_flood off")
    with _running(school, "10.94.3.2", "10.94.3.3"):
        _step("doctor says that nobody is found", lambda: _is_told(school))
    with _running(school, "10.94.3.2", "10.94.3.3", peer="10.94.3.2"):
        _step("the lesson comes by the address that was named", lambda: shown(school, "pc", _TITLE))


def _ipv6_only(school: School) -> None:
    _switch("fd94::2/64", "fd94::3/64")
    with _running(school, "[fd94::2]", "[fd94::3]"):
        _step("the lesson comes by itself", lambda: shown(school, "pc", _TITLE))


def _kept_apart(school: School) -> None:
    _switch("10.94.4.2/24", "10.94.4.3/24", "isolated on")
    stick = str(school.folder / "stick")
    with _running(school, "10.94.4.2", "10.94.4.3", peer="10.94.4.2"):
        _step("doctor says that nobody is found", lambda: _is_told(school))
        _tell(school, "a", "teacher", "courier", "export", stick)
        _tell(school, "b", "pc", "courier", "import", stick)
        _step("the lesson comes by a stick", lambda: shown(school, "pc", _TITLE))


def _announced_only(school: School) -> None:
    _switch("10.94.5.2/24", "10.94.5.3/24")
    for name, other in (("a", "10.94.5.3"), ("b", "10.94.5.2")):
        _ip(f"-n {name} route add blackhole {other}/32")
    with _running(school, "10.94.5.2", "10.94.5.3"):
        _step("doctor says that the network keeps them apart", lambda: _is_told(school, "devices-apart", "cable"))


def _switch(first: str, second: str, port: str | None = None) -> None:
    """Both on one switch, whose ports are as they are told to be."""
    _ip(*_SWITCH)
    for name, address in (("a", first), ("b", second)):
        _ip(
            f"link add name s{name} type veth peer name eth0 netns {name}",
            f"link set s{name} master br0 up",
            f"-n {name} addr add {address} dev eth0 {'nodad' if ':' in address else ''}",
            f"-n {name} link set eth0 up",
        )
        if port is not None:
            subprocess.run(["bridge", "link", "set", "dev", f"s{name}", *port.split()], check=True)


@contextlib.contextmanager
def _running(school: School, teacher: str, pc: str, peer: str | None = None) -> Iterator[None]:
    """Both agents where they are; `peer` is the address that the PC is told."""
    named = [] if peer is None else ["--peer", f"{peer}:{_PORT}"]
    with contextlib.ExitStack() as stack:
        for place, agent, words in (("a", "teacher", [teacher]), ("b", "pc", [pc])):
            options = ["--lan", f"{words[0]}:{_PORT}", *(named if agent == "pc" else [])]
            log = stack.enter_context((school.folder / f"{agent}.log").open("ab"))
            command = _command(place, agent, school, ["run", *options])
            stack.enter_context(ending(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)))
        yield


def _command(place: str, agent: str, school: School, words: Sequence[str]) -> list[str]:
    program = [sys.executable, "-m", "sync_agent.cli", *words, "--data", str(school.folder / agent)]
    return ["ip", "netns", "exec", place, *program]


def _tell(school: School, place: str, agent: str, *words: str) -> Any:
    done = subprocess.run(
        [*_command(place, agent, school, words), "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return json.loads(done.stdout)


def _is_told(school: School, code: str = "no-multicast", remedy: str = "--peer") -> bool:
    problems = _tell(school, "b", "pc", "doctor").get("problems", [])
    return any(row["code"] == code and remedy in row["remedy"] for row in problems)


def _step(what: str, true: Callable[[], bool]) -> None:
    began = time.monotonic()
    wait_until(true, what, patience_s=_PATIENCE_S, pause_s=0.5)
    print(f"  {what}: {time.monotonic() - began:.1f} s", flush=True)


def _ip(*commands: str) -> None:
    for words in commands:
        subprocess.run(["ip", *words.split()], check=True)


if __name__ == "__main__":
    sys.exit(main())
