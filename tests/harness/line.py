"""The bytes of a bad line: latency, a rate, silence, cuts, refusal, and connections that a router has forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tests.harness.ports import free_port
from tests.harness.weather_kinds import Weather

Direction = Literal["up", "down"]
_PIECE_BYTES = 65_536
_WAITING_PIECES = 64


@dataclass
class Line:
    """One listening port in front of another one; what its weather says happens to every byte."""

    target_port: int
    weather: Weather = field(default_factory=Weather)
    host: str = "127.0.0.1"
    target_host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._left: dict[Direction, int | None] = {}
        self._age = 0
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}

    async def change(self, weather: Weather) -> None:
        """From now on the line is like this."""
        self.weather = weather
        self._left = {"up": weather.cut_up, "down": weather.cut_down}
        self._age += weather.forgets
        self._changed.set()
        self._changed = asyncio.Event()
        if weather.refuses:
            await self._shut()
            self._abort()
        elif self._server is None:
            self.port = self.port or free_port(self.host)
            self._server = await asyncio.start_server(self._connect, self.host, self.port)

    async def close(self) -> None:
        """End everything."""
        await self._shut()
        self._abort()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _shut(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            await shut(server)

    def _abort(self) -> None:
        for task in list(self._running):
            task.cancel()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        ends = [writer]
        age = self._age
        pumps: list[asyncio.Task[bool]] = []
        try:
            far_reader, far_writer = await dial(self.target_host, self.target_port)
            ends.append(far_writer)
            pumps = [
                asyncio.create_task(self._pump(reader, far_writer, "up", age)),
                asyncio.create_task(self._pump(far_reader, writer, "down", age)),
            ]
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if all(pump.exception() is None and pump.result() for pump in done):
                await asyncio.wait(pumps, timeout=10)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            # the ends first: who ends this twice in a row ends the waiting below as well
            for end in ends:
                end.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction, age: int
    ) -> bool:
        """Copy until the end or a cut; whether the end came by itself."""
        clock = asyncio.get_running_loop().time
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_WAITING_PIECES)
        reading = asyncio.create_task(_read(reader, waiting, clock))
        try:
            while True:
                came, data = await waiting.get()
                await self._until_it_passes(age)
                due = came + self.weather.latency_s
                await asyncio.sleep(max(0.0, due - clock()))
                if not data:
                    if writer.can_write_eof():
                        writer.write_eof()
                    return True
                if not await self._write(writer, data, direction, age):
                    return False
        except OSError:
            return False
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _write(self, writer: asyncio.StreamWriter, data: bytes, direction: Direction, age: int) -> bool:
        while data:
            await self._until_it_passes(age)
            rate = self.weather.bytes_per_s
            piece = data if rate is None else data[: max(1, int(rate / 20))]
            left = self._left.get(direction)
            passed = piece if left is None else piece[:left]
            if left is not None:
                self._left[direction] = left - len(passed)
            writer.write(passed)
            await writer.drain()
            self.passed[direction] += len(passed)
            if len(passed) < len(piece):
                return False
            if rate is not None:
                await asyncio.sleep(len(piece) / rate)
            data = data[len(piece) :]
        return True

    async def _until_it_passes(self, age: int) -> None:
        while self.weather.stalls or age != self._age:
            await self._changed.wait()


async def shut(server: asyncio.Server) -> None:
    """Listen no more. What was accepted this moment begins first: it would find no server, and stay open for ever."""
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())
    await asyncio.sleep(0)
    server.close()


async def dial(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that is closed again if whoever asked for it is ended meanwhile."""
    dialling = asyncio.create_task(asyncio.open_connection(host, port))
    try:
        return await asyncio.shield(dialling)
    except asyncio.CancelledError:
        dialling.add_done_callback(_hang_up)
        raise


def _hang_up(dialled: asyncio.Task[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    if not dialled.cancelled() and dialled.exception() is None:
        dialled.result()[1].transport.abort()


async def _read(
    reader: asyncio.StreamReader, waiting: asyncio.Queue[tuple[float, bytes]], clock: Callable[[], float]
) -> None:
    while True:
        try:
            data = await reader.read(_PIECE_BYTES)
        except OSError:
            data = b""
        await waiting.put((clock(), data))
        if not data:
            return
