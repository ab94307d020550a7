"""The index of packs, made anew from the packs and from what entries name: which packs come back, and to whom."""

# ruff: noqa: S608  (what a forger writes)

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from protocol.model.entry import Kind
from protocol.model.work import ContentRef, HandIn, ItemKind, Revision
from protocol.replica.content.kept.left_parts import LIFETIME_MS, let_go_of_left
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.interfaces import PackBuild
from protocol.replica.storage.sqlite import DATABASE, SqliteStore
from protocol.transfer.chunking import ChunkRef, chunk_list, cut, stream_id
from protocol.transfer.manifest import ManifestEntry, encode_manifest
from protocol.transfer.pack import FinishedPack
from tests.harness.entries import OTHER_SPACE, SPACE, EntryMaker

EXAM, SHEET = (Random(seed).randbytes(200_000) for seed in (1, 2))


@dataclass
class Shelf:
    """Entries and packs in a folder."""

    folder: Path
    store: SqliteStore
    packs: PackFolder
    made: EntryMaker

    async def publish(self, space: bytes, **files: bytes) -> FinishedPack:
        """A revision of a space, in a pack of its own."""
        build = await self.packs.build(space, unsent=False)
        rows = [ManifestEntry(name, len(data), await added(build, data)) for name, data in sorted(files.items())]
        stream = await added(build, encode_manifest(rows))
        (pack,) = await build.finish()
        content = ContentRef(stream, sum(map(len, files.values())), len(files))
        record = Revision(ItemKind.LESSON, "Leçon", None, None, content)
        await self.store.append([self.made.entry(space, payload=record.encode())])
        return pack

    async def lose_the_database(self) -> None:
        """All rows are gone; the entries come back from elsewhere."""
        listed = [stored.entry for space in await self.store.spaces() for stored in await self.store.scan(space)]
        await self.store.close()
        for file in self.folder.glob(f"{DATABASE}*"):
            file.unlink()
        self.store = await SqliteStore.open(self.folder)
        await self.store.append(listed)
        self.packs = await PackFolder.open(self.folder, self.store)

    async def rebuild(self) -> None:
        """As a database is made anew."""
        rebuild = self.packs.rebuild()
        await rebuild.take_in_parts()
        await rebuild.look_at_entries(self.store, self.packs)
        await rebuild.give_homes(unsent=False)

    async def spaces_of(self, pack: FinishedPack) -> set[bytes]:
        """Where a pack is seen."""
        return {space for space in (SPACE, OTHER_SPACE) if await self.packs.pack(pack.hash, space) is not None}


async def added(build: PackBuild, data: bytes) -> bytes:
    pieces = cut(data)
    for piece in pieces:
        await build.chunk(piece)
    return await build.stream(chunk_list(pieces))


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    store = await SqliteStore.open(tmp_path)
    made = Shelf(tmp_path, store, await PackFolder.open(tmp_path, store), EntryMaker())
    yield made
    await made.packs.close()
    await made.store.close()


async def test_a_pack_comes_back_to_the_space_that_it_was_made_for_and_to_no_other_that_has_one_file_in_common(
    shelf: Shelf,
) -> None:
    staff_room = await shelf.publish(SPACE, exam=EXAM, sheet=SHEET)
    class_room = await shelf.publish(OTHER_SPACE, sheet=SHEET)
    await shelf.lose_the_database()
    await shelf.rebuild()
    assert await shelf.spaces_of(staff_room) == {SPACE}
    assert await shelf.spaces_of(class_room) == {OTHER_SPACE}


async def test_a_pack_without_a_stream_comes_back_to_the_space_that_names_all_of_it(shelf: Shelf) -> None:
    build = await shelf.packs.build(SPACE, unsent=False)
    for piece in (*cut(EXAM), *cut(SHEET)):
        await build.chunk(piece)
    (chunks,) = await build.finish()
    lists = await shelf.publish(SPACE, exam=EXAM, sheet=SHEET)
    await shelf.publish(OTHER_SPACE, sheet=SHEET)
    assert lists.size < chunks.size
    await shelf.lose_the_database()
    await shelf.rebuild()
    assert await shelf.spaces_of(chunks) == {SPACE}
    assert b"".join([piece async for piece in shelf.packs.read_stream(stream_id(chunk_list(cut(EXAM))))]) == EXAM


async def test_what_nothing_names_is_kept_as_a_part_of_which_all_is_here(shelf: Shelf) -> None:
    build = await shelf.packs.build(SPACE, unsent=False)
    await added(build, EXAM)
    (pack,) = await build.finish()
    await shelf.publish(SPACE, sheet=SHEET)
    await shelf.lose_the_database()
    await shelf.rebuild()
    assert await shelf.spaces_of(pack) == set()
    assert await shelf.packs.known_streams([stream_id(chunk_list(cut(EXAM)))]) == set()
    assert await shelf.packs.part_size(pack.hash) == pack.size
    await shelf.packs.finish_part(SPACE, pack.hash, pack.size)
    assert await shelf.spaces_of(pack) == {SPACE}


