"""The server as an operator meets it: a process, a command line, an address."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "sync_server.cli"]
READY = "ready on "
PATIENCE_S = 60


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit status, stdout, stderr."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document on stdout, which must be the only thing there."""
        return json.loads(self.out)

    @property
    def code(self) -> str:
        """The code of the error on stdout."""
        return str(self.document["error"]["code"])


def environment() -> dict[str, str]:
    """The environment of a program that knows nothing of the test's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNC_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "error"}


def sync_server(*arguments: object, cwd: Path | None = None) -> Outcome:
    """Give a command, as `sync-server ARGUMENTS --json`."""
    command = [*PROGRAM, *map(str, arguments), "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=environment(), cwd=cwd
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def told(*arguments: object) -> Any:
    """The document of a command that must succeed."""
    outcome = sync_server(*arguments)
    assert outcome.status == 0, outcome
    return outcome.document


class RunningServer:
    """`sync-server run` on a data folder; ready once made. A context: what is still running at its end is killed."""

    def __init__(self, folder: Path, *options: object, listen: str = "127.0.0.1:0") -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [*PROGRAM, "run", "--data", str(folder), "--listen", listen, *map(str, options)],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self.process.stderr is not None
        said = ""
        for line in self.process.stderr:
            said += line
            if READY in line:
                self.url = line.rpartition(READY)[2].strip()
                return
        raise AssertionError(f"the server did not start: {said}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.url.rpartition(":")[2])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop; the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """The exit status, once it has ended."""
        self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process.poll() is None:
            self.process.kill()
        if self.process.stderr is not None and not self.process.stderr.closed:
            self.process.communicate(timeout=PATIENCE_S)
