"""How bytes reach the server and come back: keep-alive HTTP, few headers, everything counted and bounded.

Rules (R9, R13, R15; docs/protocol.md, "HTTP"):
- a sealed call goes to exactly the address that was given; no redirect is followed, no cookie kept;
- content may come from elsewhere (a cache in front may redirect): its hash decides, not its origin;
- a body is read up to its bound and refused at the first byte too many;
- whatever does not speak this protocol (a captive portal, a proxy's error page, a wrong address) is named for what it
  is, and is never taken for the server's word: only what is sealed is.

The proxies of the environment are used, except towards this machine itself. Proxies that a PAC file or Windows' own
settings name are not.
"""

# ruff: noqa: D102  (the interface says what each method means)

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from protocol.errors import BadInput, Code, NoAnswer, PeerFault, Refused, RelaisError, TooLarge
from protocol.limits import MAX_ANSWER_BYTES, KiB
from protocol.messages import error_from
from protocol.wire import CONTENT_TYPE, LIVE_PATH, OFFSET_HEADER, PACK_TYPE, PACKS_PATH

CONNECT_S: Final = 10.0
READ_IDLE_S: Final = 30.0
SEND_IDLE_S: Final = 60.0
MAX_CONNECTIONS: Final = 4
MAX_RETRY_AFTER_S: Final = 600

_KEEP_ALIVE_S: Final = 60.0
_MAX_NOTICE_BYTES: Final = 64 * KiB
_MAX_REDIRECTS: Final = 3
_FETCH_PIECE_BYTES: Final = 256 * KiB
_SKIPPED_HEADERS: Final = ("Accept", "Accept-Encoding", "User-Agent")
_JSON: Final = "application/json"

_OK: Final = 200
_CREATED: Final = 201
_NO_CONTENT: Final = 204
_PARTIAL: Final = 206
_MAX_LIVE_BYTES: Final = 1024
LIVE_PING_S: Final = 55.0
_LIVE_WAIT: Final = aiohttp.ClientWSTimeout(ws_receive=None, ws_close=5.0)
_REDIRECTS: Final = range(300, 400)
_CONFLICT: Final = 409
_UNAVAILABLE: Final = 503
_PROXY_LOGIN: Final = 407


@dataclass(slots=True)
class Traffic:
    """What went over the wire so far: HTTP bytes with their headers (near enough), and requests that were begun."""

    bytes_in: int = 0
    bytes_out: int = 0
    round_trips: int = 0

    def since(self, earlier: Traffic) -> Traffic:
        """What was added after `earlier` was copied."""
        return Traffic(
            self.bytes_in - earlier.bytes_in,
            self.bytes_out - earlier.bytes_out,
            self.round_trips - earlier.round_trips,
        )

    def copy(self) -> Traffic:
        """The counts as they stand."""
        return replace(self)


@dataclass(frozen=True, slots=True)
class Response:
    """What came back: status, headers by lower-case name, the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """The content type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_ours(self) -> bool:
        """Whether the body is a message of this protocol: sealed, or a chain in clear."""
        return self.media_type == CONTENT_TYPE

    def offset(self) -> int:
        """How many bytes of a pack the server holds. Raises `PeerFault(MALFORMED)`."""
        text = self.headers.get(OFFSET_HEADER.lower(), "")
        if not (text.isascii() and text.isdecimal() and len(text) < 12):  # noqa: PLR2004  (digits of a pack's size)
            raise PeerFault(Code.MALFORMED, "the server does not say how much of a pack it holds")
        return int(text)


