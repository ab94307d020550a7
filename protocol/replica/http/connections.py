"""The listener, and deadlines for connections, which aiohttp alone keeps for an hour.

A `Guarded` stands between a transport and aiohttp's protocol and passes everything on; what it sees on the way tells
whether the other side is alive. Rules:

- TLS must stand, headers must be whole, and answers must be read, within a time, however often a byte comes;
- connections whose request is not whole, head or body, are few, per address and in all: the one that has kept us
  waiting the longest makes room for the next, so that whoever speaks at once is never kept out by those who are silent.
  Of a body each piece counts anew: a long one that comes is not for that the first to go;
- when there are as many connections as there may be, the one that has been idle the longest makes room, else who has
  kept us waiting for a request, else who has not taken an answer, for the longest;
- who waits for us (for an answer that is being made, or for news) makes room for nobody.

How slowly a body may come is the business of `bodies` and `calls`, silence between requests is aiohttp's.
"""

# ruff: noqa: D102  (`asyncio.Protocol` says what its methods mean)

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeAlias, cast

from aiohttp import web

from protocol.errors import BadInput, Code, LocalFailure, PeerFault, RelaisError
from protocol.limits import (
    MAX_ASKING,
    MAX_ASKING_PER_ADDRESS,
    MAX_CONNECTIONS,
    MAX_REQUEST_FIELDS,
    MAX_REQUEST_LINE_BYTES,
)
from protocol.replica.http.problems import Handler, problem

HEADERS_TIMEOUT_S: Final = 20.0
UNREAD_TIMEOUT_S: Final = 60.0
LEAST_READ_BYTES: Final = 4096
"""Who reads less than this in `UNREAD_TIMEOUT_S` does not read."""
KEEP_ALIVE_S: Final = 75.0
ROUND_S: Final = 5.0
GOODBYE_S: Final = 5.0
PAUSE_S: Final = 0.5
"""How long nobody is let in after the system had no descriptor left."""

