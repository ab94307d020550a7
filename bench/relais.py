"""Our own two programs, started and told what to do as an operator would, with a counting relay between them.

A `School` is a folder with a server and the agents that belong to it. It remembers its ports, so that it can be opened
again: agents always use the address at which they enrolled.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench.peers import Measured, accepts, ending, free_port, wait_until
from bench.relay import Relay, Traffic
from bench.sampling import Cost, Tree, reaped_cpu_s, watched
from protocol.model.structure import PersonRecord
from protocol.replica.console.ownership import acquire
from protocol.replica.office.invitations import Wanted, invite
from protocol.replica.office.made_classes import add_space
from protocol.replica.office.people import add_person, list_draft
from protocol.roles import PersonRole, Role
from sync_server.opened.app import Server, opened

ROOT: Final = Path(__file__).parents[1]
UAI: Final = "0180001X"
_PORTS: Final = "ports.json"
_CODE_MS: Final = 24 * 3600 * 1000


class CommandFailed(Exception):
    """One of our programs did not do what it was told."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the server listens, and where the agents think that it does."""

    server: int
    relay: int


class School:
    """A server and its agents under `folder`."""

    def __init__(self, folder: Path, ports: Ports) -> None:
        self.folder = folder
        self.ports = ports
        self.server_process: subprocess.Popen[bytes] | None = None
        self.relay: Relay | None = None

    @classmethod
    def found(cls, folder: Path) -> School:
        """A new territory in an empty folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        school = cls(folder, Ports(free_port(), free_port()))
        (folder / _PORTS).write_text(json.dumps(asdict(school.ports)))
        school.tell_server("init", "--name", "Bench", "--kit", str(folder / "kit"))
        return school

    @classmethod
    def reopen(cls, folder: Path) -> School | None:
        """A school that an earlier row has left, if there is one."""
        try:
            return cls(folder, Ports(**json.loads((folder / _PORTS).read_text())))
        except FileNotFoundError:
            return None

    @contextmanager
    def serving(self) -> Iterator[Relay]:
        """The server and the relay before it, running while the context lasts."""
        with self.serving_alone(), Relay(("127.0.0.1", self.ports.server), self.ports.relay) as relay:
            self.relay = relay
            try:
                yield relay
            finally:
                self.relay = None

    @contextmanager
    def serving_alone(self) -> Iterator[None]:
        """The server without anything before it: whoever calls sees to what listens where agents call."""
        log = self.folder / "server.log"
        with log.open("ab") as output:
            command = _command("sync_server", "run", "--listen", f"127.0.0.1:{self.ports.server}")
            command += ["--data", str(self.folder / "server")]
            started = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        with ending(started) as process:
            wait_until(lambda: process.poll() is not None or accepts(self.ports.server), "the server")
            if process.poll() is not None:
                raise CommandFailed(f"the server stopped: {log.read_text()[-2000:]}")
            self.server_process = process
            try:
                yield
            finally:
                self.server_process = None

    def tell_server(self, *words: str) -> Any:
        """A command of the server; its JSON."""
        return _run(_command("sync_server", *words, "--data", str(self.folder / "server"), "--json"))

    def tell(self, agent: str, *words: str) -> Any:
        """A command of an agent; its JSON."""
        return _run(self._agent_command(agent, words))

    def begin(self, agent: str, *words: str) -> subprocess.Popen[bytes]:
        """A command of an agent that goes on by itself."""
        return subprocess.Popen(self._agent_command(agent, words), cwd=ROOT, stdout=subprocess.DEVNULL)

    def measure(self, agent: str, *words: str) -> Measured:
        """What a command of an agent costs: itself, the server meanwhile, what passed between them."""
        return self.measure_all(agent, [words])

    def measure_all(self, agent: str, commands: Sequence[Sequence[str]]) -> Measured:
        """The same for several commands one after the other: costs add up, the peak is the highest."""
        server = None if self.server_process is None else Tree([self.server_process.pid])
        if server is not None:
            server.forget_peaks()
            server.sample()
        if self.relay is not None:
            self.relay.reset()
        wall_s, cpu_s, peak_bytes = 0.0, 0.0, 0
        for words in commands:
            began, spent_s = time.monotonic(), reaped_cpu_s()
            with subprocess.Popen(
                self._agent_command(agent, words), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as process:
                tree = Tree([process.pid])
                with watched(tree, *([] if server is None else [server])):
                    output, complaint = process.communicate()
            wall_s += time.monotonic() - began
            if process.returncode != 0:
                raise CommandFailed(f"{words[:2]}: {output.decode()[-500:]} {complaint.decode()[-1500:]}")
            cpu_s += reaped_cpu_s() - spent_s
            peak_bytes = max(peak_bytes, tree.cost().peak_bytes)
        served = Cost(0.0, 0) if server is None else server.cost()
        traffic = Traffic() if self.relay is None else self.relay.traffic()
        return Measured(wall_s, served, Cost(cpu_s, peak_bytes), traffic)

    def enrolment(
        self, role: str, spaces: Sequence[str], person: str | None = None, *, url: str | None = None
    ) -> list[str]:
        """The words with which a new device enrols, at the relay if no `url` is given."""
        named = [word for space in spaces for word in ("--space", space)]
        words = ["invite", "--role", role, *named, *(() if person is None else ("--person", person))]
        code = self.tell_server(*words)["code"]
        return ["enroll", "--server", url or self.url, "--code", code]

    def add_class(self, name: str) -> str:
        """A class of the school; its id."""
        return str(self.tell_server("space", "add", name, "--school", UAI)["space"])

    def add_classes(self, count: int) -> list[str]:
        """So many classes at once, while the server is down; their ids."""
        return asyncio.run(_add_classes(self.folder / "server", count))

    def add_people(self, lists: Sequence[tuple[str, int]]) -> None:
        """Fill the lists of classes with so many pupils each, in one transaction, while the server is down."""
        asyncio.run(_add_people(self.folder / "server", lists))

    def invite_teachers(self, classes: Sequence[str]) -> list[str]:
        """A teacher for each class, and the code for that teacher's machine, while the server is down."""
        return asyncio.run(_invite_teachers(self.folder / "server", classes))

    @property
    def url(self) -> str:
        """Where agents enrol."""
        return f"http://127.0.0.1:{self.ports.relay}"

    @contextmanager
    def running(self, agent: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """The agent's daemon."""
        with (self.folder / f"{agent}.log").open("ab") as output:
            command = [*_command("sync_agent", "run", *options), "--data", str(self.folder / agent)]
            started = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        with ending(started) as process:
            yield process

    def _agent_command(self, agent: str, words: Sequence[str]) -> list[str]:
        return _command("sync_agent", *words, "--data", str(self.folder / agent), "--json")


def _command(program: str, *words: str) -> list[str]:
    return [sys.executable, "-m", f"{program}.cli", *words]


def _run(command: list[str]) -> Any:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(command[3:5])}: {done.stdout[-500:]} {done.stderr[-1500:]}")
    return json.loads(done.stdout)