class Transport(Protocol):
    """A way to one server. Every method raises `NoAnswer` when nobody answers, or somebody else does."""

    traffic: Traffic

    async def post(self, path: str, body: bytes) -> Response:
        """The answer to a call: a message of this protocol whatever its status, or an unsealed error as JSON."""
        ...

    def fetch(self, capability: str, start: int) -> AsyncGenerator[bytes, None]:
        """The bytes of a pack from `start` on, as they come.

        Raises `PeerFault(BAD_CAPABILITY)` for a link that has expired; a cut is `NoAnswer` after the bytes before it.
        """
        ...

    async def send(self, capability: str, offset: int, length: int, pieces: AsyncIterator[bytes]) -> Response:
        """Send `length` bytes of a pack that begin at `offset`; the answer is 201, 204 or 409.

        Raises `PeerFault` (BAD_CAPABILITY, or what is wrong with the pack), `NoAnswer`, and whatever `pieces` raises.
        """
        ...

    def listen(self, capability: str, *, pushed: bool) -> AsyncGenerator[bool, None]:
        """Yields True whenever the server says that something has moved, False when the line stands or nothing has.

        `pushed` over a WebSocket, else by asking and waiting again and again. Ends when the server closes the line.
        """
        ...

    async def close(self) -> None:
        """Let the connections go."""
        ...


