"""What every `ContentStore` gives up, and what it keeps for others, in whatever pack that lies."""

from __future__ import annotations

import pytest

from protocol.errors import Code, LocalFailure
from protocol.limits import MiB
from protocol.replica.content.packing.pack_check import check_pack_bytes
from protocol.replica.interfaces import ContentStore, PackInfo
from protocol.transfer.chunking import ChunkRef, chunk_list, cut, stream_id
from protocol.transfer.pack import open_frame
from protocol.transfer.pack_writer import PackWriter
from tests.harness.content_stores import (
    name_of,
    noise,
    publish,
    read,
    whole,
)
from tests.harness.entries import OTHER_SPACE, SPACE

# --- giving up --------------------------------------------------------------------------------------------------------


async def test_streams_that_nothing_names_any_more_go_with_their_packs(content: ContentStore) -> None:
    work, lesson = noise(300_000, 1), noise(300_000, 2)
    (sealed,) = await publish(content, [work], sealed=True)
    await publish(content, [lesson])
    assert await content.forget({SPACE}, {name_of(work)}) == [sealed.hash]
    assert await content.known_streams([name_of(work), name_of(lesson)]) == {name_of(lesson)}
    assert await content.pack(sealed.hash) is None
    assert await read(content, name_of(lesson)) == lesson
    assert await content.forget({SPACE}, {name_of(work)}) == []


async def bytes_of_all(content: ContentStore) -> bytes:
    """Whatever lies in any pack, opened."""
    found = b""
    for pack, size in (await content.pack_sizes()).items():
        data = await content.read_pack(pack, 0, size)
        index = check_pack_bytes(data).index
        found += b"".join(
            b"".join(open_frame(frame, data[frame.offset :][: frame.stored_bytes])) for frame in index.frames
        )
    return found


async def test_what_others_need_of_a_pack_moves_and_the_rest_lies_in_no_pack(content: ContentStore) -> None:
    remark, model, lesson = noise(200_000, 1), noise(200_000, 2), noise(200_000, 3)
    (pack,) = await publish(content, [remark, model])
    await publish(content, [model + lesson])  # its first chunks lie in the pack before
    assert await content.forget({SPACE}, {name_of(remark)}) == [pack.hash]
    assert await read(content, name_of(model)) == model
    assert await read(content, name_of(model + lesson)) == model + lesson
    assert await content.known_streams([name_of(remark)]) == set()
    held = await bytes_of_all(content)
    assert remark[:1_000] not in held
    assert model[:1_000] in held
    assert [info.space for info in await content.unsent_packs()] == []


SMALL = 100_000
"""A pack is full when it has so much of it: some two chunks."""


