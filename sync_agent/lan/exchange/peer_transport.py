"""The way to another device of the school: HTTP over TLS that is held to its certificate, without proxies (R15)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final

from protocol.replica.http.library import aiohttp
from sync_agent.lan.exchange.tls import DiallerContext
from sync_agent.machine.addresses import Address
from sync_agent.network.proxies import Wish
from sync_agent.network.settings import Network
from sync_agent.transport.answers import unreachable
from sync_agent.transport.over_http import HttpTransport
from sync_agent.transport.server_chain import KnownServers

CONNECT_S: Final = 5.0
READ_IDLE_S: Final = 20.0
KEEP_ALIVE_S: Final = 60.0
MAX_CONNECTIONS: Final = 4


class PeerTransport(HttpTransport):
    """A `Transport` to the device at an address, whoever it turns out to be; `tls` holds it to its certificate."""

    def __init__(self, address: Address, tls: DiallerContext | None = None) -> None:
        super().__init__(f"https://{address.authority}", Network(Wish(direct=True)))
        self.address = address
        self.tls = tls or DiallerContext(None)
        self._line: aiohttp.ClientWebSocketResponse | None = None

    async def hear(self, capability: str) -> AsyncGenerator[str, None]:
        """The texts that the device says over a line for news; before them an empty one, once the line stands.

        Ends when the device closes the line. Raises `NoAnswer`.
        """
        headers = {"Authorization": f"Bearer {capability}"}
        try:
            async with contextlib.aclosing(self._explaining(self._pushed(headers, self._note_line))) as line:
                async for text in line:
                    yield text
        finally:
            self._line = None

    async def say(self, text: str) -> None:
        """Say something over the line that is heard, if one stands. Raises `NoAnswer`."""
        if self._line is not None:
            try:
                await self._line.send_str(text)
            except (aiohttp.ClientError, OSError) as reason:
                raise unreachable(self.url, reason) from reason

    def _note_line(self, line: aiohttp.ClientWebSocketResponse) -> None:
        self._line = line

    async def certificate(self) -> bytes:
        """SHA-256 of the certificate of whoever listens there, to which every later connection is held.

        Raises `NoAnswer`.
        """
        if self.tls.expected is None:
            try:
                async with asyncio.timeout(CONNECT_S):
                    _, writer = await asyncio.open_connection(self.address.host, self.address.port)
                try:
                    # its system has answered; the program itself may be slow
                    async with asyncio.timeout(READ_IDLE_S):
                        await writer.start_tls(self.tls)
                finally:
                    writer.close()
            except (OSError, TimeoutError) as reason:
                raise unreachable(self.url, reason) from reason
        assert self.tls.expected is not None  # noqa: S101  (the handshake has noted it)
        return self.tls.expected

    async def _open(self, known: KnownServers | None) -> aiohttp.ClientSession:
        del known
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_S, ssl=self.tls),
            # TLS is part of connecting there
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=READ_IDLE_S, sock_read=READ_IDLE_S),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
