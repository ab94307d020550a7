"""The control channel: how a command reaches the process that owns the store.

Rules:
- HTTP on the loopback interface, port chosen by the OS, one `POST /command/NAME` per command, frames both ways
  (`control_frames`) at the same time, each side held back by what the other has not yet read;
- a web page cannot drive it: the Host must be this very address, an Origin is refused, the token is compared in
  constant time, all before a byte of the body is looked at;
- a caller that goes away before its input was complete aborts the command; a complete one runs to its end unless it
  has something more to say;
- whatever arrives, the owner goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from protocol.errors import Code, LocalFailure, PeerFault, RelaisError
from protocol.limits import MAX_PROGRESS_BYTES
from protocol.replica.console.control_frames import (
    Frame,
    event_bytes,
    event_of,
    frame_bytes,
    json_bytes,
    json_of,
    pieces_of,
    read_frame,
)
from protocol.replica.console.operation import (
    JSON,
    Complete,
    FileData,
    FileEnd,
    FileEvent,
    FileFlow,
    FileStart,
    Incoming,
    Outgoing,
    Params,
    Restart,
    Table,
    error_of,
    failure_of,
)
from protocol.replica.console.ownership import Control, Ownership, publish_control, withdraw_control
from protocol.replica.http.library import aiohttp, web

_log = logging.getLogger(__name__)

LOOPBACKS: Final = ("127.0.0.1", "::1")
_TOKEN_BYTES: Final = 32
_GRACE_S: Final = 10.0
ANSWER_PATIENCE_S: Final = 30.0
"""An owner takes a command, or does not, as soon as its loop turns; one that is silent for so long hangs."""
_MEDIA: Final = "application/octet-stream"


class NotAccepted(Exception):
    """Nobody took the command: the owner is starting, stopping or another one. Nothing has happened; ask again."""


class _CallerGone(Exception):
    """The caller closed the connection."""


# --- the owner's side -----------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serve_control(
    table: Table, owner: Ownership, *, grace_s: float = _GRACE_S, stopping: Callable[[], bool] = lambda: False
) -> AsyncIterator[Control]:
    """Answer commands out of `table` while the context lasts.

    From the moment when `stopping` says so no other command is taken, however long the end of those and of all else
    that runs takes: whoever calls asks again until the store is free. At the end of the context the control file goes
    first, then no connection is taken, then running commands have `grace_s` seconds before they are cancelled. Raises
    `LocalFailure(ADDRESS_IN_USE)` if no loopback port can be had.
    """
    from protocol.replica.http.connections import nameless, speaking  # noqa: PLC0415 — who only calls needs none of it

    token = secrets.token_urlsafe(_TOKEN_BYTES)
    application = web.Application()
    runner = web.AppRunner(application, shutdown_timeout=grace_s)
    door = _Door(token, stopping)
    commands = _Commands(table)
    application.middlewares.append(door.check)
    application.router.add_post("/command/{name}", commands.answer)
    application.on_response_prepare.append(nameless)  # other accounts of this machine may knock too
    await runner.setup()
    try:
        listener = await _listen(speaking(runner, access_log=None, keepalive_timeout=5.0))
        try:
            host, port, *_ = listener.sockets[0].getsockname()
            door.authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            yield publish_control(owner, host, port, token)
        finally:
            withdraw_control(owner)
            listener.close()
    finally:
        await runner.cleanup()


async def _listen(speak: Callable[[], asyncio.Protocol]) -> asyncio.Server:
    for host in LOOPBACKS:
        try:
            return await asyncio.get_running_loop().create_server(speak, host, 0)
        except OSError as reason:
            _log.debug("no loopback port on %s: %s", host, reason)
    raise LocalFailure(Code.ADDRESS_IN_USE, "this machine gives no port on its loopback interface")


class _Door:
    """Who may knock."""

    def __init__(self, token: str, stopping: Callable[[], bool]) -> None:
        self.authority = ""
        self._expected = f"Bearer {token}".encode()
        self._stopping = stopping

    @web.middleware
    async def check(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.headers.get("Host") != self.authority or "Origin" in request.headers:
            raise web.HTTPForbidden(text="foreign\n")
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(given, self._expected):
            raise web.HTTPUnauthorized(text="token\n")
        if self._stopping():
            raise web.HTTPServiceUnavailable(text="stopping\n")
        return await handler(request)


class _Commands:
    """Commands out of a table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": _MEDIA, "Cache-Control": "no-store"})
        response.force_close()
        await response.prepare(request)
        channel = _Answer(response)
        name = request.match_info["name"]
        try:
            await channel.finish(await self._run(name, request, channel))
        except _CallerGone:
            # one that has the kit refuses what a command asks of it, says so where it was typed, and leaves
            _log.info("%s was given up by who called it: they refused what it asked of them, or went away", name)
        return response

    async def _run(self, name: str, request: web.Request, channel: _Answer) -> bytes:
        try:
            return _result_frame(await self._operate(name, request, channel))
        except RelaisError as error:
            return _failure_frame(error)
        except _CallerGone:
            raise
        except Exception:  # noqa: BLE001 — whatever an operation does, the owner goes on
            _log.exception("the command %s failed", name)
            return _failure_frame(
                LocalFailure(Code.INTERNAL, f"the command {name} failed inside the running program; its log says why")
            )

    async def _operate(self, name: str, request: web.Request, channel: _Answer) -> JSON:
        frame, body = await _next_frame(request)
        if frame is not Frame.PARAMS:
            raise PeerFault(Code.MALFORMED, "a command begins with its parameters")
        params = json_of(body)
        if not isinstance(params, dict):
            raise PeerFault(Code.MALFORMED, "a command's parameters are an object")
        operation = self._table.get(name)
        if operation is None:
            raise LocalFailure(Code.INTERNAL, f"the running program does not know the command {name}; start it again")
        return await operation(params, _Input(request), channel)


