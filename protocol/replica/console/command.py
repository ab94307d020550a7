"""How a command finds its operation: here if the store is free, else in the process that owns it.

A command that finds the store locked while nobody answers (its owner is starting or stopping) asks again until its
patience ends. The channel's libraries are loaded only when they are needed: a command that may last answers others once
it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from protocol.errors import Code, LocalFailure
from protocol.replica.console.operation import JSON, Incoming, Outgoing, Params, Table
from protocol.replica.console.ownership import Ownership, acquire, read_control
from protocol.replica.console.stepping_down import Opener, account_of, refuse_for_others, standing_in

PATIENCE_S: Final = 30.0
LASTS_S: Final = 0.5
"""A command that takes longer than this answers others meanwhile."""
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.5

_log = logging.getLogger(__name__)


async def run_command(
    data_dir: Path,
    name: str,
    params: Params,
    incoming: Incoming,
    outgoing: Outgoing,
    open_in_process: Opener,
    *,
    create: bool = False,
    serve_others: bool = False,
    loads: Sequence[str] = (),
    patience_s: float = PATIENCE_S,
    monotonic: Callable[[], float] = time.monotonic,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> JSON:
    """The result of the operation `name` on the store in `data_dir`.

    If the lock is free it is taken, `open_in_process()` yields the table and the operation runs here; with
    `serve_others` (for commands that may last) other commands are answered meanwhile. If a live owner holds it, the
    owner runs the operation. `create` makes DIR; one that was made goes where the operation fails. Raises the
    operation's errors, `LocalFailure(STORE_LOCKED)` after `patience_s` seconds, and what `acquire` raises. Where root
    calls on a DIR of another account's, a process of that account takes the lock instead (`stepping_down`), and
    nothing is made; `loads` are the modules that `open_in_process` needs.
    """
    if create:
        refuse_for_others(data_dir)
    deadline = monotonic() + patience_s
    pause_s = _FIRST_PAUSE_S
    account = None if create or sys.platform == "win32" else account_of(data_dir, user=os.geteuid())
    async with contextlib.AsyncExitStack() as stack:
        stand_in = None
        if account is not None:
            stand_in = await stack.enter_async_context(standing_in(data_dir, account, open_in_process, loads))
        while True:
            if stand_in is not None:
                stand_in.raise_failure()
            elif (owner := acquire(data_dir, create=create)) is not None:
                with owner, owner.beginning():
                    return await _run_here(owner, name, params, incoming, outgoing, open_in_process, serve_others)
            control = read_control(data_dir)
            if control is not None:
                from protocol.replica.console.control import NotAccepted, forward  # noqa: PLC0415 — loaded only when needed

                try:
                    patience_s = max(deadline - monotonic(), _LONGEST_PAUSE_S)
                    return await forward(control, name, params, incoming, outgoing, patience_s=patience_s)
                except NotAccepted:
                    pass  # the owner has just gone or changed: look again
            left_s = deadline - monotonic()
            if left_s <= 0:
                raise LocalFailure(
                    Code.STORE_LOCKED,
                    f"another process holds {data_dir} and does not answer; wait until it has ended, or end it",
                    data_dir=str(data_dir),
                )
            await pause(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _run_here(
    owner: Ownership,
    name: str,
    params: Params,
    incoming: Incoming,
    outgoing: Outgoing,
    open_in_process: Opener,
    serve_others: bool,
) -> JSON:
    async with open_in_process() as table:
        if not serve_others:
            return await table[name](params, incoming, outgoing)
        done = asyncio.Event()
        serving = asyncio.create_task(_serve_others(table, owner, done))
        try:
            return await table[name](params, incoming, outgoing)
        finally:
            done.set()
            await serving


async def _serve_others(table: Table, owner: Ownership, done: asyncio.Event) -> None:
    """Answer other commands from a moment on until one is `done`."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), LASTS_S)
    if done.is_set():
        return
    from protocol.replica.console.control import serve_control  # noqa: PLC0415 — loaded only when needed

    try:
        async with serve_control(table, owner):
            await done.wait()
    except LocalFailure as failure:
        _log.warning("other commands have to wait until this one is done: %s", failure)
