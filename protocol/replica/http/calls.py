"""The sealed calls: sync, reconcile, enroll. Bytes in, bytes out; what they mean is the responder's business."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from protocol.errors import Code, NoAnswer
from protocol.limits import MAX_REQUEST_BYTES, MiB
from protocol.replica.http.bodies import pieces
from protocol.replica.http.meter import Direction, Meter, Result, result_of
from protocol.replica.http.problems import Handler
from protocol.replica.serving import Reply, Responder
from protocol.wire import Call

MAX_WAITING_CALLS: Final = 512
MAX_WAITING_BYTES: Final = 48 * MiB
CALLS_AT_ONCE: Final = 4
RETRY_AFTER_S: Final = 5


class Calls:
    """Handlers of the sealed calls.

    Few are answered at once, because each may hold some MiB; some hundred wait, as long as their bodies together stay
    within a bound; beyond that a caller is asked to come back. The wait is short: the store has one writer anyway.
    """

    def __init__(self, responder: Responder, meter: Meter) -> None:
        self._responder = responder
        self._meter = meter
        self._slots = asyncio.Semaphore(CALLS_AT_ONCE)
        self._waiting = 0
        self._waiting_bytes = 0

    def handler(self, call: Call) -> Handler:
        """What answers `call`."""

        async def handle(request: web.Request) -> web.Response:
            if self._waiting >= MAX_WAITING_CALLS:
                raise self._busy(call)
            body = bytearray()
            self._waiting += 1
            try:
                async for piece in pieces(request, MAX_REQUEST_BYTES):
                    body += piece
                    self._waiting_bytes += len(piece)
                    if self._waiting_bytes > MAX_WAITING_BYTES:
                        raise self._busy(call)
                async with self._slots:
                    reply = await self._answer(call, bytes(body))
            finally:
                self._waiting -= 1
                self._waiting_bytes -= len(body)
            self._count(call, len(body), reply)
            return web.Response(body=reply.body, status=reply.status, headers={"Content-Type": reply.content_type})

        return handle

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
