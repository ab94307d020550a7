"""Root's command on a DIR that belongs to another account: a process of that account opens it, and root opens nothing.

That account may put a link in the place of any file of its DIR, at any moment: what root wrote there would land
elsewhere. So the store is opened by a child that has given up all rights of root's before it looks at DIR; the command
then finds an owner and asks it, as it asks a program that runs. The files that the caller named stay with the command.

Whose DIR it is, is asked of all that leads there: who owns a link or a folder on the way puts another in its place.

Rules:
- the child takes the lock as that account; where somebody holds it already, it ends, and that one is asked;
- it lives as long as the command: a pipe between them closes, however the command ends;
- why it could not open the store it says through another pipe;
- where root has closed a folder above DIR to everybody, as systemd does for accounts that it makes, the child sees it
  open, and nothing in it but DIR, if DIR is that account's;
- a program that runs becomes that account itself; commands that make a DIR are refused there.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import importlib
import json
import os
import stat
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from protocol.errors import BadInput, Code, LocalFailure, RelaisError
from protocol.replica.console.operation import Table, error_of, failure_of
from protocol.replica.console.ownership import acquire
from protocol.replica.console.typed_by import name_of_user

_ROOT: Final = 0
_MOST_SAID_BYTES: Final = 4_096  # a pipe takes so much at once, whole
_FAILED: Final = 1
_PROGRAM: Final = (__file__, os.__file__)
_MOST_STEPS: Final = 1_000
_NEW_MOUNTS: Final = 0x20000  # CLONE_NEWNS
_PRIVATE: Final = 0x44000  # MS_REC | MS_PRIVATE
_BIND: Final = 0x1000  # MS_BIND

Opener: TypeAlias = Callable[[], AbstractAsyncContextManager[Table]]


@dataclass(frozen=True, slots=True)
class Account:
    """A user and a group, by number."""

    user: int
    group: int


def account_of(data_dir: Path, *, user: int) -> Account | None:
    """Whose DIR this is, if `user` is root and somebody else owns it, or a link or a folder that leads there."""
    if user != _ROOT:
        return None
    for facts in _way_to(data_dir):
        if facts.st_uid != _ROOT:
            return Account(facts.st_uid, _group_of(facts))
    return None


def _way_to(place: Path) -> Iterator[os.stat_result]:
    """All that leads to a place, and the place, as far as it is there: each folder and each link, as it is followed."""
    try:
        left = list(reversed(place.absolute().parts))
    except FileNotFoundError:  # the caller's folder is gone: nothing lies there, and nothing can be made there
        return
    here = Path(left.pop())
    for _ in range(_MOST_STEPS):
        try:
            facts = here.lstat()
            target = here.readlink() if stat.S_ISLNK(facts.st_mode) else None
        except OSError:
            return
        yield facts
        if target is not None:
            left += reversed(target.parts)
            here = here.parent
        if not left:
            return
        part = left.pop()
        here = here.parent if part == ".." else here / part


def _group_of(facts: os.stat_result) -> int:
    """An account's own group: that of a file may be root's still."""
    import pwd  # noqa: PLC0415 — where there is none, nobody asks

    try:
        return pwd.getpwuid(facts.st_uid).pw_gid
    except KeyError:
        return facts.st_gid if facts.st_gid != _ROOT else facts.st_uid


def refuse_for_others(data_dir: Path) -> None:
    """Raise `BadInput(USAGE)` where root would make a DIR in what another account may exchange."""
    account = None if sys.platform == "win32" else account_of(data_dir, user=os.geteuid())
    if account is not None:
        raise BadInput(
            Code.USAGE,
            f"{data_dir} belongs to the account {name_of_user(account.user)}, or lies in what does, and root makes "
            f"nothing there: call this as that account (sudo -u {name_of_user(account.user)} …)",
        )


def step_down(data_dir: Path) -> None:
    """For a program that is to run: as root on another account's DIR it goes on as that account, for good.

    Raises `LocalFailure(STORAGE_FAILED)` where that account reaches DIR by its service alone.
    """
    account = None if sys.platform == "win32" else account_of(data_dir, user=os.geteuid())
    if account is None:
        return
    _become(account)
    if not (os.access(data_dir, os.R_OK | os.W_OK | os.X_OK) and all(os.access(file, os.R_OK) for file in _PROGRAM)):
        raise LocalFailure(
            Code.STORAGE_FAILED,
            f"{data_dir} belongs to the account {name_of_user(account.user)}, which does not reach it, or this "
            "program, by itself: start its service",
        )


def _become(account: Account) -> None:
    os.setgroups([])
    os.setgid(account.group)
    os.setuid(account.user)


class StandIn:
    """The process that owns DIR meanwhile."""

    def __init__(self, said: int) -> None:
        self._said = said

    def raise_failure(self) -> None:
        """Raise what kept the store from being opened, once that is known."""
        with contextlib.suppress(BlockingIOError):
            if said := os.read(self._said, _MOST_SAID_BYTES):
                raise error_of(json.loads(said))


@asynccontextmanager
async def standing_in(
    data_dir: Path, account: Account, open_in_process: Opener, loads: Sequence[str] = ()
) -> AsyncIterator[StandIn]:
    """While a process of `account` owns DIR, or finds that somebody does. Raises `LocalFailure`.

    `loads` are modules that it imports while it may read whatever root may.
    """
    until_closed, alive = os.pipe()
    said, saying = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover — another process
        os.close(alive)
        os.close(said)
        _stand_in(data_dir, account, open_in_process, loads, until_closed, saying)
    os.close(until_closed)
    os.close(saying)
    os.set_blocking(said, False)
    try:
        yield StandIn(said)
    finally:
        os.close(alive)
        os.close(said)
        await asyncio.to_thread(os.waitpid, child, 0)


def _stand_in(  # pragma: no cover — another process
    data_dir: Path, account: Account, open_in_process: Opener, loads: Sequence[str], until_closed: int, saying: int
) -> None:
    """The child's whole life: it never returns."""
    status = _FAILED
    try:
        for module in ("protocol.replica.console.control", *loads):
            importlib.import_module(module)
        _open_the_way(data_dir, account)
        _become(account)
        asyncio.run(_own(data_dir, open_in_process, until_closed))
        status = 0
    except RelaisError as error:
        _say(saying, error)
    except ImportError as reason:
        _say(saying, LocalFailure(Code.STORAGE_FAILED, f"the account of {data_dir} cannot read this program: {reason}"))
    except OSError as reason:
        _say(saying, LocalFailure(Code.STORAGE_FAILED, f"the account of {data_dir} cannot open it: {reason}"))
    except BaseException as error:  # noqa: BLE001 — nobody else hears of it
        traceback.print_exception(error)
        _say(saying, LocalFailure(Code.INTERNAL, f"what {data_dir} holds could not be opened: {error!r}"))
    finally:
        sys.stderr.flush()
        os._exit(status)


