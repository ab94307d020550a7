# ruff: noqa: D102  (the interface says what each method means)
"""A way to the server that keeps to the budget: counts what goes over it, paces content, stops what may not go on.

Rules:
- calls are counted and never held: they are small, and a pause is decided before them;
- content that comes too fast is left unread, so that the sender slows down (TCP's window);
- content that steps back for others is asked for in small parts: what TCP, or a proxy, has begun to take in of a whole
  pack would fill the line all the same;
- where something on the way knows no parts, and answers each with the whole, content comes as one after all: part by
  part, each would cost all that lies before it;
- while content moves, small questions show whether others wait for the line (`yielding`); they end soon after it;
- content that may not go on ends as a cut does: what has arrived stays, and the next transfer goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Final

from protocol.errors import LocalFailure, NoAnswer
from sync_agent.pacing.spending import Budget
from sync_agent.pacing.yielding import LOST_S, PROBE_S
from sync_agent.transport.answers import Response
from sync_agent.transport.interface import Transport
from sync_agent.transport.server_chain import IsOurs, Knows

_HEAD_BYTES: Final = 300
"""What the heads of a request and its answer come to, near enough."""


REST_S: Final = 3.0
"""Content that has not moved for so long has ended."""

Question = Callable[[], Awaitable[float]]
"""Asks something small over the same way; how long it took there and back. Raises `NoAnswer`."""


class PacedTransport:
    """See `Transport`: that of `inner`, within `budget`; `question` tells the delay of the line, if anything does.

    `takes_parts` tells whether a part that is asked for comes alone, as far as `inner` has seen.
    """

    def __init__(
        self,
        inner: Transport,
        budget: Budget,
        question: Question | None = None,
        takes_parts: Callable[[], bool] = lambda: True,
    ) -> None:
        self._inner = inner
        self._budget = budget
        self._question = question
        self._takes_parts = takes_parts
        self._content_bytes = 0
        self._transfers = 0
        self._looking: asyncio.Task[None] | None = None
        self.traffic = inner.traffic

    def hold_to(self, is_ours: IsOurs, knows: Knows | None = None) -> None:
        self._inner.hold_to(is_ours, knows)

    async def post(self, path: str, body: bytes) -> Response:
        response = await self._inner.post(path, body)
        await self._budget.spend(_HEAD_BYTES + len(body) + len(response.body))
        return response

    async def fetch(self, capability: str, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
        self._budget.check_moving()
        end = None if length is None else start + length
        with self._content():
            while end is None or start < end:
                part_bytes = self._budget.line.part_bytes if self._takes_parts() else None
                most = min((size for size in (part_bytes, end and end - start) if size is not None), default=None)
                begun_at, is_interrupted = start, False
                await self._budget.spend(_HEAD_BYTES)
                async with aclosing(self._inner.fetch(capability, start, most)) as pieces:
                    async for piece in pieces:
                        start += len(piece)
                        yield piece
                        await self._moved(len(piece))
                        if not self._may_go_on():
                            return
                        is_interrupted = part_bytes is None and self._budget.line.yields and self._takes_parts()
                        if is_interrupted:
                            break
                if not is_interrupted and (part_bytes is None or most is None or start - begun_at < most):
                    return

    async def send(self, capability: str, offset: int, length: int, pieces: AsyncIterator[bytes]) -> Response:
        self._budget.check_moving()
        await self._budget.spend(_HEAD_BYTES)
        with self._content():
            return await self._inner.send(capability, offset, length, self._paced(pieces))

    def listen(self, capability: str, *, pushed: bool) -> AsyncGenerator[bool, None]:
        return self._inner.listen(capability, pushed=pushed)

    async def renew(self) -> None:
        await self._inner.renew()

    async def close(self) -> None:
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        await self._inner.close()

    async def _paced(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            at = 0
            while at < len(piece):
                self._budget.check_moving()
                part_bytes = self._budget.line.part_bytes or len(piece)
                part = piece[at : at + part_bytes]
                at += len(part)
                yield part
                await self._moved(len(part))

    def _may_go_on(self) -> bool:
        """Whether content may; else it ends as by a cut: who fetches keeps what came, and is told when asking again."""
        try:
            self._budget.check_moving()
        except LocalFailure:
            return False
        return True

    @contextmanager
    def _content(self) -> Iterator[None]:
        """A transfer of content."""
        self._transfers += 1
        try:
            yield
        finally:
            self._transfers -= 1

    async def _moved(self, size: int) -> None:
        await self._budget.spend(size)
        self._content_bytes += size
        if self._question is not None and self._budget.limits.yields and self._looking is None:
            self._looking = asyncio.create_task(self._look(self._question))
        clock = asyncio.get_running_loop().time
        while (delay_s := self._budget.delay_s(size, clock())) > 0:
            # not all of it at once: there may be more room in a moment
            await asyncio.sleep(min(delay_s, PROBE_S))
            size = 0

    async def _look(self, question: Question) -> None:
        """Until content rests: ask how long the line takes, and let the budget follow."""
        clock = asyncio.get_running_loop().time
        seen_bytes, seen_s = self._content_bytes, clock()
        still_s = 0.0
        with suppress(NoAnswer):  # the transfer itself will meet what is wrong
            while still_s < REST_S:
                try:
                    async with asyncio.timeout(LOST_S):
                        delay_s: float | None = await question()
                except TimeoutError:
                    delay_s = None
                await asyncio.sleep(PROBE_S - min(PROBE_S, clock() - seen_s))
                now_s, moved_bytes = clock(), self._content_bytes
                took_s, size = now_s - seen_s, moved_bytes - seen_bytes
                self._budget.line = self._budget.line.after(delay_s, size, took_s, now_s)
                still_s = 0.0 if size or self._transfers else still_s + took_s
                seen_bytes, seen_s = moved_bytes, now_s
        self._budget.line = self._budget.line.rest()
        self._looking = None
