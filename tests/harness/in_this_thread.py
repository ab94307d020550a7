"""Databases that answer in the thread that asks, for stories of many replicas in one process.

A statement takes microseconds, the way to aiosqlite's thread and back ten times as long: a quarter of what the attacks
cost. Files, statements and what is durable are the same. What threads do to one another is seen by the tests of stores,
programs and pages, whose databases have theirs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")


class ConnectionInThisThread:
    """What `protocol.replica.storage.database` asks of aiosqlite's connection."""

    def __init__(self, connector: Callable[[], sqlite3.Connection], iter_chunk_size: int) -> None:
        del iter_chunk_size
        self._connector = connector
        self._open: sqlite3.Connection | None = None

    def __await__(self) -> Generator[None, None, ConnectionInThisThread]:
        self._open = self._connector()
        return self
        yield

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns. Raises `ValueError` once it is closed, as aiosqlite does."""
        if self._open is None:
            raise ValueError("no active connection")
        return work(self._open)

    async def close(self) -> None:
        """Let go of the file; again is no error."""
        if self._open is not None:
            self._open.close()
            self._open = None
