"""Real machines for integration tests: a folder each, the two programs as processes, the operator's contract only."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.harness.beginnings import new_place
from tests.harness.patience import PATIENCE_S
from tests.harness.ports import free_port
from tests.harness.prepared import Forked, run_prepared
from tests.harness.service_manager import ServiceManager

COMMAND_PATIENCE_S = 300.0


@dataclass(frozen=True)
class Done:
    """What a command left: exit status, its JSON (None if stdout held none), raw stdout, stderr."""

    status: int
    json: Any
    out: bytes
    err: str

    @property
    def code(self) -> str | None:
        """The error's code, if it failed."""
        return self.json["error"]["code"] if isinstance(self.json, dict) and "error" in self.json else None


def program(name: str) -> list[str]:
    """How to start `sync-agent` or `sync-server` with this interpreter."""
    return [sys.executable, "-m", name.replace("-", "_") + ".cli"]


def environment(**more: str) -> dict[str, str]:
    """The tests' environment without what would configure either program."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SYNC_")}
    return {**clean, "PYTHONPATH": str(Path(__file__).parents[2]), **more}


@dataclass
class Machine:
    """One DIR with a program."""

    name: str
    folder: Path
    program: str
    daemon: subprocess.Popen[str] | Forked | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder.with_suffix(".log")

    def command(self, *words: str) -> list[str]:
        """The argv of a command, `--data` after the subcommand and its arguments."""
        return [*program(self.program), *words, "--data", str(self.folder)]

    def run(self, *words: str, raw: bool = False, cwd: Path | None = None, **env: str) -> Done:
        """Run a command, or what refuses to be a daemon, to its end."""
        argv = [*words, "--data", str(self.folder), *([] if raw else ["--json"])]
        done = run_prepared(self.program, argv, cwd=cwd, env=environment(**env), timeout_s=COMMAND_PATIENCE_S)
        value = None
        if not raw and done.stdout.strip():
            value = json.loads(done.stdout)
        return Done(done.returncode, value, done.stdout, done.stderr.decode(errors="replace"))

    def ok(self, *words: str, raw: bool = False, cwd: Path | None = None) -> Any:
        """Run a command that must succeed; its JSON, or its raw bytes."""
        done = self.run(*words, raw=raw, cwd=cwd)
        assert done.status == 0, (self.name, words, done.status, done.out[-500:], done.err[-2000:])
        return done.out if raw else done.json

    def start(self, *options: str, from_nothing: bool = False) -> str:
        """Start the daemon, with an interpreter of its own if `from_nothing`; the line that says that it is ready."""
        argv = ["run", *options, "--data", str(self.folder)]
        with ServiceManager() as manager, self.log.open("w", encoding="utf-8") as file:
            asked = environment(**manager.asks)
            if from_nothing:
                self.daemon = subprocess.Popen(
                    self.command("run", *options), stdout=file, stderr=file, env=asked, text=True
                )
            else:
                self.daemon = Forked(self.program, argv, cwd=None, env=asked, out=file, err=file)
            is_ready = manager.waits_until_ready(self.daemon.pid)
        text = self.log.read_text(encoding="utf-8")
        assert is_ready, (self.name, text[-2000:])
        return next(line for line in text.splitlines() if "ready" in line)

    def kill(self) -> None:
        """`kill -9`."""
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait(PATIENCE_S)
        self.daemon = None

    def stop(self) -> int:
        """A clean stop; the exit status."""
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGTERM)
        status = self.daemon.wait(PATIENCE_S)
        self.daemon = None
        return status


@dataclass
class School:
    """A server with one class and its people, and agents enrolled as they are asked for."""

    folder: Path
    server: Machine
    url: str
    space: str
    teacher_person: str
    pupil: str
    agents: dict[str, Machine] = field(default_factory=dict)

    def invite(self, role: str, *more: str) -> str:
        """A code."""
        person = ["--person", self.teacher_person] if role == "teacher" else []
        code: str = self.server.ok("invite", "--role", role, "--space", self.space, *person, *more)["code"]
        return code

    def enrol(self, name: str, role: str = "machine") -> Machine:
        """A new enrolled agent, not running."""
        agent = Machine(name, self.folder / name, "sync-agent")
        agent.ok("enroll", "--server", self.url, "--code", self.invite(role), "--name", name)
        self.agents[name] = agent
        return agent

    def server_row(self) -> dict[str, Any]:
        """The class as the server sees it."""
        return next(row for row in self.server.ok("space", "list") if row["space"] == self.space)

    def restart_server(self) -> None:
        """Start the server again at the address that agents know."""
        self.server.start("--listen", self.url.removeprefix("http://"))


def space_row(agent: Machine, space: str) -> dict[str, Any]:
    """A space as an agent sees it."""
    return next(row for row in agent.ok("status")["spaces"] if row["space"] == space)


@dataclass(frozen=True)
class _Founded:
    """A territory that commands have made, to be copied: where it lies, and ids."""

    folder: Path
    space: str
    teacher_person: str
    pupil: str


@cache
def _founded() -> _Founded:
    folder = new_place()
    server = Machine("server", folder / "server", "sync-server")
    server.ok("init", "--name", "Cher", "--kit", str(folder / "kit"))
    space = server.ok("space", "add", "CM1", "--school", "0180001X")["space"]
    teacher = server.ok("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"]
    pupil = server.ok("person", "add", "Léa", "--role", "pupil", "--space", space)["person"]
    return _Founded(folder, space, teacher, pupil)


@contextmanager
def school(folder: Path) -> Iterator[School]:
    """A running school, its kit at `folder`/kit; every process that is still up is killed at the end."""
    founded = _founded()
    shutil.copytree(founded.folder, folder, dirs_exist_ok=True)
    server = Machine("server", folder / "server", "sync-server")
    line = server.start("--listen", f"127.0.0.1:{free_port()}")
    url = next(word.rstrip(".,/") for word in line.split() if word.startswith("http://"))
    found = School(folder, server, url, founded.space, founded.teacher_person, founded.pupil)
    try:
        yield found
    finally:
        for machine in (server, found.server, *found.agents.values()):
            if machine.daemon is not None:
                machine.kill()
