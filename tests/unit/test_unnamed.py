"""Chunks that no list names go after a week, and what arrives in the meantime does not (`content.unnamed`)."""

from __future__ import annotations

import pytest

from protocol.clock import DAY_MS
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.content.kept.unnamed import WAIT_MS, let_go_of_unnamed, waited_less
from protocol.replica.storage.memory import MemoryStore
from protocol.transfer.chunking import chunk_list, cut
from protocol.transfer.pack_writer import PackWriter
from tests.harness.content_stores import name_of, noise, read
from tests.harness.entries import SPACE

NOW_MS = 1_000_000_000
DATA = noise(200_000)
CHUNKS = chunk_list(cut(DATA))
HOUR_MS = DAY_MS // 24


class Shelf:
    """A store on which the chunks of a file lie, and no list of them."""

    def __init__(self) -> None:
        self.store, self.content = MemoryStore(), MemoryPacks()

    async def look(self, now_ms: int) -> bool:
        """Whether all of the chunks are here after a look."""
        await let_go_of_unnamed(self.store, self.content, now_ms)
        return not await self.content.missing_chunks(SPACE, CHUNKS)

    async def bring(self, *, listed: bool) -> None:
        writer = PackWriter()
        if listed:
            writer.add_stream(CHUNKS)
        else:
            for chunk in cut(DATA):
                writer.add_chunk(chunk)
        writer.finish()
        await self.content.ingest(SPACE, writer.take())

    async def bring_chunk(self, data: bytes) -> None:
        writer = PackWriter()
        writer.add_chunk(data)
        writer.finish()
        await self.content.ingest(SPACE, writer.take())


@pytest.fixture
async def shelf() -> Shelf:
    made = Shelf()
    await made.bring(listed=False)
    return made


async def test_what_no_list_names_at_two_looks_a_week_apart_goes(shelf: Shelf) -> None:
    assert await shelf.look(NOW_MS)
    assert await shelf.look(NOW_MS + WAIT_MS - 1)
    assert not await shelf.look(NOW_MS + WAIT_MS)
    assert await shelf.content.totals() == (0, 0, 0)


async def test_what_came_after_the_last_look_is_given_another_week(shelf: Shelf) -> None:
    await shelf.look(NOW_MS)
    await shelf.look(NOW_MS + WAIT_MS)
    await shelf.bring(listed=False)
    assert await shelf.look(NOW_MS + 2 * WAIT_MS)
    assert not await shelf.look(NOW_MS + 3 * WAIT_MS)


async def test_what_a_list_names_by_then_stays(shelf: Shelf) -> None:
    await shelf.look(NOW_MS)
    await shelf.bring(listed=True)
    for weeks in range(1, 4):
        assert await shelf.look(NOW_MS + weeks * WAIT_MS)
    assert await read(shelf.content, name_of(DATA)) == DATA


async def test_a_clock_that_is_set_shortens_no_week(shelf: Shelf) -> None:
    await shelf.look(NOW_MS)
    await shelf.store.set_marks({**await waited_less(shelf.store, 5 * WAIT_MS)})
    assert await shelf.look(NOW_MS + 5 * WAIT_MS)
    assert await shelf.look(NOW_MS + WAIT_MS), "it was set back"
    assert await shelf.look(NOW_MS + 2 * WAIT_MS - 1)
    assert not await shelf.look(NOW_MS + 2 * WAIT_MS)


async def test_all_that_lies_here_is_noted_and_so_many_packs_go_an_hour(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.content.kept.unnamed._ROUNDS", 2)
    monkeypatch.setattr("protocol.replica.content.kept.unnamed._AT_ONCE", 2)
    for number in range(5):
        await shelf.bring_chunk(b"another %d" % number)
    left = []
    for now_ms in (NOW_MS, *(NOW_MS + WAIT_MS + hours * HOUR_MS for hours in range(2))):
        await shelf.look(now_ms)
        left.append((await shelf.content.totals())[0])
    assert left == [6, 2, 0]


async def test_no_more_goes_at_once_than_may_lie_here_twice(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.replica.content.kept.unnamed._ROUNDS", 1)
    monkeypatch.setattr("protocol.replica.content.kept.unnamed._BYTES_AT_ONCE", 1_000)
    await shelf.bring_chunk(b"another")
    await shelf.look(NOW_MS)
    assert not await shelf.look(NOW_MS + WAIT_MS), "a pack by itself, however large"
    assert (await shelf.content.totals())[0] == 1
    await shelf.look(NOW_MS + WAIT_MS)
    assert await shelf.content.totals() == (0, 0, 0)


async def test_while_something_is_written_what_has_waited_waits_for_an_hour_more(shelf: Shelf) -> None:
    await shelf.look(NOW_MS)
    build = await shelf.content.build(SPACE, unsent=True)
    assert await shelf.look(NOW_MS + WAIT_MS)
    await build.abort()
    assert not await shelf.look(NOW_MS + WAIT_MS + HOUR_MS)
