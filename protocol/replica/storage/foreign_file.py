"""The database of a store that somebody else may have written, read by value (docs/adr/0365).

Rules:
- nothing goes on from the file: it is read, and what is proven in it is written anew elsewhere;
- every row is looked at, whatever its number is and whichever space or kind it is filed under: an entry is its four
  parts, and a register its signed bytes; what was copied out of them is nobody's word;
- what is no row of ours is passed over: whatever is no entry is lacking, and comes from whoever has it;
- rows come out of plain tables only, by a connection that writes nothing and runs nothing that stands in the file.

It reads the tables of `schema/0001.sql`; a later schema that changes one of them says here how either is read.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias, TypeGuard

from protocol.errors import Code, LocalFailure, PeerFault
from protocol.limits import MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES
from protocol.model.entry import Entry, from_wire
from protocol.model.register import parse_register
from protocol.replica.interfaces import RegisterRow
from protocol.replica.storage.database import Cell, check_known_version, failure_of

_TABLES: Final = ("entry", "register", "mark", "pack", "pack_space", "space")
_MAX_CELL_BYTES: Final = 2 * (MAX_HEADER_BYTES + MAX_PAYLOAD_BYTES)
"""A longer one is in no row of ours that is read here, and makes the file none of ours."""
_ROWS_AT_ONCE: Final = 1_000
_NUMBERS_AT_ONCE: Final = 500
_HASH_BYTES: Final = 32

Numbered: TypeAlias = "list[tuple[int, Entry]]"
"""Entries, each with the number by which its row is found again."""
Row: TypeAlias = "tuple[Cell, ...]"


class ForeignFile:
    """See the module. Used by one thread at a time; every method raises `LocalFailure`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Over what `read_foreign` has opened."""
        self._connection = connection

    def entries(self) -> Iterator[Numbered]:
        """All entries in the order of their numbers, some at a time; that a payload is the signed one was checked."""
        for rows in self._pages("SELECT seq, header, signature, salt, payload FROM entry ORDER BY seq", ()):
            yield list(_entries_in(rows))

    def again(self, numbers: Sequence[int]) -> Iterator[Numbered]:
        """Those of them that have these numbers."""
        for start in range(0, len(numbers), _NUMBERS_AT_ONCE):
            part = numbers[start : start + _NUMBERS_AT_ONCE]
            places = ", ".join("?" * len(part))
            sql = f"SELECT seq, header, signature, salt, payload FROM entry WHERE seq IN ({places}) ORDER BY seq"  # noqa: S608
            for rows in self._pages(sql, part):
                yield list(_entries_in(rows))

    def registers(self) -> list[RegisterRow]:
        """Those that their devices have signed, each under what it says itself."""
        pages = self._pages("SELECT data FROM register", ())
        return [row for rows in pages for (data,) in rows if (row := _register_in(data)) is not None]

    def marks(self, prefix: str) -> dict[str, bytes]:
        """What the store that wrote it remembered, in marks that begin so: nobody has signed any of it."""
        found = {}
        sql = "SELECT CAST(key AS BLOB), value FROM mark WHERE substr(key, 1, ?) = ?"
        for rows in self._pages(sql, (len(prefix), prefix)):
            for key, value in rows:
                if isinstance(key, bytes) and isinstance(value, bytes):
                    with contextlib.suppress(UnicodeDecodeError):
                        found[key.decode()] = value
        return found

    def homes(self) -> dict[bytes, set[bytes]]:
        """Every pack that is named, and the spaces to which it is said to belong."""
        sql = """SELECT pack.hash, space.id FROM pack LEFT JOIN pack_space ON pack_space.pack = pack.number
                 LEFT JOIN space ON space.number = pack_space.space"""
        found: dict[bytes, set[bytes]] = {}
        for rows in self._pages(sql, ()):
            for pack, space in rows:
                if _is_hash(pack):
                    found.setdefault(pack, set()).update({space} if _is_hash(space) else ())
        return found

    def _pages(self, sql: str, parameters: Sequence[Cell]) -> Iterator[list[Row]]:
        with _failures_named():
            cursor = self._connection.execute(sql, parameters)
            while rows := cursor.fetchmany(_ROWS_AT_ONCE):
                yield rows


@contextlib.contextmanager
def read_foreign(file: Path) -> Iterator[ForeignFile]:
    """The database `file`, which nobody has open, to be read.

    Raises `LocalFailure`: DAMAGED for what is no database of a store, UNKNOWN_FORMAT for that of a newer version.
    """
    uri = f"{file.resolve().as_uri()}?mode=ro&immutable=1"
    with _failures_named():
        opened = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    with contextlib.closing(opened) as connection:
        with _failures_named():
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_CELL_BYTES)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            check_known_version(connection)
            _check_plain(connection)
        yield ForeignFile(connection)


def _check_plain(connection: sqlite3.Connection) -> None:
    """Raise `LocalFailure(DAMAGED)` where a view, or a table of some module's, stands for one of ours.

    Reading that would run what somebody else has put there.
    """
    places = ", ".join("?" * len(_TABLES))
    sql = f"SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 AND name IN ({places})"  # noqa: S608
    (found,) = connection.execute(sql, _TABLES).fetchone()
    if found != len(_TABLES):
        raise _no_store()


@contextlib.contextmanager
def _failures_named() -> Iterator[None]:
    """What a bad file makes SQLite say is that: it is somebody's file, and no fault of ours."""
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
            raise failure_of(error) from error
        raise _no_store() from error


def _entries_in(rows: Iterable[Row]) -> Iterator[tuple[int, Entry]]:
    for number, *parts in rows:
        with contextlib.suppress(PeerFault):
            if isinstance(number, int):
                yield number, from_wire(list(parts))


def _register_in(data: Cell) -> RegisterRow | None:
    if isinstance(data, bytes):
        with contextlib.suppress(PeerFault):
            said = parse_register(data)
            return RegisterRow(said.kind, said.subject, said.device, said.at_ms, data)
    return None


def _is_hash(cell: Cell) -> TypeGuard[bytes]:
    return isinstance(cell, bytes) and len(cell) == _HASH_BYTES


def _no_store() -> LocalFailure:
    return LocalFailure(
        Code.DAMAGED,
        "the database in this backup is none that a server makes, or is damaged: use another backup",
    )
