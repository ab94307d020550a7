"""A drill and a quarantine, as they go: real programs on a network of their own, with real multicast.

As root, or in a user's namespace; nothing of it leaves this machine.

usage: drill_day.py [FOLDER]

A head teacher begins a drill; the machines hear of it, act as if the server were gone, and a lesson spreads by the
school's network. She ends it; they come back. Then a quarantine closes the network and the sticks, which she cannot
lift, and the server lifts it; then one of her own, which ends by a stick once the server is gone. Each step is printed
with its seconds; exit code 1 if one does not come about.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.lan import make_network, shown
from bench.peers import wait_until
from bench.relais import UAI, CommandFailed, School

_NET: Final = "10.93.0."
_PORT: Final = 8095
_INSIDE: Final = "RELAIS_INSIDE"
_PCS: Final = ("pc1", "pc2")
_ALL: Final = range(1, len(_PCS) + 2)


def main() -> int:
    """The command line: itself again, in a namespace, then the day."""
    if _INSIDE not in os.environ:
        rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        words = ["unshare", *rights, "--net", sys.executable, __file__, *sys.argv[1:]]
        return subprocess.run(words, check=False, env={**os.environ, _INSIDE: "1"}).returncode
    with tempfile.TemporaryDirectory(prefix="relais-drill-") as spare:
        _day(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(spare) / "day")
    return 0


def _day(folder: Path) -> None:
    make_network(len(_PCS) + 1)
    school = School.found(folder)
    space = school.add_class("CM1")
    person = str(school.tell_server("person", "add", "Mme Petit", "--role", "teacher", "--space", UAI)["person"])
    with contextlib.ExitStack() as running:
        with school.serving():
            school.tell("head", *school.enrolment("head", [UAI], person))
            for name in _PCS:
                school.tell(name, *school.enrolment("machine", [space]))
            for number, name in enumerate(("head", *_PCS), 1):
                running.enter_context(school.running(name, "--lan", f"{_NET}{number}:{_PORT}"))
            _step("neighbours", lambda: all(_linked(school, name) for name in _PCS))
            _drill(school, space)
            _quarantine(school)
            school.tell("head", "quarantine", "start")
            _step("she closes it", lambda: not any(_listens(number) for number in _ALL))
        _by_stick(school)


def _drill(school: School, space: str) -> None:
    school.tell("head", "drill", "start", "--minutes", "10")
    _step("the drill is heard of", lambda: all(_told(school, name)["drill_until"] for name in _PCS))
    _step("the server is out of reach", lambda: not any(_reaches(school, name) for name in _PCS))
    lesson = school.folder / "lecon.html"
    lesson.write_text("<h1>Pendant la coupure</h1>")
    school.tell("head", "publish", str(lesson), "--space", space, "--title", "Pendant")
    _step("a lesson spreads by the school's network", lambda: all(shown(school, name, "Pendant") for name in _PCS))
    school.tell("head", "drill", "stop")
    _step("the server is reached again", lambda: all(_reaches(school, name) for name in _PCS))
    print("report:", school.tell("head", "drill", "report"), flush=True)


def _by_stick(school: School) -> None:
    """The server is gone: what she lifts reaches the machines by a stick."""
    stick = str(school.folder / "stick")
    school.tell("head", "quarantine", "stop")
    _step("her own computer is open again", lambda: _listens(1))
    school.tell("head", "courier", "export", stick)
    for number, name in enumerate(_PCS, 2):
        if _listens(number):
            raise SystemExit(f"{name} has heard of it without a stick")
        # what hears of the end opens everything anew, and may cut its own command off
        with contextlib.suppress(CommandFailed):
            school.tell(name, "courier", "import", stick)
        _step(f"{name} is open again by a stick", partial(_listens, number))


def _quarantine(school: School) -> None:
    school.tell_server("quarantine", "start", "--school", UAI)
    _step("the school's network is closed", lambda: not any(_listens(number) for number in _ALL))
    for words in (("courier", "export", str(school.folder / "stick")), ("quarantine", "stop")):
        with contextlib.suppress(CommandFailed):
            school.tell("head", *words)
            raise SystemExit(f"{words} was not refused")
    school.tell_server("quarantine", "stop", "--school", UAI)
    _step("it is open again", lambda: all(_listens(number) for number in _ALL))


def _step(what: str, true: Callable[[], bool]) -> None:
    began = time.monotonic()
    wait_until(true, what, pause_s=0.1)
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


def _told(school: School, name: str) -> dict[str, str]:
    told: dict[str, str] = school.tell(name, "status")["school"]
    return told


def _reaches(school: School, name: str) -> bool:
    return bool(school.tell(name, "status")["server"]["reachable"])


def _linked(school: School, name: str) -> bool:
    return any(row["state"] in {"live", "resting"} for row in school.tell(name, "status")["peers"])


def _listens(number: int) -> bool:
    with socket.socket() as caller:
        caller.settimeout(1)
        return caller.connect_ex((f"{_NET}{number}", _PORT)) == 0


if __name__ == "__main__":
    sys.exit(main())