class _Input:
    """The caller's files as they arrive."""

    def __init__(self, request: web.Request) -> None:
        self._request = request

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        flow = FileFlow()
        while not flow.complete:
            event = event_of(*await _next_frame(self._request))
            flow.take(event)
            yield event


class _Answer:
    """What the caller gets: file events and progress, then one result."""

    def __init__(self, response: web.StreamResponse) -> None:
        self._response = response

    async def start(self, path: str, size: int | None) -> None:
        await self._send(event_bytes(FileStart(path, size)))

    async def data(self, data: bytes) -> None:
        for piece in pieces_of(data):
            await self._send(event_bytes(FileData(piece)))

    async def end(self) -> None:
        await self._send(event_bytes(FileEnd()))

    async def progress(self, text: str) -> None:
        await self._send(frame_bytes(Frame.PROGRESS, _shortened(text.encode(errors="replace"), MAX_PROGRESS_BYTES)))

    async def finish(self, frame: bytes) -> None:
        for piece in pieces_of(frame):
            await self._send(piece)
        with contextlib.suppress(ConnectionError):
            await self._response.write_eof()

    async def _send(self, data: bytes) -> None:
        try:
            await self._response.write(data)
        except ConnectionError as reason:
            raise _CallerGone from reason


async def _next_frame(request: web.Request) -> tuple[Frame, bytes]:
    try:
        return await read_frame(request.content)
    except (EOFError, ConnectionError, aiohttp.ClientError, web.RequestPayloadError) as reason:
        raise _CallerGone from reason


def _result_frame(result: JSON) -> bytes:
    return frame_bytes(Frame.RESULT, json_bytes(result))


def _failure_frame(error: RelaisError) -> bytes:
    return frame_bytes(Frame.FAILURE, json_bytes(failure_of(error)))


def _shortened(line: bytes, size: int) -> bytes:
    return line[:size].decode(errors="ignore").encode()


# --- the caller's side ----------------------------------------------------------------------------------------------


async def forward(
    control: Control,
    name: str,
    params: Params,
    incoming: Incoming,
    outgoing: Outgoing,
    *,
    patience_s: float = ANSWER_PATIENCE_S,
) -> JSON:
    """Have the owner behind `control` run the command; its result. It may take as long as it needs once it was taken.

    Raises the operation's own `RelaisError`; `NotAccepted` if the owner took nothing (then `incoming` is untouched), or
    said nothing in `patience_s`: it hangs, and should it go on, it finds a caller that went away;
    `LocalFailure(INTERNAL)` if it went away before it answered; whatever `incoming` or `outgoing` raise.
    """
    upload = _Upload(params, incoming)
    host = f"[{control.host}]" if ":" in control.host else control.host
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0),
        headers={"Authorization": f"Bearer {control.token}", "Content-Type": _MEDIA},
        trust_env=False,
    ) as session:
        try:
            async with asyncio.timeout(patience_s):
                response = await session.post(
                    f"http://{host}:{control.port}/command/{name}", data=upload.body(), allow_redirects=False
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as reason:
            raise NotAccepted from reason
        async with response:
            if response.status != web.HTTPOk.status_code:
                raise NotAccepted
            upload.accept(response)
            return await _result(response, upload, outgoing)


class _Upload:
    """The request's body. The files wait until the owner has taken the command."""

    def __init__(self, params: Params, incoming: Incoming) -> None:
        self._params = json_bytes(params)
        self._incoming = incoming
        self._accepted = asyncio.Event()
        self._response: aiohttp.ClientResponse | None = None
        self.failure: Exception | None = None

    def accept(self, response: aiohttp.ClientResponse) -> None:
        """Let the files go; `response` is what ends if they cannot."""
        self._response = response
        self._accepted.set()

    async def body(self) -> AsyncIterator[bytes]:
        yield frame_bytes(Frame.PARAMS, self._params)
        await self._accepted.wait()
        try:
            async for event in self._incoming:
                yield event_bytes(event)
        except Exception as error:
            self.failure = error
            if self._response is not None:
                self._response.close()
            raise


async def _result(response: aiohttp.ClientResponse, upload: _Upload, outgoing: Outgoing) -> JSON:
    flow = FileFlow()
    while True:
        try:
            frame, body = await read_frame(response.content)
        except (EOFError, aiohttp.ClientConnectionError, aiohttp.ClientError, OSError) as reason:
            if upload.failure is not None:
                raise upload.failure from None
            raise LocalFailure(
                Code.INTERNAL, "the running program stopped before it answered; give the command again"
            ) from reason
        match frame:
            case Frame.RESULT:
                return json_of(body)
            case Frame.FAILURE:
                raise error_of(json_of(body))
            case Frame.PROGRESS:
                await outgoing.progress(body.decode(errors="replace"))
            case _:
                event = event_of(frame, body)
                flow.take(event)
                await _pass_on(event, outgoing)


async def _pass_on(event: FileEvent, outgoing: Outgoing) -> None:
    match event:
        case FileStart(path, size):
            await outgoing.start(path, size)
        case FileData(data):
            await outgoing.data(data)
        case FileEnd():
            await outgoing.end()
        case Restart() | Complete():
            raise PeerFault(Code.MALFORMED, "the running program's answer cannot be read")
