"""A connection to the server that is begun before it is known what will be said over it (R12, R15).

To connect takes a round trip, 600 ms by satellite: as long as a command needs to load what it speaks with and to look
up what it has to say.

Rules:
- the way is decided as ever (`route`), and the decision is handed on with the connection; only the direct way is begun;
- nothing is sent over it, and who takes it finds it as if it had just been asked for: standing, or on its way;
- what goes wrong here says nothing: the connection is asked for once more, and that is what counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from typing import Any, Final
from urllib.parse import urlsplit

from protocol.errors import RelaisError
from sync_agent.network.route import Route
from sync_agent.network.settings import Network

SILENT_S: Final = 20.0
HEAD_START_S: Final = 0.02
"""How long a caller waits for what is decided at once; the rest goes on beside it."""

_PORTS: Final = {"http": 80, "https": 443}
_ON_ITS_WAY: Final = frozenset({0, errno.EINPROGRESS, errno.EWOULDBLOCK})


class Early:
    """The way to one server, begun. To be made and used inside one event loop."""

    def __init__(self, url: str, network: Network) -> None:
        """Nothing is begun yet."""
        self.url: Final = url
        self.network: Final = network
        self.route: Final = Route(url, network.wish, network.read_system, time.monotonic)
        self._begun: tuple[Any, socket.socket] | None = None
        self._beginning: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Begin to connect; what takes longer than a moment goes on beside the caller."""
        # others wait for a connection in a way that knows nothing of one that is on its way
        if isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
            self._beginning = asyncio.create_task(self._begin())
            await asyncio.wait((self._beginning,), timeout=HEAD_START_S)

    def take(self, place: Any) -> socket.socket | None:
        """The connection to this address (as `getaddrinfo` gives them), if one was begun and has not failed."""
        begun, self._begun = self._begun, None
        if begun is None:
            return None
        address, made = begun
        if address[:2] == place[4][:2] and not made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return made
        made.close()
        return None

    async def close(self) -> None:
        """Let go of what nobody has taken."""
        if self._beginning is not None:
            self._beginning.cancel()
            await asyncio.gather(self._beginning, return_exceptions=True)
        begun, self._begun = self._begun, None
        if begun is not None:
            begun[1].close()

    async def _begin(self) -> None:
        parts = urlsplit(self.url)
        with contextlib.suppress(OSError, RelaisError):
            if (await self.route.choices())[:1] == (None,):
                port = parts.port or _PORTS[parts.scheme]
                found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
                self._begun = _begun(found[0])


class _Begun(socket.socket):
    """A connection that was begun: to connect it means to wait until it stands."""

    def connect(self, address: Any, /) -> None:
        """As `socket.connect`."""
        error = self.connect_ex(address)
        if error not in (0, errno.EISCONN):
            raise OSError(error, os.strerror(error))


def _begun(place: Any) -> tuple[Any, socket.socket] | None:
    made = alert_socket(place, _Begun)
    made.setblocking(False)
    if made.connect_ex(place[4]) in _ON_ITS_WAY:
        return place[4], made
    made.close()
    return None


def alert_socket(place: Any, kind: type[socket.socket] = socket.socket) -> socket.socket:
    """A socket that notices a dead line: what is sent and not confirmed for `SILENT_S` ends the connection."""
    made = kind(*place[:3])
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        made.setsockopt(socket.IPPROTO_TCP, option, int(SILENT_S * 1000))
    return made
