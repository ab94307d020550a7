"""What others need of packs of which a part is to be forgotten, and how that gets into packs of its own (R7).

A pack holds what was published together. When one file of it is to be destroyed and another is still named, the other
moves: its chunks and its list are written anew, and the old pack goes as a whole. What is forgotten then lies nowhere,
and is served to nobody with what lay beside it. docs/protocol.md, "Erasure".
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from protocol.chunking import ChunkList, ChunkRef, decode_chunk_refs
from protocol.replica.database import select_in

_PACKS_OF_STREAMS: Final = """SELECT DISTINCT pack.number, pack.hash FROM stream JOIN pack ON pack.number = stream.pack
    WHERE stream.id IN ({keys})"""
_SPACES_OF_PACK: Final = """SELECT space.id, pack_space.unsent FROM pack_space
    JOIN space ON space.number = pack_space.space WHERE pack_space.pack = ?"""
_CHUNKS_OF_PACK: Final = "SELECT hash, length FROM chunk WHERE pack = ? ORDER BY frame, start"


@dataclass(frozen=True, slots=True)
class Remains:
    """A pack that goes, the spaces to which it belongs (with whether it is unsent there), and what is left of it."""

    pack: bytes
    spaces: Mapping[bytes, bool]
    chunks: ChunkList = ()
    streams: Mapping[bytes, ChunkList] = field(default_factory=dict)


def remains_of(connection: sqlite3.Connection, spaces: Collection[bytes], given_up: Collection[bytes]) -> list[Remains]:
    """The packs that hold streams that are given up and belong to none but `spaces`; what others need of each.

    All lists of chunks are looked through once, whatever the number of packs. What a list is false about is no chunk of
    a pack, and needed by nobody.
    """
    packs = {
        cast("int", number): Remains(cast("bytes", pack), belongs)
        for number, pack in select_in(connection, _PACKS_OF_STREAMS, sorted(given_up))
        if (belongs := dict(connection.execute(_SPACES_OF_PACK, (number,)))).keys() <= set(spaces)
    }
    held_by: defaultdict[ChunkRef, list[int]] = defaultdict(list)
    for number in packs:
        for row in connection.execute(_CHUNKS_OF_PACK, (number,)):
            held_by[ChunkRef(*row)].append(number)
    needed: defaultdict[int, set[ChunkRef]] = defaultdict(set)
    streams: defaultdict[int, dict[bytes, ChunkList]] = defaultdict(dict)
    for number, stream, refs in connection.execute("SELECT pack, id, chunks FROM stream") if packs else ():
        if stream in given_up:
            continue
        chunks = decode_chunk_refs(refs)
        for chunk in chunks:
            for holder in held_by.get(chunk, ()):
                needed[holder].add(chunk)
        if number in packs:
            streams[number][stream] = chunks
    order = {chunk: place for place, chunk in enumerate(held_by)}
    return [
        Remains(
            old.pack,
            old.spaces,
            tuple(sorted(needed[number], key=order.__getitem__)),
            streams[number],
        )
        for number, old in packs.items()
    ]
