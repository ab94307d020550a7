"""The two programs in processes of their own that need not start: forked from one that has loaded it all.

An interpreter takes a third of a second to load what a command needs, a daemon a whole one, and tests ask commands by
the thousand; those that wait for a daemon would take the processor from it. What is forked is the program when its own
`main` begins: argv, environment, working folder, stdout and stderr are its own, and its end too. A daemon (`run`) does
not begin itself anew then. What a test traces or measures is started as it is out there, and so are the daemons of the
tests that are about how they begin and end.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, NoReturn, TypeAlias, cast

from protocol.transfer.deflate_parameters import profile
from tests.harness.patience import PATIENCE_S

PROJECT: Final = Path(__file__).parents[2]
_MAX_REQUEST_BYTES: Final = 1 << 17
_FDS: Final = 3  # stdout, stderr, where the end is told
_NUMBER: Final = struct.Struct(">i")

Main: TypeAlias = Callable[[Sequence[str]], int]
"""What a program does with the words after its name; its exit status, which may also come as `SystemExit`."""

# what their commands load when they are first asked for
_LOADED: Final[Mapping[str, Sequence[str]]] = {
    "sync-agent": (
        "sync_agent.cli",
        "protocol.replica.console.parser",
        "sync_agent.operations",
        "sync_agent.device_operations",
        "sync_agent.daemon",
        "sync_agent.watching.events",
        "sync_agent.watching.watcher",
        "sync_agent.enrollment.by_code",
        "sync_agent.hand_ins.handing_in",
        "sync_agent.console.intake",
        "sync_agent.status",
        "cryptography.x509",
        "encodings.idna",
    ),
    "sync-server": (
        "sync_server.cli",
        "protocol.replica.console.parser",
        "sync_server.opened.app",
        "sync_server.service",
        "sync_server.operations.table",
        "sync_server.keeping.backing_up",
        "sync_server.keeping.foreign_backup",
        "cryptography.x509",
        "encodings.idna",
    ),
}


class Forked:
    """A process that is this program with `argv`: of `subprocess.Popen`, what tests need. To be waited for."""

    def __init__(
        self, program: str, argv: Sequence[str], *, cwd: Path | None, env: Mapping[str, str], out: IO[Any], err: IO[Any]
    ) -> None:
        self._words = [program, *argv]
        self._status: int | None = None
        request = json.dumps({"argv": list(argv), "cwd": str(cwd or Path.cwd()), "env": dict(env)}).encode()
        self._line, its = socket.socketpair()
        with its:
            _prepared(program).ask(request, [out.fileno(), err.fileno(), its.fileno()])
        self._line.settimeout(PATIENCE_S)
        process = _number_from(self._line)
        if process is None:
            raise RuntimeError(f"what {program} is forked from has ended")
        self.pid = process
        self._end = _pid_fd(process)

    def wait(self, timeout_s: float) -> int:
        """The exit status, once the process has let go of all that it held. Raises `TimeoutExpired`."""
        if self._status is None:
            if self._end is not None and not select.select([self._end], [], [], timeout_s)[0]:
                raise subprocess.TimeoutExpired(self._words, timeout_s)
            told = _number_from(self._line)
            self._status = -signal.SIGKILL if told is None else told
            self._line.close()
            if self._end is not None:
                os.close(self._end)
        return self._status

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self._status is None and self._end is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._end, number)

    def kill(self) -> None:
        """`kill -9`."""
        self.send_signal(signal.SIGKILL)


def run_prepared(
    program: str, argv: Sequence[str], *, cwd: Path | None, env: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[bytes]:
    """As `subprocess.run` of this program with `argv`, its output captured. Raises `TimeoutExpired`."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = Forked(program, argv, cwd=cwd, env=env, out=out, err=err)
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE_S)
            raise subprocess.TimeoutExpired([program, *argv], timeout_s, _all_of(out), _all_of(err)) from None
        return subprocess.CompletedProcess([program, *argv], status, _all_of(out), _all_of(err))


def _pid_fd(process: int) -> int | None:
    """What can be read from once the process has ended; None if it is gone already."""
    try:
        return os.pidfd_open(process)
    except ProcessLookupError:
        return None


def _number_from(line: socket.socket) -> int | None:
    """A number that a process tells; None if it has ended."""
    data = b""
    while len(data) < _NUMBER.size:
        if not (more := line.recv(_NUMBER.size - len(data))):
            return None
        data += more
    number: int = _NUMBER.unpack(data)[0]
    return number


def _all_of(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


class _Prepared:
    """The process from which the commands of a program are forked."""

    def __init__(self, program: str) -> None:
        self._line, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._turn = threading.Lock()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, program, str(its.fileno())],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=PROJECT,
            )

    def ask(self, request: bytes, fds: Sequence[int]) -> None:
        """Let it fork a process that does this, with these for its output and for telling its end."""
        assert len(request) <= _MAX_REQUEST_BYTES
        with self._turn:
            socket.send_fds(self._line, [request], fds)

    def end(self) -> None:
        """It ends when nobody can ask it any more."""
        self._line.close()
        self._process.wait()


@cache
def _prepared(program: str) -> _Prepared:
    made = _Prepared(program)
    atexit.register(made.end)
    return made


# --- in the process that is forked from, and in those that are forked -------------------------------------------------


def loaded(program: str) -> Main:
    """The `main` of a program, with everything that its commands need; what zlib reproduces is known too."""
    modules = [importlib.import_module(name) for name in _LOADED[program]]
    profile()
    main: Main = modules[0].PROGRAM.main
    return main


def _serve(program: str, line: socket.socket) -> None:
    main = loaded(program)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks for their ends here
    while True:
        request, fds, _, _ = socket.recv_fds(line, _MAX_REQUEST_BYTES, _FDS)
        if not request:
            return
        if os.fork() == 0:
            line.close()
            _be(main, json.loads(request), *fds)
        for fd in fds:
            os.close(fd)


def _be(main: Main, request: Mapping[str, object], out: int, err: int, end: int) -> NoReturn:
    """Be the program until its end."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.write(end, _NUMBER.pack(os.getpid()))
        os.dup2(out, 1)
        os.dup2(err, 2)
        for fd in (out, err):
            os.close(fd)
        os.set_inheritable(end, False)
        os.environ.clear()
        os.environ.update(cast("dict[str, str]", request["env"]))
        os.chdir(str(request["cwd"]))
        status = main(cast("list[str]", request["argv"]))
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:  # noqa: BLE001  (whatever it is, the loop of the process above must not go on in here)
        sys.excepthook(*sys.exc_info())
    finally:
        # as at the end of an interpreter: what still runs in threads is waited for
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(end, _NUMBER.pack(status))
        os._exit(status)


if __name__ == "__main__":
    _serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
