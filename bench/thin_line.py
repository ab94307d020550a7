"""A line of so many bits a second and so many milliseconds, before a server: what a satellite or a village has.

A TCP relay on loopback. Bytes leave it one after the other at the line's rate, half the round trip later; a new
connection waits one round trip, as the handshake does that the relay cannot stretch. Slow start and loss are not
imitated: figures are of a line that is thin and far, not of a bad one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Final

from bench.in_front import InFront

_PIECE_BYTES: Final = 4 * 1024


@dataclass(slots=True)
class Direction:
    """One way of the line: when it is free again."""

    free_at: float = 0.0


class ThinLine(InFront):
    """Passes connections on to `target` while the context lasts; `port` is where it listens."""

    def __init__(self, target: int, port: int, *, round_trip_s: float, bits_per_s: float) -> None:
        super().__init__(port)
        self._target = target
        self._half_s = round_trip_s / 2
        self._bytes_per_s = bits_per_s / 8
        self._up, self._down = Direction(), Direction()
        self._writers: list[asyncio.StreamWriter] = []

    def _end(self, connections: set[asyncio.Task[None]]) -> None:
        del connections
        for writer in self._writers:
            writer.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * self._half_s)
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, back]
        await asyncio.gather(
            self._carry(reader, back, self._up), self._carry(there, writer, self._down), return_exceptions=True
        )

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Direction) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        sender = asyncio.create_task(_deliver(queue, writer))
        try:
            while data := await reader.read(_PIECE_BYTES):
                way.free_at = max(way.free_at, time.monotonic()) + len(data) / self._bytes_per_s
                await asyncio.sleep(max(0.0, way.free_at - time.monotonic()))
                await queue.put((time.monotonic() + self._half_s, data))
        finally:
            await queue.put((time.monotonic() + self._half_s, b""))
            await sender


async def _deliver(queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    while True:
        due, data = await queue.get()
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if not data:
            writer.close()
            return
        if not writer.is_closing():
            with contextlib.suppress(OSError):
                writer.write(data)
                await writer.drain()
