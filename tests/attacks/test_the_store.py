"""The database under the feet of another writer (docs/threat-model.md)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from protocol.replica import database
from protocol.replica.sqlite import DATABASE, SqliteStore
from tests.harness.attack import attack

SHARED = tuple(setting for setting in database._SETTINGS if "locking_mode" not in setting)


@attack(
    "SQLite's WAL-reset race (3.7.0–3.51.2, two connections)",
    off={"protocol.replica.database._SETTINGS": SHARED},
)
async def test_no_second_connection_gets_at_the_database_of_a_running_program(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    with closing(sqlite3.connect(tmp_path / DATABASE, timeout=0)) as second:
        try:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                second.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        finally:
            await store.close()
