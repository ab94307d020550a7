"""The way over HTTP: keep-alive, few headers, everything counted and bounded (R9, R13, R15; docs/protocol.md, "HTTP").

Rules:
- a sealed call goes to exactly the address that was given; no redirect is followed, no cookie kept;
- content may come from elsewhere (a cache in front may redirect): its hash decides, not its origin; but from another
  origin by HTTPS only, where nothing is asked before a certificate holds for it: no server sends the machines of a
  school to the boxes of the school's own network;
- a body is read up to its bound and refused at the first byte too many;
- whatever does not speak this protocol is named for what it is (`answers`, `closer_look`), and never taken for the
  server's word;
- nothing waits for ever: connecting, the head of an answer, silence and crawling each have their bound, and what was
  cut is gone on with; bytes that lead to no head, and to nothing of a body, are silence;
- the way is that of `network.route`: proxies in order, then the direct way;
- who vouches is `network.trust`'s, unless the server shows its own certificate (`network.own_certificate`).
"""

# ruff: noqa: D102  (the interface says what each method means)

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from protocol.errors import Code, NoAnswer, RelaisError, TooLarge
from protocol.limits import MAX_ANSWER_BYTES, KiB
from protocol.messages.wire import CONTENT_TYPE, LIVE_PATH, LIVENESS_PATH, OFFSET_HEADER, PACK_TYPE, PACKS_PATH
from protocol.replica.http.library import aiohttp
from sync_agent.network.early import Early, alert_socket
from sync_agent.network.names import SteadyResolver
from sync_agent.network.proxies import Proxy
from sync_agent.network.route import Route
from sync_agent.network.settings import Network
from sync_agent.network.trouble import Seen, Trouble, no_answer, seen_in
from sync_agent.transport.answers import Response, error_in, recognised
from sync_agent.transport.closer_look import NETWORK_ERRORS, CloserLook
from sync_agent.transport.connections import Connections
from sync_agent.transport.http_parts import (
    SENT_AT_ONCE_BYTES,
    RangeSize,
    SentBody,
    asked_bytes,
    crawls,
    cut_up,
    first_byte,
    further,
    head_bytes,
    login_at,
    range_from,
    total_bytes,
)
from sync_agent.transport.interface import Traffic
from sync_agent.transport.own_certificate import AnotherServerError, OwnCertificateContext
from sync_agent.transport.server_chain import IsOurs, KnownServers, Knows

CONNECT_S: Final = 10.0
CONNECT_THROUGH_S: Final = 25.0
READ_IDLE_S: Final = 30.0
SEND_IDLE_S: Final = 60.0
HEAD_S: Final = 60.0
"""Until the head of an answer is whole, connecting included."""
MAX_CONNECTIONS: Final = 8
LIVE_PING_S: Final = 15.0
LIVE_PROOF_S: Final = 10.0
LIVE_PONG_PAUSE_S: Final = 0.05
LIVE_SLOWEST_S: Final = 1.0
HASTY_POLLS: Final = 3
"""After so many quick answers in a row there is a pause before each question; what moves meanwhile is kept."""
MAX_HASTY_POLLS: Final = 30
"""More than that is no news but a cache on the way, which gives an old answer again and again."""

_KEEP_ALIVE_S: Final = 60.0
_MAX_NOTICE_BYTES: Final = 64 * KiB
_MAX_REDIRECTS: Final = 3
_FETCH_PIECE_BYTES: Final = 64 * KiB
"""Small enough to be memory that is there already (`protocol.replica.process.native_memory`)."""
_SKIPPED_HEADERS: Final = ("Accept", "Accept-Encoding", "User-Agent")

_OK: Final = 200
_CREATED: Final = 201
_NO_CONTENT: Final = 204
_PARTIAL: Final = 206
_BEYOND: Final = 416
_MAX_LIVE_BYTES: Final = 1024
_LIVE_WAIT: Final = aiohttp.ClientWSTimeout(ws_receive=None, ws_close=5.0)
_CONFLICT: Final = 409
_BY_ANOTHER_WAY: Final = frozenset({Trouble.PROXY_GONE, Trouble.PROXY_KIND})
_MISLED: Final = frozenset({Trouble.SIGN_IN, Trouble.STRANGER, Trouble.PLAIN, Trouble.CERTIFICATE, Trouble.INSPECTED})


