"""What is on its way to a disk: one write at a time, behind whoever gathers the next.

Rules:
- writes come one after the other, in the order of what was given, and none begins before the one before has ended;
- memory holds what is being written and what gathers meanwhile, never more; neither is touched by the other;
- what goes wrong is told once, to whoever gives more or settles; nothing is written after that write by itself;
- who leaves waits for the write that is under way, and hears nothing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

Work = Coroutine[Any, Any, None]


class Behind:
    """One piece of work at a time, which goes on while the next one is made ready."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    async def begin(self, work: Work) -> None:
        """Begin `work` once that before is done. Raises what that one raised; `work` does not begin then."""
        try:
            await self.settle()
        except BaseException:
            work.close()
            raise
        self._task = asyncio.create_task(work)

    async def settle(self) -> None:
        """Return when all is done. Raises what the work raised."""
        task, self._task = self._task, None
        if task is not None:
            await task

    async def leave(self) -> None:
        """Return when nothing is under way any more, whatever became of it."""
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait((task,))
            if not task.cancelled():
                task.exception()


class WriteBehind:
    """Gathers bytes, and has them written whenever its memory is full, while more come into other memory.

    The two pieces of memory begin with `least_bytes` each and grow to `most_bytes`. What `write` is given is its own
    until it returns.
    """

    def __init__(self, write: Callable[[memoryview], Work], *, least_bytes: int, most_bytes: int) -> None:
        self._write = write
        self._least_bytes = least_bytes
        self._most_bytes = most_bytes
        self._held = self._free = memoryview(b"")
        self._held_bytes = 0
        self._behind = Behind()

    async def add(self, data: bytes | memoryview) -> None:
        """Add bytes. Raises what a write raised, of bytes that were added before."""
        left = memoryview(data)
        while left:
            if self._held_bytes == len(self._held):
                await self._turn()
            taken = left[: len(self._held) - self._held_bytes]
            self._held[self._held_bytes : self._held_bytes + len(taken)] = taken
            self._held_bytes += len(taken)
            left = left[len(taken) :]

    async def settle(self) -> None:
        """Return when all that was added is written. Raises what a write raised."""
        if self._held_bytes:
            await self._turn()
        await self._behind.settle()

    async def leave(self) -> None:
        """Return when nothing is being written any more, whatever became of it. What only gathered is gone."""
        self._held_bytes = 0
        await self._behind.leave()

    async def _turn(self) -> None:
        """Have written what is held, once what was held before is, and gather on where that was."""
        await self._behind.settle()
        if full := self._held[: self._held_bytes]:
            await self._behind.begin(self._write(full))
        self._held, self._free, self._held_bytes = self._free, self._held, 0
        if len(self._held) < len(self._free) or len(self._held) < self._least_bytes:
            wanted = min(max(2 * len(self._free), self._least_bytes), self._most_bytes)
            self._held = memoryview(bytearray(wanted))
