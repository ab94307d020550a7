"""Who owns a data directory: one process at a time, and how others reach it.

Rules:
- the owner holds an OS lock on `DIR/run/lock`; the OS releases it when the process ends, however it ends, so a lock is
  never stale;
- `DIR/run/control.json` leads to the owner's control channel (loopback host and port, token, process id). It is written
  whole, readable by its owner alone, and means something only while the lock is held: a new owner removes what an
  old one left before anything else;
- root owns no other account's DIR: a process of that account does (`stepping_down`);
- nothing here knows where DIR lies: it may be copied or moved.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from protocol.errors import NO_ROOM, BadInput, Code, LocalFailure, RelaisError
from protocol.limits import MAX_CONTROL_FILE_BYTES
from protocol.replica.ballast import Ballast, Rank

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

RUN_FOLDER: Final = "run"
LOCK_FILE: Final = "lock"
CONTROL_FILE: Final = "control.json"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Control:
    """Where the owner listens for commands, and the token that it expects."""

    host: str
    port: int
    token: str
    pid: int


class Ownership:
    """The lock on a data directory, held until `release` or the end of the process."""

    def __init__(self, data_dir: Path, descriptor: int, *, is_new: bool = False) -> None:
        """`is_new`: DIR was made to be owned."""
        self.data_dir = data_dir
        self._descriptor: int | None = descriptor
        self._is_new = is_new

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Withdraw the control file and give the lock back. Harmless when repeated."""
        if self._descriptor is None:
            return
        withdraw_control(self)
        descriptor, self._descriptor = self._descriptor, None
        if sys.platform == "win32":
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        os.close(descriptor)

    @contextlib.contextmanager
    def beginning(self) -> Iterator[None]:
        """If what is done fails, a DIR that was made for it goes, unless something else lies in it by then."""
        try:
            yield
        except BaseException:
            if self._is_new:
                self._abandon()
            raise

    def _abandon(self) -> None:
        """Whoever waits for the lock finds its file gone, and begins anew."""
        withdraw_control(self)
        run = self.data_dir / RUN_FOLDER
        with contextlib.suppress(OSError):
            if [*self.data_dir.iterdir()] == [run] and [*run.iterdir()] == [run / LOCK_FILE]:
                if sys.platform == "win32":
                    self.release()  # nothing that is open is removed there
                (run / LOCK_FILE).unlink()
                run.rmdir()
                self.data_dir.rmdir()


def acquire(data_dir: Path, *, create: bool = False) -> Ownership | None:
    """The ownership of `data_dir`, or None while another process (or another part of this one) holds it.

    Makes `DIR/run` where it is missing, and DIR too if `create`. Raises `BadInput` (NOT_INITIALISED, with `create`
    USAGE) if DIR is no folder, `LocalFailure` (STORAGE_FAILED, DISK_FULL, READ_ONLY) if the lock file cannot be made.
    """
    run = data_dir / RUN_FOLDER
    try:
        is_new = create and _make(data_dir)
        if not data_dir.is_dir():
            raise BadInput(Code.NOT_INITIALISED, f"there is no data folder at {data_dir}", data_dir=str(data_dir))
        _while_full(data_dir, lambda: run.mkdir(mode=0o700, exist_ok=True))
        descriptor = _while_full(data_dir, lambda: _lock(run / LOCK_FILE))
    except OSError as reason:
        raise _unusable(data_dir, reason) from reason
    if descriptor is None:
        return None
    owner = Ownership(data_dir, descriptor, is_new=is_new)
    withdraw_control(owner)
    return owner


def publish_control(owner: Ownership, host: str, port: int, token: str) -> Control:
    """Write where the owner listens. Raises `LocalFailure` if the file cannot be written."""
    control = Control(host=host, port=port, token=token, pid=os.getpid())
    run = owner.data_dir / RUN_FOLDER
    draft = run / f"{CONTROL_FILE}.{secrets.token_hex(8)}"
    document = {"host": control.host, "port": control.port, "token": control.token, "pid": control.pid}
    try:

        def write() -> None:
            _clear_drafts(run)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(document).encode() + b"\n")
            draft.replace(run / CONTROL_FILE)

        _while_full(owner.data_dir, write)
    except OSError as reason:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise _unusable(owner.data_dir, reason) from reason
    return control


def withdraw_control(owner: Ownership) -> None:
    """Remove the control file; what cannot be removed is harmless once the lock is free."""
    with contextlib.suppress(OSError):
        (owner.data_dir / RUN_FOLDER / CONTROL_FILE).unlink()


def read_control(data_dir: Path) -> Control | None:
    """What the control file says, or None if it is missing, half made or not ours to read.

    It speaks of a live process only if `acquire` has just returned None.
    """
    try:
        with (data_dir / RUN_FOLDER / CONTROL_FILE).open("rb") as file:
            raw = file.read(MAX_CONTROL_FILE_BYTES + 1)
        document = json.loads(raw if len(raw) <= MAX_CONTROL_FILE_BYTES else b"{}")
        host, port, token, pid = (document[key] for key in ("host", "port", "token", "pid"))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if not (isinstance(port, int) and 0 < port < 1 << 16 and isinstance(pid, int)):
        return None
    if host not in ("127.0.0.1", "::1") or not (isinstance(token, str) and token.isascii() and token.isprintable()):
        return None
    return Control(host=host, port=port, token=token, pid=pid)


def _while_full(data_dir: Path, work: Callable[[], T]) -> T:
    """Do something that a program must do to start, again for each part of the ballast while the disk is full."""
    while True:
        try:
            return work()
        except OSError as reason:
            if reason.errno not in NO_ROOM or not Ballast(data_dir).give_up(Rank.START):
                raise


def _make(data_dir: Path) -> bool:
    """Whether DIR was made: so that only its owner enters."""
    try:
        data_dir.mkdir(mode=0o700, parents=True)
    except (FileExistsError, NotADirectoryError):
        if data_dir.is_dir():
            return False
        raise BadInput(Code.USAGE, f"{data_dir} is not a folder", data_dir=str(data_dir)) from None
    return True


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock on `path`, or None if it is taken."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            if not _try_lock(descriptor):
                os.close(descriptor)
                return None
            if _is_still(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # somebody replaced DIR/run between our opening and our locking: the lock that counts is the one others see
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as reason:
        if reason.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _clear_drafts(run: Path) -> None:
    for left in run.glob(f"{CONTROL_FILE}.*"):
        left.unlink(missing_ok=True)


def _unusable(data_dir: Path, reason: OSError) -> RelaisError:
    if reason.errno in NO_ROOM:
        return LocalFailure(Code.DISK_FULL, f"the disk that holds {data_dir} is full", data_dir=str(data_dir))
    if reason.errno == errno.EROFS:
        return LocalFailure(Code.READ_ONLY, f"the disk that holds {data_dir} may only be read", data_dir=str(data_dir))
    return LocalFailure(
        Code.STORAGE_FAILED,
        f"this account cannot use the data folder {data_dir}: {reason.strerror}",
        data_dir=str(data_dir),
    )
