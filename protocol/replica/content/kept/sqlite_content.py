"""Which packs are here, what they hold and whom they belong to: the index of `packs` in SQLite.

It lies in the database of the entries, so that one writer and one flush serve both. A row of `pack` is written in the
transaction that makes all of the pack visible, after its file has become durable.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, TypeAlias, TypeVar, cast

from protocol.replica.ballast import Rank
from protocol.replica.content.kept.sqlite_deltas import sent_deltas
from protocol.replica.content.packing.pack_remains import Remains, records, remains_of, unnamed_after, without_unnamed
from protocol.replica.interfaces import COMPLETE_MARKS, PackInfo
from protocol.replica.storage.database import Cell, Database, insert, select_in
from protocol.replica.storage.sqlite_entries import space_number
from protocol.transfer.chunking import ChunkList, ChunkRef, decode_chunk_refs, encode_chunk_list
from protocol.transfer.pack import Codec, FinishedPack, Frame, resolve_streams

T = TypeVar("T")
Rows: TypeAlias = "list[tuple[Cell, ...]]"

CHUNKS_AT_ONCE: Final = 64
_ROWS_AT_ONCE: Final = 5_000
_PACKS_AT_ONCE: Final = 500
_NAMES_RECALLED: Final = 8

_SPACE: Final = "(SELECT number FROM space WHERE id = ?)"
_INFO: Final = """SELECT pack.hash, pack.size, space.id
    FROM pack JOIN pack_space ON pack_space.pack = pack.number JOIN space ON space.number = pack_space.space"""
_PLACES: Final = """SELECT chunk.hash, pack.hash, chunk.start, chunk.length,
        frame.start, frame.stored_bytes, frame.plain_bytes, frame.codec, frame.digest
    FROM chunk JOIN pack ON pack.number = chunk.pack
    JOIN frame ON frame.pack = chunk.pack AND frame.number = chunk.frame
    WHERE chunk.hash IN ({keys})"""

_HOLDERS: Final = f"""SELECT pack.hash, pack.size, {{what}} FROM {{table}} JOIN pack_space USING (pack)
    JOIN pack ON pack.number = {{table}}.pack WHERE space = {_SPACE} AND {{table}}.{{name}} IN ({{{{keys}}}})"""  # noqa: S608
_CHUNK_HOLDERS: Final = _HOLDERS.format(table="chunk", name="hash", what="chunk.hash, chunk.length")
_LIST_HOLDERS: Final = _HOLDERS.format(table="stream", name="id", what="stream.id, NULL")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk lies: in which pack, in which of its frames, and where once that is opened.

    The frame is described as a single chunk, which `protocol.transfer.pack.open_frame` takes as well.
    """

    pack: bytes
    frame: Frame
    start: int
    length: int


class StreamPlaces(NamedTuple):
    """The chunk list of a stream, and the places of its first `CHUNKS_AT_ONCE` chunks."""

    chunks: ChunkList
    places: dict[bytes, list[Place]]


