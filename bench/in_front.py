"""What stands in front of a server on loopback and passes connections on, in a thread of its own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class InFront(ABC):
    """Listens on `port` of loopback while the context lasts, with TLS where a context of that is given."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop: asyncio.Event

    @abstractmethod
    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody has connected."""

    @abstractmethod
    def _end(self, connections: set[asyncio.Task[None]]) -> None:
        """Have these tasks end."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=self._tls)
        self._ready.set()
        await self._stop.wait()
        server.close()
        left = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
        self._end(left)
        if left:
            await asyncio.wait(left, timeout=5)
