from __future__ import annotations

import json
import struct
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import zstandard
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import (
    FRAME_TARGET_BYTES,
    MAX_CHUNK_BYTES,
    MAX_CHUNK_REFS_PER_PACK,
    MAX_CHUNKS_PER_PACK,
    MAX_COMPRESSION_RATIO,
    MAX_FRAME_BYTES,
    MAX_FRAMES_PER_PACK,
    MAX_PACK_BYTES,
    MAX_PACK_INDEX_BYTES,
    MAX_STREAMS_PER_PACK,
    MIN_CHUNK_BYTES,
    PACK_TARGET_BYTES,
    RATIO_FREE_BYTES,
    KiB,
)
from protocol.transfer.chunking import ChunkList, ChunkRef, chunk_list, chunk_ref, cut, stream_id
from protocol.transfer.pack import (
    MIN_PACK_BYTES,
    PACK_END,
    PACK_MAGIC,
    TRAILER_BYTES,
    Codec,
    FinishedPack,
    PackReceiver,
    open_frame,
    read_index,
    read_trailer,
    resolve_streams,
)
from protocol.transfer.pack_writer import PackWriter

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "pack.json").read_text("utf-8"))
PACK = bytes.fromhex(VECTORS["pack"])


def random_bytes(name: str, size: int) -> bytes:
    return blake3(name.encode()).digest(length=size)


def written(*contents: bytes, frame_target_bytes: int = FRAME_TARGET_BYTES) -> tuple[bytes, FinishedPack]:
    """A pack that carries these streams."""
    writer = PackWriter(frame_target_bytes=frame_target_bytes)
    for content in contents:
        chunks = cut(content)
        for chunk in chunks:
            writer.add_chunk(chunk)
        writer.add_stream(chunk_list(chunks))
    finished = writer.finish()
    return writer.take(), finished


def unpacked(pack: bytes) -> tuple[list[bytes], list[ChunkList]]:
    """Everything in a pack, read as a receiver does."""
    index = read_index(pack)
    chunks = [
        chunk
        for frame in index.frames
        for chunk in open_frame(frame, pack[frame.offset : frame.offset + frame.stored_bytes])
    ]
    return chunks, list(resolve_streams(index, chunk_list(chunks)))


# --- a forger that keeps every digest right, so that only the meaning is wrong ---


def frame_record(stored: bytes, codec: int, chunk_count: int) -> bytes:
    return struct.pack(">IBI", len(stored), codec, chunk_count) + blake3(stored).digest()


