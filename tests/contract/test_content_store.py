"""What every `ContentStore` must do; the numbers in brackets are those of `protocol.replica.interfaces`."""

from __future__ import annotations

import asyncio

import pytest
from blake3 import blake3

from protocol.errors import Code, LocalFailure, PeerFault, TooLarge
from protocol.limits import MAX_PACK_BYTES, PACK_TARGET_BYTES, MiB
from protocol.replica.byte_range import Span
from protocol.replica.content.packing.pack_sending import sent_pieces
from protocol.replica.interfaces import ContentStore, PackInfo, ReadInto
from protocol.replica.process.native_memory import REUSED_PIECE_BYTES
from protocol.transfer.chunking import chunk_list, chunk_ref, cut, stream_id
from protocol.transfer.pack_writer import PackWriter
from tests.harness.content_stores import (
    FILES,
    add,
    made_elsewhere,
    name_of,
    noise,
    publish,
    read,
    whole,
)
from tests.harness.entries import OTHER_SPACE, SPACE

# --- building ---------------------------------------------------------------------------------------------------------


async def test_what_was_built_reads_back_byte_for_byte(content: ContentStore) -> None:
    (pack,) = await publish(content, FILES)
    for data in FILES:
        assert await read(content, name_of(data)) == data
        assert await content.chunk_list(name_of(data)) == chunk_list(cut(data))
    assert pack.stream_ids == tuple(map(name_of, FILES))
    data = await whole(content, pack)
    assert blake3(data).digest() == pack.hash
    assert len(data) == pack.size
    assert await content.verify() == []


async def test_a_stream_can_be_read_from_any_byte_on(content: ContentStore) -> None:
    data = noise(700_000)
    (first, *_), name = chunk_list(cut(data)), name_of(data)
    await publish(content, [data])
    for start in (0, 1, first.length - 1, first.length, first.length + 1, len(data) - 1, len(data), len(data) + 1):
        assert b"".join([piece async for piece in content.read_stream(name, start)]) == data[start:]


async def test_nothing_is_visible_before_a_build_is_finished(content: ContentStore) -> None:
    build = await content.build(SPACE, unsent=True)
    data = noise(3_000_000)
    stream = await add(build, data)
    chunks = chunk_list(cut(data))
    assert await content.chunk_list(stream) is None
    assert await content.missing_chunks(SPACE, chunks) == set(chunks)
    assert await content.totals() == (0, 0, 0)
    await build.finish()
    assert await content.missing_chunks(SPACE, chunks) == set()


async def test_an_aborted_build_leaves_nothing(content: ContentStore) -> None:
    build = await content.build(SPACE, unsent=True)
    await add(build, noise(3_000_000))
    await build.abort()
    assert await content.totals() == (0, 0, 0)
    assert await content.unsent_packs() == []


async def test_chunks_that_the_space_holds_are_not_written_again(content: ContentStore) -> None:
    old = noise(2_000_000)
    await publish(content, [old])
    new = old + noise(500_000, 2)
    (pack,) = await publish(content, [old, new])
    assert pack.size < 900_000
    assert pack.stream_ids == (name_of(new),)
    assert await read(content, name_of(new)) == new
    assert await publish(content, [old, new]) == []


async def test_another_space_gets_its_own_copy(content: ContentStore) -> None:
    """[5]"""
    data = noise(200_000)
    (first,) = await publish(content, [data])
    (second,) = await publish(content, [data, b"more"], OTHER_SPACE)
    assert second.size > 200_000
    assert await content.pack(first.hash, OTHER_SPACE) is None
    assert await content.pack(second.hash, SPACE) is None


async def test_the_same_pack_made_in_two_spaces_is_stored_once(content: ContentStore) -> None:
    (first,) = await publish(content, [b"x" * 1000])
    (second,) = await publish(content, [b"x" * 1000], OTHER_SPACE)
    assert first.hash == second.hash
    assert (await content.totals())[0] == 1
    assert await content.pack(first.hash, OTHER_SPACE) == PackInfo(first.hash, first.size, OTHER_SPACE)


async def test_equal_chunks_of_one_build_are_written_once(content: ContentStore) -> None:
    data = noise(100_000)
    (pack,) = await publish(content, [data, data, data])
    assert pack.size < 150_000
    assert pack.stream_ids == (name_of(data),)