class ContentIndex:
    """Packs, frames, chunks and streams in the database. Raises `LocalFailure` as the database does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.changes = 0

    async def add(self, space: bytes, packs: Sequence[FinishedPack], *, unsent: bool) -> None:
        """Make these packs visible in a space, all at once."""

        def work(connection: sqlite3.Connection) -> None:
            number = space_number(connection, space)
            for pack in packs:
                _add(connection, number, pack, unsent=unsent)

        await self._database.write(work)
        self.changes += 1

    async def share(self, pack: bytes, space: bytes) -> None:
        """Let a pack, if it is here, belong to one more space."""

        def work(connection: sqlite3.Connection) -> None:
            # what the server is not known to hold in one space, it is not known to hold in another
            sql = """INSERT OR IGNORE INTO pack_space (pack, space, unsent)
                     SELECT pack, ?, max(unsent) FROM pack_space JOIN pack ON pack.number = pack WHERE hash = ?
                     GROUP BY pack"""
            connection.execute(sql, (space_number(connection, space), pack))

        await self._database.write(work)
        self.changes += 1

    async def remove(self, packs: Sequence[bytes]) -> None:
        """Forget packs and all that only they hold."""

        def work(connection: sqlite3.Connection) -> None:
            _remove(connection, packs)
            forget_complete(connection)

        if packs:
            await self._database.write(work, rank=Rank.START)
            self.changes += 1

    async def given_up(self, spaces: Collection[bytes], streams: Collection[bytes]) -> list[Remains]:
        """The packs that go with `streams`, and what others need of each: see `ContentStore.forget`."""
        return await self._database.run(lambda connection: remains_of(connection, spaces, set(streams)))

    async def unnamed(self) -> list[bytes]:
        """See `ContentStore`. Some thousands of chunks at a time, and other work of the database in between."""
        found: set[int] = set()
        place: tuple[bytes, int] | None = (b"", 0)
        while place is not None:
            packs, place = await self._database.run(partial(unnamed_after, place=place))
            found |= packs
        sql = "SELECT hash FROM pack WHERE number = ?"

        def work(connection: sqlite3.Connection) -> list[bytes]:
            rows = (connection.execute(sql, (number,)).fetchone() for number in sorted(found))
            return [row[0] for row in rows if row is not None]

        return await self._database.run(work)

    async def without_unnamed(self, packs: Collection[bytes]) -> list[Remains]:
        """The packs that go with such chunks, of these, and what is left of each."""
        return await self._database.run(lambda connection: without_unnamed(connection, packs))

    async def sharing(self, streams: Collection[bytes]) -> set[bytes]:
        """See `ContentStore`. All lists of chunks are looked through once."""

        def work(connection: sqlite3.Connection) -> set[bytes]:
            sql = "SELECT chunks FROM stream WHERE id IN ({keys})"
            lists = [cast("bytes", row[0]) for row in select_in(connection, sql, sorted(streams))]
            chunks = {record for refs in lists for record in records(refs)}
            everything = connection.execute("SELECT id, chunks FROM stream") if chunks else ()
            return {
                cast("bytes", name)
                for name, refs in everything
                if name not in streams and not chunks.isdisjoint(records(refs))
            }

        return await self._database.run(work)

    async def spaces_of(self, streams: Collection[bytes]) -> set[bytes]:
        """To which spaces the packs belong that hold these streams."""
        sql = """SELECT DISTINCT space.id FROM stream JOIN pack_space USING (pack)
                 JOIN space ON space.number = pack_space.space WHERE stream.id IN ({keys})"""

        def work(connection: sqlite3.Connection) -> set[bytes]:
            return {cast("bytes", row[0]) for row in select_in(connection, sql, sorted(streams))}

        return await self._database.run(work)

    async def sizes(self) -> dict[bytes, int]:
        """Every pack and its size."""
        return await self._database.run(lambda connection: dict(connection.execute("SELECT hash, size FROM pack")))

    async def pack(self, pack: bytes, space: bytes | None) -> PackInfo | None:
        """The pack, in this space or in any."""
        sql = f"{_INFO} WHERE pack.hash = ?1 AND (?2 IS NULL OR space.id = ?2) LIMIT 1"
        asked = pack, space
        row = await self._database.recall((sql, asked), lambda connection: connection.execute(sql, asked).fetchone())
        return PackInfo(*row) if row else None

    async def unsent(self) -> list[PackInfo]:
        """Packs, once for each space in which the server is not known to hold them, smallest first."""
        sql = f"{_INFO} WHERE pack_space.unsent = 1 ORDER BY pack.size, pack.hash, space.id"
        rows = await self._database.recall(sql, lambda connection: connection.execute(sql).fetchall())
        return [PackInfo(*row) for row in rows]

    async def mark(self, packs: Sequence[bytes], *, unsent: bool) -> None:
        """Note for packs, in all of their spaces, whether they remain to be sent; a sent delta counts for its packs."""
        sql = "UPDATE pack_space SET unsent = ? WHERE pack = (SELECT number FROM pack WHERE hash = ?)"

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(sql, [(int(unsent), pack) for pack in packs])
            if not unsent:
                covered = sent_deltas(connection, packs)
                connection.executemany(sql, [(0, pack) for pack in covered])

        if packs:
            await self._database.write(work, rank=Rank.START)

    async def totals(self) -> tuple[int, int, int]:
        """How many packs, how many different chunks, how many bytes of packs."""
        sql = """SELECT (SELECT count(*) FROM pack), (SELECT count(DISTINCT hash) FROM chunk),
                 (SELECT ifnull(sum(size), 0) FROM pack)"""
        row = await self._database.run(lambda connection: connection.execute(sql).fetchone())
        return cast("tuple[int, int, int]", row)

    async def held_chunks(self, space: bytes, chunks: Collection[ChunkRef]) -> set[ChunkRef]:
        """Those of `chunks` that a pack of the space holds."""
        sql = f"""SELECT DISTINCT hash, length FROM chunk JOIN pack_space USING (pack)
                  WHERE space = {_SPACE} AND hash IN ({{keys}})"""  # noqa: S608
        asked = list({chunk.hash for chunk in chunks})

        def work(connection: sqlite3.Connection) -> set[ChunkRef]:
            return {_chunk(row) for row in select_in(connection, sql, asked, (space,))}.intersection(chunks)

        return set(await self._recall((sql, space), chunks, work))

    async def held_streams(self, space: bytes, streams: Sequence[bytes]) -> set[bytes]:
        """Those of `streams` whose lists a pack of the space brought."""
        sql = f"""SELECT DISTINCT id FROM stream JOIN pack_space USING (pack)
                  WHERE space = {_SPACE} AND id IN ({{keys}})"""  # noqa: S608

        def work(connection: sqlite3.Connection) -> set[bytes]:
            return {cast("bytes", row[0]) for row in select_in(connection, sql, streams, (space,))}

        return set(await self._recall((sql, space), streams, work))

    async def held_names(self, space: bytes, most: int) -> list[bytes]:
        """See `ContentStore`."""
        sql = f"""SELECT hash FROM chunk JOIN pack_space USING (pack) WHERE space = {_SPACE}
                  UNION SELECT id FROM stream JOIN pack_space USING (pack) WHERE space = {_SPACE}
                  LIMIT ?"""  # noqa: S608

        def work(connection: sqlite3.Connection) -> list[bytes]:
            return [row[0] for row in connection.execute(sql, (space, space, most + 1))]

        found = await self._database.run(work)
        return found if len(found) <= most else []

    async def holders(
        self, space: bytes, chunks: Iterable[ChunkRef], streams: Iterable[bytes]
    ) -> dict[PackInfo, set[bytes]]:
        """The packs of the space that hold any of `chunks`, or the list of any of `streams`, and which."""
        lengths: defaultdict[bytes, set[int]] = defaultdict(set)
        for chunk in chunks:
            lengths[chunk.hash].add(chunk.length)
        lists = list(set(streams))

        def work(connection: sqlite3.Connection) -> dict[PackInfo, set[bytes]]:
            found: dict[PackInfo, set[bytes]] = {}
            for sql, wanted in ((_CHUNK_HOLDERS, list(lengths)), (_LIST_HOLDERS, lists)):
                for row in select_in(connection, sql, wanted, (space,)):
                    pack, size, held, length = cast("tuple[bytes, int, bytes, int | None]", row)
                    if length is None or length in lengths[held]:
                        found.setdefault(PackInfo(pack, size, space), set()).add(held)
            return found

        return await self._database.run(work)

    async def chunk_lists(self, streams: Sequence[bytes]) -> dict[bytes, ChunkList]:
        """The chunk lists of those streams that have one."""
        return await self._database.run(lambda connection: _chunk_lists(connection, streams))

    async def known_streams(self, streams: Sequence[bytes]) -> set[bytes]:
        """Those of `streams` that have a chunk list."""
        sql = "SELECT DISTINCT id FROM stream WHERE id IN ({keys})"

        def work(connection: sqlite3.Connection) -> set[bytes]:
            return {cast("bytes", row[0]) for row in select_in(connection, sql, streams)}

        return set(await self._recall((sql,), streams, work))

    async def _recall(
        self, question: tuple[Hashable, ...], names: Collection[Hashable], work: Callable[[sqlite3.Connection], T]
    ) -> T:
        """What is asked of a few names is asked again and again; of many it is too long a question to remember."""
        if len(names) > _NAMES_RECALLED:
            return await self._database.run(work)
        return await self._database.recall((*question, *names), work)

    async def stream_places(self, stream: bytes) -> StreamPlaces | None:
        """What reading a stream begins with, in one question."""

        def work(connection: sqlite3.Connection) -> StreamPlaces | None:
            chunks = _chunk_lists(connection, [stream]).get(stream)
            if chunks is None:
                return None
            return StreamPlaces(chunks, _places(connection, chunks[:CHUNKS_AT_ONCE]))

        return await self._database.run(work)

    async def places(self, chunks: ChunkList) -> dict[bytes, list[Place]]:
        """Where chunks lie, in whatever space."""
        return await self._database.run(lambda connection: _places(connection, chunks))


def forget_complete(connection: sqlite3.Connection) -> None:
    """Take back what says that content is complete."""
    connection.execute("DELETE FROM mark WHERE key GLOB ?", (f"{COMPLETE_MARKS}*",))


def _chunk(row: tuple[object, ...]) -> ChunkRef:
    return ChunkRef(*cast("tuple[bytes, int]", row))


def _chunk_lists(connection: sqlite3.Connection, streams: Sequence[bytes]) -> dict[bytes, ChunkList]:
    rows = select_in(connection, "SELECT id, chunks FROM stream WHERE id IN ({keys})", streams)
    return {cast("bytes", stream): decode_chunk_refs(cast("bytes", chunks)) for stream, chunks in rows}


def _places(connection: sqlite3.Connection, chunks: ChunkList) -> dict[bytes, list[Place]]:
    found: dict[bytes, list[Place]] = {}
    for row in select_in(connection, _PLACES, [chunk.hash for chunk in chunks]):
        chunk, pack, start, length, offset, stored, plain, codec, digest = cast(
            "tuple[bytes, bytes, int, int, int, int, int, int, bytes]", row
        )
        frame = Frame(offset, stored, plain, Codec(codec), digest, (plain,))
        found.setdefault(chunk, []).append(Place(pack, frame, start, length))
    return found


def _add(connection: sqlite3.Connection, space: int, pack: FinishedPack, *, unsent: bool) -> None:
    number, is_new = pack_number(connection, pack)
    if is_new:
        add_content(connection, number, pack)
    # once the server is known to hold it, hearing of it from elsewhere does not change that
    sql = """INSERT INTO pack_space (pack, space, unsent) VALUES (?, ?, ?)
             ON CONFLICT DO UPDATE SET unsent = min(unsent, excluded.unsent)"""
    connection.execute(sql, (number, space, int(unsent)))


def pack_number(connection: sqlite3.Connection, pack: FinishedPack) -> tuple[int, bool]:
    """The number of a pack's row, which is made where there is none; and whether it was."""
    sql = "SELECT number FROM pack WHERE hash = ?"
    if (row := connection.execute(sql, (pack.hash,)).fetchone()) is not None:
        return row[0], False
    sql = "INSERT INTO pack (hash, size) VALUES (?, ?) RETURNING number"
    return connection.execute(sql, (pack.hash, pack.size)).fetchone()[0], True


