"""The listener, and deadlines for connections, which aiohttp alone keeps for an hour.

A `Guarded` stands between a transport and aiohttp's protocol and passes everything on; what it sees on the way tells
whether the other side is alive: headers must be whole, and answers must be read, within a time. Slow bodies are the
business of `bodies`, silence between requests is aiohttp's.
"""

# ruff: noqa: D102  (`asyncio.Protocol` says what its methods mean)

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

from aiohttp import web

from protocol.errors import BadInput, Code, LocalFailure, RelaisError
from protocol.replica.http.problems import Handler

HEADERS_TIMEOUT_S: Final = 20.0
UNREAD_TIMEOUT_S: Final = 60.0
KEEP_ALIVE_S: Final = 75.0
ROUND_S: Final = 5.0

_BACKLOG: Final = 512


class Guarded(asyncio.Protocol):
    """One connection. `busy` while a request is being answered."""

    def __init__(self, inner: asyncio.Protocol, guards: Guards, now_s: float) -> None:
        self._inner = inner
        self._guards = guards
        self._transport: asyncio.Transport | None = None
        self._asking_since_s: float | None = now_s
        self._unread = 0
        self._unread_since_s = now_s
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._guards.are_full:
            self._transport.abort()
        self._guards.add(self._inner, self)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._guards.remove(self._inner)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._busy and self._asking_since_s is None:
            self._asking_since_s = self._guards.now_s()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def begin(self) -> None:
        """The headers of a request are whole."""
        self._busy, self._asking_since_s = True, None

    def end(self) -> None:
        """The request has been answered; what is left of the answer may still be on its way."""
        self._busy = False

    def look(self, now_s: float) -> None:
        """Cut the connection if the other side has kept it waiting for too long."""
        if self._transport is None:
            return
        unread = self._transport.get_write_buffer_size()
        if unread != self._unread or not unread:
            self._unread, self._unread_since_s = unread, now_s
        asking_s = 0.0 if self._busy or self._asking_since_s is None else now_s - self._asking_since_s
        if asking_s > HEADERS_TIMEOUT_S or now_s - self._unread_since_s > UNREAD_TIMEOUT_S:
            self._transport.abort()


class Guards:
    """All connections of a listener, looked at in turn."""

    def __init__(self, max_connections: int | None = None) -> None:
        self.now_s = asyncio.get_running_loop().time
        self._max_connections = max_connections
        self._guarded: dict[asyncio.Protocol, Guarded] = {}

    @property
    def are_full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return self._max_connections is not None and len(self._guarded) >= self._max_connections

    def add(self, inner: asyncio.Protocol, guarded: Guarded) -> None:
        """A connection has come."""
        self._guarded[inner] = guarded

    def remove(self, inner: asyncio.Protocol) -> None:
        """A connection has gone."""
        self._guarded.pop(inner, None)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Tell a connection when its request begins and ends."""
        guarded = self._guarded.get(request.protocol)
        if guarded is None:
            return await handler(request)
        guarded.begin()
        try:
            return await handler(request)
        finally:
            guarded.end()

    async def patrol(self) -> None:
        """Look at every connection, again and again."""
        while True:
            await asyncio.sleep(ROUND_S)
            now_s = self.now_s()
            for guarded in list(self._guarded.values()):
                guarded.look(now_s)


@asynccontextmanager
async def listening(
    app: web.Application,
    host: str,
    port: int,
    *,
    grace_s: float,
    tls: ssl.SSLContext | None = None,
    max_connections: int | None = None,
) -> AsyncIterator[str]:
    """Serve `app` while the context lasts; its URL. At its end, running requests have `grace_s` seconds.

    Raises `LocalFailure(ADDRESS_IN_USE)`, `BadInput(USAGE)` for an address that this machine does not have.
    """
    guards = Guards(max_connections)
    app.middlewares.insert(0, guards.middleware)
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=KEEP_ALIVE_S,
        shutdown_timeout=grace_s,
        auto_decompress=False,
    )
    await runner.setup()
    patrol = asyncio.create_task(guards.patrol())
    try:
        listener = await _bind(host, port)
        serve = runner.server
        assert serve is not None  # noqa: S101  (`setup` made it)
        server = await asyncio.get_running_loop().create_server(
            lambda: Guarded(serve(), guards, guards.now_s()), sock=listener, backlog=_BACKLOG, ssl=tls
        )
        try:
            bound_host, bound_port, *_ = listener.getsockname()
            yield url_of(bound_host, bound_port, "http" if tls is None else "https")
        finally:
            server.close()
    finally:
        patrol.cancel()
        await runner.cleanup()


def url_of(host: str, port: int, scheme: str = "http") -> str:
    """The URL of an address."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def _bind(host: str, port: int) -> socket.socket:
    """A listening socket on the first address that `host` stands for."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            "127.0.0.1" if host.lower() == "localhost" else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        both = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as reason:
        raise _not_listening(host, port, reason) from reason


def _not_listening(host: str, port: int, reason: OSError) -> RelaisError:
    where = url_of(host, port).removeprefix("http://")
    if reason.errno == errno.EADDRINUSE:
        return LocalFailure(
            Code.ADDRESS_IN_USE, f"another program listens on {where}; end it, or choose another address"
        )
    return BadInput(Code.USAGE, f"this machine cannot listen on {where}: {reason.strerror or reason}")
