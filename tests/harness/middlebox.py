"""Boxes on the way that understand HTTP: a captive portal, a filter, a cache, and a school's forward proxy.

It speaks just enough HTTP/1.1 for two well-behaved ends: bodies with a length, chunked answers, upgrades.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

from tests.harness.line import dial
from tests.harness.weather_kinds import Portal, Sockets, Weather

PORTAL_HOST = "wifi.ecole.test"
PORTAL_PAGE = b"<!doctype html><title>Wi-Fi gratuit</title><form>Identifiez-vous</form>"
_BLOCKED_PAGE = b"<!doctype html><title>Web filter</title>This category is blocked."
_MAX_HEAD_BYTES = 65_536
_PIECE_BYTES = 65_536

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Head:
    """A request's or an answer's first line and headers."""

    first: tuple[str, str, str]
    headers: list[tuple[str, str]]

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def without(self, *names: str) -> list[tuple[str, str]]:
        away = {name.lower() for name in names}
        return [(key, value) for key, value in self.headers if key.lower() not in away]

    def bytes(self) -> bytes:
        lines = [" ".join(self.first), *(f"{key}: {value}" for key, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclass
class Middlebox:
    """Behaves as `weather()` says. `target` is the server's port; `names` leads names, as its own DNS, to ports."""

    weather: Callable[[], Weather]
    target: int
    names: Mapping[tuple[str, int], int] = field(default_factory=dict)
    target_host: str = "127.0.0.1"
    inspector: Callable[[str], ssl.SSLContext] | None = None

    def __post_init__(self) -> None:
        self.seen: list[str] = []
        self._cache: dict[tuple[str, str], bytes] = {}
        self._running: set[asyncio.Task[object]] = set()

    async def front(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Stand in front of the server."""
        await self._serve(reader, writer, as_proxy=False)

    async def proxy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be the proxy that machines are set to use."""
        await self._serve(reader, writer, as_proxy=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, as_proxy: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            while await self._one(reader, writer, as_proxy=as_proxy):
                pass
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, as_proxy: bool) -> bool:
        """One request and its answer; whether the connection stays."""
        head = await _head(reader)
        if head is None:
            return False
        method, target, version = head.first
        self.seen.append(f"{method} {target}")
        weather = self.weather()
        if as_proxy and weather.login is not None and not _signed_in(head, weather):
            return await _say(
                reader, writer, head, 407, b"sign in", [("Proxy-Authenticate", s) for s in _asks(weather)]
            )
        if method == "CONNECT":
            return await self._tunnel(reader, writer, target, weather)
        port, host = self.target, self.target_host
        if as_proxy:
            url = urlsplit(target)
            named = (url.hostname or "", url.port or 80)
            if named not in self.names:
                return await _say(reader, writer, head, 502, b"no such host")
            port, host = self.names[named], "127.0.0.1"
            head = Head((method, url.path or "/", version), head.without("Proxy-Authorization", "Proxy-Connection"))
        page = _instead(weather)
        if page is not None:
            return await _say(reader, writer, head, *page)
        return await self._forward(reader, writer, head, weather, (host, port))

    # --- tunnels ------------------------------------------------------------------------------------------------------

    async def _tunnel(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str, weather: Weather
    ) -> bool:
        host, _, port = authority.rpartition(":")
        there = self.names.get((host.strip("[]"), int(port)))
        if there is None or weather.refuses_connect is not None:
            status = HTTPStatus(weather.refuses_connect or HTTPStatus.BAD_GATEWAY)
            there_instead = f"Location: http://{PORTAL_HOST}/login\r\n" if status == HTTPStatus.FOUND else ""
            ending = f"{there_instead}Content-Length: 0\r\nConnection: close\r\n\r\n"
            writer.write(f"HTTP/1.1 {status} {status.phrase}\r\n{ending}".encode())
            await writer.drain()
            return False
        if weather.inspects and self.inspector is not None:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.drain()
            await writer.start_tls(self.inspector(host.strip("[]")))
            while await self._one(reader, writer, as_proxy=False):
                pass
            return False
        far = await dial("127.0.0.1", there)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await _join((reader, writer), far)
        return False

    # --- requests -----------------------------------------------------------------------------------------------------

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        head: Head,
        weather: Weather,
        server: tuple[str, int],
    ) -> bool:
        upgrade = head.get("Upgrade") is not None
        if upgrade and weather.sockets is Sockets.REFUSED:
            return await _say(reader, writer, head, 403, b"WebSockets are not allowed here")
        key = (head.first[0], head.first[1])
        if weather.caches and key in self._cache:
            await reader.readexactly(int(head.get("Content-Length") or 0))
            writer.write(self._cache[key])
            await writer.drain()
            return True
        far_reader, far_writer = await dial(*server)
        try:
            kept = head.without(*weather.strips, *(() if upgrade else ("Connection",)))
            asked = kept if upgrade else [*kept, ("Connection", "close")]
            far_writer.write(Head(head.first, asked).bytes())
            sending = asyncio.create_task(_copy(reader, far_writer, int(head.get("Content-Length") or 0)))
            try:
                answer = await _first_answer(far_reader, sending)
                if answer is None:
                    return False
                if answer.first[1] == "101":
                    await sending
                    writer.write(answer.bytes())
                    await writer.drain()
                    await _join_socket((reader, writer), (far_reader, far_writer), weather.sockets)
                    return False
                whole = weather.holds or weather.rewrites or weather.caches
                return await self._answer(writer, far_reader, answer, weather, key if whole else None) and (
                    sending.done()
                )
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        finally:
            far_writer.transport.abort()

    async def _answer(
        self,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        answer: Head,
        weather: Weather,
        whole: tuple[str, str] | None,
    ) -> bool:
        """Pass an answer on; with `whole`, only once all of it is here."""
        answer.headers = answer.without("Connection", *weather.strips)
        length = answer.get("Content-Length")
        if answer.first[1] in ("204", "304"):
            length = "0"
        if whole is None:
            if length is None:
                answer.headers.append(("Connection", "close"))
            writer.write(answer.bytes())
            await _copy(far_reader, writer, None if length is None else int(length))
            return length is not None
        body = await far_reader.read(-1) if length is None else await far_reader.readexactly(int(length))
        if weather.scans_per_s is not None:
            await asyncio.sleep(len(body) / weather.scans_per_s)
        if weather.rewrites and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if answer.get("Transfer-Encoding") is None:
            answer.headers = [*answer.without("Content-Length"), ("Content-Length", str(len(body)))]
        if weather.caches:
            answer.headers.append(("Age", "60"))
        text = answer.bytes() + body
        if weather.caches:
            self._cache[whole] = text
        writer.write(text)
        await writer.drain()
        return True