def add_content(connection: sqlite3.Connection, number: int, pack: FinishedPack) -> None:
    """What a pack holds, as rows, under its number."""
    frames, chunks = places_in(number, pack)
    insert(connection, "INSERT INTO frame (pack, number, start, stored_bytes, plain_bytes, codec, digest)", frames)
    insert(connection, "INSERT OR IGNORE INTO chunk (hash, pack, frame, start, length)", chunks)
    for part in streams_in(number, pack):
        insert(connection, "INSERT OR IGNORE INTO stream (id, pack, chunks)", part)


def places_in(number: int, pack: FinishedPack) -> tuple[Rows, Rows]:
    """The rows of a pack's frames, and of its chunks: in the order of their key, so that neighbours share a page."""
    frames: Rows = []
    chunks: Rows = []
    names = iter(pack.chunks)
    for frame_number, frame in enumerate(pack.index.frames):
        place = (frame.offset, frame.stored_bytes, frame.plain_bytes, int(frame.codec), frame.digest)
        frames.append((number, frame_number, *place))
        start = 0
        for length in frame.chunk_lengths:
            chunks.append((next(names).hash, number, frame_number, start, length))
            start += length
    return frames, sorted(chunks)


def streams_in(number: int, pack: FinishedPack) -> Iterator[Rows]:
    """The rows of a pack's streams, some at a time."""
    rows: Rows = []
    for stream, chunks in zip(pack.stream_ids, resolve_streams(pack.index, pack.chunks), strict=True):
        rows.append((stream, number, encode_chunk_list(chunks)))
        if len(rows) == _ROWS_AT_ONCE:
            yield rows
            rows = []
    yield rows


def _remove(connection: sqlite3.Connection, packs: Sequence[bytes]) -> None:
    """Of chunks and streams no index tells the pack: they are looked through once for many."""
    rows = select_in(connection, "SELECT number FROM pack WHERE hash IN ({keys})", packs)
    numbers = [cast("int", row[0]) for row in rows]
    for start in range(0, len(numbers), _PACKS_AT_ONCE):
        some = numbers[start : start + _PACKS_AT_ONCE]
        places = ", ".join("?" * len(some))
        for table in ("stream", "chunk", "frame", "pack_space"):
            connection.execute(f"DELETE FROM {table} WHERE pack IN ({places})", some)  # noqa: S608
        connection.execute(f"DELETE FROM pack WHERE number IN ({places})", some)  # noqa: S608
