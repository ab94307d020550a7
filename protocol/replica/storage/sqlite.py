# ruff: noqa: D102  (the interface says what each method means)
"""Entries, quarantine, registers and marks in SQLite: the `EntryStore` of agents and of the embedded server.

What must hold is said in `protocol.replica.interfaces`, the tables in `schema/0001.sql`. The chain of a space is
BLAKE3-256(chain before ‖ id) from 32 zeros; its first `CURSOR_HASH_BYTES` are what others see.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Final

from protocol.limits import CURSOR_HASH_BYTES
from protocol.model.entry import Entry, KindClass, class_of
from protocol.reconcile.checkpoint import CHAIN_START, EMPTY_CHAIN
from protocol.replica.ballast import Rank
from protocol.replica.disk import Disk
from protocol.replica.interfaces import Damage, Held, Position, RegisterRow, Stored
from protocol.replica.storage import sqlite_entries as statements
from protocol.replica.storage.database import Cell, Database, insert, select_in
from protocol.replica.storage.sqlite_entries import ENTRY, entry_of, stored_of
from protocol.replica.storage.sqlite_verify import verify_entries

DATABASE: Final = "replica.db"
_OWN: Final = 0o600
_OTHERS: Final = 0o077


class SqliteStore:
    """See `EntryStore`. `database` is shared with the index of packs, so that there is one writer."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._positions: dict[bytes, Position] = {}
        """Where spaces stand: `append` alone moves them. It and reading write here, both in the database's thread."""
        self.roots: Callable[[], Collection[bytes]] = tuple
        """The keys of the territory's kits, as far as somebody who opened the store knows them."""

    @classmethod
    async def open(cls, folder: Path) -> SqliteStore:
        """Open or create the store in `folder`. Raises `LocalFailure` as `Database.open` does."""
        await asyncio.to_thread(Disk(folder).make_folder, ".")
        await asyncio.to_thread(_keep_from_others, folder / DATABASE)
        return cls(await Database.open(folder / DATABASE))

    async def append(
        self,
        entries: Sequence[Entry],
        *,
        unsent: bool = False,
        marks: Mapping[str, bytes | None] | None = None,
        release: Iterable[bytes] = (),
    ) -> list[Stored]:
        released = list(release)

        def work(connection: sqlite3.Connection) -> tuple[list[Stored], dict[bytes, Position]]:
            stored = statements.append(connection, entries, unsent=unsent)
            statements.set_marks(connection, marks or {})
            statements.drop_held(connection, released)
            grown = {one.entry.header.space for one in stored}
            return stored, {space: _position(connection, space) for space in grown}

        if not entries and not marks and not released:
            return []
        stored, _ = await self.database.write(
            work, lambda done: self._positions.update(done[1]), rank=self._rank(entries)
        )
        return stored

    def _rank(self, entries: Sequence[Entry]) -> Rank:
        """What of the ballast these entries may use: with what the kit says, rights come along, and all of a batch."""
        roots = self.roots()
        if any(entry.header.author in roots for entry in entries):
            return Rank.KIT
        is_rights = any(class_of(entry.header.kind) <= KindClass.STRUCTURE for entry in entries)
        return Rank.RIGHTS if is_rights or not entries else Rank.OTHER

    async def present(self, ids: Sequence[bytes]) -> set[bytes]:
        return await self.database.run(lambda connection: statements.present(connection, ids))

    async def get(self, ids: Sequence[bytes]) -> dict[bytes, Entry]:
        def work(connection: sqlite3.Connection) -> dict[bytes, Entry]:
            rows = select_in(connection, f"SELECT {ENTRY} FROM entry WHERE id IN ({{keys}})", ids)  # noqa: S608
            return {entry.id: entry for entry in map(entry_of, rows)}

        return await self.database.run(work)

    async def position(self, space: bytes) -> Position:
        # every fold and every answer asks for it: the way to the connection's thread and back costs more than the rest
        kept = self._positions.get(space)
        if kept is not None and self.database.is_usable:
            return kept

        def work(connection: sqlite3.Connection) -> Position:
            found = _position(connection, space)
            if found.count:
                self._positions[space] = found
            return found

        return await self.database.run(work)

    async def chain_at(self, space: bytes, count: int) -> bytes | None:
        if count == 0:
            return EMPTY_CHAIN
        sql = "SELECT chain FROM entry WHERE space = (SELECT number FROM space WHERE id = ?) AND arrival = ?"
        row = await self.database.run(lambda connection: connection.execute(sql, (space, count)).fetchone())
        return row[0] if row else None

    async def page(self, space: bytes, after: int, max_bytes: int) -> list[Stored]:
        return await self.database.run(
            lambda connection: list(statements.within(statements.arrivals(connection, space, after), max_bytes))
        )

    async def scan(self, space: bytes, after: int = 0) -> list[Stored]:
        return await self.database.run(lambda connection: list(statements.arrivals(connection, space, after)))

    async def of_kinds(self, space: bytes, kinds: Collection[int], after: int = 0) -> list[Stored]:
        return await self.database.run(
            lambda connection: list(statements.arrivals(connection, space, after, kinds=kinds))
        )

    async def scan_kinds(self, kinds: Sequence[int], after: int = 0) -> list[Entry]:
        wanted = [int(kind) for kind in kinds]
        places = ", ".join("?" * len(wanted))
        # the inner query reads the narrow index, and gives the numbers in order
        sql = f"""SELECT {ENTRY} FROM entry
                  WHERE seq IN (SELECT seq FROM entry WHERE kind IN ({places}) AND seq > ?) ORDER BY seq"""  # noqa: S608
        return await self.database.run(_entries(sql, [*wanted, after]))

    async def authored(self, space: bytes, author: bytes) -> list[Entry]:
        sql = f"""SELECT {ENTRY} FROM entry WHERE author = (SELECT number FROM author WHERE key = ?)
                  AND space = (SELECT number FROM space WHERE id = ?) ORDER BY seq"""  # noqa: S608
        return await self.database.run(_entries(sql, (author, space)))

    async def latest(self) -> tuple[int, bytes] | None:
        sql = "SELECT seq, id FROM entry ORDER BY seq DESC LIMIT 1"
        return await self.database.run(lambda connection: connection.execute(sql).fetchone())

    async def authored_by_then(self, author: bytes, latest: tuple[int, bytes]) -> set[bytes] | None:
        known = "SELECT 1 FROM entry WHERE seq = ? AND id = ?"
        sql = "SELECT id FROM entry WHERE author = (SELECT number FROM author WHERE key = ?) AND seq <= ?"

        def query(connection: sqlite3.Connection) -> set[bytes] | None:
            if connection.execute(known, latest).fetchone() is None:
                return None
            return {row[0] for row in connection.execute(sql, (author, latest[0]))}

        return await self.database.run(query)

    async def written(self, space: bytes, classes: Collection[int]) -> dict[bytes, tuple[int, int]]:
        places = ", ".join("?" * len(classes))
        sql = f"""SELECT author.key, count(*), ifnull(sum(length(payload)), 0)
                  FROM entry JOIN author ON author.number = entry.author
                  WHERE space = (SELECT number FROM space WHERE id = ?) AND kind >> 4 IN ({places})
                  GROUP BY author.number"""  # noqa: S608

        def work(connection: sqlite3.Connection) -> dict[bytes, tuple[int, int]]:
            rows = connection.execute(sql, (space, *map(int, classes)))
            return {key: (count, size) for key, count, size in rows}

        return await self.database.run(work)

    async def times(self, space: bytes) -> list[tuple[int, bytes]]:
        sql = "SELECT at_ms, id FROM entry WHERE space = (SELECT number FROM space WHERE id = ?) ORDER BY at_ms, id"
        return await self.database.run(lambda connection: connection.execute(sql, (space,)).fetchall())

    async def spaces(self) -> dict[bytes, int]:
        sql = "SELECT id, count FROM space WHERE count > 0 ORDER BY number"
        return dict(await self.database.recall(sql, lambda connection: dict(connection.execute(sql))))

    async def unsent(self, max_bytes: int) -> list[Entry]:
        sql = f"SELECT {ENTRY}, arrival FROM unsent JOIN entry USING (seq) ORDER BY seq"  # noqa: S608

        def work(connection: sqlite3.Connection) -> list[Entry]:
            return [stored.entry for stored in statements.within(map(stored_of, connection.execute(sql)), max_bytes)]

        return list(await self.database.recall(("unsent", max_bytes), work))

    async def unsent_totals(self) -> tuple[int, int]:
        sql = "SELECT count(*), ifnull(sum(wire_bytes), 0) FROM unsent"
        count, wire_bytes = await self.database.recall(sql, lambda connection: connection.execute(sql).fetchone())
        return count, wire_bytes

    async def unsent_ids(self) -> dict[bytes, set[bytes]]:
        sql = (
            "SELECT space.id, entry.id FROM unsent JOIN entry USING (seq) JOIN space ON space.number = entry.space"
            " ORDER BY seq"
        )
        found: dict[bytes, set[bytes]] = {}
        for space, entry_id in await self.database.recall(sql, lambda connection: connection.execute(sql).fetchall()):
            found.setdefault(space, set()).add(entry_id)
        return found

    async def mark_sent(self, ids: Iterable[bytes]) -> None:
        listed = list(ids)

        def work(connection: sqlite3.Connection) -> None:
            rows = list(select_in(connection, "SELECT seq FROM entry WHERE id IN ({keys})", listed))
            connection.executemany("DELETE FROM unsent WHERE seq = ?", rows)

        if listed:
            await self.database.write(work, rank=Rank.START)

    async def mark_unsent(self, ids: Iterable[bytes]) -> None:
        listed = list(ids)

        def work(connection: sqlite3.Connection) -> None:
            rows = select_in(connection, f"SELECT {ENTRY}, seq FROM entry WHERE id IN ({{keys}})", listed)  # noqa: S608
            waiting = [(row[-1], entry_of(row).wire_bytes) for row in rows]
            insert(connection, "INSERT OR IGNORE INTO unsent (seq, wire_bytes)", waiting)

        if listed:
            await self.database.write(work, rank=Rank.START)

    async def hold(self, held: Sequence[Held], *, max_entries: int, max_bytes: int) -> list[bytes]:
        def work(connection: sqlite3.Connection) -> list[bytes]:
            return statements.hold(connection, held, max_entries=max_entries, max_bytes=max_bytes)

        return await self.database.write(work) if held else []

    async def held(self, ids: Collection[bytes] | None = None) -> list[Held]:
        sql = f"SELECT {ENTRY}, source, missing, number FROM held"  # noqa: S608

        def work(connection: sqlite3.Connection) -> list[Held]:
            named = f"{sql} WHERE id IN ({{keys}})"
            rows = connection.execute(sql) if ids is None else select_in(connection, named, sorted(ids))
            return [Held(row[-3], entry_of(row), row[-2]) for row in sorted(rows, key=itemgetter(-1))]

        return await self.database.run(work)

    async def drop_held(self, ids: Iterable[bytes]) -> None:
        listed = list(ids)
        if listed:
            await self.database.write(lambda connection: statements.drop_held(connection, listed), rank=Rank.START)
            await self.scrub()

    async def mark(self, key: str) -> bytes | None:
        sql = "SELECT value FROM mark WHERE key = ?"
        row = await self.database.recall((sql, key), lambda connection: connection.execute(sql, (key,)).fetchone())
        return row[0] if row else None

    async def marks(self, prefix: str) -> dict[str, bytes]:
        def work(connection: sqlite3.Connection) -> dict[str, bytes]:
            found = {}
            # keys with the prefix lie together, from the prefix itself on
            for key, value in connection.execute("SELECT key, value FROM mark WHERE key >= ? ORDER BY key", (prefix,)):
                if not key.startswith(prefix):
                    break
                found[key] = value
            return found

        return dict(await self.database.recall(("marks", prefix), work))

    async def set_marks(self, marks: Mapping[str, bytes | None], *, by_kit: bool = False) -> None:
        rank = Rank.KIT if by_kit else Rank.START
        if marks:
            await self.database.write(lambda connection: statements.set_marks(connection, marks), rank=rank)

    async def drop_marks(self, seen: Mapping[str, bytes]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM mark WHERE key = ? AND value = ?", list(seen.items()))

        if seen:
            await self.database.write(work, rank=Rank.START)

    async def erase(self, ids: Iterable[bytes], marks: Mapping[str, bytes | None] | None = None) -> None:
        gone = [(entry_id,) for entry_id in ids]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("UPDATE entry SET salt = NULL, payload = NULL WHERE id = ?", gone)
            # what was moved aside may be the same
            connection.execute("DELETE FROM damaged")
            statements.set_marks(connection, marks or {})

        if gone or marks:
            await self.database.write(work, rank=Rank.START)
        if gone:
            await self.scrub()

    async def bare(self) -> list[Entry]:
        return await self.database.run(_entries(f"SELECT {ENTRY} FROM entry WHERE payload IS NULL ORDER BY seq", ()))  # noqa: S608

    async def fill(self, entries: Sequence[Entry], marks: Mapping[str, bytes | None] | None = None) -> None:
        sql = "UPDATE entry SET salt = ?, payload = ? WHERE id = ? AND payload IS NULL"
        rows = [(entry.salt, entry.payload, entry.id) for entry in entries if entry.payload is not None]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(sql, rows)
            statements.set_marks(connection, marks or {})

        await self.database.write(work, rank=self._rank(entries))

    async def put_registers(self, rows: Sequence[RegisterRow]) -> list[RegisterRow]:
        def work(connection: sqlite3.Connection) -> list[RegisterRow]:
            return [row for row in rows if statements.put_register(connection, row)]

        return await self.database.write(work) if rows else []

    async def drop_registers(self, devices: Collection[bytes]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM register WHERE device = ?", [(device,) for device in devices])

        await self.database.write(work, rank=Rank.START)
        await self.scrub()

    async def registers(self, kind: int | None = None, since_ms: int = 0) -> list[RegisterRow]:
        sql = """SELECT kind, subject, device, at_ms, data FROM register
                 WHERE (?1 IS NULL OR kind = ?1) AND at_ms >= ?2 ORDER BY kind, subject, device"""

        def work(connection: sqlite3.Connection) -> list[RegisterRow]:
            return [RegisterRow(*row) for row in connection.execute(sql, (kind, since_ms))]

        return list(await self.database.recall((sql, kind, since_ms), work))

    async def verify(self) -> list[Damage]:
        try:
            return await verify_entries(self.database)
        finally:
            # what was bad has been moved aside, and the rest counted anew
            self._positions.clear()

    async def close(self) -> None:
        await self.database.close()

    async def scrub(self) -> None:
        """Until then the file still has the old pages, and the log the new ones."""
        await self.database.cut_log()


def _position(connection: sqlite3.Connection, space: bytes) -> Position:
    row = connection.execute("SELECT count, chain FROM space WHERE id = ?", (space,)).fetchone()
    count, chain = row or (0, CHAIN_START)
    return Position(count, chain[:CURSOR_HASH_BYTES])


def _keep_from_others(file: Path) -> None:
    """Names and keys stand in it: no other account of the machine reads it. SQLite gives its log the same rights."""
    if os.name != "posix":
        return
    # what is not ours to change, or cannot be opened, is for whoever opens it next to say
    with contextlib.suppress(OSError):
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, _OWN)
        try:
            if os.fstat(descriptor).st_mode & _OTHERS:
                os.fchmod(descriptor, _OWN)
        finally:
            os.close(descriptor)


def _entries(sql: str, parameters: Sequence[Cell]) -> Callable[[sqlite3.Connection], list[Entry]]:
    return lambda connection: [entry_of(row) for row in connection.execute(sql, parameters)]