async def test_what_nothing_names_lies_a_week_from_then_on_however_old_it_is(shelf: Shelf) -> None:
    build = await shelf.packs.build(SPACE, unsent=False)
    await added(build, EXAM)
    (pack,) = await build.finish()
    await shelf.publish(SPACE, sheet=SHEET)
    for file in shelf.folder.glob("packs/*/*.pack"):
        os.utime(file, (time.time() - 30 * 24 * 3600,) * 2)
    await shelf.lose_the_database()
    await let_go_of_left(shelf.store, shelf.packs, 0)
    await shelf.rebuild()
    for at_ms in (0, LIFETIME_MS - 1):
        await let_go_of_left(shelf.store, shelf.packs, at_ms)
        assert await shelf.packs.part_size(pack.hash) == pack.size
    await let_go_of_left(shelf.store, shelf.packs, LIFETIME_MS)
    assert await shelf.packs.part_size(pack.hash) == 0


async def test_a_pack_that_has_rotted_meanwhile_counts_for_nothing(shelf: Shelf) -> None:
    pack = await shelf.publish(SPACE, sheet=SHEET)
    await shelf.lose_the_database()
    (part,) = shelf.folder.glob("parts/*.part")
    data = part.read_bytes()
    part.write_bytes(data[:1_000] + bytes([data[1_000] ^ 1]) + data[1_001:])
    await shelf.rebuild()
    assert await shelf.spaces_of(pack) == set()
    assert await shelf.packs.totals() == (0, 0, 0)


async def test_sealed_work_comes_back_though_nobody_looks_inside(shelf: Shelf) -> None:
    build = await shelf.packs.build(SPACE, unsent=True, sealed=True)
    stream = await added(build, EXAM)
    (pack,) = await build.finish()
    payload = HandIn(ContentRef(stream, len(EXAM), 0), None).encode()
    await shelf.store.append([shelf.made.entry(SPACE, kind=Kind.HAND_IN, payload=payload)])
    await shelf.lose_the_database()
    await shelf.rebuild()
    assert await shelf.spaces_of(pack) == {SPACE}


async def test_made_anew_twice_nothing_is_lost_or_there_twice(shelf: Shelf) -> None:
    """As after a crash at the end of the first time."""
    pack = await shelf.publish(SPACE, exam=EXAM, sheet=SHEET)
    await shelf.lose_the_database()
    await shelf.packs.rebuild().take_in_parts()
    shelf.packs = await PackFolder.open(shelf.folder, shelf.store)
    await shelf.rebuild()
    totals = await shelf.packs.totals()
    await shelf.rebuild()
    assert await shelf.packs.totals() == totals
    assert await shelf.spaces_of(pack) == {SPACE}


RANDOM, LIST = f"X'{Random(4).randbytes(32).hex()}'", f"X'{Random(4).randbytes(32).hex()}000001'"
FORGERIES = [
    pytest.param(f"INSERT INTO chunk VALUES ({RANDOM}, 1, 0, 0, 10)", id="a chunk too many"),
    pytest.param("DELETE FROM chunk WHERE pack = 1", id="no chunks"),
    pytest.param("UPDATE chunk SET start = start + 1 WHERE pack = 1", id="other places"),
    pytest.param(f"UPDATE stream SET chunks = {LIST} WHERE pack = 1", id="another list"),
    pytest.param(f"INSERT INTO stream VALUES ({RANDOM}, 1, X'')", id="a stream too many"),
    pytest.param("UPDATE frame SET start = start + 1 WHERE pack = 1", id="other frames"),
]


@pytest.mark.parametrize("sql", FORGERIES)
async def test_verify_tells_and_mends_an_index_that_does_not_say_what_a_pack_holds(shelf: Shelf, sql: str) -> None:
    pack = await shelf.publish(SPACE, exam=EXAM, sheet=SHEET)
    other = await shelf.publish(OTHER_SPACE, sheet=SHEET)
    assert await shelf.packs.verify() == []
    await shelf.store.set_marks({"complete/of something": b"\x01"})
    await shelf.store.database.write(lambda connection: connection.execute(sql).close())
    assert [(damage.what, damage.id) for damage in await shelf.packs.verify()] == [("index", pack.hash)]
    assert await shelf.packs.verify() == []
    assert not await shelf.store.marks("complete/"), "content is looked at anew"
    assert await shelf.spaces_of(pack) == {SPACE}
    assert await shelf.spaces_of(other) == {OTHER_SPACE}
    assert b"".join([piece async for piece in shelf.packs.read_stream(stream_id(chunk_list(cut(EXAM))))]) == EXAM


async def test_verify_tells_and_forgets_what_is_said_to_lie_in_packs_that_there_are_not(shelf: Shelf) -> None:
    await shelf.publish(SPACE, sheet=SHEET)
    chunk = ChunkRef(Random(5).randbytes(32), 10)

    def forge(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO chunk VALUES (?, 99, 0, 0, ?)", chunk)
        connection.execute("INSERT INTO pack_space SELECT 99, space, 0 FROM pack_space")

    await shelf.store.database.write(forge)
    assert await shelf.packs.missing_chunks(SPACE, [chunk]) == set(), "it is believed to be here"
    assert [damage.what for damage in await shelf.packs.verify()] == ["index"]
    assert await shelf.packs.missing_chunks(SPACE, [chunk]) == {chunk}
    assert await shelf.packs.verify() == []
