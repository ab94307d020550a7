"""The rows behind `protocol.replica.pack_rebuild`: what packs hold, and to which spaces they belong, written anew.

What entries bear out is gathered in a table of this connection's own, which is gone with it. Nothing here is asked for
content meanwhile: packs may stand without a space until the end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, cast

from protocol.pack import FinishedPack
from protocol.replica.database import Database, select_in
from protocol.replica.interfaces import COMPLETE_MARKS
from protocol.replica.sqlite_content import ContentIndex, add_content
from protocol.replica.sqlite_entries import space_number

# of what a pack holds, how many streams and chunks a space names
_BORNE: Final = """CREATE TEMP TABLE IF NOT EXISTS borne
    (pack INTEGER, space INTEGER, named INTEGER, PRIMARY KEY (pack, space)) WITHOUT ROWID"""
_COUNT: Final = """INSERT INTO temp.borne SELECT pack, ?, count(*) FROM {table} WHERE {name} IN ({keys}) GROUP BY pack
    ON CONFLICT DO UPDATE SET named = named + excluded.named"""
_BY_STREAM: Final = _COUNT.format(table="stream", name="id", keys="{keys}")
_BY_CHUNK: Final = _COUNT.format(table="chunk", name="hash", keys="{keys}")


class RebuiltRows:
    """See the module. Raises `LocalFailure` as the database does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._index = ContentIndex(database)

    async def sizes(self) -> dict[bytes, int]:
        """Every pack that has a row, and its size."""
        return await self._index.sizes()

    async def forget_content(self) -> None:
        """Forget what packs are said to hold, what is said to be complete, and every delta; the packs themselves stay.

        Nobody sends what the database says was never sent.
        """

        def work(connection: sqlite3.Connection) -> None:
            for table in ("frame", "chunk", "stream", "delta"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608
            connection.execute("UPDATE pack_space SET unsent = 0 WHERE unsent = 1")
            connection.execute("DELETE FROM mark WHERE key GLOB ?", (f"{COMPLETE_MARKS}*",))

        await self._database.write(work)

    async def put(self, packs: Sequence[FinishedPack]) -> None:
        """Note what packs hold, of which nothing is known yet; one that had no row has one, and no space."""

        def work(connection: sqlite3.Connection) -> None:
            for pack in packs:
                row = connection.execute("SELECT number FROM pack WHERE hash = ?", (pack.hash,)).fetchone()
                if row is None:
                    sql = "INSERT INTO pack (hash, size) VALUES (?, ?) RETURNING number"
                    row = connection.execute(sql, (pack.hash, pack.size)).fetchone()
                add_content(connection, cast("int", row[0]), pack)

        await self._database.write(work)

    async def remove(self, packs: Sequence[bytes]) -> None:
        """Forget packs, and all that only they hold."""
        await self._index.remove(packs)

    async def bear_out(self, space: bytes, streams: Sequence[bytes], chunks: Sequence[bytes]) -> None:
        """Entries of a space name these, each told once: packs that hold any of them may belong to it."""

        def work(connection: sqlite3.Connection) -> None:
            number = space_number(connection, space)
            connection.execute(_BORNE)
            for sql, names in ((_BY_STREAM, streams), (_BY_CHUNK, chunks)):
                # they give no rows: looking at all of them is what runs them
                for _ in select_in(connection, sql, names, (number,)):
                    pass

        await self._database.write(work)

    async def give_homes(self, *, unsent: bool) -> None:
        """Let each pack belong to the spaces that name the most of what it holds."""
        sql = """INSERT OR IGNORE INTO pack_space (pack, space, unsent) SELECT pack, space, ? FROM temp.borne
                 WHERE named = (SELECT max(named) FROM temp.borne AS other WHERE other.pack = borne.pack)"""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_BORNE)
            connection.execute(sql, (int(unsent),))

        await self._database.write(work)

    async def keep_homes(self) -> None:
        """Let packs belong no more to spaces whose entries do not bear it out."""
        sql = """DELETE FROM pack_space WHERE NOT EXISTS (SELECT 1 FROM temp.borne
                 WHERE borne.pack = pack_space.pack AND borne.space = pack_space.space)"""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_BORNE)
            connection.execute(sql)

        await self._database.write(work)

    async def homeless(self) -> list[bytes]:
        """The packs that belong to no space."""
        sql = "SELECT hash FROM pack WHERE number NOT IN (SELECT pack FROM pack_space)"
        return await self._database.run(lambda connection: [row[0] for row in connection.execute(sql)])

    async def end(self) -> None:
        """Forget what entries bear out."""
        await self._database.write(lambda connection: connection.execute("DROP TABLE IF EXISTS temp.borne").close())