async def test_a_large_build_is_cut_into_packs(content: ContentStore) -> None:
    data = noise(PACK_TARGET_BYTES + 5 * MiB)
    packs = await publish(content, [data, b"a small file"])
    assert len(packs) == 2
    assert all(pack.size < PACK_TARGET_BYTES + 3 * MiB for pack in packs)
    assert await read(content, name_of(data)) == data
    assert await read(content, name_of(b"a small file")) == b"a small file"


async def test_many_small_files_share_a_pack(content: ContentStore) -> None:
    files = [b"file %d" % number for number in range(2_500)]
    (pack,) = await publish(content, files)
    assert len(pack.stream_ids) == 2_500
    assert await read(content, name_of(files[1_234])) == files[1_234]
    found = await content.chunk_lists([name_of(data) for data in files] + [bytes(32)])
    assert found == {name_of(data): chunk_list(cut(data)) for data in files}


async def test_a_stream_of_chunks_that_were_not_added_is_a_mistake_of_ours(content: ContentStore) -> None:
    build = await content.build(SPACE, unsent=False)
    with pytest.raises(ValueError, match="added before"):
        await build.stream(chunk_list([b"never added"]))
    await build.abort()


async def test_sealed_content_is_stored_as_it_is(content: ContentStore) -> None:
    data = noise(300_000)
    (pack,) = await publish(content, [data], sealed=True)
    assert data in await whole(content, pack)
    assert await read(content, name_of(data)) == data


