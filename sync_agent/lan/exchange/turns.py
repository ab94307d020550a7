"""Whose turn it is to bring what neighbours tell of: one at a time, so that the others need not be asked for the same.

Rules:
- nobody has a turn for longer than `TURN_S`, and nobody waits longer for one: what takes its time keeps nothing back;
- who asks a neighbour to come has its turn until it has come, or something has moved here.

docs/protocol.md, "Neighbours".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from sync_agent.scheduler import wait

TURN_S: Final = 1.0


class Turns:
    """The turns of one device."""

    def __init__(self) -> None:
        """Nobody has one."""
        self._over: asyncio.Event | None = None
        self._until_s = 0.0
        self._asked: bytes | None = None

    async def free(self) -> None:
        """Wait until nobody has a turn."""
        clock = asyncio.get_running_loop().time
        patience_s = clock() + TURN_S
        while self._over is not None and (left_s := min(self._until_s, patience_s) - clock()) > 0:
            await wait(self._over, left_s)

    @contextlib.asynccontextmanager
    async def mine(self) -> AsyncIterator[None]:
        """One's own turn, while the context lasts."""
        await self.free()
        over = self._begin(None)
        try:
            yield
        finally:
            self._end(over)

    def ask(self, device: bytes) -> None:
        """A neighbour is asked to come."""
        self._begin(device)

    def came(self, device: bytes) -> None:
        """A neighbour has been answered."""
        if self._asked == device:
            self.moved()

    def moved(self) -> None:
        """Something has come."""
        if self._over is not None and self._asked is not None:
            self._end(self._over)

    def _begin(self, asked: bytes | None) -> asyncio.Event:
        self._over, self._asked = asyncio.Event(), asked
        self._until_s = asyncio.get_running_loop().time() + TURN_S
        return self._over

    def _end(self, over: asyncio.Event) -> None:
        over.set()
        if self._over is over:
            self._over = None
