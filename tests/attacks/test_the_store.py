"""The database under the feet of another writer (docs/attacks.md)."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from protocol.replica.console import ownership
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.storage import database
from protocol.replica.storage.sqlite import DATABASE, SqliteStore
from tests.harness.attack import attack

SHARED = tuple(setting for setting in database._SETTINGS if "locking_mode" not in setting)


@attack(
    "SQLite's WAL-reset race (3.7.0–3.51.2, two connections)",
    off={"protocol.replica.storage.database._SETTINGS": SHARED},
)
async def test_no_second_connection_gets_at_the_database_of_a_running_program(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    with closing(sqlite3.connect(tmp_path / DATABASE, timeout=0)) as second:
        try:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                second.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        finally:
            await store.close()


OPEN = {"protocol.replica.storage.sqlite._OTHERS": 0, "protocol.replica.disk._OWN": 0o755}


@attack("another account of the machine reads the store", off=OPEN)
async def test_no_other_account_of_the_machine_reads_names_or_content(tmp_path: Path) -> None:
    data = tmp_path / "data"
    umask = os.umask(0o022)
    try:
        # as an earlier version made it
        data.mkdir(mode=0o755)
        (data / DATABASE).touch(mode=0o644)
        store = await SqliteStore.open(data)
        content = await PackFolder.open(data, store)
        await store.set_marks({"a": b"name"})
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()}
        await content.close()
        await store.close()
        owner = ownership.acquire(tmp_path / "new", create=True)
        assert owner is not None
        owner.release()
    finally:
        os.umask(umask)
    assert {DATABASE, "packs"} <= modes.keys()
    assert {name for name, mode in modes.items() if mode & 0o077} == set()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
