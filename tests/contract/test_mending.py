"""Parts with wrong bytes: what is bad in them is found, and nothing else (docs/protocol.md, "Packs", "Deltas")."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import pytest
from blake3 import blake3

from protocol.errors import Code, PeerFault
from protocol.limits import KiB, MiB
from protocol.replica.byte_range import Span
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.content.packing.mending import bad_spans
from protocol.replica.interfaces import ContentStore
from protocol.replica.storage.sqlite import SqliteStore
from protocol.transfer.chunking import chunk_list, cut
from protocol.transfer.delta import DELTA_END, Chunked
from protocol.transfer.delta_writer import DeltaWriter
from protocol.transfer.pack import PACK_END
from protocol.transfer.pack_writer import PackWriter
from tests.harness.entries import SPACE

PLAIN = Random(1).randbytes(5 * MiB)


def a_pack() -> bytes:
    writer = PackWriter()
    chunks = cut(PLAIN)
    for chunk, ref in zip(chunks, chunk_list(chunks), strict=True):
        writer.add_chunk(chunk, ref)
    writer.add_stream(chunk_list(chunks))
    writer.finish()
    return writer.take()


def a_delta() -> bytes:
    writer = DeltaWriter()
    chunks = cut(PLAIN)
    for at in range(0, len(PLAIN), MiB):
        writer.add_frame(PLAIN[at : at + MiB], (), b"", level=1)
    writer.add_target(Chunked(tuple(len(chunk) for chunk in chunks)))
    writer.finish()
    return writer.take()


PACK, DELTA = a_pack(), a_delta()
both = pytest.mark.parametrize("data", [PACK, DELTA], ids=["pack", "delta"])


@pytest.fixture(params=["memory", "folder"])
async def content(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ContentStore]:
    if request.param == "memory":
        yield MemoryPacks()
        return
    store = await SqliteStore.open(tmp_path)
    try:
        packs = await PackFolder.open(tmp_path, store)
        yield packs
        await packs.close()
    finally:
        await store.close()


def spoiled(data: bytes, at: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]


def reading(data: bytes) -> Callable[[int, int], bytes]:
    return lambda start, length: data[start : start + length]


@both
def test_what_is_whole_has_nothing_to_be_fetched_again(data: bytes) -> None:
    assert bad_spans(len(data), reading(data)) == []


@both
@pytest.mark.parametrize("at", [3, 1_000, 2_500_000, -300, -20, -3])
def test_a_wrong_byte_costs_its_frame_or_the_index_and_mending_that_is_all(data: bytes, at: int) -> None:
    bad = spoiled(data, at)
    spans = bad_spans(len(data), reading(bad))
    assert len(spans) == 1
    assert spans[0].start <= at % len(data) < spans[0].start + spans[0].length
    assert spans[0].length <= max(2 * MiB + 256 * KiB, 64 * KiB)
    mended = bytearray(bad)
    mended[spans[0].start : spans[0].start + spans[0].length] = data[spans[0].start :][: spans[0].length]
    assert bytes(mended) == data


@both
async def test_a_bad_part_is_mended_in_its_place_and_then_visible(content: ContentStore, data: bytes) -> None:
    name = blake3(data).digest()
    await content.append_part(name, 0, spoiled(spoiled(data, 5_000), 3_500_000))
    with pytest.raises(PeerFault):
        await content.finish_part(SPACE, name, len(data), keep_bad=True)
    spans = await content.bad_spans(name, len(data))
    assert len(spans) == 2
    for span in spans:
        await content.mend_part(name, span.start, data[span.start : span.start + span.length])
    await content.finish_part(SPACE, name, len(data), keep_bad=True)
    assert await content.verify() == []
    assert await content.missing_chunks(SPACE, chunk_list(cut(PLAIN))) == set()


async def test_a_part_is_not_mended_beyond_its_end_and_one_that_is_short_has_no_spans(content: ContentStore) -> None:
    name = blake3(PACK).digest()
    await content.append_part(name, 0, PACK[:1_000])
    assert await content.bad_spans(name, len(PACK)) == []
    with pytest.raises(PeerFault) as refused:
        await content.mend_part(name, 990, b"more than ten bytes")
    assert refused.value.code is Code.WRONG_OFFSET
    assert await content.part_size(name) == 1_000


async def test_another_pack_that_agrees_with_itself_has_nothing_to_mend(content: ContentStore) -> None:
    wanted = bytes(32)
    await content.append_part(wanted, 0, PACK)
    with pytest.raises(PeerFault):
        await content.finish_part(SPACE, wanted, len(PACK), keep_bad=True)
    assert await content.bad_spans(wanted, len(PACK)) == []


async def test_a_stored_pack_that_was_moved_aside_is_taken_up_again(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    packs = await PackFolder.open(tmp_path, store)
    name = blake3(PACK).digest()
    await packs.ingest(SPACE, PACK)
    (file,) = (tmp_path / "packs").rglob("*.pack")
    file.write_bytes(spoiled(PACK, 2_500_000))
    assert [damage.id for damage in await packs.verify()] == [name]
    assert await packs.resume_part(name, len(PACK) + 1) == 0
    assert await packs.resume_part(name, len(PACK)) == len(PACK)
    (span,) = await packs.bad_spans(name, len(PACK))
    assert span.length < len(PACK) // 2
    await packs.mend_part(name, span.start, PACK[span.start : span.start + span.length])
    await packs.finish_part(SPACE, name, len(PACK))
    assert await packs.verify() == []
    await packs.close()
    await store.close()


@pytest.mark.parametrize("end", [PACK_END, DELTA_END], ids=["pack", "delta"])
@pytest.mark.parametrize("size", [8, 31, 32, 40])
async def test_an_end_with_no_room_for_a_pack_before_it_is_bad_as_a_whole(
    content: ContentStore, end: bytes, size: int
) -> None:
    wanted = bytes(32)
    await content.append_part(wanted, 0, bytes(size - len(end)) + end)
    assert await content.bad_spans(wanted, size) == [Span(0, size)]


def test_where_not_even_the_end_can_be_read_the_end_is_fetched_first() -> None:
    bad = PACK[:-40] + bytes(40)
    assert bad_spans(len(bad), reading(bad)) == [Span(len(PACK) - 64 * KiB, 64 * KiB)]
