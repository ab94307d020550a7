"""A TCP relay on loopback that cuts connections after a number of bytes: what a bad line does to real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass


@dataclass
class Line:
    """How many bytes still pass in each direction over all connections; None is no bound."""

    url: str
    up: int | None = None
    down: int | None = None


@asynccontextmanager
async def bad_line(target: str) -> AsyncIterator[Line]:
    """A line to the server at `target` (http://host:port); its URL is what a client uses."""
    host, port = target.removeprefix("http://").split(":")
    line = Line("")
    running: set[asyncio.Task[None]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str) -> bool:
        """Copy until the end, or until the bound; whether the end came by itself."""
        while data := await reader.read(65_536):
            left = getattr(line, direction)
            passed = data if left is None else data[:left]
            writer.write(passed)
            await writer.drain()
            if left is not None:
                setattr(line, direction, left - len(passed))
                if len(passed) < len(data):
                    return False
        return True

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        task.add_done_callback(running.discard)
        ends = [writer]
        copies: list[asyncio.Task[bool]] = []
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            ends.append(far_writer)
            copies.append(asyncio.create_task(pass_on(reader, far_writer, "up")))
            copies.append(asyncio.create_task(pass_on(far_reader, writer, "down")))
            await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for copy in copies:
                copy.cancel()
            for end in ends:
                end.transport.abort()
            await asyncio.gather(*copies, return_exceptions=True)
            for end in ends:
                with suppress(OSError):
                    await end.wait_closed()

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