def normal_url(text: str) -> str:
    """The server's address as it is kept: scheme, host, port, path prefix without a slash at the end.

    Without a scheme, a loopback address means http and everything else https. Raises `BadInput(USAGE)`.
    """
    text = text.strip()
    if "://" not in text:
        text = f"{'http' if is_loopback(_host(f'//{text}')) else 'https'}://{text}"
    host = _host(text)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not host or any(c.isspace() for c in text):
        raise _bad_url(text)
    if parts.query or parts.fragment or parts.username is not None or parts.port == 0:
        raise _bad_url(text)
    return urlunsplit((parts.scheme, parts.netloc.lower(), parts.path.rstrip("/"), "", ""))


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(url: str) -> str:
    """The host in `url`, without brackets. Raises `BadInput(USAGE)` for what is no URL, or has no valid port."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _bad_url(url) from None
    return host or ""


def _bad_url(text: str) -> BadInput:
    return BadInput(
        Code.USAGE, f"“{text}” is no address of a server; one looks like https://relais.example.org", url=text
    )


# --- what an answer is when it is not the server's sealed word ------------------------------------------------------


def recognised(response: Response, url: str) -> Response:
    """`response` if this protocol explains it, else the `NoAnswer` that it amounts to."""
    if response.is_ours:
        return response
    if response.status == _UNAVAILABLE:
        raise _busy(response)
    if response.status in _REDIRECTS:
        raise _stranger(url, response, "it redirects elsewhere, as the login page of a public Wi-Fi does")
    if response.media_type != _JSON:
        raise _stranger(url, response, "what answers there is another program, or the login page of a public Wi-Fi")
    return response


def error_in(response: Response, url: str) -> RelaisError:
    """The error that an unsealed answer stands for.

    Anybody on the way can write one, so it never counts as a refusal by the server.
    """
    if response.status == _UNAVAILABLE:
        return _busy(response)
    try:
        error = json.loads(response.body)["error"]
        found = error_from(str(error["code"]), str(error["message"])[:500])
    except (ValueError, TypeError, KeyError, RecursionError):
        return _stranger(url, response, "what answers there is another program")
    if isinstance(found, (Refused, BadInput)):
        return _stranger(url, response, "something on the way refuses the call")
    return found


def _busy(response: Response) -> NoAnswer:
    text = response.headers.get("retry-after", "")
    retry_after_s = int(text) if text.isascii() and text.isdecimal() and len(text) < 8 else None  # noqa: PLR2004
    if retry_after_s is not None:
        retry_after_s = min(retry_after_s, MAX_RETRY_AFTER_S)
    return NoAnswer(
        Code.BUSY, "the server is busy and asks to come back later; the work is kept", retry_after_s=retry_after_s
    )


def _stranger(url: str, response: Response, why: str) -> NoAnswer:
    return NoAnswer(Code.UNREACHABLE, f"no Relais server answers at {url}: {why}", status=response.status)


# --- over HTTP --------------------------------------------------------------------------------------------------------


class HttpTransport:
    """See `Transport`. To be made and used inside one event loop."""

    def __init__(self, url: str) -> None:
        """`url` is what `normal_url` gave."""
        self.url: Final = url
        self.traffic = Traffic()
        self._trust_env = not is_loopback(_host(url))
        self._opened: aiohttp.ClientSession | None = None

    async def post(self, path: str, body: bytes) -> Response:
        self.traffic.round_trips += 1
        with self._named():
            try:
                response = await self._post(path, body)
            except aiohttp.ServerDisconnectedError:
                # The server closed an idle connection at the moment of the call; a call may be repeated.
                response = await self._post(path, body)
        return recognised(response, self.url)

    async def _post(self, path: str, body: bytes) -> Response:
        async with self._session().post(
            self.url + path, data=body, headers={"Content-Type": CONTENT_TYPE}, allow_redirects=False
        ) as answer:
            self._count_out(answer, len(body))
            return await self._whole(answer)

    async def listen(self, capability: str, *, pushed: bool) -> AsyncGenerator[bool, None]:
        headers = {"Authorization": f"Bearer {capability}"}
        address = self.url + LIVE_PATH
        with self._named():
            if pushed:
                async with self._session().ws_connect(
                    address, headers=headers, max_msg_size=_MAX_LIVE_BYTES, heartbeat=LIVE_PING_S, timeout=_LIVE_WAIT
                ) as socket:
                    yield False
                    async for message in socket:
                        if message.type is aiohttp.WSMsgType.TEXT:
                            yield True
                return
            while True:
                async with self._session().get(address, headers=headers, allow_redirects=False) as answer:
                    if answer.status not in (_OK, _NO_CONTENT):
                        raise error_in(recognised(await self._whole(answer), self.url), self.url)
                    await self._whole(answer)
                    yield answer.status == _OK

    async def fetch(self, capability: str, start: int) -> AsyncGenerator[bytes, None]:
        self.traffic.round_trips += 1
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._named():
            async with self._session().get(
                f"{self.url}{PACKS_PATH}/{capability}", headers=headers, max_redirects=_MAX_REDIRECTS
            ) as answer:
                self._count_out(answer, 0)
                if answer.status not in (_OK, _PARTIAL):
                    raise error_in(recognised(await self._whole(answer), self.url), self.url)
                self.traffic.bytes_in += _head_bytes(answer)
                skip = start if answer.status == _OK else 0
                async for piece in answer.content.iter_chunked(_FETCH_PIECE_BYTES):
                    self.traffic.bytes_in += len(piece)
                    if skip < len(piece):
                        yield piece[skip:]
                    skip = max(0, skip - len(piece))

    async def send(self, capability: str, offset: int, length: int, pieces: AsyncIterator[bytes]) -> Response:
        self.traffic.round_trips += 1
        headers = {
            "Authorization": f"Bearer {capability}",
            "Content-Type": PACK_TYPE,
            "Content-Length": str(length),
            OFFSET_HEADER: str(offset),
        }
        loop = asyncio.get_running_loop()
        with self._named():
            async with asyncio.timeout(SEND_IDLE_S) as patience:
                body = _Body(pieces, lambda: patience.reschedule(loop.time() + SEND_IDLE_S))
                try:
                    async with self._session().post(
                        self.url + PACKS_PATH,
                        data=body.sent() if length else b"",
                        headers=headers,
                        allow_redirects=False,
                    ) as answer:
                        self._count_out(answer, body.sent_bytes)
                        response = await self._whole(answer)
                except aiohttp.ClientError:
                    if body.failure is not None:
                        raise body.failure from None
                    raise
        if response.status in (_CREATED, _NO_CONTENT, _CONFLICT):
            return response
        raise error_in(recognised(response, self.url), self.url)

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=_KEEP_ALIVE_S),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_IDLE_S),
                skip_auto_headers=_SKIPPED_HEADERS,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=self._trust_env,
            )
        return self._opened

    async def _whole(self, answer: aiohttp.ClientResponse) -> Response:
        """The response with its body. Raises `TooLarge` for one of ours; of a stranger's only the beginning is read."""
        headers = {name.lower(): value for name, value in answer.headers.items()}
        ours = Response(answer.status, headers, b"").is_ours
        most = MAX_ANSWER_BYTES if ours else _MAX_NOTICE_BYTES
        size = answer.content_length or 0
        body = bytearray()
        while size <= most and (piece := await answer.content.readany()):
            body += piece
            size = max(size, len(body))
        self.traffic.bytes_in += _head_bytes(answer) + len(body)
        if ours and size > most:
            raise TooLarge(Code.TOO_LARGE, "the server's answer is larger than allowed", size=size, max=most)
        return Response(answer.status, headers, bytes(body))

    def _count_out(self, answer: aiohttp.ClientResponse, body_bytes: int) -> None:
        asked = answer.request_info
        line = len(f"{asked.method} {asked.url.raw_path_qs} HTTP/1.1\r\n")
        fields = sum(len(name) + len(value) + 4 for name, value in asked.headers.items())
        self.traffic.bytes_out += line + fields + 2 + body_bytes

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Give what the HTTP library raises the name that a person understands."""
        try:
            yield
        except (aiohttp.ClientError, OSError, TimeoutError) as reason:
            raise unreachable(self.url, reason) from reason


class _Body:
    """A request's body on its way: counts, tells at each piece that it moves, keeps what went wrong in reading it."""

    def __init__(self, pieces: AsyncIterator[bytes], moved: Callable[[], None]) -> None:
        self._pieces = pieces
        self._moved = moved
        self.sent_bytes = 0
        self.failure: Exception | None = None

    async def sent(self) -> AsyncIterator[bytes]:
        """The pieces, each counted when the connection asks for the next."""
        try:
            async for piece in self._pieces:
                self._moved()
                yield piece
                self.sent_bytes += len(piece)
        except Exception as failure:
            self.failure = failure
            raise


