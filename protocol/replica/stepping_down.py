"""Root's command on a DIR that belongs to another account: a process of that account opens it, and root opens nothing.

That account may put a link in the place of any file of its DIR, at any moment: what root wrote there would land
elsewhere. So the store is opened by a child that has given up all rights of root's before it looks at DIR; the command
then finds an owner and asks it, as it asks a program that runs. The files that the caller named stay with the command.

Rules:
- the child takes the lock as that account; where somebody holds it already, it ends, and that one is asked;
- it lives as long as the command: a pipe between them closes, however the command ends;
- why it could not open the store it says through another pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from protocol.errors import Code, LocalFailure, RelaisError
from protocol.replica.operation import Table, error_of, failure_of
from protocol.replica.ownership import acquire

_ROOT: Final = 0
_MOST_SAID_BYTES: Final = 4_096  # a pipe takes so much at once, whole
_FAILED: Final = 1

Opener: TypeAlias = Callable[[], AbstractAsyncContextManager[Table]]


@dataclass(frozen=True, slots=True)
class Account:
    """A user and a group, by number."""

    user: int
    group: int


def account_of(data_dir: Path, *, user: int) -> Account | None:
    """Whose DIR this is, if `user` is root and it is somebody else's."""
    if user != _ROOT:
        return None
    try:
        facts = data_dir.stat()
    except OSError:
        return None
    return None if facts.st_uid == _ROOT else Account(facts.st_uid, facts.st_gid)


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
        for module in ("protocol.replica.control", *loads):
            importlib.import_module(module)
        os.setgroups([])
        os.setgid(account.group)
        os.setuid(account.user)
        asyncio.run(_own(data_dir, open_in_process, until_closed))
        status = 0
    except RelaisError as error:
        _say(saying, error)
    except ImportError as reason:
        _say(saying, LocalFailure(Code.STORAGE_FAILED, f"the account of {data_dir} cannot read this program: {reason}"))
    except OSError as reason:
        _say(saying, LocalFailure(Code.STORAGE_FAILED, f"the account of {data_dir} cannot open it: {reason}"))
    finally:
        sys.stderr.flush()
        os._exit(status)


def _say(saying: int, error: RelaisError) -> None:  # pragma: no cover — another process
    os.write(saying, json.dumps(failure_of(error)).encode()[:_MOST_SAID_BYTES])


async def _own(data_dir: Path, open_in_process: Opener, until_closed: int) -> None:  # pragma: no cover
    """Answer commands until the pipe closes."""
    from protocol.replica.control import serve_control  # noqa: PLC0415 — loaded only when needed

    owner = acquire(data_dir)
    if owner is None:
        return
    closed = asyncio.Event()
    asyncio.get_running_loop().add_reader(until_closed, closed.set)
    with owner:
        async with open_in_process() as table, serve_control(table, owner):
            await closed.wait()