async def _add_classes(folder: Path, count: int) -> list[str]:
    async with _owned(folder) as server:
        return [(await add_space(server, f"Classe {number}", UAI)).id.hex() for number in range(count)]


async def _add_people(folder: Path, lists: Sequence[tuple[str, int]]) -> None:
    records = [
        (bytes.fromhex(space), PersonRecord(f"Prénom-{number} Nom-de-famille", PersonRole.PUPIL))
        for space, count in lists
        for number in range(count)
    ]
    async with _owned(folder) as server:
        await server.say([list_draft(secrets.token_bytes(16), record, space) for space, record in records])


async def _invite_teachers(folder: Path, classes: Sequence[str]) -> list[str]:
    codes = []
    async with _owned(folder) as server:
        for number, space in enumerate(map(bytes.fromhex, classes)):
            person = await add_person(server, f"Professeur {number}", PersonRole.TEACHER, [space])
            wanted = Wanted(Role.TEACHER, [space], person, uses=1, lifetime_ms=_CODE_MS)
            codes.append((await invite(server, wanted)).code)
    return codes


@asynccontextmanager
async def _owned(folder: Path) -> AsyncIterator[Server]:
    owner = acquire(folder)
    if owner is None:
        raise CommandFailed("the server is still running")
    with owner:
        async with opened(folder, now_ms=lambda: time.time_ns() // 1_000_000, entropy=secrets.token_bytes) as server:
            yield server
