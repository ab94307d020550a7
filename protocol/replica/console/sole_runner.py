"""One `run` on a DIR: it waits for commands that hold the lock, and gives way at once to another `run`.

A command that lasts answers others meanwhile, does not know `run`, and will end; a program that runs does know it, and
says that it is there.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from protocol.errors import Code, LocalFailure
from protocol.replica.console.command import PATIENCE_S
from protocol.replica.console.control import NotAccepted, forward
from protocol.replica.console.frame import Notices
from protocol.replica.console.operation import JSON, NO_FILES, Incoming, Operation, Outgoing, Params
from protocol.replica.console.ownership import Ownership, acquire, read_control

RUNNING: Final = "run"
"""The name in the table of a program that runs, under which it says so."""

_PAUSE_S: Final = 0.2


def running_already(who: str) -> Operation:
    """What `who` ("the agent") answers to another that wants to run on its DIR."""

    async def answer(_params: Params, _incoming: Incoming, _outgoing: Outgoing) -> JSON:
        raise LocalFailure(Code.STORE_LOCKED, f"{who} is running on this data folder already")

    return answer


async def own(folder: Path, stop: asyncio.Event) -> Ownership:
    """The lock on DIR, waited for while a command holds it.

    Raises `LocalFailure(STORE_LOCKED)`: at once where another program runs there, else after `PATIENCE_S` or when
    `stop` is set.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not stop.is_set():
        owner = acquire(folder)
        if owner is not None:
            return owner
        control = read_control(folder)
        if control is not None:
            try:
                await forward(control, RUNNING, {}, NO_FILES, Notices())
            except NotAccepted:
                pass
            except LocalFailure as failure:
                if failure.code is Code.STORE_LOCKED:
                    raise
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(_PAUSE_S)
    raise LocalFailure(
        Code.STORE_LOCKED, f"another process holds {folder}; wait until it has ended, or end it", folder=str(folder)
    )