T = TypeVar("T")


def _ignored(_socket: aiohttp.ClientWebSocketResponse) -> None:
    """Nobody speaks over it."""


class HttpTransport:
    """See `Transport`. To be made and used inside one event loop."""

    def __init__(
        self,
        url: str,
        network: Network | None = None,
        *,
        resolver: Callable[[], aiohttp.abc.AbstractResolver] | None = None,
        early: Early | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`url` is what `normal_url` gave; `resolver` looks names up instead of the system; `early` began the way.

        `monotonic` is in seconds.
        """
        self.url: Final = url
        self.traffic = Traffic()
        self._network = network or Network()
        self._early = early
        self.route: Final = (
            Route(url, self._network.wish, self._network.read_system, monotonic) if early is None else early.route
        )
        self._proxy: Proxy | None = None
        self._names: Final = SteadyResolver(resolver or aiohttp.ThreadedResolver, monotonic)
        self._monotonic: Final = monotonic
        self._connections: Final = Connections(self._open, monotonic, self._known)
        self._answers: Final[set[aiohttp.ClientResponse]] = set()
        """Those that are being read."""
        self._range_size: Final = RangeSize()
        self._ignores_ranges = False
        self._look: Final = CloserLook(url, self._network.leads_out, self._page)
        self._is_ours: IsOurs | None = None
        self._knows: Knows | None = None
        self._asks_authorities = False

    def hold_to(self, is_ours: IsOurs, knows: Knows | None = None) -> None:
        self._is_ours, self._knows = is_ours, knows

    async def post(self, path: str, body: bytes) -> Response:
        self.traffic.round_trips += 1
        before: NoAnswer | None = None
        for proxy in await self.route.choices():
            try:
                response = await self._post_by(proxy, path, body)
            except NoAnswer as error:
                before = before or error
                seen = seen_in(error)
                if seen is not None and seen.trouble in _BY_ANOTHER_WAY and not self.route.is_by_hand:
                    continue
                self._doubt(misled=seen is not None and seen.trouble in _MISLED)
                raise
            except RelaisError:
                # it speaks as a server does, and is another territory's, or a liar
                self._doubt(misled=True)
                raise
            self._proxy = proxy
            self._look.was_answered = True
            self.route.worked(proxy)
            self._names.trust()
            return response
        self._doubt(misled=False)
        raise before or no_answer(self.url, Seen(Trouble.OTHER))

    async def listen(self, capability: str, *, pushed: bool) -> AsyncGenerator[bool, None]:
        headers = {"Authorization": f"Bearer {capability}"}
        lines: AsyncGenerator[str | bool, None] = self._pushed(headers) if pushed else self._polled(headers)
        async with contextlib.aclosing(self._explaining(lines)) as line:
            async for said in line:
                yield bool(said)

    async def _explaining(self, lines: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """What is heard over a line; what ends it is said as what it means."""
        try:
            async for said in lines:
                yield said
        except NETWORK_ERRORS as reason:
            if isinstance(reason, TimeoutError):
                # The line went silent: connections that stood beside it are as dead.
                await self.renew()
            raise await self._look.explained(reason, self._proxy) from reason
        finally:
            await lines.aclose()

    async def fetch(self, capability: str, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
        self.traffic.round_trips += 1
        address = f"{self.url}{PACKS_PATH}/{capability}"
        end = None if length is None else start + length
        total = end
        while total is None or start < total:
            most, begun_at, begun_s = self._range_size.most, start, asyncio.get_running_loop().time()
            if end is not None:
                most = min(end - start, most or end - start)
            try:
                ranged = range_from(start, most)
                async with self._followed(address, ranged) as answer:
                    if answer.status == _BEYOND and start:
                        return
                    if answer.status not in (_OK, _PARTIAL):
                        raise error_in(recognised(await self._whole(answer), self.url, self._proxy), self.url)
                    self.traffic.bytes_in += head_bytes(answer)
                    whole = most is None or answer.status == _OK
                    if ranged and answer.status == _OK:
                        self._ignores_ranges = True
                    total = end if end is not None else None if whole else total_bytes(answer)
                    skip = start - first_byte(answer)
                    if skip < 0:
                        raise no_answer(self.url, Seen(Trouble.ALTERED))
                    async for piece in self._pieces(answer):
                        wanted = piece[skip : None if end is None else skip + end - start]
                        skip = max(0, skip - len(piece))
                        start += len(wanted)
                        if wanted:
                            yield wanted
                        if start == end:
                            break
            except NETWORK_ERRORS as reason:
                if isinstance(reason, TimeoutError) and start == begun_at:
                    self._range_size.shorten()
                raise await self._look.explained(reason, self._proxy) from reason
            if whole:
                return
            if start == begun_at:
                return
            if asyncio.get_running_loop().time() - begun_s < READ_IDLE_S / 4:
                self._range_size.lengthen()

    async def send(self, capability: str, offset: int, length: int, pieces: AsyncIterator[bytes]) -> Response:
        self.traffic.round_trips += 1
        headers = {
            "Authorization": f"Bearer {capability}",
            "Content-Type": PACK_TYPE,
            "Content-Length": str(length),
            OFFSET_HEADER: str(offset),
        }
        body = SentBody(pieces, SEND_IDLE_S)
        try:
            async with asyncio.timeout(SEND_IDLE_S) as patience:
                data = body.sent(patience) if length else b""
                asked = self._asked_by(self._proxy, "post", self.url + PACKS_PATH, data=data, headers=headers)
                async with asked as answer:
                    patience.reschedule(None)
                    self.traffic.bytes_out += asked_bytes(answer) + body.sent_bytes
                    response = await self._whole(answer)
        except NETWORK_ERRORS as reason:
            if body.failure is not None:
                raise body.failure from None
            raise await self._look.explained(reason, self._proxy) from reason
        if response.status in (_CREATED, _NO_CONTENT, _CONFLICT):
            return response
        raise error_in(recognised(response, self.url, self._proxy), self.url)

    async def delay_s(self) -> float:
        """How long a small question takes, there and back. Raises `NoAnswer`."""
        clock = asyncio.get_running_loop().time
        begun_s = clock()
        try:
            async with self._got(self.url + LIVENESS_PATH) as answer:
                took_s = clock() - begun_s
                await self._whole(answer)
        except NETWORK_ERRORS as reason:
            raise no_answer(self.url, Seen(Trouble.OTHER)) from reason
        return took_s

    def takes_parts(self) -> bool:
        """False once a range that was asked for has come as the whole, until the network is another."""
        return not self._ignores_ranges

    async def renew(self) -> None:
        self._doubt(misled=False)
        self._ignores_ranges = False
        await self.close()

    async def close(self) -> None:
        # the library forgets who reads from a connection that it closes: they would wait for ever
        for answer in self._answers:
            answer.content.set_exception(aiohttp.ClientConnectionError("this connection was given up"))
        await self._connections.close()
        await self._names.close()
        early, self._early = self._early, None
        if early is not None:
            await early.close()

    # --- one request --------------------------------------------------------------------------------------------------

    async def _post_by(self, proxy: Proxy | None, path: str, body: bytes) -> Response:
        if proxy is not None and not proxy.is_spoken:
            raise no_answer(self.url, Seen(Trouble.PROXY_KIND, proxy.url))
        try:
            response = await self._post_trusting(proxy, path, body)
        except NETWORK_ERRORS as reason:
            raise await self._look.explained(reason, proxy) from reason
        return recognised(response, self.url, proxy)

    async def _post_trusting(self, proxy: Proxy | None, path: str, body: bytes) -> Response:
        """A server shows its own certificate, or one that the system's authorities judge: what held last goes first."""
        if self._is_ours is None:
            return await self._post_twice(proxy, path, body)
        before = self._asks_authorities
        try:
            return await self._post_twice(proxy, path, body)
        except aiohttp.ClientConnectorCertificateError as reason:
            self._refuse_others(reason)
            first = reason
        await self._judge(by_authorities=not before)
        try:
            return await self._post_twice(proxy, path, body)
        except aiohttp.ClientConnectorCertificateError as reason:
            self._refuse_others(reason)
            by_authorities = first if before else reason
            await self._judge(by_authorities=before)
            raise by_authorities from None

    def _refuse_others(self, reason: aiohttp.ClientConnectorCertificateError) -> None:
        if isinstance(reason.certificate_error, AnotherServerError):
            raise reason.certificate_error.refusal(self.url) from reason

    async def _judge(self, *, by_authorities: bool) -> None:
        """The next connection is judged so. Of calls that failed together, the first has changed it for all."""
        if self._asks_authorities != by_authorities:
            self._asks_authorities = by_authorities
            await self.close()

    async def _post_twice(self, proxy: Proxy | None, path: str, body: bytes) -> Response:
        try:
            return await self._post(proxy, path, body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as reason:
            # The server closed an idle connection at the moment of the call; a call may be repeated.
            if isinstance(reason, aiohttp.ClientConnectorError):
                raise
            return await self._post(proxy, path, body)

    async def _post(self, proxy: Proxy | None, path: str, body: bytes) -> Response:
        headers = {"Content-Type": CONTENT_TYPE, "Content-Length": str(len(body))}
        async with asyncio.timeout(SEND_IDLE_S) as patience:
            small = len(body) <= SENT_AT_ONCE_BYTES
            data = body if small else SentBody(cut_up(body), SEND_IDLE_S).sent(patience)
            async with self._asked_by(proxy, "post", self.url + path, data=data, headers=headers) as answer:
                patience.reschedule(None)
                self.traffic.bytes_out += asked_bytes(answer) + len(body)
                return await self._whole(answer)

    @contextlib.asynccontextmanager
    async def _got(self, address: str, headers: dict[str, str] | None = None) -> AsyncIterator[aiohttp.ClientResponse]:
        """A GET by the way that the last call went, whose head comes within a time."""
        async with (
            asyncio.timeout(HEAD_S) as patience,
            self._asked_by(self._proxy, "get", address, headers=headers) as answer,
        ):
            patience.reschedule(None)
            yield answer

    async def _page(self, address: str, proxy: Proxy | None) -> Response:
        """What anybody shows at an address."""
        async with self._asked_by(proxy, "get", address) as answer:
            return await self._whole(answer)

    @contextlib.asynccontextmanager
    async def _asked_by(
        self, proxy: Proxy | None, method: str, address: str, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A request; the caller has an eye on the time until its answer begins."""
        async with (
            self._connections.for_one_request() as session,
            session.request(
                method,
                address,
                allow_redirects=False,
                proxy=None if proxy is None else proxy.url,
                proxy_headers=login_at(proxy),
                **options,
            ) as answer,
        ):
            with self._reading(answer):
                yield answer

    @contextlib.contextmanager
    def _awaiting(self) -> Iterator[None]:
        """While the other side is to send something."""
        self.traffic.waits += 1
        try:
            yield
        finally:
            self.traffic.waits -= 1

    @contextlib.contextmanager
    def _reading(self, answer: aiohttp.ClientResponse) -> Iterator[None]:
        """While an answer is read: it ends when the connections are given up."""
        self._answers.add(answer)
        try:
            yield
        finally:
            self._answers.discard(answer)

    @contextlib.asynccontextmanager
    async def _followed(self, address: str, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """A GET, and where it leads: a few steps on."""
        for left in range(_MAX_REDIRECTS, -1, -1):
            async with contextlib.AsyncExitStack() as stack:
                with self._awaiting():
                    answer = await stack.enter_async_context(self._got(address, headers))
                onward = further(self.url, address, answer) if left else None
                if onward is None:
                    yield answer
                    return
                address = onward

    async def _known(self) -> KnownServers | None:
        return None if self._knows is None else await self._knows()

    async def _open(self, known: KnownServers | None) -> aiohttp.ClientSession:
        context = await self._trust(known) if urlsplit(self.url).scheme == "https" else None
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=MAX_CONNECTIONS,
                keepalive_timeout=_KEEP_ALIVE_S,
                ssl=True if context is None else context,
                resolver=self._names,
                use_dns_cache=False,
                socket_factory=self._socket,
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=CONNECT_THROUGH_S, sock_connect=CONNECT_S, sock_read=READ_IDLE_S
            ),
            skip_auto_headers=_SKIPPED_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    def _socket(self, place: Any) -> socket.socket:
        """The connection that was begun to this place, or else a new one."""
        begun = None if self._early is None else self._early.take(place)
        return alert_socket(place) if begun is None else begun

    async def _trust(self, known: KnownServers | None) -> ssl.SSLContext:
        if self._is_ours is None or self._asks_authorities:
            return await asyncio.to_thread(self._network.trusting)
        return OwnCertificateContext(self._is_ours, known)

    # --- listening ----------------------------------------------------------------------------------------------------

    async def _pushed(
        self, headers: dict[str, str], opened: Callable[[aiohttp.ClientWebSocketResponse], None] = _ignored
    ) -> AsyncGenerator[str, None]:
        """The texts that come over a WebSocket; before them none at all, once it stands.

        It stands once something has come back over it: a box on the way may hold all frames.
        """
        proxy = self._proxy
        async with (
            self._connections.for_one_request() as session,
            asyncio.timeout(HEAD_S) as patience,
            session.ws_connect(
                self.url + LIVE_PATH,
                headers=headers,
                max_msg_size=_MAX_LIVE_BYTES,
                heartbeat=LIVE_PING_S,
                timeout=_LIVE_WAIT,
                autoping=False,
                proxy=None if proxy is None else proxy.url,
                proxy_headers=login_at(proxy),
            ) as socket,
        ):
            patience.reschedule(None)
            opened(socket)
            await socket.ping()
            message = await socket.receive(LIVE_PROOF_S)
            stands = False
            while message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG):
                if message.type is aiohttp.WSMsgType.PING:
                    await socket.pong(message.data)
                    await asyncio.sleep(LIVE_PONG_PAUSE_S)
                elif not stands:
                    stands = True
                    yield ""
                if message.type is aiohttp.WSMsgType.TEXT:
                    yield message.data or " "
                message = await socket.receive(None if stands else LIVE_PROOF_S)
            if message.type is aiohttp.WSMsgType.ERROR and stands:
                raise TimeoutError

    async def _polled(self, headers: dict[str, str]) -> AsyncGenerator[bool, None]:
        """Ask and wait, again and again; an answer from a cache on the way is none."""
        clock = asyncio.get_running_loop().time
        hasty = 0
        while True:
            begun_s = clock()
            async with self._got(self.url + LIVE_PATH, {**headers, "Cache-Control": "no-store"}) as answer:
                response = await self._whole(answer)
            if answer.status not in (_OK, _NO_CONTENT):
                raise error_in(recognised(response, self.url, self._proxy), self.url)
            hasty = hasty + 1 if answer.status == _OK and clock() - begun_s < LIVE_SLOWEST_S else 0
            if hasty > MAX_HASTY_POLLS or "age" in response.headers:
                raise no_answer(self.url, Seen(Trouble.ALTERED))
            yield answer.status == _OK
            if hasty > HASTY_POLLS:
                await asyncio.sleep(LIVE_SLOWEST_S)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _whole(self, answer: aiohttp.ClientResponse) -> Response:
        """The response with its body. Raises `TooLarge` for one of ours; of a stranger's only the beginning is read."""
        headers: dict[str, str] = {}
        for name, value in answer.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        ours = Response(answer.status, headers, b"?").is_ours
        most = MAX_ANSWER_BYTES if ours else _MAX_NOTICE_BYTES
        size = answer.content_length or 0
        body = bytearray()
        self.traffic.bytes_in += head_bytes(answer)
        pieces = self._pieces(answer)
        try:
            while size <= most and (piece := await anext(pieces, b"")):
                body += piece
                size = max(size, len(body))
        finally:
            await pieces.aclose()
        if ours and size > most:
            raise TooLarge(Code.TOO_LARGE, "the server's answer is larger than allowed", size=size, max=most)
        return Response(answer.status, headers, bytes(body))

    async def _pieces(self, answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        """A body as it comes, counted. Raises `TimeoutError` when it only crawls; whoever takes it may be slow."""
        clock = self._monotonic
        waited_s = 0.0
        moved = 0
        while True:
            begun_s = clock()
            with self._awaiting():
                async with asyncio.timeout(READ_IDLE_S):
                    piece = await answer.content.read(_FETCH_PIECE_BYTES)
            waited_s += clock() - begun_s
            if not piece:
                return
            moved += len(piece)
            self.traffic.bytes_in += len(piece)
            if crawls(waited_s, moved, READ_IDLE_S):
                raise TimeoutError
            yield piece

    # --- when it fails ------------------------------------------------------------------------------------------------

    def _doubt(self, *, misled: bool) -> None:
        """The next call decides anew which way to go, and what the server's name means."""
        self.route.failed()
        if misled:
            self._names.doubt()
        else:
            self._names.ask_anew()
