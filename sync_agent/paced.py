# ruff: noqa: D102  (the interface says what each method means)
"""A way to the server that keeps to the budget: counts what goes over it, paces content, stops what may not go on.

Rules:
- calls are counted and never held: they are small, and a pause is decided before them;
- content that comes too fast is left unread, so that the sender slows down (TCP's window);
- content that may not go on ends as a cut does: what has arrived stays, and the next transfer goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

from protocol.errors import LocalFailure
from sync_agent.answers import Response
from sync_agent.spending import Budget
from sync_agent.transport import Transport

_HEAD_BYTES: Final = 300
"""What the heads of a request and its answer come to, near enough."""


class PacedTransport:
    """See `Transport`: that of `inner`, within `budget`."""

    def __init__(self, inner: Transport, budget: Budget) -> None:
        self._inner = inner
        self._budget = budget
        self.traffic = inner.traffic

    async def post(self, path: str, body: bytes) -> Response:
        response = await self._inner.post(path, body)
        await self._budget.spend(_HEAD_BYTES + len(body) + len(response.body))
        return response

    async def fetch(self, capability: str, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
        self._budget.check_moving()
        await self._budget.spend(_HEAD_BYTES)
        async with aclosing(self._inner.fetch(capability, start, length)) as pieces:
            async for piece in pieces:
                yield piece
                await self._moved(len(piece))
                try:
                    self._budget.check_moving()
                except LocalFailure:
                    # as a cut: who fetches keeps what has come, and is told when it asks for more
                    return

    async def send(self, capability: str, offset: int, length: int, pieces: AsyncIterator[bytes]) -> Response:
        self._budget.check_moving()
        await self._budget.spend(_HEAD_BYTES)
        return await self._inner.send(capability, offset, length, self._paced(pieces))

    def listen(self, capability: str, *, pushed: bool) -> AsyncGenerator[bool, None]:
        return self._inner.listen(capability, pushed=pushed)

    async def renew(self) -> None:
        await self._inner.renew()

    async def close(self) -> None:
        await self._inner.close()

    async def _paced(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            self._budget.check_moving()
            yield piece
            await self._moved(len(piece))

    async def _moved(self, size: int) -> None:
        await self._budget.spend(size)
        delay_s = self._budget.delay_s(size, asyncio.get_running_loop().time())
        if delay_s > 0:
            await asyncio.sleep(delay_s)
