"""A way to one server, whatever carries it: the interface, what is counted, and the address as it is kept.

docs/protocol.md, "HTTP". The way over HTTP is `over_http`; what comes back is judged by `answers`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit, urlunsplit

from protocol.errors import BadInput, Code
from sync_agent.machine.addresses import is_loopback

if TYPE_CHECKING:
    from sync_agent.transport.answers import Response
    from sync_agent.transport.server_chain import IsOurs, Knows


@dataclass(slots=True)
class Traffic:
    """What went over the wire so far: HTTP bytes with their headers (near enough), and requests that were begun."""

    bytes_in: int = 0
    bytes_out: int = 0
    round_trips: int = 0
    waits: int = field(default=0, compare=False)
    """How many requests for content wait for the other side at this moment."""

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


class Transport(Protocol):
    """A way to one server. Every method raises `NoAnswer` when nobody answers, or somebody else does."""

    traffic: Traffic

    def hold_to(self, is_ours: IsOurs, knows: Knows | None = None) -> None:
        """Take a server's own TLS certificate for good if it is bound to a root of such a territory.

        With what a device `knows` of its servers, asked before each request, of one that counts.
        """
        ...

    async def post(self, path: str, body: bytes) -> Response:
        """The answer to a call: a message of this protocol whatever its status, or an unsealed error as JSON."""
        ...

    def fetch(self, capability: str, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes of a pack from `start` on, `length` of them or all, as they come.

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

    async def renew(self) -> None:
        """Let go of connections that stand: the machine has slept, or is on another network. Calls go on afterwards."""
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
