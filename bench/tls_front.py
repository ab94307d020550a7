"""TLS in front of a server, as a reverse proxy ends it: what a line carries with it is counted before this."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Final

from bench.in_front import InFront

_PIECE_BYTES: Final = 256 * 1024


class TlsFront(InFront):
    """Ends TLS on `port` of loopback and passes on to `target`, while the context lasts."""

    def __init__(self, target: int, port: int, context: ssl.SSLContext) -> None:
        super().__init__(port, context)
        self._target = target

    def _end(self, connections: set[asyncio.Task[None]]) -> None:
        for task in connections:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(_carry(reader, back), _carry(there, writer), return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while data := await reader.read(_PIECE_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
