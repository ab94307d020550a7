"""What an `EntryStore` on a disk must do beside what every store does: outlive, refuse, notice what is spoilt."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import Code, LocalFailure
from protocol.replica.interfaces import Held, Position
from protocol.replica.storage.database import LOG, migrations, write_zeros
from protocol.replica.storage.sqlite import DATABASE, SqliteStore
from tests.harness.entries import NOTHING, OTHER_SPACE, SPACE, EntryMaker, ids_of, register
from tests.harness.failures import code_of


@pytest.fixture
def make() -> EntryMaker:
    return EntryMaker()


# --- what only a durable store can show -------------------------------------------------------------------------------


async def test_everything_is_there_after_opening_again(tmp_path: Path, make: EntryMaker) -> None:
    store = await SqliteStore.open(tmp_path / "deep" / "folder")
    entries, waiting = make.entries(5), Held(b"a", make.entry(), b"m" * 32)
    await store.append(entries, unsent=True, marks={"cursor": b"1"})
    await store.hold([waiting], max_entries=5, max_bytes=10_000)
    await store.put_registers([register(10)])
    position = await store.position(SPACE)
    await store.close()
    await store.close()

    again = await SqliteStore.open(tmp_path / "deep" / "folder")
    assert [one.entry for one in await again.scan(SPACE)] == entries
    assert await again.position(SPACE) == position
    assert ids_of(await again.unsent(1 << 20)) == ids_of(entries)
    assert await again.held() == [waiting]
    assert await again.marks("") == {"cursor": b"1"}
    assert await again.registers() == [register(10)]
    assert [one.arrival for one in await again.append(make.entries(1))] == [6]
    await again.close()


async def test_an_append_that_fails_changes_nothing(tmp_path: Path, make: EntryMaker) -> None:
    store = await SqliteStore.open(tmp_path)
    unstorable = replace(make.entry(), signature=None)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        await store.append([make.entry(), unstorable], unsent=True, marks={"cursor": b"1"})
    assert await store.position(SPACE) == Position(0, NOTHING)
    assert await store.unsent_totals() == (0, 0)
    assert await store.mark("cursor") is None
    assert [one.arrival for one in await store.append([make.entry()])] == [1]
    await store.close()


async def test_what_is_asked_again_is_answered_from_memory_until_something_is_written(
    tmp_path: Path, make: EntryMaker
) -> None:
    store = await SqliteStore.open(tmp_path)
    asked: list[str] = []
    await store.set_marks({"cursor": b"1"})
    await store.database.run(lambda connection: connection.set_trace_callback(asked.append))
    assert [await store.mark("cursor") for _ in range(3)] == [b"1"] * 3
    assert [await store.unsent(1 << 20) for _ in range(3)] == [[]] * 3
    assert len(asked) == 2
    await store.append(entries := make.entries(1), unsent=True, marks={"cursor": b"2"})
    assert await store.mark("cursor") == b"2"
    assert ids_of(await store.unsent(1 << 20)) == ids_of(entries)
    await store.close()


async def test_an_answer_that_a_write_has_overtaken_is_not_given_again(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.set_marks({"cursor": b"1"})
    before, _, after = await asyncio.gather(
        store.mark("cursor"), store.set_marks({"cursor": b"2"}), store.mark("cursor")
    )
    assert (before, after, await store.mark("cursor")) == (b"1", b"2", b"2")
    await store.close()


async def test_what_a_caller_does_with_an_answer_changes_nobody_elses(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.set_marks({"cursor": b"1"})
    (await store.marks("")).clear()
    assert await store.marks("") == {"cursor": b"1"}
    await store.close()


async def test_a_long_answer_is_not_kept_in_memory(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    asked: list[str] = []
    await store.set_marks({"long": bytes(100_000), **{f"many/{number}": b"1" for number in range(100)}})
    await store.database.run(lambda connection: connection.set_trace_callback(asked.append))
    for _ in range(2):
        await store.mark("long")
        await store.marks("many/")
    assert len(asked) == 4
    await store.close()


async def test_a_full_database_refuses_what_does_not_fit_and_nothing_else(tmp_path: Path, make: EntryMaker) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.append(make.entries(1))
    await pragma(store, "max_page_count = 1")
    with pytest.raises(LocalFailure) as failed:
        await store.append([make.entry(payload=bytes(60_000))], marks={"cursor": b"1"})
    assert failed.value.code is Code.DISK_FULL
    assert (await store.position(SPACE)).count == 1
    assert await store.mark("cursor") is None
    await pragma(store, "max_page_count = 1000000")
    assert [one.arrival for one in await store.append([make.entry(payload=bytes(60_000))])] == [2]
    await store.close()


async def pragma(store: SqliteStore, setting: str) -> None:
    await store.database.run(lambda connection: connection.execute(f"PRAGMA {setting}").fetchall())


async def test_after_a_failed_write_the_store_is_refused_until_it_is_opened_again(
    tmp_path: Path, make: EntryMaker
) -> None:
    """[6]"""
    resource = pytest.importorskip("resource", reason="lets the system refuse writes by a limit on file sizes")
    store = await SqliteStore.open(tmp_path)
    first, second = make.entries(2)
    await store.append([first])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / f"{DATABASE}-wal").stat().st_size, limits[1]))
    try:
        with pytest.raises(LocalFailure, match=r"could not be read or written \(SQLITE_[A-Z_]+\)") as failed:
            await store.append([second])
        assert failed.value.code is Code.STORAGE_FAILED
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert await code_of(store.append([second])) is Code.STORAGE_FAILED
    assert await code_of(store.position(SPACE)) is Code.STORAGE_FAILED
    await store.close()
    store = await SqliteStore.open(tmp_path)
    assert ids_of(one.entry for one in await store.scan(SPACE)) == [first.id]
    assert await code_of(store.append([second])) is None
    await store.close()


async def test_a_store_in_use_is_locked(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    with pytest.raises(LocalFailure) as refused:
        await SqliteStore.open(tmp_path)
    assert refused.value.code is Code.STORE_LOCKED
    await store.close()
    await (await SqliteStore.open(tmp_path)).close()


async def test_an_opening_that_is_cut_short_leaves_no_connection_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, made = sqlite3.connect, list[sqlite3.Connection]()
    connecting, cut = threading.Event(), threading.Event()

    def slow(file: Path, **settings: Any) -> sqlite3.Connection:
        connecting.set()
        cut.wait()
        made.append(connect(file, check_same_thread=False, **settings))
        return made[-1]

    monkeypatch.setattr(sqlite3, "connect", slow)
    opening = asyncio.create_task(SqliteStore.open(tmp_path))
    await asyncio.to_thread(connecting.wait)
    opening.cancel()
    cut.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    (connection,) = made
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


async def test_a_folder_of_a_newer_program_is_refused_only_if_it_says_so(tmp_path: Path) -> None:
    await (await SqliteStore.open(tmp_path)).close()
    newest = migrations()[-1][0]
    set_user_version(tmp_path, compat=newest, version=newest + 5)
    await (await SqliteStore.open(tmp_path)).close()
    set_user_version(tmp_path, compat=newest + 1, version=newest + 5)
    with pytest.raises(LocalFailure) as refused:
        await SqliteStore.open(tmp_path)
    assert refused.value.code is Code.UNKNOWN_FORMAT


def set_user_version(folder: Path, *, compat: int, version: int) -> None:
    edit(folder, f"PRAGMA user_version = {compat * 65536 + version}")


def edit(folder: Path, sql: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / DATABASE)) as connection, connection:
        connection.execute(sql)


async def test_a_file_that_is_no_database_is_damaged(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"no database at all " * 1000)
    with pytest.raises(LocalFailure) as failed:
        await SqliteStore.open(tmp_path)
    assert failed.value.code is Code.DAMAGED


async def test_a_folder_that_cannot_be_made_is_a_failure_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LocalFailure) as failed:
        await SqliteStore.open(tmp_path / "file" / "folder")
    assert failed.value.code is Code.STORAGE_FAILED


SPOILS = {
    "header": "UPDATE entry SET header = CAST(header || 'x' AS BLOB) WHERE arrival = 2",
    "short header": "UPDATE entry SET header = x'00' WHERE arrival = 2",
    "payload": "UPDATE entry SET payload = x'00' WHERE arrival = 2",
    "half a payload": "UPDATE entry SET salt = NULL WHERE arrival = 2",
    "signature": "UPDATE entry SET signature = zeroblob(64) WHERE arrival = 2",
    "id": "UPDATE entry SET id = zeroblob(32) WHERE arrival = 2",
    "time": "UPDATE entry SET at_ms = at_ms + 1 WHERE arrival = 2",
    "kind": "UPDATE entry SET kind = kind + 1 WHERE arrival = 2",
}


@pytest.mark.parametrize("spoil", SPOILS)
async def test_a_damaged_entry_counts_as_missing_and_the_chain_shows_it(
    spoil: str, tmp_path: Path, make: EntryMaker
) -> None:
    store = await SqliteStore.open(tmp_path)
    entries = make.entries(4)
    await store.append([*entries, make.entry(OTHER_SPACE)], unsent=True)
    before = [await store.chain_at(SPACE, count) for count in range(5)]
    await store.close()
    edit(tmp_path, SPOILS[spoil])

    store = await SqliteStore.open(tmp_path)
    (damage,) = await store.verify()
    assert damage.what == "entry"
    assert [(one.arrival, one.entry) for one in await store.scan(SPACE)] == [
        (1, entries[0]),
        (2, entries[2]),
        (3, entries[3]),
    ]
    after = [await store.chain_at(SPACE, count) for count in range(5)]
    assert after[:2] == before[:2]
    assert after[2] != before[2]
    assert after[4] is None
    assert (await store.unsent_totals())[0] == 4
    assert await store.verify() == []
    assert [one.arrival for one in await store.append([entries[1]])] == [4]
    await store.close()


async def test_a_damaged_entry_is_never_given_out(tmp_path: Path, make: EntryMaker) -> None:
    store = await SqliteStore.open(tmp_path)
    entries = make.entries(2)
    await store.append(entries)
    await store.close()
    edit(tmp_path, SPOILS["payload"])
    store = await SqliteStore.open(tmp_path)
    with pytest.raises(LocalFailure) as failed:
        await store.scan(SPACE)
    assert failed.value.code is Code.DAMAGED
    assert failed.value.facts["id"] == entries[1].id.hex()
    await store.close()


async def test_an_index_that_lost_rows_is_reported_and_built_again(tmp_path: Path, make: EntryMaker) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.append(make.entries(3))
    await store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, '(kind)', '(at_ms)') WHERE name = 'entry_by_kind'"
        )
        connection.commit()
    store = await SqliteStore.open(tmp_path)
    assert [damage.what for damage in await store.verify()] == ["database"]
    assert await store.verify() == []
    assert len(await store.scan(SPACE)) == 3
    await store.close()


async def test_where_a_space_stands_is_asked_of_the_disk_only_until_it_is_known(
    tmp_path: Path, make: EntryMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await SqliteStore.open(tmp_path)
    first, second = make.entries(2)
    await store.append([first])
    await store.set_marks({"note": b"others write all day long"})
    asked = 0
    run = store.database.run

    async def counted(*work: Any) -> Any:
        nonlocal asked
        asked += 1
        return await run(*work)

    monkeypatch.setattr(store.database, "run", counted)
    assert (await store.position(SPACE)).count == 1
    await store.append([second])
    assert await store.position(SPACE) == Position(2, await store.chain_at(SPACE, 2) or b"")
    assert asked == 1, "for the chain"
    await store.close()


async def test_a_wrong_chain_or_number_is_put_right(tmp_path: Path, make: EntryMaker) -> None:
    store = await SqliteStore.open(tmp_path)
    entries = make.entries(3)
    await store.append(entries)
    position = await store.position(SPACE)
    await store.close()
    for sql in (
        "UPDATE entry SET arrival = 9 WHERE arrival = 3",
        "UPDATE entry SET chain = x'0000000000000000' WHERE arrival = 2",
        "UPDATE space SET count = 2",
        "UPDATE space SET chain = zeroblob(32)",
    ):
        edit(tmp_path, sql)
        store = await SqliteStore.open(tmp_path)
        assert [damage.what for damage in await store.verify()] == ["space"]
        assert await store.position(SPACE) == position
        assert [one.arrival for one in await store.scan(SPACE)] == [1, 2, 3]
        assert await store.verify() == []
        await store.close()


async def test_no_byte_of_what_is_erased_stays_in_the_file(tmp_path: Path, make: EntryMaker) -> None:
    opened = await SqliteStore.open(tmp_path)
    secret = b"Camille Martin, CM1" * 20
    entry = make.entry(payload=secret)
    await opened.append([make.entry(), entry, make.entry()])
    await opened.erase([entry.id])
    assert not _files_with(tmp_path, secret[:19])
    await opened.close()


async def test_its_log_is_zeros_before_it_is_cut_and_all_else_is_there(
    tmp_path: Path, make: EntryMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks that a file lets go of keep what they held."""
    seen: list[tuple[bytes, bytes]] = []

    def watched(log: Path) -> None:
        before = log.read_bytes()
        write_zeros(log)
        seen.append((before, log.read_bytes()))

    monkeypatch.setattr("protocol.replica.storage.database.write_zeros", watched)
    store = await SqliteStore.open(tmp_path)
    secret, others = b"Camille Martin, CM1" * 20, make.entries(40)
    entry = make.entry(payload=secret)
    await store.append([*others, entry])
    await store.erase([entry.id])
    ((before, after),) = seen
    assert secret in before
    assert after == bytes(len(before))
    assert (tmp_path / f"{DATABASE}{LOG}").stat().st_size == 0
    later = make.entries(3)
    await store.append(later)
    await store.close()
    again = await SqliteStore.open(tmp_path)
    assert [one.entry.id for one in await again.scan(SPACE)] == [each.id for each in (*others, entry, *later)]
    assert await again.verify() == []
    await again.close()


def _files_with(folder: Path, data: bytes) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and data in path.read_bytes()]