_BACKLOG: Final = 512
_NOBODY: Final = "-"
_SPOKEN: Final[Mapping[str, Any]] = {
    "access_log": None,
    "keepalive_timeout": KEEP_ALIVE_S,
    "auto_decompress": False,
    "max_line_size": MAX_REQUEST_LINE_BYTES,
    "max_field_size": MAX_REQUEST_LINE_BYTES,
    "max_headers": MAX_REQUEST_FIELDS,
}
_IPV6_SITE_BITS: Final = 64
_InOrder: TypeAlias = "dict[Guarded, None]"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections there may be: in all; whose request is not whole, in all and of one address.

    `per_address` is None where all connections come from one proxy.
    """

    connections: int = MAX_CONNECTIONS
    asking: int = MAX_ASKING
    per_address: int | None = MAX_ASKING_PER_ADDRESS

    @classmethod
    def within(cls, connections: int, *, are_of_one_proxy: bool) -> Bounds:
        """Those of a listener that may have so many: half of few are for who has asked, whatever others begin."""
        per_address = None if are_of_one_proxy else min(MAX_ASKING_PER_ADDRESS, connections // 3)
        return cls(connections, min(MAX_ASKING, connections // 2), per_address)

    @property
    def for_news(self) -> int:
        """How many of them may wait for news: the others are for calls."""
        return self.connections * 3 // 4


class Guarded(asyncio.Protocol):
    """One connection, from the moment that it was accepted. `busy` while a request is being answered."""

    def __init__(self, inner: asyncio.Protocol, guards: Guards, address: str, now_s: float) -> None:
        self.inner = inner
        self.address = address
        self.greeting: asyncio.Task[None] | None = None
        self._guards = guards
        self._transport: asyncio.Transport | None = None
        self._asking_since_s: float | None = now_s
        self._unread = 0
        self._unread_since_s = now_s
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._guards.remove(self)
        self.inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._busy and self._asking_since_s is None:
            self._asking_since_s = self._guards.now_s()
            self._guards.note_asking(self)
        self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self.inner.eof_received()

    def pause_writing(self) -> None:
        self._guards.note_unread(self)
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self._guards.note_read(self)
        self.inner.resume_writing()

    @contextmanager
    def owing(self) -> Iterator[None]:
        """While this lasts, more of the request is awaited: it is not whole."""
        self._guards.note_asking(self)
        try:
            yield
        finally:
            self._guards.note_asked(self)

    def begin(self) -> None:
        """The headers of a request are whole."""
        self._busy, self._asking_since_s = True, None
        self._guards.note_asked(self)

    def end(self) -> None:
        """The request has been answered; what is left of the answer may still be on its way."""
        self._busy = False
        self._guards.note_idle(self)

    def look(self, now_s: float) -> None:
        """Cut the connection if the other side has kept it waiting for too long."""
        asking_s = 0.0 if self._busy or self._asking_since_s is None else now_s - self._asking_since_s
        if asking_s > HEADERS_TIMEOUT_S or self._is_unread(now_s):
            self.cut()

    def cut(self) -> None:
        """End it, whatever it is doing."""
        if self._transport is not None:
            self._transport.abort()
        elif self.greeting is not None:
            self.greeting.cancel()

    def _is_unread(self, now_s: float) -> bool:
        """Whether an answer lies here and is hardly taken; more than before lies here when much was taken."""
        unread = 0 if self._transport is None else self._transport.get_write_buffer_size()
        if not unread or unread > self._unread or self._unread - unread >= LEAST_READ_BYTES:
            self._unread, self._unread_since_s = unread, now_s
        return now_s - self._unread_since_s > UNREAD_TIMEOUT_S


class Guards:
    """All connections of a listener, looked at in turn."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.now_s = asyncio.get_running_loop().time
        self._bounds = bounds or Bounds()
        self._by_inner: dict[asyncio.Protocol, Guarded] = {}
        # in the order in which they began
        self._asking: _InOrder = {}
        self._asking_of: dict[str, _InOrder] = {}
        self._idle: _InOrder = {}
        self._unread: _InOrder = {}

    def __len__(self) -> int:
        return len(self._by_inner)

    def admit(self, guarded: Guarded) -> bool:
        """A connection has come: whether there is room for it, or could be made."""
        if len(self._by_inner) >= self._bounds.connections:
            longest = self._least_missed()
            if longest is None:
                return False
            self._send_away(longest)
        self._by_inner[guarded.inner] = guarded
        self.note_asking(guarded)
        return True

    def remove(self, guarded: Guarded) -> None:
        """A connection has gone; again is no error."""
        self._by_inner.pop(guarded.inner, None)
        self.note_read(guarded)
        self.note_asked(guarded)

    def note_asking(self, guarded: Guarded) -> None:
        """A request has begun, or is awaited for the first time, or more of its body is."""
        if guarded.inner not in self._by_inner:
            return
        self._idle.pop(guarded, None)
        self._asking[guarded] = None
        same = self._asking_of.setdefault(guarded.address, {})
        same[guarded] = None
        most = self._bounds.per_address
        if most is not None and len(same) > most:
            self._send_away(next(iter(same)))
        if len(self._asking) > self._bounds.asking:
            self._send_away(next(iter(self._asking)))

    def note_asked(self, guarded: Guarded) -> None:
        """The head of a request is whole, or a piece of its body has come."""
        self._idle.pop(guarded, None)
        if guarded in self._asking:
            del self._asking[guarded]
            same = self._asking_of[guarded.address]
            del same[guarded]
            if not same:
                del self._asking_of[guarded.address]

    def note_idle(self, guarded: Guarded) -> None:
        """A request has been answered."""
        if guarded.inner in self._by_inner:
            self._idle[guarded] = None

    def note_unread(self, guarded: Guarded) -> None:
        """Much of an answer lies here, and is not taken."""
        if guarded.inner in self._by_inner:
            self._unread[guarded] = None

    def note_read(self, guarded: Guarded) -> None:
        """Most of what lay here has been taken."""
        self._unread.pop(guarded, None)

    def _least_missed(self) -> Guarded | None:
        """Who has been idle the longest, else who has kept us waiting the longest."""
        return next((first for those in (self._idle, self._asking, self._unread) for first in those), None)

    def _send_away(self, guarded: Guarded) -> None:
        self.remove(guarded)
        guarded.cut()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Tell a connection when its request begins and ends."""
        guarded = self._by_inner.get(request.protocol)
        if guarded is None:
            return await handler(request)
        request[_GUARDED] = guarded
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
            for guarded in list(self._by_inner.values()):
                guarded.look(now_s)


_GUARDED: Final = web.RequestKey("guarded", Guarded)


def awaiting(request: web.Request) -> AbstractContextManager[None]:
    """While this lasts, the other side of a request owes us something: whoever does the longest makes room."""
    guarded = request.get(_GUARDED)
    return nullcontext() if guarded is None else guarded.owing()


class _Speaking(web.RequestHandler):
    """What speaks HTTP on one connection; what is no HTTP gets what every refusal gets, and hears of no library."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer; it ends the connection. Raises `ConnectionError` where one has begun."""
        super().handle_error(request, status, exc, message)
        error: RelaisError = PeerFault(Code.MALFORMED, "what came is no request of HTTP/1.1, or its head is too large")
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            error = LocalFailure(Code.INTERNAL, "something unforeseen happened here; the server's log says more")
        answer = problem(error, status, {"Server": _NOBODY})
        answer.force_close()
        return answer