def unreachable(url: str, reason: BaseException) -> NoAnswer:
    """What an error of the network means, in one sentence."""
    why = _why(reason)
    return NoAnswer(Code.UNREACHABLE, f"{url} cannot be reached: {why}; the work is kept", reason=repr(reason))


def _why(reason: BaseException) -> str:
    match reason:
        case aiohttp.ClientHttpProxyError(status=status):
            asks = " and asks for a name and a password" if status == _PROXY_LOGIN else f" (status {status})"
            return f"the proxy refuses{asks}"
        case aiohttp.ClientProxyConnectionError():
            return "the proxy that this machine is set to use does not answer"
        case aiohttp.ClientConnectorDNSError():
            return "its name is not known here: is the address right, is this machine online?"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return "no secure connection could be made (a wrong certificate, or a machine in between)"
        case aiohttp.ClientConnectorError(os_error=OSError(errno=errno.ECONNREFUSED)):
            return "the machine is there, but no server answers on it"
        case aiohttp.ConnectionTimeoutError():
            return f"no answer within {CONNECT_S:.0f} s"
        case TimeoutError():
            return "it stopped answering"
        case ConnectionRefusedError():
            return "the machine is there, but nothing answers on it"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | aiohttp.ClientOSError():
            return "the connection was cut" if not isinstance(reason, aiohttp.ClientConnectorError) else "no way there"
        case aiohttp.ClientResponseError():
            return "what answers there does not speak HTTP as it should"
        case _:
            return "the network gives an error"


def _head_bytes(answer: aiohttp.ClientResponse) -> int:
    line = len(f"HTTP/1.1 {answer.status} {answer.reason or ''}\r\n")
    return line + sum(len(name) + len(value) + 4 for name, value in answer.raw_headers) + 2