def _say(saying: int, error: RelaisError) -> None:  # pragma: no cover — another process
    os.write(saying, json.dumps(failure_of(error)).encode()[:_MOST_SAID_BYTES])


def _open_the_way(data_dir: Path, account: Account) -> None:  # pragma: no cover — another process
    """Where only root enters a folder above DIR: have this process see that folder open, and DIR alone in it.

    It is what systemd does for the service itself. Others see nothing of it. What the account does not own is not
    opened to it so: a link of its own may lead to any folder behind a closed one. Raises `OSError`.
    """
    place = data_dir.resolve()
    closed = next((above for above in reversed(place.parents) if not _enters(above.stat(), account)), None)
    if closed is None or sys.platform != "linux":
        return
    system = ctypes.CDLL(None, use_errno=True)
    _done(system.unshare(_NEW_MOUNTS))
    _done(system.mount(b"none", b"/", None, _PRIVATE, None))
    opened = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    if not _owns(os.fstat(opened), account):
        raise PermissionError(errno.EACCES, f"it lies behind {closed}, and is not that account's", str(place))
    _done(system.mount(b"tmpfs", os.fsencode(closed), b"tmpfs", 0, b"mode=0755"))
    place.mkdir(parents=True)
    _done(system.mount(b"/proc/self/fd/%d" % opened, os.fsencode(place), None, _BIND, None))
    os.close(opened)


def _owns(facts: os.stat_result, account: Account) -> bool:
    return facts.st_uid == account.user


def _enters(facts: os.stat_result, account: Account) -> bool:
    """Whether an account may enter a folder: of three sets of rights its own counts."""
    if facts.st_uid == account.user:
        return bool(facts.st_mode & stat.S_IXUSR)
    return bool(facts.st_mode & (stat.S_IXGRP if facts.st_gid == account.group else stat.S_IXOTH))


def _done(status: int) -> None:  # pragma: no cover — another process
    if status != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


async def _own(data_dir: Path, open_in_process: Opener, until_closed: int) -> None:  # pragma: no cover
    """Answer commands until the pipe closes."""
    from protocol.replica.console.control import serve_control  # noqa: PLC0415 — loaded only when needed

    owner = acquire(data_dir)
    if owner is None:
        return
    closed = asyncio.Event()
    asyncio.get_running_loop().add_reader(until_closed, closed.set)
    with owner:
        async with open_in_process() as table, serve_control(table, owner):
            await closed.wait()