def _signed_in(head: Head, weather: Weather) -> bool:
    given = (head.get("Proxy-Authorization") or "").removeprefix("Basic ")
    return "Basic" in weather.schemes and base64.b64decode(given).decode() == weather.login


def _asks(weather: Weather) -> list[str]:
    return [f'{scheme} realm="school"' if scheme in ("Basic", "Digest") else scheme for scheme in weather.schemes]


def _instead(weather: Weather) -> tuple[int, bytes, list[tuple[str, str]]] | None:
    """What is answered in the server's place."""
    html = ("Content-Type", "text/html")
    match weather.portal:
        case Portal.REDIRECT:
            return 302, b"", [("Location", f"http://{PORTAL_HOST}/login")]
        case Portal.PAGE:
            return 200, PORTAL_PAGE, [html]
        case Portal.STATUS_511:
            return 511, PORTAL_PAGE, [html]
    return (403, _BLOCKED_PAGE, [html]) if weather.blocks else None


async def _head(reader: asyncio.StreamReader) -> Head | None:
    try:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = text.split("\r\n")[:-2]
    one, two, three = (*first.split(" ", 2), "", "")[:3]
    return Head((one, two, three), [(k, v.strip()) for k, _, v in (line.partition(":") for line in lines)])


async def _first_answer(far_reader: asyncio.StreamReader, sending: asyncio.Task[None]) -> Head | None:
    """The head of the answer, which may come before the request has been sent; None if the asker goes away first."""
    reading = asyncio.create_task(_head(far_reader))
    try:
        await asyncio.wait((reading, sending), return_when=asyncio.FIRST_COMPLETED)
        if sending.done() and sending.exception() is not None:
            return None
        return await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _say(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    head: Head,
    status: int,
    body: bytes,
    headers: list[tuple[str, str]] | None = None,
) -> bool:
    """Answer in the server's place."""
    await reader.readexactly(int(head.get("Content-Length") or 0))
    answer = Head(
        ("HTTP/1.1", str(status), "X"),
        [("Content-Length", str(len(body))), ("Connection", "close"), *(headers or [])],
    )
    writer.write(answer.bytes() + body)
    await writer.drain()
    return False


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int | None) -> None:
    left = length
    while left is None or left:
        data = await reader.read(_PIECE_BYTES if left is None else min(left, _PIECE_BYTES))
        if not data:
            if left is None:
                return
            raise EOFError
        left = None if left is None else left - len(data)
        writer.write(data)
        await writer.drain()


async def _join(near: Ends, far: Ends) -> None:
    """Copy both ways until one end closes."""
    copies = [asyncio.create_task(_copy(near[0], far[1], None)), asyncio.create_task(_copy(far[0], near[1], None))]
    try:
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    finally:
        far[1].transport.abort()
        for copy in copies:
            copy.cancel()
        await asyncio.gather(*copies, return_exceptions=True)


async def _join_socket(near: Ends, far: Ends, sockets: Sockets) -> None:
    """A WebSocket that stands, as a box of this kind lets it."""
    if sockets is Sockets.PASS:
        await _join(near, far)
    elif sockets is Sockets.HELD:
        await near[0].read(-1)
    else:
        await near[0].read(1)
