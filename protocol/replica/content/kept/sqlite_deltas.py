"""The rows of the deltas that a replica keeps (`packs` has their files)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, cast

from protocol.replica.ballast import Rank
from protocol.replica.interfaces import DeltaInfo
from protocol.replica.storage.database import Database, select_in
from protocol.replica.storage.sqlite_entries import space_number
from protocol.transfer.chunking import HASH_BYTES
from protocol.transfer.deflate_parameters import Profile

_SELECT: Final = """SELECT delta.hash, delta.size, space.id, trees, bases, covers, strong, parts, levels
    FROM delta JOIN space ON space.number = delta.space"""
_NEXT_USE: Final = "(SELECT ifnull(max(used), 0) + 1 FROM delta)"


class DeltaRows:
    """Which deltas are here. Raises `LocalFailure` as the database does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, about: DeltaInfo, *, unsent: bool, budget_bytes: int) -> list[bytes]:
        """Note a delta whose file is durable; the deltas that make room for it, whose files may go."""

        def work(connection: sqlite3.Connection) -> list[bytes]:
            sql = f"""INSERT INTO delta (hash, size, space, trees, bases, covers, strong, parts, levels, unsent, used)
                      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {_NEXT_USE})
                      ON CONFLICT (hash) DO UPDATE SET used = excluded.used"""  # noqa: S608
            ids = (b"".join(about.trees), b"".join(about.bases), b"".join(about.covers))
            strong = (int(about.strong), b"".join(about.parts))
            space = space_number(connection, about.space)
            connection.execute(sql, (about.hash, about.size, space, *ids, *strong, about.levels, int(unsent)))
            return _make_room(connection, budget_bytes)

        return await self._database.write(work)

    async def of_space(self, space: bytes) -> list[DeltaInfo]:
        """The deltas of a space, oldest first."""
        sql = f"{_SELECT} WHERE space.id = ? ORDER BY delta.number"
        rows = await self._database.recall(
            (sql, space), lambda connection: connection.execute(sql, (space,)).fetchall()
        )
        return [_info(row) for row in rows]

    async def unsent(self) -> list[DeltaInfo]:
        """The deltas that are to go to the server, oldest first."""
        sql = f"{_SELECT} WHERE unsent = 1 ORDER BY delta.number"
        rows = await self._database.recall(sql, lambda connection: connection.execute(sql).fetchall())
        return [_info(row) for row in rows]

    async def find(self, delta: bytes) -> DeltaInfo | None:
        """One delta."""
        sql = f"{_SELECT} WHERE delta.hash = ?"
        row = await self._database.recall((sql, delta), lambda connection: connection.execute(sql, (delta,)).fetchone())
        return None if row is None else _info(row)

    async def sizes(self) -> dict[bytes, int]:
        """Every delta and its size."""
        return await self._database.run(lambda connection: dict(connection.execute("SELECT hash, size FROM delta")))

    async def remove(self, deltas: Sequence[bytes]) -> None:
        """Forget deltas."""
        rows = [(delta,) for delta in deltas]
        if rows:
            sql = "DELETE FROM delta WHERE hash = ?"
            await self._database.write(lambda connection: connection.executemany(sql, rows) and None, rank=Rank.START)


def sent_deltas(connection: sqlite3.Connection, deltas: Sequence[bytes]) -> list[bytes]:
    """Note that the server holds these deltas; the packs that it therefore need not be sent."""
    sql = "UPDATE delta SET unsent = 0 WHERE hash IN ({keys}) RETURNING covers"
    return [pack for (covers,) in select_in(connection, sql, deltas) for pack in _ids(cast("bytes", covers))]


def _ids(joined: bytes) -> tuple[bytes, ...]:
    return tuple(joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES))


def _info(row: Sequence[object]) -> DeltaInfo:
    delta, size, space, trees, bases, covers, strong, parts, levels = cast(
        "tuple[bytes, int, bytes, bytes, bytes, bytes, int, bytes, int]", tuple(row)
    )
    return DeltaInfo(
        delta, size, space, _ids(trees), _ids(bases), _ids(covers), bool(strong), _ids(parts), Profile(levels)
    )


def _make_room(connection: sqlite3.Connection, budget_bytes: int) -> list[bytes]:
    """Remove the rows that were used longest ago until the others fit; those still to be sent stay."""
    room = budget_bytes
    gone: list[bytes] = []
    for delta, size, unsent in connection.execute("SELECT hash, size, unsent FROM delta ORDER BY used DESC").fetchall():
        room -= size
        if room < 0 and not unsent:
            gone.append(delta)
    connection.executemany("DELETE FROM delta WHERE hash = ?", [(delta,) for delta in gone])
    return gone
