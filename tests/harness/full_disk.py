"""A disk that somebody fills to its last block: the database of the folder takes no more once nothing is free."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import LocalFailure
from protocol.limits import GiB
from protocol.replica import ballast
from protocol.replica.ballast import PARTS
from protocol.replica.interfaces import EntryStore
from protocol.replica.storage import database
from tests.harness.small_disk import SmallDisk


class FullDisk(SmallDisk):
    """The disk that holds `folder`, which `fill` fills."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int = GiB) -> None:
        super().__init__(folder, free_bytes)
        self.folder = folder
        self._filled = 0
        transact = database._transact

        def writing(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any]) -> Any:
            lies_at = connection.execute("PRAGMA database_list").fetchone()[2]
            if Path(lies_at).parent == self.folder and self.free_bytes <= 0:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
                raise error
            return transact(connection, work)

        monkeypatch.setattr(database, "_transact", writing)
        monkeypatch.setattr(ballast, "free_bytes", lambda folder: self.free_bytes if folder == self.folder else 0)

    @property
    def free_bytes(self) -> int:
        """What is free now."""
        return super().free_bytes - self._filled

    def fill(self, left_bytes: int = 0) -> None:
        """Somebody takes all but this."""
        self._filled += self.free_bytes - left_bytes

    def make_room(self) -> None:
        """Whoever filled it takes that away."""
        self._filled = 0

    async def fill_until_notes_fail(self, store: EntryStore) -> None:
        """Somebody fills it again and again, until a program finds no room for its notes any more."""
        for number in range(len(PARTS) + 1):
            self.fill()
            try:
                await store.set_marks({"a note": number.to_bytes(8, "big")})
            except LocalFailure:
                return
        raise AssertionError("notes of a program use only their parts of the ballast")