async def test_a_pack_is_sent_verbatim_in_small_pieces_and_looked_up_once(
    content: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, made = made_elsewhere([noise(900_000)])
    await content.ingest(SPACE, data)
    reader_of, asked = content.pack_reader, []

    async def counted(pack: bytes) -> ReadInto:
        asked.append(pack)
        return await reader_of(pack)

    monkeypatch.setattr(content, "pack_reader", counted)
    for span in (Span(0, len(data)), Span(7, 300_000), Span(len(data) - 3, 3)):
        pieces = [piece async for piece in sent_pieces(content, made.hash, span)]
        assert b"".join(pieces) == data[span.start : span.start + span.length]
        assert max(map(len, pieces)) <= REUSED_PIECE_BYTES
    assert asked == [made.hash] * 3


# --- taking in [4] ----------------------------------------------------------------------------------------------------


async def test_a_pack_is_kept_and_served_verbatim(content: ContentStore) -> None:
    data, made = made_elsewhere(FILES)
    taken = await content.ingest(SPACE, data)
    assert taken == made
    assert await whole(content, taken) == data
    assert await content.read_pack(taken.hash, 7, 100) == data[7:107]
    assert await content.read_pack(taken.hash, len(data) - 3, 100) == data[-3:]
    read_into, memory = await content.pack_reader(taken.hash), bytearray(100)
    assert (await asyncio.to_thread(read_into, 7, memoryview(memory)), bytes(memory)) == (100, data[7:107])
    assert await asyncio.to_thread(read_into, len(data) - 3, memoryview(memory)) == 3
    assert bytes(memory) == data[-3:] + data[10:107]
    assert await content.pack(taken.hash) == PackInfo(made.hash, len(data), SPACE)
    for file in FILES:
        assert await read(content, name_of(file)) == file


async def test_a_pack_taken_in_twice_is_there_once(content: ContentStore) -> None:
    data, _ = made_elsewhere([b"hello"])
    assert await content.ingest(SPACE, data) == await content.ingest(SPACE, data)
    assert await content.totals() == (1, 1, len(data))


@pytest.mark.parametrize("at", [0, 20, -60, -30, -1])
async def test_a_pack_with_a_wrong_byte_is_refused_whole(content: ContentStore, at: int) -> None:
    data, made = made_elsewhere([b"some text " * 10, noise(200)])
    spoiled = bytearray(data)
    spoiled[at] ^= 1
    with pytest.raises(PeerFault):
        await content.ingest(SPACE, bytes(spoiled))
    await content.append_part(made.hash, 0, bytes(spoiled))
    with pytest.raises(PeerFault):
        await content.finish_part(SPACE, made.hash, len(spoiled))
    assert await content.part_size(made.hash) == 0
    assert await content.totals() == (0, 0, 0)


async def test_a_pack_arrives_in_parts(content: ContentStore) -> None:
    data, made = made_elsewhere(FILES)
    assert await content.part_size(made.hash) == 0
    for start in range(0, len(data), 999_983):
        size = await content.append_part(made.hash, start, data[start : start + 999_983])
        assert size == await content.part_size(made.hash) == min(start + 999_983, len(data))
        assert await content.pack(made.hash) is None
    assert await content.finish_part(SPACE, made.hash, len(data), unsent=True) == made
    assert await content.part_size(made.hash) == 0
    assert await whole(content, made) == data
    assert await content.unsent_packs() == [PackInfo(made.hash, len(data), SPACE)]


async def test_what_several_send_of_one_pack_does_not_mix(content: ContentStore) -> None:
    data, made = made_elsewhere(FILES)
    await content.append_part(made.hash, 0, bytes(len(data)), b"junk")
    await content.append_part(made.hash, 0, data, b"work")
    assert await content.part_size(made.hash) == 0
    with pytest.raises(PeerFault):
        await content.finish_part(SPACE, made.hash, len(data), sender=b"junk")
    assert await content.part_size(made.hash, b"junk") == 0
    assert await content.finish_part(SPACE, made.hash, len(data), sender=b"work") == made
    await content.append_part(made.hash, 0, data, b"late")
    await content.drop_part(made.hash, b"late")
    assert await content.part_size(made.hash, b"late") == 0


async def test_uploads_are_listed_by_pack_and_sender_the_stillest_first(content: ContentStore) -> None:
    one, two = b"1" * 32, b"2" * 32
    await content.append_part(one, 0, b"123", b"alice")
    await content.append_part(two, 0, b"12", b"tom")
    await content.append_part(two, 0, b"a download")
    assert await content.parts_sent() == [((one, b"alice"), 3), ((two, b"tom"), 2)]
    await content.append_part(one, 3, b"4", b"alice")
    assert await content.parts_sent() == [((two, b"tom"), 2), ((one, b"alice"), 4)]


async def test_a_part_grows_only_at_its_end(content: ContentStore) -> None:
    await content.append_part(b"p" * 32, 0, b"12345")
    for offset in (0, 4, 6):
        with pytest.raises(PeerFault) as refused:
            await content.append_part(b"p" * 32, offset, b"678")
        assert refused.value.code is Code.WRONG_OFFSET
        assert refused.value.facts["expected"] == 5
    assert await content.append_part(b"p" * 32, 5, b"678") == 8


async def test_a_part_never_gets_longer_than_a_pack_may_be(content: ContentStore) -> None:
    with pytest.raises(TooLarge):
        await content.append_part(b"p" * 32, MAX_PACK_BYTES, b"1")
    assert await content.part_size(b"p" * 32) == 0


async def test_an_incomplete_part_is_kept_when_somebody_finishes_it_too_early(content: ContentStore) -> None:
    data, made = made_elsewhere([noise(1_000)])
    await content.append_part(made.hash, 0, data[:500])
    with pytest.raises(PeerFault) as refused:
        await content.finish_part(SPACE, made.hash, len(data))
    assert refused.value.code is Code.WRONG_OFFSET
    await content.append_part(made.hash, 500, data[500:])
    await content.finish_part(SPACE, made.hash, len(data))


async def test_a_part_that_is_too_long_is_thrown_away(content: ContentStore) -> None:
    data, made = made_elsewhere([noise(1_000)])
    await content.append_part(made.hash, 0, data + b"!")
    with pytest.raises(PeerFault):
        await content.finish_part(SPACE, made.hash, len(data))
    assert await content.part_size(made.hash) == 0
    assert await content.pack(made.hash) is None


async def test_a_dropped_part_is_gone(content: ContentStore) -> None:
    await content.append_part(b"p" * 32, 0, b"12345")
    await content.drop_part(b"p" * 32)
    await content.drop_part(b"p" * 32)
    assert await content.part_size(b"p" * 32) == 0


async def test_finishing_again_gives_the_same_answer(content: ContentStore) -> None:
    data, made = made_elsewhere([noise(1_000)])
    await content.append_part(made.hash, 0, data)
    await content.finish_part(SPACE, made.hash, len(data))
    assert await content.finish_part(SPACE, made.hash, len(data)) == made


# --- spaces [5] -------------------------------------------------------------------------------------------------------


async def test_a_pack_that_comes_whole_while_its_download_is_finished_harms_neither(content: ContentStore) -> None:
    """A neighbour sends inline what is fetched in parts from the server."""
    for seed in range(20):
        data, made = made_elsewhere([noise(30_000, seed)])
        await content.append_part(made.hash, 0, data)
        came = await asyncio.gather(content.finish_part(SPACE, made.hash, len(data)), content.ingest(SPACE, data))
        assert list(came) == [made, made]
        assert await content.part_size(made.hash) == 0
    await publish(content, [b"more"])
    assert await read(content, name_of(b"more")) == b"more"


async def test_a_chunk_does_not_exist_in_a_space_that_no_pack_of_it_belongs_to(content: ContentStore) -> None:
    data = noise(100_000)
    (pack,) = await publish(content, [data])
    chunks = chunk_list(cut(data))
    assert await content.missing_chunks(OTHER_SPACE, chunks) == set(chunks)
    assert await content.packs_holding(OTHER_SPACE, chunks) == []
    with pytest.raises(PeerFault):
        await content.finish_part(OTHER_SPACE, pack.hash, pack.size)
    await content.share(pack.hash, OTHER_SPACE)
    assert await content.missing_chunks(OTHER_SPACE, chunks) == set()
    assert await content.packs_holding(OTHER_SPACE, chunks) == [PackInfo(pack.hash, pack.size, OTHER_SPACE)]


async def test_who_brings_the_bytes_of_a_pack_gets_it_into_its_space(content: ContentStore) -> None:
    data, made = made_elsewhere([noise(1_000)])
    await content.ingest(SPACE, data)
    await content.append_part(made.hash, 0, data)
    await content.finish_part(OTHER_SPACE, made.hash, len(data))
    assert await content.pack(made.hash, OTHER_SPACE) is not None
    assert await content.pack(made.hash, SPACE) is not None
    assert (await content.totals())[0] == 1


async def test_sharing_what_is_not_here_shares_nothing(content: ContentStore) -> None:
    await content.share(b"p" * 32, SPACE)
    assert await content.pack(b"p" * 32) is None


async def test_a_pack_is_not_named_for_chunks_that_a_better_one_brings(content: ContentStore) -> None:
    parts = [noise(60_000, seed) for seed in range(5)]
    packs = [made_elsewhere([parts[number] for number in numbers]) for numbers in ((0, 1, 2), (1, 2), (2, 3, 4))]
    for data, _ in packs:
        await content.ingest(SPACE, data)
    chunks = [chunk for part in parts for chunk in chunk_list(cut(part))]
    named = {pack.hash for pack in await content.packs_holding(SPACE, chunks)}
    assert named == {packs[0][1].hash, packs[2][1].hash}


async def test_few_packs_are_named_for_many_chunks(content: ContentStore) -> None:
    parts = [noise(60_000, seed) for seed in range(4)]
    (one,) = await publish(content, parts[:1])
    (two,) = await publish(content, parts[1:3])
    everything, made = made_elsewhere(parts[:3])
    chunks = [chunk for part in parts for chunk in chunk_list(cut(part))]
    assert {pack.hash for pack in await content.packs_holding(SPACE, chunks)} == {one.hash, two.hash}
    await content.ingest(SPACE, everything)
    assert [pack.hash for pack in await content.packs_holding(SPACE, chunks)] == [made.hash]
    only_first = chunk_list(cut(parts[0]))
    assert [pack.hash for pack in await content.packs_holding(SPACE, only_first)] == [one.hash]
    assert await content.missing_chunks(SPACE, chunks) == set(chunk_list(cut(parts[3])))


async def test_the_pack_that_brought_a_list_is_named_though_no_chunk_is_taken_from_it(content: ContentStore) -> None:
    first, second = noise(20_000, 1), noise(20_000, 2)
    (one,) = await publish(content, [b"", first])
    (two,) = await publish(content, [b"", second])
    chunks = chunk_list(cut(second))
    streams = [stream_id(chunk_list(cut(second))), stream_id(())]
    assert {pack.hash for pack in await content.packs_holding(SPACE, chunks)} == {two.hash}
    assert {pack.hash for pack in await content.packs_holding(SPACE, chunks, streams)} == {one.hash, two.hash}
    assert await content.packs_holding(OTHER_SPACE, chunks, streams) == []


async def test_a_list_that_only_another_space_brought_is_missing_in_this_one(content: ContentStore) -> None:
    (pack,) = await publish(content, [b""])
    empty = stream_id(())
    assert await content.known_streams([empty]) == {empty}
    assert await content.missing_streams(SPACE, [empty]) == set()
    assert await content.missing_streams(OTHER_SPACE, [empty]) == {empty}
    await content.share(pack.hash, OTHER_SPACE)
    assert await content.missing_streams(OTHER_SPACE, [empty]) == set()


# --- what the server holds --------------------------------------------------------------------------------------------


async def test_what_a_space_holds_is_named_unless_it_is_too_much(content: ContentStore) -> None:
    await publish(content, [noise(200_000, 1), b""])
    await publish(content, [noise(50_000, 2)], OTHER_SPACE)
    chunks = [chunk_ref(chunk).hash for chunk in cut(noise(200_000, 1))]
    streams = [stream_id(chunk_list(cut(data))) for data in (noise(200_000, 1), b"")]
    assert sorted(await content.held_names(SPACE, 100)) == sorted([*chunks, *streams])
    assert await content.held_names(SPACE, len(chunks) + 1) == []


async def test_packs_wait_to_be_sent_smallest_first(content: ContentStore) -> None:
    large = await publish(content, [noise(50_000)], unsent=True)
    small = await publish(content, [noise(500, 2)], unsent=True)
    await publish(content, [noise(5_000, 3)])
    assert [pack.hash for pack in await content.unsent_packs()] == [small[0].hash, large[0].hash]
    await content.mark_packs([small[0].hash, b"u" * 32], unsent=False)
    assert [pack.hash for pack in await content.unsent_packs()] == [large[0].hash]
    await content.mark_packs([small[0].hash], unsent=True)
    assert len(await content.unsent_packs()) == 2


async def test_a_pack_is_to_be_sent_for_each_space_that_the_server_may_lack_it_in(content: ContentStore) -> None:
    data, made = made_elsewhere([noise(1_000)])
    await content.ingest(SPACE, data)
    await content.ingest(OTHER_SPACE, data, unsent=True)
    assert await content.unsent_packs() == [PackInfo(made.hash, len(data), OTHER_SPACE)]
    await content.ingest(SPACE, data, unsent=True)
    assert await content.unsent_packs() == [PackInfo(made.hash, len(data), OTHER_SPACE)]
    await content.ingest(OTHER_SPACE, data)
    assert await content.unsent_packs() == []


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_what_is_not_here_is_incomplete(content: ContentStore) -> None:
    with pytest.raises(LocalFailure) as failed:
        await read(content, b"s" * 32)
    assert failed.value.code is Code.INCOMPLETE
    with pytest.raises(LocalFailure):
        await content.read_pack(b"p" * 32, 0, 10)
    with pytest.raises(LocalFailure):
        await content.pack_reader(b"p" * 32)


async def test_a_stream_whose_chunks_lie_in_a_pack_that_has_not_come_is_incomplete(content: ContentStore) -> None:
    near, far = noise(20_000), noise(20_000, 2)
    writer = PackWriter()
    writer.add_chunk(near)
    stream = writer.add_stream(chunk_list([near, far]))
    writer.finish()
    await content.ingest(SPACE, writer.take())
    with pytest.raises(LocalFailure) as failed:
        await read(content, stream)
    assert failed.value.code is Code.INCOMPLETE
    assert await content.missing_chunks(SPACE, chunk_list([near, far])) == {chunk_ref(far)}
    await publish(content, [far])
    assert await read(content, stream) == near + far


async def test_there_is_room(content: ContentStore) -> None:
    assert await content.free_bytes() > 0
