"""Commands that a daemon is answering when it has to begin anew, with other keys or without the school's network.

Rule: they are let finish. What brings the end of a quarantine, a stick that somebody imports, is such a command itself.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from protocol.replica.console.operation import JSON, Incoming, Operation, Outgoing, Params

ANSWERS_S: Final = 60.0
"""For so long at most."""


class Answering:
    """The commands that are being answered."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def noting(self, operation: Operation) -> Operation:
        """The operation, noted while it runs."""

        async def operate(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101  (the server of commands runs it)
            self._tasks.add(task)
            try:
                return await operation(params, incoming, outgoing)
            finally:
                self._tasks.discard(task)

        return operate

    async def over(self, stop: asyncio.Event) -> None:
        """Until those that run now are answered, or `stop`, or for `ANSWERS_S`."""
        if self._tasks and not stop.is_set():
            answered = asyncio.gather(*(asyncio.wait((task,)) for task in self._tasks))
            stopped = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait((answered, stopped), timeout=ANSWERS_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                answered.cancel()
                stopped.cancel()
                await asyncio.gather(answered, stopped, return_exceptions=True)