def index_bytes(
    records: list[bytes],
    lengths: list[int],
    far: bytes = b"",
    streams: bytes = b"",
    counts: dict[str, int] | None = None,
) -> bytes:
    counts = {"frames": len(records), "chunks": len(lengths), "far": len(far) // 35, "streams": 0, **(counts or {})}
    head = struct.pack(">IIII", counts["frames"], counts["chunks"], counts["far"], counts["streams"])
    return head + b"".join(records) + b"".join(length.to_bytes(3, "big") for length in lengths) + far + streams


def sealed(frames: bytes, index: bytes, *, stored_index: bytes | None = None, plain_bytes: int | None = None) -> bytes:
    stored = index if stored_index is None else stored_index
    sizes = struct.pack(">II", len(stored), len(index) if plain_bytes is None else plain_bytes)
    return PACK_MAGIC + frames + stored + sizes + blake3(sizes + stored).digest(length=16) + PACK_END


def forged(stored: bytes, lengths: list[int], codec: int = Codec.ZSTD) -> bytes:
    """A pack of one frame with these stored bytes, which claims these chunks."""
    return sealed(stored, index_bytes([frame_record(stored, codec, len(lengths))], lengths))


def refusal_of(pack: bytes) -> PeerFault:
    with pytest.raises(PeerFault) as refusal:
        unpacked(pack)
    return refusal.value


# --- vectors ---


def test_a_pack_is_read_as_the_vectors_say() -> None:
    index = read_index(PACK)
    assert blake3(PACK).hexdigest() == VECTORS["hash"]
    assert read_trailer(PACK, pack_bytes=len(PACK)).offset == VECTORS["index"]["offset"]
    assert [
        {
            "offset": frame.offset,
            "stored_bytes": frame.stored_bytes,
            "plain_bytes": frame.plain_bytes,
            "codec": frame.codec,
            "digest": frame.digest.hex(),
            "chunk_lengths": list(frame.chunk_lengths),
        }
        for frame in index.frames
    ] == VECTORS["index"]["frames"]
    assert [{"hash": c.hash.hex(), "length": c.length} for c in index.far] == VECTORS["index"]["far"]
    assert [[[run.start, len(run)] for run in runs] for runs in index.streams] == VECTORS["index"]["streams"]
    chunks, streams = unpacked(PACK)
    assert [{"blake3": c.hash.hex(), "length": c.length} for c in chunk_list(chunks)] == VECTORS["chunks"]
    assert [stream_id(stream).hex() for stream in streams] == VECTORS["stream_ids"]


def test_a_pack_without_anything_is_a_pack() -> None:
    pack, finished = written()
    assert pack.hex() == VECTORS["empty_pack"]
    assert len(pack) == MIN_PACK_BYTES
    assert finished.index.chunk_count == 0
    assert unpacked(pack) == ([], [])


# --- laws ---

pieces = st.builds(
    lambda seed, size, pattern: (
        blake3(seed).digest(length=size) if pattern is None else (pattern * (size // len(pattern) + 1))[:size]
    ),
    st.binary(min_size=1, max_size=2),
    st.sampled_from([0, 1, 100, 20_000, 300_000]),
    st.none() | st.binary(min_size=1, max_size=3),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(pieces, max_size=6), st.sampled_from([1, 30_000, FRAME_TARGET_BYTES]))
def test_what_is_packed_is_unpacked_again(contents: list[bytes], frame_target_bytes: int) -> None:
    pack, finished = written(*contents, frame_target_bytes=frame_target_bytes)
    assert (finished.hash, finished.size) == (blake3(pack).digest(), len(pack))
    assert read_index(pack) == finished.index
    chunks, streams = unpacked(pack)
    assert chunk_list(chunks) == finished.chunks
    assert tuple(map(stream_id, streams)) == finished.stream_ids
    by_name = {chunk_ref(chunk): chunk for chunk in chunks}
    assert [b"".join(by_name[name] for name in stream) for stream in streams] == contents


@settings(deadline=None, max_examples=60)
@given(st.lists(pieces, max_size=4), st.lists(st.integers(0, 700_000), max_size=6))
def test_a_pack_is_received_in_pieces_of_any_size(contents: list[bytes], places: list[int]) -> None:
    pack, finished = written(*contents)
    receiver = PackReceiver(finished.hash, finished.size)
    for start, end in pairwise(sorted({0, len(pack), *(place for place in places if place < len(pack))})):
        receiver.feed(pack[start:end])
    receiver.finish()
    assert receiver.received_bytes == len(pack)


def test_every_flipped_bit_is_found_with_the_packs_hash_and_without_it() -> None:
    small, finished = written(b"Bonjour " * 40, random_bytes("noise", 60), b"", frame_target_bytes=100)
    assert {frame.codec for frame in finished.index.frames} == {Codec.RAW, Codec.ZSTD}
    for bit in range(len(small) * 8):
        flipped = bytearray(small)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PeerFault):
            unpacked(bytes(flipped))
        receiver = PackReceiver(finished.hash, finished.size)
        with pytest.raises(PeerFault):  # noqa: PT012
            receiver.feed(bytes(flipped))
            receiver.finish()


@given(st.integers(0, len(PACK) - 1))
def test_a_pack_that_was_cut_short_is_refused(size: int) -> None:
    refusal_of(PACK[:size])
    refusal_of(PACK[len(PACK) - size :])


@given(st.binary(max_size=300))
def test_any_bytes_at_all_as_an_index_are_refused_or_make_sense(index: bytes) -> None:
    try:
        chunks, _ = unpacked(sealed(b"", index))
    except PeerFault:
        return
    assert chunks == []


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_changed_index_with_a_right_digest_is_refused_or_makes_sense(changes: list[tuple[int, int]]) -> None:
    stored = b"abcdef"
    far = bytes(32) + MIN_CHUNK_BYTES.to_bytes(3, "big")
    streams = struct.pack(">IiIiI", 2, 2, 1, -3, 2)
    index = bytearray(index_bytes([frame_record(stored, 0, 2)], [2, 4], far, streams, {"streams": 1}))
    for place, value in changes:
        index[place if place < 30 else len(index) - place + 29] = value
    try:
        chunks, streams_read = unpacked(sealed(stored, bytes(index)))
    except PeerFault:
        return
    assert b"".join(chunks) == stored
    assert len(streams_read) <= 1


# --- writing ---


def test_the_same_chunk_is_written_once() -> None:
    writer = PackWriter()
    name = writer.add_chunk(b"once")
    assert writer.add_chunk(b"once") == name
    assert writer.add_chunk(b"once", name) == name
    assert name in writer
    assert chunk_ref(b"twice") not in writer
    assert writer.finish().chunks == (name,)
    assert unpacked(writer.take()) == ([b"once"], [])


def test_the_same_content_makes_the_same_pack() -> None:
    content = b"Le relais passe de main en main. " * 9_000 + random_bytes("same", 300_000)
    assert written(content, b"x") == written(content, b"x")


def test_content_packed_with_more_effort_is_the_same_content() -> None:
    content = "".join(f"Exercice {n} : {n} x {n + 1} = {n * (n + 1)}\n" for n in range(20_000)).encode()
    packs = []
    for level in (1, 3, 19):
        writer = PackWriter(level=level)
        chunks = [writer.add_chunk(chunk) for chunk in cut(content)]
        writer.add_stream(tuple(chunks))
        writer.finish()
        packs.append(writer.take())
    assert len(packs[2]) < len(packs[1])
    assert unpacked(packs[0]) == unpacked(packs[1]) == unpacked(packs[2])


def test_chunks_that_follow_each_other_cost_one_run() -> None:
    _, finished = written(random_bytes("one", 700_000), random_bytes("two", 700_000))
    assert [len(runs) for runs in finished.index.streams] == [1, 1]


def test_a_stream_may_use_chunks_that_lie_in_other_packs() -> None:
    writer = PackWriter()
    far, near = ChunkRef(bytes(32), MIN_CHUNK_BYTES), chunk_ref(b"near")
    later = chunk_ref(b"l" * MIN_CHUNK_BYTES)
    writer.add_stream((far, later, far, near))
    writer.add_chunk(b"near")
    writer.add_chunk(b"l" * MIN_CHUNK_BYTES)
    finished = writer.finish()
    assert finished.index.far == (far,)
    assert unpacked(writer.take())[1] == [(far, later, far, near)]


def test_content_that_does_not_compress_is_stored_as_it_is() -> None:
    noise = random_bytes("noise", 3_000_000)
    pack, finished = written(noise)
    assert {frame.codec for frame in finished.index.frames} == {Codec.RAW}
    assert len(pack) < len(noise) + 500


def test_content_that_compresses_too_well_is_split_until_a_reader_may_trust_it() -> None:
    writer = PackWriter()
    chunks = [bytes([value]) * MAX_CHUNK_BYTES for value in range(30)]
    for chunk in chunks:
        writer.add_chunk(chunk)
    frames = writer.finish().index.frames
    assert all(
        frame.plain_bytes <= max(RATIO_FREE_BYTES, MAX_COMPRESSION_RATIO * frame.stored_bytes) for frame in frames
    )
    assert sum(frame.stored_bytes for frame in frames) < 5_000
    assert unpacked(writer.take())[0] == chunks


def test_a_large_pack_is_written_with_the_memory_of_a_frame() -> None:
    writer = PackWriter()
    added = taken = 0
    for number in range(64):
        added += writer.add_chunk(random_bytes(f"{number}", MAX_CHUNK_BYTES)).length
        taken += len(writer.take())
        assert added - taken <= FRAME_TARGET_BYTES + MAX_CHUNK_BYTES
    finished = writer.finish()
    assert taken + len(writer.take()) == finished.size


def test_an_index_costs_about_three_bytes_a_chunk() -> None:
    pack, finished = written(*(f"fiche {number}".encode() * (number % 90 + 1) for number in range(6_000)))
    place = read_trailer(pack, pack_bytes=len(pack))
    assert finished.index.chunk_count == 6_000
    assert place.stored_bytes < 3 * 6_000


def test_a_pack_is_full_at_its_target_size() -> None:
    writer = PackWriter()
    count = 0
    while not writer.is_full:
        writer.add_chunk(random_bytes(f"{count}", MAX_CHUNK_BYTES))
        writer.take()
        count += 1
    assert count == PACK_TARGET_BYTES // MAX_CHUNK_BYTES
    assert writer.finish().size < MAX_PACK_BYTES


def test_a_pack_is_full_before_its_index_is_too_large() -> None:
    writer = PackWriter()
    number = 0
    while not writer.is_full:
        writer.add_stream((ChunkRef(number.to_bytes(32, "big"), MIN_CHUNK_BYTES),))
        number += 1
    assert number < MAX_STREAMS_PER_PACK
    writer.finish()
    assert len(unpacked(writer.take())[1]) == number


def test_a_writer_that_is_not_asked_whether_it_is_full_fails_rather_than_make_what_nobody_reads() -> None:
    writer = PackWriter()
    for number in range(MAX_PACK_BYTES // MAX_CHUNK_BYTES):
        writer.add_chunk(random_bytes(f"{number}", MAX_CHUNK_BYTES))
        writer.take()
    with pytest.raises(ValueError, match="full"):
        writer.finish()


@pytest.mark.parametrize("size", [0, MAX_CHUNK_BYTES + 1])
def test_what_is_no_chunk_is_not_packed(size: int) -> None:
    with pytest.raises(ValueError, match="length"):
        PackWriter().add_chunk(bytes(size))


@pytest.mark.parametrize("target", [0, MAX_FRAME_BYTES])
def test_a_frame_size_that_readers_refuse_is_not_offered(target: int) -> None:
    with pytest.raises(ValueError, match="frame"):
        PackWriter(frame_target_bytes=target)


# --- what arrives ---


def test_a_pack_longer_than_announced_is_refused_at_the_first_byte_too_many() -> None:
    receiver = PackReceiver(blake3(PACK).digest(), len(PACK))
    receiver.feed(PACK)
    with pytest.raises(TooLarge):
        receiver.feed(b"\0")


def test_another_pack_than_the_one_asked_for_is_refused() -> None:
    receiver = PackReceiver(bytes(32), len(PACK))
    receiver.feed(PACK)
    with pytest.raises(PeerFault) as refusal:
        receiver.finish()
    assert refusal.value.code is Code.BAD_HASH


def test_a_web_page_instead_of_a_pack_is_refused_at_once() -> None:
    receiver = PackReceiver(bytes(32), 10_000)
    receiver.feed(b"RL")
    with pytest.raises(PeerFault) as refusal:
        receiver.feed(b"<html>")
    assert refusal.value.code is Code.UNKNOWN_FORMAT


def test_a_pack_that_ends_early_is_refused() -> None:
    receiver = PackReceiver(blake3(PACK).digest(), len(PACK))
    receiver.feed(PACK[:-1])
    with pytest.raises(PeerFault) as refusal:
        receiver.finish()
    assert refusal.value.code is Code.MALFORMED


@pytest.mark.parametrize(("size", "code"), [(MAX_PACK_BYTES + 1, Code.TOO_LARGE), (MIN_PACK_BYTES - 1, Code.MALFORMED)])
def test_a_pack_of_an_impossible_size_is_not_even_begun(size: int, code: Code) -> None:
    with pytest.raises(PeerFault) as refusal:
        PackReceiver(bytes(32), size)
    assert refusal.value.code is code


# --- hostile packs: all digests right, the meaning wrong ---

ZEROS = bytes(1_000)
SMALL = zstandard.compress(ZEROS)


def test_the_forger_of_these_tests_can_make_a_good_pack() -> None:
    assert unpacked(forged(SMALL, [400, 600]))[0] == [ZEROS[:400], ZEROS[400:]]
    assert unpacked(forged(b"raw", [3], Codec.RAW))[0] == [b"raw"]


def streaming_frame(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


def dictionary_frame(data: bytes) -> bytes:
    samples: list[bytes | bytearray | memoryview] = [
        f"fiche {number} de travail {number % 7}".encode() * 3 for number in range(2_000)
    ]
    trained = zstandard.train_dictionary(4_096, samples)
    return zstandard.ZstdCompressor(dict_data=trained).compress(data)


@pytest.mark.parametrize(
    ("pack", "code"),
    [
        pytest.param(forged(streaming_frame(ZEROS), [1_000]), Code.MALFORMED, id="frame without its size"),
        pytest.param(forged(dictionary_frame(ZEROS), [1_000]), Code.MALFORMED, id="frame with a dictionary"),
        pytest.param(forged(SMALL, [999]), Code.MALFORMED, id="frame larger than its chunks"),
        pytest.param(forged(SMALL, [1_000, 1]), Code.MALFORMED, id="frame smaller than its chunks"),
        pytest.param(forged(SMALL + b"\0", [1_000]), Code.MALFORMED, id="bytes behind the zstd frame"),
        pytest.param(forged(SMALL + SMALL, [1_000]), Code.MALFORMED, id="two zstd frames in one"),
        pytest.param(forged(SMALL[:-1], [1_000]), Code.MALFORMED, id="zstd frame cut short"),
        pytest.param(forged(b"no zstd", [1_000]), Code.MALFORMED, id="no zstd at all"),
        pytest.param(
            forged(b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + bytes(4), [13]),
            Code.MALFORMED,
            id="a skippable frame",
        ),
        pytest.param(forged(b"raw", [4], Codec.RAW), Code.MALFORMED, id="raw frame smaller than its chunks"),
        pytest.param(forged(b"raw", [2], Codec.RAW), Code.MALFORMED, id="raw frame larger than its chunks"),
        pytest.param(forged(SMALL, [len(SMALL)]), Code.MALFORMED, id="compression that saves nothing"),
        pytest.param(forged(SMALL, [1_000], 2), Code.UNKNOWN_FORMAT, id="unknown codec"),
        pytest.param(forged(SMALL, [0, 1_000]), Code.MALFORMED, id="empty chunk"),
        pytest.param(forged(SMALL, [MAX_CHUNK_BYTES + 1]), Code.MALFORMED, id="chunk larger than any"),
        pytest.param(forged(SMALL, []), Code.MALFORMED, id="frame without chunks"),
        pytest.param(forged(SMALL, [MAX_CHUNK_BYTES] * 5), Code.TOO_LARGE, id="too good a ratio"),
        pytest.param(forged(bytes(10**6), [MAX_CHUNK_BYTES] * 65), Code.TOO_LARGE, id="frame larger than any"),
    ],
)
def test_a_frame_that_lies_is_refused(pack: bytes, code: Code) -> None:
    assert refusal_of(pack).code is code


RECORD = frame_record(b"abc", 0, 1)
FAR = bytes(32) + MIN_CHUNK_BYTES.to_bytes(3, "big")


def stream(*runs: tuple[int, int]) -> bytes:
    return struct.pack(">I", len(runs)) + b"".join(struct.pack(">iI", *run) for run in runs)


@pytest.mark.parametrize(
    ("frames", "index", "code"),
    [
        pytest.param(b"abcd", index_bytes([RECORD], [3]), Code.MALFORMED, id="a gap before the index"),
        pytest.param(b"ab", index_bytes([RECORD], [3]), Code.MALFORMED, id="frames that reach into the index"),
        pytest.param(b"abc", index_bytes([RECORD], [3, 3]), Code.MALFORMED, id="a chunk in no frame"),
        pytest.param(b"abcabc", index_bytes([RECORD, RECORD], [3]), Code.MALFORMED, id="a chunk in two frames"),
        pytest.param(b"abc", index_bytes([RECORD], [3]) + b"\0", Code.MALFORMED, id="bytes behind the streams"),
        pytest.param(b"", index_bytes([], [], counts={"frames": 1}), Code.MALFORMED, id="a frame that is missing"),
        pytest.param(b"", index_bytes([], [], FAR[:-1], counts={"far": 1}), Code.MALFORMED, id="half a far chunk"),
        pytest.param(b"", index_bytes([], [], bytes(35)), Code.MALFORMED, id="an empty far chunk"),
        pytest.param(b"", index_bytes([], [], counts={"streams": 1}), Code.MALFORMED, id="a stream that is missing"),
        pytest.param(
            b"", index_bytes([], [], FAR, stream((0, 1))[:-1], {"streams": 1}), Code.MALFORMED, id="half a stream"
        ),
        pytest.param(
            b"", index_bytes([], [], FAR, stream((1, 1)), {"streams": 1}), Code.MALFORMED, id="a chunk too far"
        ),
        pytest.param(
            b"", index_bytes([], [], FAR, stream((-1, 1)), {"streams": 1}), Code.MALFORMED, id="a negative chunk"
        ),
        pytest.param(
            b"", index_bytes([], [], FAR, stream((0, 0)), {"streams": 1}), Code.MALFORMED, id="a run of nothing"
        ),
        pytest.param(
            b"abc",
            index_bytes([RECORD], [3], FAR, stream((0, 2)), {"streams": 1}),
            Code.MALFORMED,
            id="a short chunk in the middle of a stream",
        ),
        pytest.param(
            b"", index_bytes([], [], counts={"frames": MAX_FRAMES_PER_PACK + 1}), Code.TOO_LARGE, id="many frames"
        ),
        pytest.param(b"", index_bytes([], [], counts={"frames": 2**32 - 1}), Code.TOO_LARGE, id="countless frames"),
        pytest.param(
            b"", index_bytes([], [], counts={"chunks": MAX_CHUNKS_PER_PACK + 1}), Code.TOO_LARGE, id="many chunks"
        ),
        pytest.param(
            b"", index_bytes([], [], counts={"far": MAX_CHUNK_REFS_PER_PACK + 1}), Code.TOO_LARGE, id="many far chunks"
        ),
        pytest.param(
            b"", index_bytes([], [], counts={"streams": MAX_STREAMS_PER_PACK + 1}), Code.TOO_LARGE, id="many streams"
        ),
        pytest.param(
            b"",
            index_bytes(
                [], [], FAR * 2, stream(*[(0, 2), *[(-2, 2)] * (MAX_CHUNK_REFS_PER_PACK // 2)]), {"streams": 1}
            ),
            Code.TOO_LARGE,
            id="a stream of countless chunks",
        ),
        pytest.param(
            b"",
            index_bytes([struct.pack(">IBI32x", MAX_FRAME_BYTES // 100, 1, 64)] * 65, [MAX_CHUNK_BYTES] * 64 * 65),
            Code.TOO_LARGE,
            id="a pack that unpacks to more than a gigabyte",
        ),
    ],
)
def test_an_index_that_lies_is_refused(frames: bytes, index: bytes, code: Code) -> None:
    assert refusal_of(sealed(frames, index)).code is code


@pytest.mark.parametrize(
    ("pack", "code"),
    [
        pytest.param(b"RLSPACK\x01" + PACK[8:], Code.UNKNOWN_FORMAT, id="another version"),
        pytest.param(PACK[:-1] + b"\x01", Code.UNKNOWN_FORMAT, id="another end"),
        pytest.param(sealed(bytes(20), b"short"), Code.MALFORMED, id="an index shorter than any"),
        pytest.param(sealed(b"", bytes(16), plain_bytes=15), Code.MALFORMED, id="an index that grows when stored"),
        pytest.param(sealed(b"", bytes(16), stored_index=b"", plain_bytes=16), Code.MALFORMED, id="no index"),
        pytest.param(
            sealed(b"", bytes(16), plain_bytes=MAX_PACK_INDEX_BYTES + 1), Code.TOO_LARGE, id="an index larger than any"
        ),
        pytest.param(
            sealed(b"", bytes(16), stored_index=zstandard.compress(bytes(5_000)), plain_bytes=MAX_PACK_INDEX_BYTES),
            Code.MALFORMED,
            id="an index that is not as large as it says",
        ),
        pytest.param(PACK + b"\0", Code.UNKNOWN_FORMAT, id="a byte behind the end"),
    ],
)
def test_a_container_that_lies_is_refused(pack: bytes, code: Code) -> None:
    assert refusal_of(pack).code is code


def test_the_end_of_a_pack_is_needed_whole() -> None:
    with pytest.raises(PeerFault):
        read_trailer(PACK[-TRAILER_BYTES + 1 :], pack_bytes=len(PACK))


def test_an_index_whose_place_lies_before_the_pack_is_refused() -> None:
    with pytest.raises(PeerFault) as refusal:
        read_trailer(PACK[-TRAILER_BYTES:], pack_bytes=MIN_PACK_BYTES)
    assert refusal.value.code is Code.MALFORMED


def test_a_damaged_frame_is_told_from_a_good_one() -> None:
    index = read_index(PACK)
    frame = index.frames[0]
    with pytest.raises(PeerFault) as refusal:
        open_frame(frame, PACK[frame.offset : frame.offset + frame.stored_bytes - 1])
    assert refusal.value.code is Code.BAD_HASH


def test_the_names_of_all_chunks_are_needed_to_name_the_streams() -> None:
    with pytest.raises(ValueError, match="all local chunks"):
        list(resolve_streams(read_index(PACK), []))


@pytest.mark.parametrize(
    "bomb",
    [
        forged(zstandard.compress(bytes(MAX_FRAME_BYTES)), [MAX_CHUNK_BYTES] * 64),
        forged(streaming_frame(bytes(MAX_FRAME_BYTES)), [MAX_CHUNK_BYTES] * 4),
        sealed(b"", index_bytes([], [], counts={"chunks": MAX_CHUNKS_PER_PACK, "streams": MAX_STREAMS_PER_PACK})),
    ],
)
def test_a_decompression_bomb_is_refused_without_taking_memory_for_it(bomb: bytes) -> None:
    tracemalloc.start()
    try:
        refusal_of(bomb)
        assert tracemalloc.get_traced_memory()[1] < 512 * KiB
    finally:
        tracemalloc.stop()
