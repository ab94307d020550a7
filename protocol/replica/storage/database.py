"""The one SQLite connection of a replica: how it is opened, migrated, used, and how its failures are named (R8).

Rules:
- WAL with `synchronous=FULL`: once `write` returns, a power cut loses nothing;
- work is a function over the connection that runs whole in the connection's thread, so that no other task ever sees
  half of a transaction;
- what is asked again and again is answered from memory until something is written: work is done in the order in which
  it was asked for, so that an answer to what was asked after a write has seen it;
- the file is locked for as long as it is open: there is no second connection, hence neither a second writer nor the
  race of SQLite before 3.51.3 between one connection's checkpoint and another's write ("WAL-reset bug");
- a bad page ends the connection too, and leaves a note: the next opening looks at all pages, and fails with DAMAGED if
  one is bad, which is for `rebuild` to settle;
- after a failed write or flush nothing more is asked of the connection: what it holds in memory may differ from what
  lies on disk, and only opening it again shows which (Rebello et al., "Can Applications Recover from fsync
  Failures?", USENIX ATC 2020).

`PRAGMA user_version` is compat × 65536 + version: the schema's version, and the oldest version whose programs may still
use the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sqlite3
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, TypeVar, cast

import aiosqlite

from protocol.errors import Code, LocalFailure
from protocol.replica.ballast import Ballast, Rank

T = TypeVar("T")
Cell: TypeAlias = "int | str | bytes | None"

MIN_SQLITE: Final = (3, 37, 0)  # STRICT tables
APPLICATION_ID: Final = 0x52454C31
CACHE_KIB: Final = 4096
MAX_WAL_BYTES: Final = 16 * 1024 * 1024
RECALLED: Final = 128
RECALLED_BYTES: Final = 256
RECALLED_ROWS: Final = 16
DAMAGED_DATABASE: Final = (
    "the database is damaged; `repair` makes it anew from all that can be read, and a sync brings back the rest"
)
SUSPECT: Final = ".suspect"
"""Ending of a file beside the database: a bad page was met, so that the next opening looks at every page."""

LOG: Final = "-wal"

_VERSIONS: Final = 65_536
_ZEROS: Final = bytes(64 * 1024)

# Python lets other threads run at every step of a statement, and getting back in can take 5 ms when one of them
# computes: so one step takes many rows.
_ROWS_PER_STEP: Final = 50
_KEYS_PER_STEP: Final = 250

_SETTINGS: Final = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",
    "PRAGMA checkpoint_fullfsync = ON",
    f"PRAGMA cache_size = -{CACHE_KIB}",
    f"PRAGMA journal_size_limit = {MAX_WAL_BYTES}",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA mmap_size = 0",
    "PRAGMA trusted_schema = OFF",
    # what is deleted or erased is overwritten with zeros
    "PRAGMA secure_delete = ON",
    "PRAGMA cell_size_check = ON",
)


_NO_TEXT: Final = "Could not decode to UTF-8"


class Database:
    """The open database of a replica. `run` and `recall` read, `write` changes; all raise `LocalFailure`."""

    def __init__(self, connection: _Connection, file: Path) -> None:
        self._connection = connection
        self._recalled: dict[Hashable, object] = {}
        """What was answered since the last write began; another dictionary after each."""
        self._suspect = file.with_name(f"{file.name}{SUSPECT}")
        self._log = file.with_name(f"{file.name}{LOG}")
        self.ballast = Ballast(file.parent)
        self._failed = False

    @property
    def is_usable(self) -> bool:
        """Whether nothing has failed that only opening it again mends: what was read before is still so until then."""
        return not self._failed

    @classmethod
    async def open(cls, file: Path) -> Database:
        """Open or create the database, and bring its schema up to date.

        Raises `LocalFailure`: STORE_LOCKED while another process has it open, UNKNOWN_FORMAT if a newer version of the
        program wrote it, DAMAGED, DISK_FULL, STORAGE_FAILED.
        """
        if sqlite3.sqlite_version_info < MIN_SQLITE:
            raise LocalFailure(Code.STORAGE_FAILED, "SQLite is too old", found=sqlite3.sqlite_version)
        try:
            connection = await _connected(file)
        except sqlite3.Error as error:
            raise failure_of(error) from error
        database = cls(connection, file)
        try:
            await database._while_full(Rank.START, lambda: database.run(_prepare))
            await database._look_closer()
        except BaseException:
            await database.close()
            raise
        return database

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns; it must only read."""
        return await self._guarded(work)

    async def recall(self, question: Hashable, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `run`, for a `question` that is short and asked often; what is returned is not to be changed.

        A short answer is remembered until something is written.
        """
        recalled = self._recalled
        if question in recalled and not self._failed:
            return cast("T", recalled[question])
        found = await self._guarded(work)
        if len(recalled) < RECALLED and _is_short(found):
            recalled[question] = found
        return found

    async def write(
        self,
        work: Callable[[sqlite3.Connection], T],
        then: Callable[[T], None] | None = None,
        *,
        rank: Rank | None = None,
    ) -> T:
        """What `work` returns, once all that it changed is durable; if it raises, nothing has changed.

        `then` is told what it returns, in the connection's thread, before anything else is read or written. What has a
        `rank` uses the ballast by it, and may be done twice where the disk is full.
        """

        def transact(connection: sqlite3.Connection) -> T:
            result = _transact(connection, work)
            if then is not None:
                then(result)
            return result

        self._recalled = {}
        if rank is None:
            return await self._guarded(transact)
        while self.ballast.is_kept_from(rank) and self.ballast.give_up(rank):
            pass  # its own part may be there still, where another was not made again
        self.ballast.leave(0, rank)
        done = await self._while_full(rank, lambda: self._guarded(transact))
        if self.ballast.given_up(Rank.OTHER):
            await asyncio.to_thread(self.ballast.mend)
        return done

    async def _while_full(self, rank: Rank, work: Callable[[], Awaitable[T]]) -> T:
        """Do something again for each part of the ballast that it may use, as long as the disk is full."""
        while True:
            try:
                return await work()
            except LocalFailure as failure:
                if failure.code is not Code.DISK_FULL or not self.ballast.give_up(rank):
                    raise

    async def cut_log(self) -> None:
        """Bring all of the log into the file, and cut it, written over: its blocks go back as they are."""

        def work(connection: sqlite3.Connection) -> None:
            busy, frames, moved = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
            if not busy and frames == moved:
                with contextlib.suppress(OSError):  # what is cut as it is would be found by who takes the disk apart
                    write_zeros(self._log)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

        await self.run(work)

    async def copy_to(self, file: Path) -> None:
        """Write all that is committed into a new database, which is not made durable; nothing else runs meanwhile."""
        await self._guarded(lambda connection: connection.execute("VACUUM INTO ?", (str(file),)).close())

    async def close(self) -> None:
        """Flush and let go; again is no error."""
        try:
            await self._connection.close()
        except sqlite3.Error as error:
            raise failure_of(error) from error
        except ValueError:
            return

    async def suspect(self, why: str) -> LocalFailure:
        """The failure that a bad page is, found by looking: nothing more is asked of this connection."""
        await self._suspect_it()
        self._failed = True
        return LocalFailure(Code.DAMAGED, DAMAGED_DATABASE, sqlite=why[:200])

    async def _look_closer(self) -> None:
        """Where a page was once found bad, every page is looked at before anybody relies on them again."""
        if not await asyncio.to_thread(self._suspect.is_file):
            return
        rows = await self.run(lambda connection: connection.execute("PRAGMA quick_check(1)").fetchall())
        if rows != [("ok",)]:
            raise LocalFailure(Code.DAMAGED, DAMAGED_DATABASE, sqlite=str(rows[0][0])[:200])
        if not await self.run(_is_made_like_ours):
            raise LocalFailure(Code.DAMAGED, DAMAGED_DATABASE, sqlite="another schema")
        await asyncio.to_thread(self._suspect.unlink, missing_ok=True)

    async def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._failed:
            raise LocalFailure(Code.STORAGE_FAILED, "the store must be opened again after a failed write")
        try:
            return await self._connection.run(partial(_letting_go, work))
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
                # SQL that we cannot have meant, or names in the schema that are not ours any more
                await self._suspect_it()
            failure = failure_of(error)
            await self._note(failure)
            raise failure from error
        except LocalFailure as failure:
            # rows that SQLite finds in order, and that are not what was put there
            await self._note(failure)
            raise

    async def _suspect_it(self) -> None:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._suspect.touch)

    async def _note(self, failure: LocalFailure) -> None:
        if failure.code is Code.DAMAGED:
            await self._suspect_it()
        self._failed = failure.code in (Code.STORAGE_FAILED, Code.DAMAGED)


class _Connection(aiosqlite.Connection):
    """aiosqlite's thread and queue, for whole functions instead of single statements."""

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        execute = cast("Callable[..., Awaitable[T]]", self._execute)
        return await execute(work, self._conn)


async def _connected(file: Path) -> _Connection:
    """A connection to `file`; whoever is stopped while it is made leaves none behind. Raises `sqlite3.Error`."""
    connection = _Connection(lambda: sqlite3.connect(file, timeout=0, isolation_level=None), iter_chunk_size=64)
    making = asyncio.ensure_future(connection)
    try:
        await asyncio.shield(making)
    except asyncio.CancelledError:
        with contextlib.suppress(sqlite3.Error):
            await making
            await connection.close()
        raise
    return connection


def _letting_go(work: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection) -> T:
    """What `work` returns. A failure of its own keeps none of its frames: they hold a cursor, and a cursor the file."""
    try:
        return work(connection)
    except LocalFailure as failure:
        raise failure.with_traceback(None) from None


def write_zeros(file: Path) -> None:
    """Write zeros over all of a file, where it lies, durably. Raises `OSError`."""
    with file.open("r+b", buffering=0) as opened:
        left = os.fstat(opened.fileno()).st_size
        while left:
            left -= opened.write(_ZEROS[:left])
        os.fsync(opened.fileno())


def _is_short(found: object) -> bool:
    """Whether an answer takes little memory."""
    if isinstance(found, bytes):
        return len(found) <= RECALLED_BYTES
    if isinstance(found, dict):
        return _is_short(list(found.values()))
    if isinstance(found, tuple | list | set):
        return len(found) <= RECALLED_ROWS and all(map(_is_short, found))
    return found is None or isinstance(found, int)


def failure_of(error: sqlite3.Error | UnicodeDecodeError) -> LocalFailure:
    """The failure that an SQLite error stands for; an error of ours (SQL, constraint) is raised again as it is.

    What is no UTF-8 stands where this program wrote text: in a row, or in a name of the schema, which SQLite then puts
    into its message.
    """
    if isinstance(error, UnicodeDecodeError) or (
        isinstance(error, sqlite3.OperationalError) and str(error).startswith(_NO_TEXT)
    ):
        return LocalFailure(Code.DAMAGED, DAMAGED_DATABASE, sqlite="no UTF-8")
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        raise error
    primary = code & 0xFF
    name = error.sqlite_errorname
    if primary == sqlite3.SQLITE_FULL:
        return LocalFailure(Code.DISK_FULL, "the disk is full", sqlite=name)
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LocalFailure(Code.STORE_LOCKED, "another program is using this folder", sqlite=name)
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return LocalFailure(Code.DAMAGED, DAMAGED_DATABASE, sqlite=name)
    if primary == sqlite3.SQLITE_READONLY and code != sqlite3.SQLITE_READONLY_DBMOVED:
        return LocalFailure(Code.READ_ONLY, "the disk may only be read", sqlite=name)
    if primary in (
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
    ):
        return LocalFailure(Code.STORAGE_FAILED, f"the disk could not be read or written ({name})", sqlite=name)
    raise error


def must_open_again(failure: LocalFailure) -> bool:
    """Whether the store is of no more use before it is opened again: a write has failed, or a page is bad."""
    return failure.code is Code.STORAGE_FAILED or (failure.code is Code.DAMAGED and "sqlite" in failure.facts)


def insert(connection: sqlite3.Connection, into: str, rows: Sequence[Sequence[Cell]]) -> None:
    """Insert `rows`; `into` is what stands before VALUES."""
    if not rows:
        return
    places = f"({', '.join('?' * len(rows[0]))})"
    for start in range(0, len(rows), _ROWS_PER_STEP):
        part = rows[start : start + _ROWS_PER_STEP]
        connection.execute(f"{into} VALUES {', '.join([places] * len(part))}", [cell for row in part for cell in row])


def select_in(
    connection: sqlite3.Connection, sql: str, keys: Sequence[bytes], fixed: Sequence[Cell] = ()
) -> Iterator[tuple[Cell, ...]]:
    """The rows of `sql`, whose `{keys}` is filled with as many places as needed; `fixed` fills the places before."""
    for start in range(0, len(keys), _KEYS_PER_STEP):
        part = keys[start : start + _KEYS_PER_STEP]
        # NULL is in no set: filling up with it keeps to one prepared statement
        filled = [*part, *[None] * (_KEYS_PER_STEP - len(part))] if len(part) > 1 else part
        yield from connection.execute(sql.format(keys=", ".join("?" * len(filled))), [*fixed, *filled])


def _prepare(connection: sqlite3.Connection) -> None:
    for setting in _SETTINGS:
        connection.execute(setting)
    _migrate(connection)


def _transact(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has already rolled back after some failures of the disk
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def migrations() -> list[tuple[int, int, str]]:
    """Every schema step that this version knows: (version, compat, SQL), in order."""
    steps = []
    for file in Path(__file__).with_name("schema").iterdir():
        if named := re.fullmatch(r"(\d{4})\.sql", file.name):
            sql = file.read_text("utf-8")
            compat = re.search(r"^-- compat: (\d+)$", sql, re.MULTILINE)
            assert compat is not None, file.name  # noqa: S101  (our own file)
            steps.append((int(named[1]), int(compat[1]), sql))
    return sorted(steps)


def check_known_version(connection: sqlite3.Connection) -> int:
    """The version of the schema of an opened database; raise `LocalFailure(UNKNOWN_FORMAT)` where it is too new."""
    (stored,) = connection.execute("PRAGMA user_version").fetchone()
    compat, version = divmod(stored, _VERSIONS)
    newest = migrations()[-1][0]
    if compat > newest:
        raise LocalFailure(
            Code.UNKNOWN_FORMAT, "a newer version of this program wrote this folder", schema=version, known=newest
        )
    return cast("int", version)


def _is_made_like_ours(connection: sqlite3.Connection) -> bool:
    (stored,) = connection.execute("PRAGMA user_version").fetchone()
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as ours:
        _migrate(ours, up_to=stored % _VERSIONS)
        return _schema_of(ours) == _schema_of(connection)


def _schema_of(connection: sqlite3.Connection) -> list[tuple[str, str, str, str]]:
    """What a database is made of, without remarks and spaces."""
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    made = (tuple(map(str, row)) for row in rows)
    return sorted(
        (kind, name, table, " ".join(re.sub(r"--[^\n]*", "", sql).split())) for kind, name, table, sql in made
    )


def _migrate(connection: sqlite3.Connection, up_to: int | None = None) -> None:
    version = check_known_version(connection)
    for step, oldest, sql in migrations():
        if step > version and (up_to is None or step <= up_to):
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA application_id = {APPLICATION_ID};\n"
                f"PRAGMA user_version = {oldest * _VERSIONS + step};\nCOMMIT;"
            )
