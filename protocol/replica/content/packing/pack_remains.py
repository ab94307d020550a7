"""What others need of packs of which a part is to be forgotten, and how that gets into packs of its own (R7).

A pack holds what was published together. When one file of it is to be destroyed and another is still named, the other
moves: its chunks and its list are written anew, and the old pack goes as a whole. What is forgotten then lies nowhere,
and is served to nobody with what lay beside it. docs/protocol.md, "Erasure".

Rules:
- a large file fills packs that hold no list: a pack goes for a list that is given up, and for each chunk that only such
  lists name;
- a pack of which every chunk is needed stays as it is, so that no word makes machines write lessons anew;
- what no list names may be arriving, and its list lie in a pack that comes later: it moves with what is needed.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from protocol.replica.storage.database import select_in
from protocol.transfer.chunking import CHUNK_REF_BYTES, LENGTH_BYTES, ChunkList, ChunkRef, decode_chunk_refs

_PACKS_OF_STREAMS: Final = "SELECT DISTINCT pack FROM stream WHERE id IN ({keys})"
_PACKS_OF_CHUNKS: Final = "SELECT pack, hash, length FROM chunk WHERE hash IN ({keys})"
_SPACES_OF_PACK: Final = """SELECT space.id, pack_space.unsent FROM pack_space
    JOIN space ON space.number = pack_space.space WHERE pack_space.pack = ?"""
_CHUNKS_OF_PACKS: Final = "SELECT pack, hash, length FROM chunk WHERE pack IN ({keys}) ORDER BY pack, frame, start"
_STREAMS_OF_PACKS: Final = "SELECT pack, id, chunks FROM stream WHERE pack IN ({keys})"
_CHUNKS_FROM: Final = "SELECT hash, pack, length FROM chunk WHERE (hash, pack) > (?, ?) ORDER BY hash, pack LIMIT ?"
_PACKS_AT_ONCE: Final = 500
_CHUNKS_AT_ONCE: Final = 32_768


@dataclass(frozen=True, slots=True)
class Remains:
    """A pack that goes, the spaces to which it belongs (with whether it is unsent there), and what is left of it."""

    pack: bytes
    spaces: Mapping[bytes, bool]
    chunks: ChunkList = ()
    streams: Mapping[bytes, ChunkList] = field(default_factory=dict)


def remains_of(connection: sqlite3.Connection, spaces: Collection[bytes], given_up: Collection[bytes]) -> list[Remains]:
    """The packs that hold streams that are given up, or chunks of theirs alone, and belong to none but `spaces`.

    And what is left of each. All lists of chunks are looked through once, whatever the number of packs. What a list is
    false about is no chunk of a pack, and needed by nobody.
    """
    streams = sorted(given_up)
    sql = "SELECT chunks FROM stream WHERE id IN ({keys})"
    lists = [cast("bytes", row[0]) for row in select_in(connection, sql, streams)]
    gone = {record for refs in lists for record in records(refs)}
    _take_named(connection, gone, given_up)
    packs = {cast("int", row[0]) for row in select_in(connection, _PACKS_OF_STREAMS, streams)}
    hashes = sorted({record[:-LENGTH_BYTES] for record in gone})
    for pack, chunk, length in select_in(connection, _PACKS_OF_CHUNKS, hashes):
        if _record(cast("bytes", chunk), cast("int", length)) in gone:
            packs.add(cast("int", pack))
    return _without(connection, packs, gone, given_up, spaces)


def unnamed_after(
    connection: sqlite3.Connection, place: tuple[bytes, int]
) -> tuple[set[int], tuple[bytes, int] | None]:
    """Of some thousands of chunks after a place, the packs of those that no list names; and where to go on.

    All lists are looked through once.
    """
    rows = connection.execute(_CHUNKS_FROM, (*place, _CHUNKS_AT_ONCE)).fetchall()
    found = {_record(chunk, length) for chunk, _, length in rows}
    _take_named(connection, found)
    packs = {pack for chunk, pack, length in rows if _record(chunk, length) in found}
    return packs, (rows[-1][0], rows[-1][1]) if len(rows) == _CHUNKS_AT_ONCE else None


def without_unnamed(connection: sqlite3.Connection, packs: Collection[bytes]) -> list[Remains]:
    """Of these packs, those that hold a chunk that no list names; and what is left of each without such chunks."""
    sql = "SELECT number FROM pack WHERE hash IN ({keys})"
    numbers = [cast("int", row[0]) for row in select_in(connection, sql, sorted(packs))]
    chunks = [
        row for some in _some(numbers) for row in connection.execute(_CHUNKS_OF_PACKS.format(keys=_keys(some)), some)
    ]
    found = {_record(chunk, length) for _, chunk, length in chunks}
    _take_named(connection, found)
    holders = {pack for pack, chunk, length in chunks if _record(chunk, length) in found}
    return _without(connection, holders, found, ())


def _take_named(connection: sqlite3.Connection, found: set[bytes], but: Collection[bytes] = ()) -> None:
    """Take out of these records what any list names, but for those of some streams."""
    for name, refs in connection.execute("SELECT id, chunks FROM stream") if found else ():
        if name not in but:
            found.difference_update(records(refs))


def _without(
    connection: sqlite3.Connection,
    numbers: Collection[int],
    gone: Collection[bytes],
    given_up: Collection[bytes],
    spaces: Collection[bytes] | None = None,
) -> list[Remains]:
    """What is left of these packs without the chunks of these records and these streams, if `spaces` are all theirs."""
    packs: dict[int, Remains] = {}
    for number in sorted(numbers):
        belongs = dict(connection.execute(_SPACES_OF_PACK, (number,)))
        if spaces is None or belongs.keys() <= set(spaces):
            (name,) = connection.execute("SELECT hash FROM pack WHERE number = ?", (number,)).fetchone()
            packs[number] = Remains(name, belongs)
    chunks: defaultdict[int, list[ChunkRef]] = defaultdict(list)
    streams: defaultdict[int, dict[bytes, ChunkList]] = defaultdict(dict)
    for some in _some(list(packs)):
        for number, chunk, length in connection.execute(_CHUNKS_OF_PACKS.format(keys=_keys(some)), some):
            if _record(chunk, length) not in gone:
                chunks[number].append(ChunkRef(chunk, length))
        for number, name, refs in connection.execute(_STREAMS_OF_PACKS.format(keys=_keys(some)), some):
            if name not in given_up:
                streams[number][name] = decode_chunk_refs(refs)
    return [Remains(old.pack, old.spaces, tuple(chunks[at]), streams[at]) for at, old in packs.items()]


def _some(numbers: list[int]) -> Iterator[list[int]]:
    """Some at a time: no index tells chunks and streams by their packs, they are looked through once for many."""
    for start in range(0, len(numbers), _PACKS_AT_ONCE):
        yield numbers[start : start + _PACKS_AT_ONCE]


def _keys(numbers: list[int]) -> str:
    return ", ".join("?" * len(numbers))


def records(refs: bytes) -> list[bytes]:
    """The chunks of a stored list, each as it stands there."""
    return [refs[at : at + CHUNK_REF_BYTES] for at in range(0, len(refs), CHUNK_REF_BYTES)]


def _record(chunk: bytes, length: int) -> bytes:
    return chunk + length.to_bytes(LENGTH_BYTES, "big")
