"""The sealed calls: sync, reconcile, enroll. Bytes in, bytes out; what they mean is the responder's business."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final

from aiohttp import web

from protocol.errors import Code, NoAnswer
from protocol.limits import (
    MAX_READ_CALLS,
    MAX_REQUEST_BYTES,
    MAX_WAITING_CALL_BYTES,
    MAX_WAITING_CALLS,
    MAX_WAITING_CALLS_PER_ADDRESS,
)
from protocol.messages.wire import Call
from protocol.replica.answering.serving import Responder
from protocol.replica.answering.station import Reply
from protocol.replica.http.bodies import pieces
from protocol.replica.http.meter import Direction, Meter, Result, result_of
from protocol.replica.http.problems import Handler

CALLS_AT_ONCE: Final = 4
RETRY_AFTER_S: Final = 5
LINGERING_S: Final = 5.0
"""A body that takes longer than this is the first to go when there is no room."""


def _remote(request: web.Request) -> str:
    return request.remote or ""


class Calls:
    """Handlers of the sealed calls.

    Few are answered at once, because each may hold some MiB, and the last place is not for an address that has all the
    others; some hundred wait, as long as their bodies together stay within a bound, and not all of one address (an
    empty one is nobody's: it is not bounded); beyond that a caller is asked to come back. Bodies on their way take no
    place among those who wait, and when they are too many, or too large together, the one that lingers makes room: who
    sends a little and falls silent keeps nobody out; one of the same address, where that has too many, as of a school.
    The wait is short: the store has one writer anyway.
    """

    def __init__(self, responder: Responder, meter: Meter, *, asker_of: Callable[[web.Request], str] = _remote) -> None:
        self._responder = responder
        self._meter = meter
        self._asker_of = asker_of
        self._slots = asyncio.Semaphore(CALLS_AT_ONCE)
        self._waiting: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._waiting_calls = 0
        self._waiting_bytes = 0
        # bodies on their way, in the order in which they began
        self._reading: dict[asyncio.Timeout, tuple[float, str]] = {}

    def handler(self, call: Call) -> Handler:
        """What answers `call`."""

        async def handle(request: web.Request) -> web.Response:
            asker = self._asker_of(request)
            if asker and self._waiting[asker] >= MAX_WAITING_CALLS_PER_ADDRESS and not self._end_lingering(asker):
                raise self._busy(call)
            body = bytearray()
            self._waiting[asker] += 1
            try:
                await self._read(request, asker, call, body)
                reply = await self._in_turn(asker, call, bytes(body))
            finally:
                self._waiting_bytes -= len(body)
                self._waiting[asker] -= 1
                if not self._waiting[asker]:
                    del self._waiting[asker]
                    self._turns.pop(asker, None)
            self._count(call, len(body), reply)
            return web.Response(body=reply.body, status=reply.status, headers={"Content-Type": reply.content_type})

        return handle

    async def _in_turn(self, asker: str, call: Call, body: bytes) -> Reply:
        """The answer to a whole body, once it is its address's turn and a slot is free."""
        if self._waiting_calls >= MAX_WAITING_CALLS:
            raise self._busy(call)
        self._waiting_calls += 1
        try:
            async with self._turn_of(asker), self._slots:
                return await self._answer(call, body)
        finally:
            self._waiting_calls -= 1

    def _turn_of(self, asker: str) -> AbstractAsyncContextManager[None]:
        if not asker:
            return nullcontext()
        return self._turns.setdefault(asker, asyncio.Semaphore(CALLS_AT_ONCE - 1))

    async def _read(self, request: web.Request, asker: str, call: Call, body: bytearray) -> None:
        """Read a body to its end. Raises `NoAnswer(BUSY)` where it has to make room, and as `pieces`."""
        if len(self._reading) >= MAX_READ_CALLS and not self._end_lingering():
            raise self._busy(call)
        try:
            async with asyncio.timeout(None) as place:
                self._reading[place] = asyncio.get_running_loop().time(), asker
                try:
                    async for piece in pieces(request, MAX_REQUEST_BYTES):
                        body += piece
                        self._waiting_bytes += len(piece)
                        if self._waiting_bytes > MAX_WAITING_CALL_BYTES and not self._end_lingering():
                            raise self._busy(call)
                finally:
                    del self._reading[place]
        except TimeoutError:
            raise self._busy(call) from None

    def _end_lingering(self, of: str | None = None) -> bool:
        """Let the body go that began first, or that of an address, if it has lingered; whether one did."""
        now_s = asyncio.get_running_loop().time()
        for place, (begun_s, asker) in self._reading.items():
            if now_s - begun_s <= LINGERING_S:
                return False
            if place.when() is None and of in {None, asker}:
                place.reschedule(now_s)
                return True
        return False

    def _busy(self, call: Call) -> NoAnswer:
        if call is Call.SYNC:
            self._meter.session(Result.BUSY)
        return NoAnswer(Code.BUSY, "too many machines are calling at this moment", retry_after_s=RETRY_AFTER_S)

    async def _answer(self, call: Call, body: bytes) -> Reply:
        if call is Call.ENROLL and not body:
            return self._responder.chain()
        return await self._responder.answer(call, body)

    def _count(self, call: Call, received: int, reply: Reply) -> None:
        self._meter.moved(Direction.IN, received)
        self._meter.moved(Direction.OUT, len(reply.body))
        if call is Call.SYNC:
            self._meter.session(result_of(reply.status))
