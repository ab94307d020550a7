from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyfastcdc.py as slow_backend
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import AVG_CHUNK_BYTES, MAX_CHUNK_BYTES, MAX_STREAM_BYTES, MIN_CHUNK_BYTES
from protocol.transfer.chunking import (
    CHUNK_REF_BYTES,
    MAX_CHUNKS_PER_STREAM,
    ChunkRef,
    Cutter,
    check_chunk_list,
    chunk_list,
    chunk_ref,
    cut,
    decode_chunk_list,
    encode_chunk_list,
    stream_bytes,
    stream_id,
)

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "chunking.json").read_text("utf-8"))
STREAMS: list[dict[str, Any]] = VECTORS["streams"]
NAMES = [vector["name"] for vector in STREAMS]

# The gear table as the specification derives it, independent of the library.
GEAR = [int.from_bytes(hashlib.md5(bytes([byte]) * 64).digest()[:8], "big") for byte in range(256)]  # noqa: S324


def vector_input(vector: dict[str, Any]) -> bytes:
    recipe: dict[str, str] = vector["input"]
    size: int = vector["input"]["bytes"]
    if "xof" in recipe:
        return blake3(recipe["xof"].encode()).digest(length=size)
    repeated = bytes.fromhex(recipe["repeat"])
    return (repeated * (size // len(repeated) + 1))[:size]


def lengths_by_the_specification(data: bytes) -> list[int]:
    """The text of docs/protocol.md turned into code as plainly as possible: one byte at a time."""
    before, later = int(VECTORS["mask_before_average"], 16), int(VECTORS["mask_from_average"], 16)
    lengths = []
    while data:
        end = min(len(data), MAX_CHUNK_BYTES)
        # Bytes are looked at in pairs: the last one of an odd number decides nothing.
        looked_at = end - end % 2 if end > MIN_CHUNK_BYTES else 0
        average = min(AVG_CHUNK_BYTES, looked_at)
        fingerprint = 0
        for position in range(MIN_CHUNK_BYTES, looked_at):
            fingerprint = ((fingerprint << 1) + GEAR[data[position]]) % 2**64
            if not fingerprint & (before if position < average else later):
                end = position
                break
        lengths.append(end)
        data = data[end:]
    return lengths


def assembled(chunks: list[bytes]) -> list[int]:
    return list(map(len, chunks))


# --- the normative parts ---


def test_the_gear_table_is_the_one_that_the_specification_derives() -> None:
    table = b"".join(value.to_bytes(8, "big") for value in GEAR)
    assert [value.to_bytes(8, "big").hex() for value in GEAR[:4]] == VECTORS["gear_first"]
    assert table[-8:].hex() == VECTORS["gear_last"]
    assert blake3(table).hexdigest() == VECTORS["gear_blake3"]


@pytest.mark.parametrize("vector", STREAMS, ids=NAMES)
def test_a_stream_is_cut_and_named_as_the_vectors_say(vector: dict[str, Any]) -> None:
    data = vector_input(vector)
    assert blake3(data).hexdigest() == vector["input_blake3"]
    chunks = chunk_list(cut(data))
    assert [chunk.length for chunk in chunks] == vector["chunk_lengths"]
    assert [chunk.hash.hex() for chunk in chunks][:3] == vector["chunk_hashes"]
    assert stream_id(chunks).hex() == vector["stream_id"]


@pytest.mark.parametrize("vector", STREAMS, ids=NAMES)
def test_a_program_written_from_the_specification_alone_cuts_at_the_same_places(vector: dict[str, Any]) -> None:
    assert lengths_by_the_specification(vector_input(vector)) == vector["chunk_lengths"]


def test_a_machine_without_the_compiled_library_cuts_at_the_same_places() -> None:
    rules = slow_backend.FastCDC(
        AVG_CHUNK_BYTES, min_size=MIN_CHUNK_BYTES, max_size=MAX_CHUNK_BYTES, normalized_chunking=2
    )
    for vector in STREAMS:
        assert [chunk.length for chunk in rules.cut_buf(vector_input(vector))] == vector["chunk_lengths"]


# --- laws ---

# Random bytes are cut by their content; a repeated pattern is cut at the maximum.
contents = st.builds(
    lambda seed, size, pattern: (
        blake3(seed).digest(length=size) if pattern is None else (pattern * (size // len(pattern) + 1))[:size]
    ),
    st.binary(min_size=1, max_size=4),
    st.integers(0, 1_200_000) | st.sampled_from([0, 1, MIN_CHUNK_BYTES, MAX_CHUNK_BYTES, MAX_CHUNK_BYTES + 1]),
    st.none() | st.binary(min_size=1, max_size=3),
)


@settings(deadline=None)
@given(contents, st.lists(st.integers(0, 1_200_000), max_size=12))
def test_how_the_bytes_arrive_does_not_change_the_chunks(data: bytes, places: list[int]) -> None:
    cutter = Cutter()
    chunks = []
    for start, end in pairwise(sorted({0, len(data), *(place for place in places if place < len(data))})):
        chunks += cutter.feed(memoryview(data)[start:end])
    chunks += cutter.finish()
    assert b"".join(chunks) == data
    assert chunks == cut(data)


def test_bytes_that_drip_in_give_the_same_chunks_and_are_never_held_for_long() -> None:
    data = blake3(b"drip").digest(length=1_000_000)
    cutter, chunks, given_bytes = Cutter(), [], 0
    for start in range(0, len(data), 1_000):
        chunks += cutter.feed(data[start : start + 1_000])
        given_bytes += 1_000
        assert given_bytes - sum(map(len, chunks)) < MAX_CHUNK_BYTES
    assert chunks + cutter.finish() == cut(data)


def test_a_cutter_that_has_finished_takes_another_stream() -> None:
    cutter = Cutter()
    assert cutter.feed(b"one") + cutter.finish() == [b"one"]
    assert cutter.feed(b"two") + cutter.finish() == [b"two"]
    assert cutter.finish() == []


@settings(deadline=None)
@given(contents)
def test_every_chunk_keeps_the_bounds(data: bytes) -> None:
    lengths = assembled(cut(data))
    assert sum(lengths) == len(data)
    assert all(MIN_CHUNK_BYTES <= length <= MAX_CHUNK_BYTES for length in lengths[:-1])
    assert all(0 < length <= MAX_CHUNK_BYTES for length in lengths)


def test_a_file_smaller_than_the_minimum_is_one_chunk_and_an_empty_one_has_none() -> None:
    assert cut(b"x" * MIN_CHUNK_BYTES) == [b"x" * MIN_CHUNK_BYTES]
    assert cut(b"") == []


def test_one_word_inserted_in_the_middle_changes_few_chunks() -> None:
    before = blake3(b"course").digest(length=5_000_000)
    after = before[:2_500_000] + b"correction" + before[2_500_000:]
    known = set(chunk_list(cut(before)))
    new = [chunk for chunk in chunk_list(cut(after)) if chunk not in known]
    assert 1 <= len(new) <= 4


# --- chunk lists ---

refs = st.builds(ChunkRef, st.binary(min_size=32, max_size=32), st.integers(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES))


@given(st.lists(refs, max_size=20))
def test_a_chunk_list_comes_back_as_it_was_sent(chunks: list[ChunkRef]) -> None:
    encoded = encode_chunk_list(tuple(chunks))
    assert len(encoded) == CHUNK_REF_BYTES * len(chunks)
    assert decode_chunk_list(encoded) == tuple(chunks)
    assert stream_bytes(tuple(chunks)) == sum(chunk.length for chunk in chunks)


@given(st.lists(refs, min_size=1, max_size=6, unique=True), st.data())
def test_other_chunks_or_another_order_make_another_name(chunks: list[ChunkRef], data: st.DataObject) -> None:
    other = data.draw(st.permutations(chunks))
    if other != chunks:
        assert stream_id(tuple(other)) != stream_id(tuple(chunks))
    assert stream_id(tuple(chunks[1:])) != stream_id(tuple(chunks))


@pytest.mark.parametrize("length", [0, MAX_CHUNK_BYTES + 1])
def test_a_chunk_of_an_impossible_length_is_refused(length: int) -> None:
    with pytest.raises(PeerFault) as refusal:
        decode_chunk_list(bytes(32) + length.to_bytes(3, "big"))
    assert refusal.value.code is Code.MALFORMED


def test_a_chunk_list_that_ends_inside_a_chunk_is_refused() -> None:
    with pytest.raises(PeerFault) as refusal:
        decode_chunk_list(encode_chunk_list((ChunkRef(bytes(32), MIN_CHUNK_BYTES),)) + b"\1" * 34)
    assert refusal.value.code is Code.MALFORMED


def test_a_file_made_of_countless_tiny_chunks_is_refused() -> None:
    with pytest.raises(PeerFault) as refusal:
        decode_chunk_list(encode_chunk_list((chunk_ref(b"x"), chunk_ref(b"y"))))
    assert refusal.value.code is Code.MALFORMED


def test_a_chunk_list_longer_than_any_file_needs_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLarge):
        decode_chunk_list(bytes(CHUNK_REF_BYTES * MAX_CHUNKS_PER_STREAM + 1))


def test_a_chunk_list_of_more_bytes_than_a_file_may_have_is_refused() -> None:
    many = -(-MAX_STREAM_BYTES // MAX_CHUNK_BYTES)
    check_chunk_list((ChunkRef(bytes(32), MAX_CHUNK_BYTES),) * many)
    with pytest.raises(TooLarge) as refusal:
        check_chunk_list((ChunkRef(bytes(32), MAX_CHUNK_BYTES),) * many + (ChunkRef(bytes(32), 1),))
    assert refusal.value.code is Code.FILE_TOO_LARGE
