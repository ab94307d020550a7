"""A program that is started once and forked for every run, held at a gate until a tracer has come.

`python -m tests.harness.forks MODULE ARGUMENT…` imports MODULE, and lets it `prepare(ARGUMENT…)` if it can; then,
for every line with a folder on its input, it forks a process, prints its id, waits for another line, lets the
process do `MODULE.run(folder, ARGUMENT…)`, and prints the exit status (of a killed one, minus the signal). What the
process prints goes to `FOLDER.out`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import IO, Final, Self

_PR_SET_PTRACER: Final = 0x59616D61
_ANY: Final = ctypes.c_ulong(-1)


class Forks:
    """Such programs, `at_once` of them, as `kill_points` uses them."""

    def __init__(self, module: str, *arguments: str, env: Mapping[str, str], at_once: int = 2) -> None:
        command = [os.path.realpath(sys.executable), "-S", "-m", __name__, module, *arguments]
        self._servers = [
            subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            for _ in range(at_once)
        ]
        self._idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
        for server in self._servers:
            self._idle.put(server)

    def run(self, folder: Path, strace: Sequence[str]) -> tuple[int, str]:
        """One run in `folder` under `strace` with these options: its exit status and what it printed."""
        server = self._idle.get()
        try:
            process = _ask(server, str(folder))
            with subprocess.Popen(
                ["strace", "-f", "-p", process, *strace], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
            ) as tracer:
                assert tracer.stderr is not None
                _wait_for_tracer(tracer.stderr)
                status = int(_ask(server, "go"))
                tracer.stderr.read()
            return status, folder.with_name(f"{folder.name}.out").read_text()
        finally:
            self._idle.put(server)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for server in self._servers:
            with contextlib.closing(server.stdin or sys.stdin), contextlib.closing(server.stdout or sys.stdin):
                pass
            server.wait()


def _ask(server: subprocess.Popen[str], line: str) -> str:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(f"{line}\n")
    return server.stdout.readline().strip()


def _wait_for_tracer(messages: IO[str]) -> None:
    said = []
    for line in messages:
        if line.rstrip().endswith("attached"):
            return
        said.append(line)
    raise RuntimeError(f"strace cannot attach: {''.join(said)}")


def _serve(module_name: str, arguments: Sequence[str]) -> None:
    module = importlib.import_module(module_name)
    getattr(module, "prepare", lambda *_: None)(*arguments)
    while folder := sys.stdin.readline().strip():
        gate, opener = os.pipe()
        process = os.fork()
        if process == 0:
            # where only a parent may trace, this allows anybody
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)
            os.dup2(os.open(f"{folder}.out", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), sys.stdout.fileno())
            os.close(opener)
            os.read(gate, 1)
            try:
                status = module.run(Path(folder), *arguments)
            except BaseException:  # noqa: BLE001  (whatever it is, the parent's loop must not go on in the child)
                sys.excepthook(*sys.exc_info())
                status = 1
            sys.stdout.flush()
            os._exit(status)
        os.close(gate)
        print(process, flush=True)  # noqa: T201
        sys.stdin.readline()
        os.close(opener)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)  # noqa: T201


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2:])
