"""The rows behind `pack_rebuild`: what packs hold, and to which spaces they belong, written anew.

`verify` has them compared with the packs, and put right one by one. What entries bear out is gathered in a table of
this connection's own, which is gone with it. While all is made anew nothing is asked for content: packs may stand
without a space until the end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Final, TypeAlias, cast

from protocol.replica.content.kept.sqlite_content import (
    ContentIndex,
    add_content,
    forget_complete,
    pack_number,
    places_in,
    streams_in,
)
from protocol.replica.storage.database import Cell, Database, select_in
from protocol.replica.storage.sqlite_entries import space_number
from protocol.transfer.pack import FinishedPack

# of what a pack holds, how many streams and chunks a space names
_BORNE: Final = """CREATE TEMP TABLE IF NOT EXISTS borne
    (pack INTEGER, space INTEGER, named INTEGER, PRIMARY KEY (pack, space)) WITHOUT ROWID"""
_TABLES: Final = ("stream", "chunk", "frame", "pack_space")
_COUNT: Final = """INSERT INTO temp.borne SELECT pack, ?, count(*) FROM {table} WHERE {name} IN ({keys}) GROUP BY pack
    ON CONFLICT DO UPDATE SET named = named + excluded.named"""
_BY_STREAM: Final = _COUNT.format(table="stream", name="id", keys="{keys}")
_BY_CHUNK: Final = _COUNT.format(table="chunk", name="hash", keys="{keys}")

Counts: TypeAlias = Mapping[int, tuple[int, int]]
"""The number of each pack → how many chunks and streams it is said to hold."""


class RebuiltRows:
    """See the module. Raises `LocalFailure` as the database does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._index = ContentIndex(database)

    async def sizes(self) -> dict[bytes, int]:
        """Every pack that has a row, and its size."""
        return await self._index.sizes()

    async def put(self, packs: Sequence[FinishedPack]) -> None:
        """Note what packs hold, of which nothing is known yet; one that had no row has one, and no space."""

        def work(connection: sqlite3.Connection) -> None:
            for pack in packs:
                number, _ = pack_number(connection, pack)
                add_content(connection, number, pack)

        await self._database.write(work)

    async def count(self) -> tuple[Counts, int]:
        """How much each pack is said to hold; and of how many packs, that there are not, something was said.

        What is said of these is forgotten.
        """

        def look(connection: sqlite3.Connection) -> tuple[Counts, set[int]]:
            known = {number for (number,) in connection.execute("SELECT number FROM pack")}
            said = {
                table: dict(connection.execute(f"SELECT pack, count(*) FROM {table} GROUP BY pack"))  # noqa: S608
                for table in _TABLES
            }
            counts = {number: (said["chunk"].get(number, 0), said["stream"].get(number, 0)) for number in known}
            return counts, {number for each in said.values() for number in each} - known

        def forget(connection: sqlite3.Connection) -> None:
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table} WHERE pack NOT IN (SELECT number FROM pack)")  # noqa: S608
            forget_complete(connection)

        counts, strays = await self._database.run(look)
        if strays:
            await self._database.write(forget)
        return counts, len(strays)

    async def put_right(self, pack: FinishedPack, counts: Counts) -> bool:
        """Write anew what a pack is said to hold, if it holds something else; whether it did. `counts` are of before.

        One that has gone, or come, since they were taken is left alone.
        """
        if await self._database.run(lambda connection: _is_as_said(connection, pack, counts)):
            return False

        def work(connection: sqlite3.Connection) -> None:
            row = connection.execute("SELECT number FROM pack WHERE hash = ?", (pack.hash,)).fetchone()
            if row is not None:
                for table in ("stream", "chunk", "frame"):
                    connection.execute(f"DELETE FROM {table} WHERE pack = ?", row)  # noqa: S608
                add_content(connection, row[0], pack)
                forget_complete(connection)

        await self._database.write(work)
        return True

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

    async def take_homes(self, homes: Mapping[bytes, Collection[bytes]]) -> None:
        """Let packs belong to the spaces to which somebody says they do, as far as those bear it out."""
        sql = """INSERT OR IGNORE INTO pack_space (pack, space, unsent) SELECT pack, space, 0 FROM temp.borne
                 WHERE pack = (SELECT number FROM pack WHERE hash = ?)
                 AND space = (SELECT number FROM space WHERE id = ?)"""
        said = [(pack, space) for pack, spaces in homes.items() for space in spaces]

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_BORNE)
            connection.executemany(sql, said)

        await self._database.write(work)

    async def homeless(self) -> list[bytes]:
        """The packs that belong to no space."""
        sql = "SELECT hash FROM pack WHERE number NOT IN (SELECT pack FROM pack_space)"
        return await self._database.run(lambda connection: [row[0] for row in connection.execute(sql)])

    async def end(self) -> None:
        """Forget what entries bear out."""
        await self._database.write(lambda connection: connection.execute("DROP TABLE IF EXISTS temp.borne").close())


def _is_as_said(connection: sqlite3.Connection, pack: FinishedPack, counts: Counts) -> bool:
    row = connection.execute("SELECT number FROM pack WHERE hash = ?", (pack.hash,)).fetchone()
    if row is None or row[0] not in counts:
        return True
    number = cast("int", row[0])
    frames, chunks = places_in(number, pack)
    sql = (
        "SELECT pack, number, start, stored_bytes, plain_bytes, codec, digest FROM frame WHERE pack = ? ORDER BY number"
    )
    if connection.execute(sql, row).fetchall() != frames:
        return False
    held: dict[Cell, tuple[Cell, ...]] = {}
    for chunk in chunks:
        # of equal chunks the first counts
        held.setdefault(chunk[0], chunk)
    streams = set(pack.stream_ids)
    if counts[number] != (len(held), len(streams)):
        return False
    sql = "SELECT hash, pack, frame, start, length FROM chunk WHERE pack = ? AND hash IN ({keys})"
    if set(select_in(connection, sql, cast("list[bytes]", list(held)), row)) != set(held.values()):
        return False
    sql = "SELECT id, pack, chunks FROM stream WHERE pack = ? AND id IN ({keys})"
    for part in streams_in(number, pack):
        names = list({cast("bytes", stream[0]) for stream in part})
        if set(select_in(connection, sql, names, row)) != set(part):
            return False
    return True