async def test_of_a_large_file_the_packs_that_hold_no_list_go_too(
    content: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.transfer.pack_writer.PACK_TARGET_BYTES", SMALL)
    remark, lesson = noise(MiB, 1), noise(MiB, 2)
    packs = await publish(content, [remark])
    await publish(content, [lesson])
    assert [bool(pack.stream_ids) for pack in packs].count(True) == 1 < len(packs)
    assert set(await content.forget({SPACE}, {name_of(remark)})) == {pack.hash for pack in packs}
    assert await content.missing_chunks(SPACE, chunk_list(cut(remark))) == set(chunk_list(cut(remark)))
    assert await read(content, name_of(lesson)) == lesson


async def test_of_packs_without_a_list_what_others_need_stays_where_it_is(
    content: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What shares the most with a remark is a lesson: its packs are not written anew for each that is given up."""
    monkeypatch.setattr("protocol.transfer.pack_writer.PACK_TARGET_BYTES", SMALL)
    remark, lesson = noise(MiB, 1), noise(MiB, 1) + noise(MiB, 2)
    first = await publish(content, [remark])
    await publish(content, [lesson])
    listed = [pack.hash for pack in first if pack.stream_ids]
    needed = set(chunk_list(cut(lesson)))
    partly = [pack.hash for pack in first if not needed.issuperset(pack.chunks)]
    assert set(await content.forget({SPACE}, {name_of(remark)})) == {*listed, *partly}
    assert await read(content, name_of(lesson)) == lesson
    alone = set(chunk_list(cut(remark))) - needed
    assert await content.missing_chunks(SPACE, list(alone)) == alone


async def test_what_was_moved_out_for_others_goes_with_the_last_of_them(content: ContentStore) -> None:
    remark, model, lesson = noise(200_000, 1), noise(200_000, 2), noise(200_000, 3)
    await publish(content, [remark, model])
    await publish(content, [model + lesson])
    await content.forget({SPACE}, {name_of(remark), name_of(model)})
    assert await read(content, name_of(model + lesson)) == model + lesson
    await content.forget({SPACE}, {name_of(model + lesson)})
    assert await content.totals() == (0, 0, 0)


async def test_what_arrives_before_its_list_is_not_taken_with_what_lay_beside_it(content: ContentStore) -> None:
    remark, lesson = noise(200_000, 1), noise(200_000, 2)
    writer = PackWriter()
    for data in (*cut(remark), *cut(lesson)):
        writer.add_chunk(data)
    writer.finish()
    await content.ingest(SPACE, writer.take())
    for data in (remark, lesson):
        writer = PackWriter()
        writer.add_stream(chunk_list(cut(data)))
        writer.finish()
        if data is lesson:
            await content.forget({SPACE}, {name_of(remark)})
            assert await content.missing_chunks(SPACE, chunk_list(cut(remark))) == set(chunk_list(cut(remark)))
        await content.ingest(SPACE, writer.take())
    assert await read(content, name_of(lesson)) == lesson


def in_parts(data: bytes) -> tuple[bytes, bytes]:
    """A pack of its chunks, and one of its list."""
    chunks, listed = PackWriter(), PackWriter()
    for chunk in cut(data):
        chunks.add_chunk(chunk)
    listed.add_stream(chunk_list(cut(data)))
    for writer in (chunks, listed):
        writer.finish()
    return chunks.take(), listed.take()


async def test_chunks_that_no_list_names_are_found_and_go_without_what_is_named(content: ContentStore) -> None:
    lost, kept = noise(200_000, 1), noise(200_000, 2)
    await publish(content, [noise(200_000, 3)])
    writer = PackWriter()
    for chunk in (*cut(lost), *cut(kept)):
        writer.add_chunk(chunk)
    pack = writer.finish()
    await content.ingest(SPACE, writer.take())
    await content.ingest(OTHER_SPACE, in_parts(kept)[1])
    assert await content.unnamed() == [pack.hash]
    assert await content.forget_unnamed([pack.hash, bytes(32)]) == [pack.hash]
    assert await read(content, name_of(kept)) == kept
    assert await content.missing_chunks(SPACE, chunk_list(cut(lost))) == set(chunk_list(cut(lost)))
    assert await content.missing_chunks(SPACE, chunk_list(cut(kept))) == set()
    assert await content.unnamed() == []


async def test_what_is_false_about_the_length_of_a_chunk_names_none(content: ContentStore) -> None:
    data = noise(200_000)
    chunks, _ = in_parts(data)
    await content.ingest(SPACE, chunks)
    await content.ingest(SPACE, falsely(data))
    (pack,) = await content.unnamed()
    assert await content.forget_unnamed([pack]) == [pack]
    assert await content.missing_chunks(SPACE, chunk_list(cut(data))) == set(chunk_list(cut(data)))


async def test_what_a_list_names_by_now_goes_with_nothing(content: ContentStore) -> None:
    data = noise(200_000)
    chunks, listed = in_parts(data)
    await content.ingest(SPACE, chunks)
    found = await content.unnamed()
    await content.ingest(OTHER_SPACE, listed)
    assert await content.forget_unnamed(found) == []
    assert await read(content, name_of(data)) == data


async def test_streams_that_share_a_chunk_are_found_in_whatever_space(content: ContentStore) -> None:
    remark, model, lesson = noise(200_000, 1), noise(200_000, 2), noise(200_000, 3)
    await publish(content, [remark, model])
    await publish(content, [remark + lesson])
    assert await content.sharing({name_of(remark)}) == {name_of(remark + lesson)}
    assert await content.sharing({name_of(model)}) == set()
    assert await content.sharing({name_of(b"not here")}) == set()


def falsely(data: bytes, lists: int = 30) -> bytes:
    """A pack of lists that name the chunks of `data`, each with other lengths than they have."""
    writer = PackWriter()
    for number in range(lists):
        writer.add_stream(tuple(ChunkRef(chunk.hash, chunk.length + number + 1) for chunk in chunk_list(cut(data))))
    writer.finish()
    return writer.take()


async def test_what_a_list_is_false_about_is_no_chunk_that_is_here(content: ContentStore) -> None:
    data = noise(200_000)
    (pack,) = await publish(content, [data])
    await content.ingest(SPACE, falsely(data))
    true = chunk_list(cut(data))
    false = [ChunkRef(chunk.hash, chunk.length + 1) for chunk in true]
    assert await content.missing_chunks(SPACE, [*true, *false]) == set(false)
    assert await content.packs_holding(SPACE, false) == []
    assert await content.packs_holding(SPACE, [*false, *true]) == [PackInfo(pack.hash, pack.size, SPACE)]
    assert await content.sharing({name_of(data)}) == set()
    with pytest.raises(LocalFailure) as failed:
        await read(content, stream_id(tuple(false)))
    assert failed.value.code is Code.INCOMPLETE
    assert await read(content, name_of(data)) == data


async def test_a_false_list_keeps_nothing_that_is_given_up_and_costs_nobody_what_others_need(
    content: ContentStore,
) -> None:
    remark, model, lesson = noise(200_000, 1), noise(200_000, 2), noise(200_000, 3)
    await publish(content, [remark, model])
    await publish(content, [model + lesson])  # its first chunks lie in the pack before
    for data in (remark, model):
        await content.ingest(SPACE, falsely(data))
    await content.forget({SPACE}, {name_of(remark), name_of(model)})
    assert await read(content, name_of(model + lesson)) == model + lesson
    assert remark[:1_000] not in await bytes_of_all(content)
    assert await content.missing_chunks(SPACE, chunk_list(cut(remark))) == set(chunk_list(cut(remark)))


async def test_what_is_unsent_stays_unsent_when_it_moves(content: ContentStore) -> None:
    remark, model = noise(200_000, 1), noise(200_000, 2)
    await publish(content, [remark, model], unsent=True)
    await content.forget({SPACE}, {name_of(remark)})
    (left,) = await content.unsent_packs()
    assert left.space == SPACE
    assert left.size < 210_000


async def test_a_pack_that_belongs_to_a_space_of_which_nobody_has_spoken_stays(content: ContentStore) -> None:
    alone = noise(200_000, 3)
    (pack,) = await publish(content, [alone])
    await content.share(pack.hash, OTHER_SPACE)
    assert await content.spaces_of({name_of(alone)}) == {SPACE, OTHER_SPACE}
    assert await content.forget({SPACE}, {name_of(alone)}) == []
    assert await read(content, name_of(alone)) == alone
    assert await content.forget({SPACE, OTHER_SPACE}, {name_of(alone)}) == [pack.hash]


async def test_a_pack_that_moves_belongs_to_all_its_spaces_as_before(content: ContentStore) -> None:
    remark, model = noise(200_000, 1), noise(200_000, 2)
    (pack,) = await publish(content, [remark, model])
    await content.share(pack.hash, OTHER_SPACE)
    await content.forget({SPACE, OTHER_SPACE}, {name_of(remark)})
    for space in (SPACE, OTHER_SPACE):
        assert await content.missing_streams(space, [name_of(model)]) == set()


# --- making room ------------------------------------------------------------------------------------------------------


async def test_what_is_dropped_is_not_here_any_more_and_what_another_pack_holds_is(content: ContentStore) -> None:
    (first,) = await publish(content, [noise(70_000)])
    (second,) = await publish(content, [noise(70_000, 2)])
    assert await content.pack_sizes() == {first.hash: first.size, second.hash: second.size}
    data = await whole(content, first)
    await content.drop([first.hash])
    assert await content.pack(first.hash) is None
    assert await content.pack_sizes() == {second.hash: second.size}
    with pytest.raises(LocalFailure):
        await read(content, name_of(noise(70_000)))
    assert await read(content, name_of(noise(70_000, 2))) == noise(70_000, 2)
    await content.ingest(SPACE, data)
    assert await read(content, name_of(noise(70_000))) == noise(70_000)
