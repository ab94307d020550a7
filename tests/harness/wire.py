"""Ways between an agent and a server under test: straight through memory, over real HTTP on loopback, and spoiled ones.

`Frontage` is what any HTTP front does over a `Responder`; `MemoryTransport` calls it directly, `serve` puts it behind
aiohttp. `Faulty` wraps any transport and cuts, loses or doubles what passes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from protocol.errors import Code, NoAnswer, PeerFault, RelaisError, TooLarge
from protocol.limits import MAX_REQUEST_BYTES
from protocol.messages.wire import (
    CONTENT_TYPE,
    ENROLL_PATH,
    OFFSET_HEADER,
    PACK_TYPE,
    PACKS_PATH,
    RECONCILE_PATH,
    SYNC_PATH,
    Call,
)
from protocol.replica.answering.serving import Responder
from protocol.transfer.crossing import crossing
from sync_agent.transport.answers import Response, error_in, recognised
from sync_agent.transport.interface import Traffic
from sync_agent.transport.server_chain import IsOurs, Knows

URL = "http://server.test"
_CALLS = {SYNC_PATH: Call.SYNC, RECONCILE_PATH: Call.RECONCILE, ENROLL_PATH: Call.ENROLL}


class Frontage:
    """The HTTP rules over a responder, without HTTP. `responder` may be exchanged: the server was started anew."""

    def __init__(self, responder: Responder) -> None:
        self.responder = responder
        self.busy_s: int | None = None

    async def post(self, path: str, body: bytes) -> Response:
        if self.busy_s is not None:
            return Response(503, {"content-type": "application/json", "retry-after": str(self.busy_s)}, b"{}")
        try:
            if path == ENROLL_PATH and not body:
                reply = self.responder.chain()
            else:
                reply = await self.responder.answer(_CALLS[path], body)
        except RelaisError as error:
            return _refusal(error)
        return Response(reply.status, {"content-type": reply.content_type}, reply.body)

    async def pack(self, capability: str, start: int, length: int | None = None) -> bytes | Response:
        """The bytes of a pack from `start` on, `length` of them or all."""
        try:
            found = self.responder.fetch_capability(capability)
        except RelaisError as error:
            return _refusal(error, 403)
        content = self.responder.replica.content
        data = await content.read_pack(found.pack, start, found.size if length is None else length)
        return crossing(found.link_key, start)(data)

    async def part(self, capability: str, offset: int, pieces: AsyncIterator[bytes]) -> Response:
        """Take bytes of a pack; what came before a failure of `pieces` stays."""
        content = self.responder.replica.content
        try:
            wanted = self.responder.send_capability(capability)
        except RelaisError as error:
            return _refusal(error, 403)
        if await content.pack(wanted.pack, wanted.space) is not None:
            return Response(201, {}, b"")
        held = await content.part_size(wanted.pack, wanted.sender)
        if offset != held:
            return _continues_at(held)
        clear = crossing(wanted.link_key, offset)
        try:
            async with self.responder.allowances.receiving(wanted):
                async for piece in pieces:
                    if held + len(piece) > wanted.size:
                        raise TooLarge(Code.TOO_LARGE, "too long")
                    held = await content.append_part(wanted.pack, held, clear(piece), wanted.sender)
                if held < wanted.size:
                    return Response(204, {OFFSET_HEADER.lower(): str(held)}, b"")
                await self.responder.allowances.finish(wanted)
        except PeerFault as fault:
            if fault.code is Code.WRONG_OFFSET:
                return _continues_at(await content.part_size(wanted.pack, wanted.sender))
            await content.drop_part(wanted.pack, wanted.sender)
            return _refusal(fault)
        await self.responder.received_pack(wanted.space)
        return Response(201, {}, b"")


def _continues_at(held: int) -> Response:
    return Response(409, {OFFSET_HEADER.lower(): str(held)}, b"")


def _refusal(error: RelaisError, status: int | None = None) -> Response:
    body = json.dumps({"error": {"code": error.code.value, "message": error.message}}).encode()
    return Response(status or error.http_status, {"content-type": "application/json"}, body)


class MemoryTransport:
    """A transport that joins a frontage directly. Counts bodies only."""

    def __init__(self, frontage: Frontage) -> None:
        self.frontage = frontage
        self.traffic = Traffic()

    def hold_to(self, is_ours: IsOurs, knows: Knows | None = None) -> None:
        del is_ours, knows

    async def post(self, path: str, body: bytes) -> Response:
        self.traffic.round_trips += 1
        self.traffic.bytes_out += len(body)
        response = await self.frontage.post(path, body)
        self.traffic.bytes_in += len(response.body)
        return recognised(response, URL)

    async def fetch(self, capability: str, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
        self.traffic.round_trips += 1
        data = await self.frontage.pack(capability, start, length)
        if isinstance(data, Response):
            raise error_in(data, URL)
        for at in range(0, len(data), 65_536):
            self.traffic.bytes_in += len(data[at : at + 65_536])
            yield data[at : at + 65_536]

    async def send(self, capability: str, offset: int, length: int, pieces: AsyncIterator[bytes]) -> Response:
        self.traffic.round_trips += 1
        response = await self.frontage.part(capability, offset, self._counted(pieces) if length else _nothing())
        if response.status in (201, 204, 409):
            return response
        raise error_in(response, URL)

    async def listen(self, capability: str, *, pushed: bool) -> AsyncGenerator[bool, None]:
        del pushed
        responder = self.frontage.responder
        listener = responder.listener(capability)
        yield False
        while True:
            yield await responder.concerns(listener, await listener.news())

    async def renew(self) -> None:
        return

    async def close(self) -> None:
        return

    async def _counted(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            self.traffic.bytes_out += len(piece)
            yield piece


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


# --- spoiled ways -----------------------------------------------------------------------------------------------------


@dataclass
class Faults:
    """What goes wrong. `out_bytes` and `in_bytes` are how much still passes in a direction; None is no bound.

    `lose_answers` calls are answered but the answers are lost; with `double` every call arrives twice; after `hiccup`
    bytes one transfer or call is cut, once.
    """

    out_bytes: int | None = None
    in_bytes: int | None = None
    lose_answers: int = 0
    hiccup: int | None = None
    double: bool = False
    down: bool = False
    on_post: Callable[[str], None] = field(default=lambda _path: None)

    def out(self, size: int) -> int:
        """How many of `size` bytes pass to the server."""
        passed = self._without_hiccup(size if self.out_bytes is None else min(size, self.out_bytes))
        if self.out_bytes is not None:
            self.out_bytes -= passed
        return passed

    def into(self, size: int) -> int:
        """How many of `size` bytes come back."""
        passed = self._without_hiccup(size if self.in_bytes is None else min(size, self.in_bytes))
        if self.in_bytes is not None:
            self.in_bytes -= passed
        return passed

    def _without_hiccup(self, size: int) -> int:
        if self.hiccup is None:
            return size
        passed = min(size, self.hiccup)
        self.hiccup = None if passed < size else self.hiccup - passed
        return passed


class Faulty:
    """A transport through `inner` on which `faults` happen."""

    def __init__(self, inner: MemoryTransport, faults: Faults | None = None) -> None:
        self._inner = inner
        self.faults = faults or Faults()
        self.traffic = inner.traffic

    def hold_to(self, is_ours: IsOurs, knows: Knows | None = None) -> None:
        del is_ours, knows

    async def post(self, path: str, body: bytes) -> Response:
        self.faults.on_post(path)
        if self.faults.down or self.faults.out(len(body)) < len(body):
            raise cut()
        if self.faults.double:
            await self._inner.post(path, body)
        response = await self._inner.post(path, body)
        if self.faults.lose_answers:
            self.faults.lose_answers -= 1
            raise cut()
        if self.faults.into(len(response.body)) < len(response.body):
            raise cut()
        return response

    async def fetch(self, capability: str, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
        if self.faults.down:
            raise cut()
        async for piece in self._inner.fetch(capability, start, length):
            passed = self.faults.into(len(piece))
            if passed:
                yield piece[:passed]
            if passed < len(piece):
                raise cut()

    async def send(self, capability: str, offset: int, length: int, pieces: AsyncIterator[bytes]) -> Response:
        if self.faults.down:
            raise cut()
        was_cut = False

        async def passing() -> AsyncIterator[bytes]:
            nonlocal was_cut
            async for piece in pieces:
                passed = self.faults.out(len(piece))
                if passed:
                    yield piece[:passed]
                if passed < len(piece):
                    was_cut = True
                    return

        response = await self._inner.send(capability, offset, length, passing())
        if was_cut or self.faults.in_bytes == 0:
            raise cut()
        return response

    def listen(self, capability: str, *, pushed: bool) -> AsyncGenerator[bool, None]:
        return self._inner.listen(capability, pushed=pushed)

    async def renew(self) -> None:
        return

    async def close(self) -> None:
        return


def cut() -> NoAnswer:
    """What a transport raises when the connection is gone."""
    return NoAnswer(Code.UNREACHABLE, "the connection was cut")


# --- over HTTP --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serve(frontage: Frontage) -> AsyncIterator[str]:
    """The URL under which `frontage` is served on loopback."""

    async def post(request: web.Request) -> web.Response:
        return _http(await frontage.post(request.path, await request.read()))

    async def pack(request: web.Request) -> web.Response:
        asked = request.http_range
        start = asked.start or 0
        data = await frontage.pack(request.match_info["capability"], start)
        if isinstance(data, Response):
            return _http(data)
        if request.headers.get("Range") is None:
            return web.Response(body=data, content_type=PACK_TYPE)
        total = start + len(data)
        body = data if asked.stop is None else data[: asked.stop - start]
        headers = {"Content-Range": f"bytes {start}-{start + len(body) - 1}/{total}"}
        return web.Response(status=206, body=body, headers=headers, content_type=PACK_TYPE)

    async def part(request: web.Request) -> web.Response:
        capability = request.headers["Authorization"].removeprefix("Bearer ")
        pieces = request.content.iter_chunked(65_536)
        return _http(await frontage.part(capability, int(request.headers[OFFSET_HEADER]), pieces))

    application = web.Application(client_max_size=MAX_REQUEST_BYTES)
    for path in _CALLS:
        application.router.add_post(path, post)
    application.router.add_get(f"{PACKS_PATH}/{{capability}}", pack)
    application.router.add_post(PACKS_PATH, part)
    async with served(application) as url:
        yield url


@asynccontextmanager
async def served(application: web.Application) -> AsyncIterator[str]:
    """The URL of an application on loopback."""
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{site.port}"
    finally:
        await runner.cleanup()


def _http(response: Response) -> web.Response:
    headers = {name: value for name, value in response.headers.items() if name != "content-type"}
    media_type = response.headers.get("content-type", CONTENT_TYPE)
    return web.Response(status=response.status, body=response.body, headers=headers, content_type=media_type)
