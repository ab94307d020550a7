"""Who fetches for a school is lost in the middle: what that costs the others. Namespaces, real programs, a thin line.

As root; nothing of it leaves this machine.

usage: taken_over.py [STORY…] (--mbit N, --mib N, --machines N)

Some machines of a class on one switch, each in a network of its own, share a line of so many Mbit/s to the server. A
lesson is published; when 43 % of it has come to the one that fetches, that one
- `hangs` (SIGSTOP), `dies` (kill -9), has its cable pulled (`unplugged`), or its own way to the server stands still
  while it goes on talking to the others (`stalls`), or sleeps for 20 s and wakes up (`sleeps`), or sleeps until all
  others have the lesson (`wakes`);
- or nothing happens to it at all (`goes-on`), which is what the others are compared with.
Or one of them has the lesson already: the others are switched on beside it (`joins`), or all at once (`morning`).
Printed: seconds until somebody else fetches, until all others have the lesson, and what came over the line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.lan import shown
from bench.peers import ending, free_port, wait_until
from bench.relais import ROOT, School
from bench.relay import Relay
from bench.thin_line import ThinLine

_INSIDE: Final = "RELAIS_INSIDE"
_NET: Final = "10.95.0."
_HERE: Final = f"{_NET}254"
_PORT: Final = 8095
_TITLE: Final = "Lecon"
_PART: Final = 0.43
_FETCHES_BYTES: Final = 200_000
_SLEEPS_S: Final = 20.0
_PATIENCE_S: Final = 400.0
JOINING: Final = ("joins", "morning")
STORIES: Final = (*JOINING, "goes-on", "hangs", "dies", "unplugged", "stalls", "sleeps", "wakes")


@dataclass
class Room:
    """The machines that run, each with its way to the server."""

    school: School
    relay: Relay
    machines: list[str]
    agents: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ways: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def came_to(self, machine: str) -> int:
        """Bytes that have come to a machine by its cable."""
        return int(Path(f"/sys/class/net/s{machine}/statistics/tx_bytes").read_text())


def main() -> int:
    """The command line: itself again, where networks may be made, then one story after the other."""
    if sys.argv[1:2] == ["--forward"]:
        asyncio.run(_forward(*sys.argv[2:]))
        return 0
    if _INSIDE not in os.environ:
        words = ["unshare", "--net", "--mount", sys.executable, __file__, *sys.argv[1:]]
        return subprocess.run(words, check=False, env={**os.environ, _INSIDE: "1"}).returncode
    parser = argparse.ArgumentParser()
    parser.add_argument("stories", nargs="*", default=STORIES)
    parser.add_argument("--mbit", type=float, default=8.0)
    parser.add_argument("--mib", type=float, default=8.0)
    parser.add_argument("--machines", type=int, default=4)
    wanted = parser.parse_args()
    Path("/run/netns").mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"], check=True)
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
    machines = [f"pc{number}" for number in range(1, wanted.machines + 1)]
    _make_network(machines)
    with tempfile.TemporaryDirectory(prefix="relais-taken-over-") as spare:
        model = Path(spare) / "model"
        space = _found(model, machines)
        for story in wanted.stories:
            folder = Path(spare) / story
            shutil.copytree(model, folder)
            school = School.reopen(folder)
            assert school is not None  # noqa: S101  (it has just been copied)
            tell = _tell_who_joins if story in JOINING else _tell_story
            tell(story, school, space, machines, wanted.mbit, int(wanted.mib * (1 << 20)))
            if os.environ.get("RELAIS_KEEP"):
                shutil.copytree(folder, Path(os.environ["RELAIS_KEEP"]) / story, dirs_exist_ok=True)
    return 0


def _found(folder: Path, machines: list[str]) -> str:
    school = School.found(folder)
    space = school.add_class("CM1")
    person = str(school.tell_server("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"])
    with school.serving():
        school.tell("teacher", *school.enrolment("teacher", [space], person))
        for machine in machines:
            school.tell(machine, *school.enrolment("machine", [space]))
        for agent in ("teacher", *machines):
            school.tell(agent, "sync")
    return space


def _tell_story(story: str, school: School, space: str, machines: list[str], mbit: float, size: int) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(school.serving_alone())
        relay = stack.enter_context(Relay(("127.0.0.1", school.ports.server), free_port()))
        room = Room(school, relay, machines)
        direct = ThinLine(relay.port, school.ports.relay, round_trip_s=0.05, bits_per_s=mbit * 1e6)
        stack.enter_context(direct)
        stack.enter_context(_forwarding(None, school, _HERE, "127.0.0.1"))
        for number, machine in enumerate(machines, 1):
            room.ways[machine] = stack.enter_context(_forwarding(machine, school, "127.0.0.1", _HERE))
            options = ["run", "--lan", f"{_NET}{number}:{_PORT}"]
            room.agents[machine] = stack.enter_context(_agent(machine, school, options))
        time.sleep(25)
        source = school.folder / "lecon.bin"
        source.write_bytes(Random(story).randbytes(size))
        school.tell("teacher", "publish", str(source), "--space", space, "--title", _TITLE)
        relay.reset()
        before = {machine: room.came_to(machine) for machine in machines}
        school.tell("teacher", "sync")
        wait_until(lambda: relay.traffic().down >= _PART * size, "a part of it", patience_s=_PATIENCE_S)
        fetching = max(machines, key=lambda machine: room.came_to(machine) - before[machine])
        others = [machine for machine in machines if machine != fetching]
        with _befalls(story, room, fetching):
            lost_s = time.monotonic()
            at_loss = {machine: room.came_to(machine) for machine in others}
            taken_s = None
            if story != "goes-on":
                wait_until(
                    lambda: any(room.came_to(one) - at_loss[one] > _FETCHES_BYTES for one in others),
                    "somebody else who fetches",
                    patience_s=_PATIENCE_S,
                )
                taken_s = time.monotonic() - lost_s
            wait_until(
                lambda: all(shown(school, machine, _TITLE) for machine in others),
                "the lesson on all others",
                patience_s=_PATIENCE_S,
            )
            all_s = time.monotonic() - lost_s
            if story == "wakes":
                times_before = relay.traffic().down / size
                room.agents[fetching].send_signal(signal.SIGCONT)
            if story in {"sleeps", "wakes"}:
                wait_until(lambda: shown(school, fetching, _TITLE), "the lesson on who slept", patience_s=_PATIENCE_S)
                time.sleep(2)
            times = relay.traffic().down / size
            if story == "wakes":
                print(f"  {times - times_before:.2f} times its bytes after it woke up", flush=True)
        taken = "" if taken_s is None else f"another one fetches after {taken_s:.1f} s, "
        print(
            f"{story}: {taken}all others have it {all_s:.1f} s after that moment; "
            f"{times:.2f} times its bytes over the line",
            flush=True,
        )


def _tell_who_joins(story: str, school: School, space: str, machines: list[str], mbit: float, size: int) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(school.serving_alone())
        relay = stack.enter_context(Relay(("127.0.0.1", school.ports.server), free_port()))
        stack.enter_context(ThinLine(relay.port, school.ports.relay, round_trip_s=0.05, bits_per_s=mbit * 1e6))
        stack.enter_context(_forwarding(None, school, _HERE, "127.0.0.1"))
        for machine in machines:
            stack.enter_context(_forwarding(machine, school, "127.0.0.1", _HERE))
        places = {machine: ["run", "--lan", f"{_NET}{number}:{_PORT}"] for number, machine in enumerate(machines, 1)}
        source = school.folder / "lecon.bin"
        source.write_bytes(Random(story).randbytes(size))
        school.tell("teacher", "publish", str(source), "--space", space, "--title", _TITLE)
        school.tell("teacher", "sync")
        first, *others = machines
        with contextlib.ExitStack() as before:
            (stack if story == "joins" else before).enter_context(_agent(first, school, places[first]))
            wait_until(lambda: shown(school, first, _TITLE), "the lesson on the first", patience_s=_PATIENCE_S)
            time.sleep(5)
        relay.reset()
        began_s = time.monotonic()
        for machine in others if story == "joins" else machines:
            stack.enter_context(_agent(machine, school, places[machine]))
        wait_until(lambda: all(shown(school, one, _TITLE) for one in others), "all", patience_s=_PATIENCE_S)
        taken_s = time.monotonic() - began_s
        time.sleep(5)
        times = relay.traffic().down / size
        print(f"{story}: all have it after {taken_s:.1f} s; {times:.2f} times its bytes over the line", flush=True)


@contextlib.contextmanager
def _befalls(story: str, room: Room, machine: str) -> Iterator[None]:
    """What happens to who fetches, and its end."""
    agent, way = room.agents[machine], room.ways[machine]
    stopped: list[subprocess.Popen[bytes]] = []
    match story:
        case "hangs" | "wakes":
            stopped = [agent]
        case "stalls":
            stopped = [way]
        case "dies":
            agent.kill()
        case "unplugged":
            _ip(f"link set s{machine} nomaster")
        case "sleeps":
            agent.send_signal(signal.SIGSTOP)
            subprocess.Popen(["sh", "-c", f"sleep {_SLEEPS_S}; kill -CONT {agent.pid}"])
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            process.send_signal(signal.SIGCONT)
        if story == "unplugged":
            _ip(f"link set s{machine} master br0")


@contextlib.contextmanager
def _agent(machine: str, school: School, words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    command = ["ip", "netns", "exec", machine, sys.executable, "-m", "sync_agent.cli", *words]
    with (school.folder / f"{machine}.log").open("ab") as log:
        data = ["--data", str(school.folder / machine)]
        started = subprocess.Popen([*command, *data], cwd=ROOT, stdout=log, stderr=log)
    with ending(started) as process:
        yield process


@contextlib.contextmanager
def _forwarding(place: str | None, school: School, here: str, there: str) -> Iterator[subprocess.Popen[bytes]]:
    """What reaches the agents' server from a namespace: a program of its own, which can be stopped."""
    inside = [] if place is None else ["ip", "netns", "exec", place]
    words = [sys.executable, __file__, "--forward", here, there, str(school.ports.relay)]
    with ending(subprocess.Popen([*inside, *words])) as process:
        yield process


async def _forward(here: str, there: str, port: str) -> None:
    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(16_384):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, onward = await asyncio.open_connection(there, int(port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(passed(reader, onward), passed(back, writer))

    server = await asyncio.start_server(connected, here, int(port))
    await server.serve_forever()


def _make_network(machines: list[str]) -> None:
    _ip("link set lo up", "link add name br0 type bridge", f"addr add {_HERE}/16 dev br0", "link set br0 up")
    for number, name in enumerate(machines, 1):
        _ip(
            f"netns add {name}",
            f"-n {name} link set lo up",
            f"link add name s{name} type veth peer name eth0 netns {name}",
            f"link set s{name} master br0 up",
            f"-n {name} addr add {_NET}{number}/16 dev eth0",
            f"-n {name} link set eth0 up",
            f"-n {name} route add default via {_HERE}",
        )


def _ip(*commands: str) -> None:
    for words in commands:
        subprocess.run(["ip", *words.split()], check=True)


if __name__ == "__main__":
    sys.exit(main())
