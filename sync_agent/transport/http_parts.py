"""What requests and answers over HTTP say of themselves: ranges, redirects, sizes; a body on its way (R13, R15).

Rules (docs/protocol.md, "HTTP"):
- content may be led elsewhere by HTTPS only, where nothing is asked before a certificate holds for it;
- what was asked for may be ignored, or cut otherwise, on the way: what an answer says that it brings counts;
- a box that holds content until all of it is there looks like a line that stands still, and is asked for less;
- what comes at less than `SLOWEST_BYTES_PER_S` is given up, and after an hour what comes at less than ten times that:
  who answers keeps nobody for longer than a day by one answer, and no line that schools have is as slow (ADR 0229).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urljoin, urlsplit

from protocol.limits import KiB, MiB
from protocol.replica.http.library import aiohttp
from sync_agent.network.proxies import Proxy

SENT_AT_ONCE_BYTES: Final = 64 * KiB
SLOWEST_BYTES_PER_S: Final = 100
SLOWEST_FOR_LONG_BYTES_PER_S: Final = 1000
FOR_LONG_S: Final = 3600.0

_FIRST_RANGE_BYTES: Final = MiB
_LEAST_RANGE_BYTES: Final = 64 * KiB
_MOST_RANGE_BYTES: Final = 32 * MiB
_MAX_DIGITS: Final = 11
_WHOLE: Final = 200
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class SentBody:
    """A request's body on its way: counted; what went wrong in reading it is kept."""

    def __init__(self, pieces: AsyncIterator[bytes], idle_s: float) -> None:
        self._pieces = pieces
        self._idle_s = idle_s
        self.sent_bytes = 0
        self.failure: Exception | None = None

    async def sent(self, patience: asyncio.Timeout) -> AsyncIterator[bytes]:
        """The pieces. `patience` runs while the connection has one to send, not while one is being read."""
        clock = asyncio.get_running_loop().time
        try:
            async for piece in self._pieces:
                patience.reschedule(clock() + self._idle_s)
                yield piece
                self.sent_bytes += len(piece)
                patience.reschedule(None)
            patience.reschedule(clock() + self._idle_s)
        except Exception as failure:
            self.failure = failure
            raise


class RangeSize:
    """How much is asked for at once: all there is, unless the line stood still over that."""

    def __init__(self) -> None:
        self.most: int | None = None

    def shorten(self) -> None:
        """The line stood still, and nothing came."""
        self.most = _FIRST_RANGE_BYTES if self.most is None else max(_LEAST_RANGE_BYTES, self.most // 4)

    def lengthen(self) -> None:
        """What was asked for came quickly."""
        if self.most is not None:
            self.most = 2 * self.most if self.most < _MOST_RANGE_BYTES else None


async def cut_up(body: bytes) -> AsyncIterator[bytes]:
    """A body in pieces."""
    for start in range(0, len(body), SENT_AT_ONCE_BYTES):
        yield body[start : start + SENT_AT_ONCE_BYTES]


def crawls(waited_s: float, moved_bytes: int, idle_s: float) -> bool:
    """Whether a body is given up of which so much has come while it was waited for; `idle_s` is left to each line."""
    at_once_s = idle_s + moved_bytes / SLOWEST_BYTES_PER_S
    return waited_s > min(at_once_s, FOR_LONG_S + moved_bytes / SLOWEST_FOR_LONG_BYTES_PER_S)


def login_at(proxy: Proxy | None) -> dict[str, str] | None:
    """A proxy's name and password, where the HTTP library looks for them; it sends them to the proxy alone."""
    if proxy is None or proxy.name is None:
        return None
    return {"Authorization": aiohttp.encode_basic_auth(proxy.name, proxy.password, encoding="utf-8")}


def further(home: str, address: str, answer: aiohttp.ClientResponse) -> str | None:
    """Where an answer says that the content is, if that may be followed: at home, or elsewhere by HTTPS.

    What is no address may not: who answers is a stranger, and no error of ours.
    """
    place = answer.headers.get("Location") if answer.status in _REDIRECTS else None
    if place is None:
        return None
    try:
        onward = urljoin(address, place)
        there, here = urlsplit(onward), urlsplit(home)
    except ValueError:
        return None
    is_home = (there.scheme, there.netloc) == (here.scheme, here.netloc)
    return onward if is_home or there.scheme == "https" else None


def range_from(start: int, most: int | None) -> dict[str, str]:
    """The header that asks for the bytes from `start` on, at most so many."""
    if most is not None:
        return {"Range": f"bytes={start}-{start + most - 1}"}
    return {"Range": f"bytes={start}-"} if start else {}


def first_byte(answer: aiohttp.ClientResponse) -> int:
    """The first byte that an answer brings: what was asked for may be ignored, or cut otherwise, on the way."""
    if answer.status == _WHOLE:
        return 0
    first, dash, _ = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")
    return int(first) if dash and _is_number(first) else 2**63


def total_bytes(answer: aiohttp.ClientResponse) -> int | None:
    """The whole size that a partial answer names."""
    _, _, size = answer.headers.get("Content-Range", "").rpartition("/")
    return int(size) if _is_number(size) else None


def head_bytes(answer: aiohttp.ClientResponse) -> int:
    """What an answer's first line and headers took."""
    line = len(f"HTTP/1.1 {answer.status} {answer.reason or ''}\r\n")
    return line + sum(len(name) + len(value) + 4 for name, value in answer.raw_headers) + 2


def asked_bytes(answer: aiohttp.ClientResponse) -> int:
    """What the first line and the headers of the request took that it answers."""
    asked = answer.request_info
    line = len(f"{asked.method} {asked.url.raw_path_qs} HTTP/1.1\r\n")
    return line + sum(len(name) + len(value) + 4 for name, value in asked.headers.items()) + 2


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