async def nameless(_request: web.Request, response: web.StreamResponse) -> None:
    """Signal `on_response_prepare`: which program and version answers is nothing to who knocks."""
    response.headers.popall("Server", None)


def speaking(runner: web.AppRunner, **ways: Any) -> Callable[[], asyncio.Protocol]:
    """What speaks HTTP on a connection to an application that `runner` has set up; `ways` are aiohttp's."""
    serve = runner.server
    assert serve is not None  # noqa: S101  (`setup` made it)
    loop = asyncio.get_running_loop()
    return lambda: _Speaking(serve, loop=loop, **ways)


class _Porter:
    """Lets connections in, one after the other, and makes TLS stand on them."""

    def __init__(self, speak: Callable[[], asyncio.Protocol], guards: Guards, tls: ssl.SSLContext | None) -> None:
        self._speak = speak
        self._guards = guards
        self._tls = tls
        self._greetings: set[asyncio.Task[None]] = set()

    async def stand(self, listener: socket.socket) -> None:
        """Let in whoever comes."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, place = await loop.sock_accept(listener)
            except ConnectionError:
                continue
            except OSError:
                # no descriptor is left: some will be, when others go
                await asyncio.sleep(PAUSE_S)
                continue
            guarded = Guarded(self._speak(), self._guards, _whose(place), self._guards.now_s())
            if self._guards.admit(guarded):
                self._greet(guarded, connection)
            else:
                connection.close()
            # many who come at once do not keep the loop from those who are here
            await asyncio.sleep(0)

    async def leave(self) -> None:
        """Nobody more is let in."""
        for greeting in list(self._greetings):
            greeting.cancel()
        await asyncio.gather(*self._greetings, return_exceptions=True)

    def _greet(self, guarded: Guarded, connection: socket.socket) -> None:
        def over(greeting: asyncio.Task[None]) -> None:
            self._greetings.discard(greeting)
            if greeting.cancelled():
                self._guards.remove(guarded)
                connection.close()

        guarded.greeting = asyncio.create_task(self._stand_on(guarded, connection))
        self._greetings.add(guarded.greeting)
        guarded.greeting.add_done_callback(over)

    async def _stand_on(self, guarded: Guarded, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        secured = self._tls is not None
        try:
            await loop.connect_accepted_socket(
                lambda: guarded,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=HEADERS_TIMEOUT_S if secured else None,
                ssl_shutdown_timeout=GOODBYE_S if secured else None,
            )
        except OSError:
            self._guards.remove(guarded)


def _whose(place: object) -> str:
    return whose(str(place[0])) if isinstance(place, tuple) and place else ""


def whose(address: str) -> str:
    """The address that counts for bounds: of IPv6 the site's prefix; what is no address counts as it is written."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _IPV6_SITE_BITS), strict=False).network_address)


@asynccontextmanager
async def listening(
    app: web.Application,
    host: str,
    port: int,
    *,
    grace_s: float,
    tls: ssl.SSLContext | None = None,
    bounds: Bounds | None = None,
) -> AsyncIterator[str]:
    """Serve `app` while the context lasts; its URL. At its end, running requests have `grace_s` seconds.

    Raises `LocalFailure(ADDRESS_IN_USE)`, `BadInput(USAGE)` for an address that this machine does not have.
    """
    guards = Guards(bounds)
    app.middlewares.insert(0, guards.middleware)
    runner = web.AppRunner(app, shutdown_timeout=grace_s)
    await runner.setup()
    patrol = asyncio.create_task(guards.patrol())
    try:
        listener = await _bind(host, port)
        with contextlib.closing(listener):
            listener.setblocking(False)
            porter = _Porter(speaking(runner, **_SPOKEN), guards, tls)
            standing = asyncio.create_task(porter.stand(listener))
            try:
                bound_host, bound_port, *_ = listener.getsockname()
                yield url_of(bound_host, bound_port, "http" if tls is None else "https")
            finally:
                await _end(standing, listener)
                await porter.leave()
    finally:
        patrol.cancel()
        await runner.cleanup()


async def _end(standing: asyncio.Task[None], listener: socket.socket) -> None:
    """Let nobody more in. Who was accepted this very moment comes in first: ended there, asyncio leaves it open."""
    with contextlib.suppress(NotImplementedError):  # Windows closes what was accepted itself
        asyncio.get_running_loop().remove_reader(listener)
    await asyncio.sleep(0)
    standing.cancel()
    await asyncio.gather(standing, return_exceptions=True)


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
