"""A damaged database file, page by page: what its log alone holds, what overflows, and bytes that mean nothing."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import cast

import pytest

from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Draft
from protocol.replica.storage.salvage import salvage
from tests.harness.territory import Territory

UNKNOWN_KIND_OF_COURSES = 0x2F
LOG_HEAD_BYTES, FRAME_HEAD_BYTES = 32, 24


@pytest.fixture
async def territory(tmp_path: Path) -> AsyncIterator[Territory]:
    made = await Territory.create(tmp_path / "server")
    yield made
    await made.close()


async def large_entries(territory: Territory) -> set[bytes]:
    """The ids of all entries of a class in which some are larger than a page of the database, and than four."""
    space = await territory.classroom()
    random = Random(7)
    drafts = [
        Draft(space, cast("Kind", UNKNOWN_KIND_OF_COURSES), territory.certificate.id, random.randbytes(size))
        for size in (10, 3_000, 5_000, 20_000)
    ]
    await territory.replica.write(
        drafts, author=territory.keys.signing, now_ms=territory.clock(), entropy=territory.entropy, unsent=False
    )
    store = territory.replica.store
    return {stored.entry.id for space in await store.spaces() for stored in await store.scan(space)}


def ids_of(entries: tuple[Entry, ...]) -> set[bytes]:
    return {entry.id for entry in entries}


def copied(territory_folder: Path, to: Path) -> Path:
    """The database and its log as they lie on the disk at this moment, as a power cut leaves them."""
    to.mkdir()
    for name in ("replica.db", "replica.db-wal"):
        shutil.copy(territory_folder / name, to / name)
    return to / "replica.db"


async def test_entries_larger_than_a_page_come_back_whole_from_a_log_that_was_never_merged(
    territory: Territory, tmp_path: Path
) -> None:
    wanted = await large_entries(territory)
    file = copied(tmp_path / "server", tmp_path / "copy")
    assert ids_of(salvage(file).entries) == wanted
    # the database itself is gone: the log alone still tells
    file = copied(tmp_path / "server", tmp_path / "log")
    file.write_bytes(bytes(4096))
    found = salvage(file)
    assert ids_of(found.entries) == wanted
    assert all(entry.payload is not None for entry in found.entries)


async def test_a_log_cut_anywhere_gives_a_part_and_never_an_entry_that_was_not_there(
    territory: Territory, tmp_path: Path
) -> None:
    wanted = await large_entries(territory)
    file = copied(tmp_path / "server", tmp_path / "copy")
    log = file.with_name("replica.db-wal")
    whole = log.read_bytes()
    sizes = [0, LOG_HEAD_BYTES, LOG_HEAD_BYTES + FRAME_HEAD_BYTES, *range(9_000, len(whole), len(whole) // 9)]
    for size in sizes:
        file.write_bytes(bytes(4096))
        log.write_bytes(whole[:size])
        assert ids_of(salvage(file).entries) <= wanted


async def test_a_database_in_which_any_bytes_changed_gives_nothing_but_its_own_entries(
    territory: Territory, tmp_path: Path
) -> None:
    wanted = await large_entries(territory)
    await territory.close()
    whole = (tmp_path / "server" / "replica.db").read_bytes()
    file = tmp_path / "copy.db"
    for seed in range(60):
        random = Random(seed)
        spoiled = bytearray(whole)
        for _ in range(1 + seed * 3):
            spoiled[random.randrange(len(spoiled))] = random.randrange(256)
        file.write_bytes(spoiled)
        assert ids_of(salvage(file).entries) <= wanted


@pytest.mark.parametrize("size", [0, 1, 99, 100, 4095, 4096, 70_000])
def test_a_file_of_noise_of_any_size_holds_nothing(tmp_path: Path, size: int) -> None:
    file = tmp_path / "replica.db"
    for seed in range(4):
        file.write_bytes(Random(seed).randbytes(size))
        found = salvage(file)
        assert (found.entries, dict(found.marks), found.registers) == ((), {}, ())


@pytest.mark.parametrize("page_bytes", [512, 65_536])
def test_marks_come_back_from_pages_of_any_size_when_sqlite_gives_up(tmp_path: Path, page_bytes: int) -> None:
    file = tmp_path / "replica.db"
    marks = {f"mark/{number:04}": bytes([number % 251]) * (number % 900) for number in range(300)}
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA page_size = {page_bytes}")
        connection.execute("CREATE TABLE mark (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID, STRICT")
        connection.execute("CREATE TABLE odd (a REAL, b INTEGER, c TEXT, d)")
        connection.executemany("INSERT INTO mark VALUES (?, ?)", marks.items())
        connection.executemany("INSERT INTO odd VALUES (?, ?, ?, ?)", [(1.5, 0, "é", None), (2.5, 1 << 60, "", b"x")])
        connection.commit()
    assert salvage(file).marks == marks
    # without the table that says where tables begin, SQLite gives nothing; the pages still do
    data = bytearray(file.read_bytes())
    data[100:104] = b"\xff\xff\xff\xff"
    file.write_bytes(data)
    assert salvage(file).marks == marks
