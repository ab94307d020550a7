"""Deltas as bytes: what is written is read, what cannot be is refused (docs/protocol.md, "Deltas")."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import Any, cast

import pytest
import zstandard
from blake3 import blake3

from protocol.canonical import decode, encode
from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import (
    MAX_DELTA_BASES,
    MAX_DELTA_DICTIONARY_BYTES,
    MAX_DELTA_MADE_BYTES,
    MAX_FRAME_BYTES,
    MAX_IMAGE_BYTES,
    MAX_SPLICED_BYTES,
    MiB,
)
from protocol.transfer.delta import (
    DELTA_END,
    DELTA_MAGIC,
    TRAILER_BYTES,
    Chunked,
    Copy,
    IndexPlace,
    Own,
    Source,
    Spliced,
    Tree,
    frame_digest,
    is_delta,
)
from protocol.transfer.delta_reader import decode_delta_index, open_delta_frame, read_delta_index, read_delta_trailer
from protocol.transfer.delta_writer import DeltaWriter, compress
from protocol.transfer.manifest import ManifestEntry, encode_manifest, with_streams, without_streams

BASE = bytes(range(32))
OLD = Random(1).randbytes(100_000)
NEW = OLD[:50_000] + b"a new sentence" + OLD[50_000:]
EMPTY = "524c5344454c5400949090909000000005000000051d8c58550709bb4cd8b9afdcc09a7053524c5344454e4400"


def again(*parts: Own | int, bases: tuple[bytes, ...] = ()) -> bytes:
    """A delta that brings 100 bytes as one file, then a file of these parts."""
    writer = DeltaWriter(bases)
    fresh = sum(part for part in parts if isinstance(part, int))
    writer.add_frame(OLD[: 100 + fresh], [], b"")
    writer.add_target(Spliced((100,)))
    writer.add_target(Spliced(parts))
    writer.finish()
    return writer.take()


def test_a_file_may_say_again_what_stands_before_it_in_the_delta() -> None:
    parts = (Own(0, 100), 5, Own(40, 65))
    assert read_delta_index(again(*parts)).targets[1] == Spliced(parts)


@pytest.mark.parametrize(
    "parts", [(Own(1, 100),), (Own(100, 1),), (Own(60, 42), 5), (5, Own(100, 6)), (Own(2**40, 1),)]
)
def test_what_is_said_again_has_been_said_before(parts: tuple[Own | int, ...]) -> None:
    with pytest.raises(PeerFault) as refused:
        read_delta_index(again(*parts))
    assert refused.value.code is Code.MALFORMED


def test_a_delta_with_bases_says_nothing_again() -> None:
    with pytest.raises(PeerFault) as refused:
        read_delta_index(again(Own(0, 50), bases=(BASE,)))
    assert refused.value.code is Code.MALFORMED


def test_a_few_bytes_that_are_said_again_and_again_make_no_more_than_is_allowed() -> None:
    writer = DeltaWriter()
    plain = bytes(MAX_SPLICED_BYTES)
    for at in range(0, len(plain), MiB):
        writer.add_frame(plain[at : at + MiB], [], b"")
    writer.add_target(Spliced((len(plain),)))
    for _ in range(MAX_DELTA_MADE_BYTES // len(plain)):
        writer.add_target(Spliced((Own(0, len(plain)),)))
    writer.finish()
    with pytest.raises(TooLarge):
        read_delta_index(writer.take())


def written() -> bytes:
    """A delta with a target of every kind."""
    writer = DeltaWriter([BASE])
    writer.add_image(0, 1, b"recipe")
    writer.add_frame(NEW, [Source(0, 0, 0, len(OLD))], OLD)
    writer.add_target(Chunked((Copy(0, 0, 2, 3), 60_000, 30_000)))
    writer.add_target(
        Spliced((Source(0, 1, 5, 10, unfolded=True), len(NEW) - 90_100, Source(0, None, 0, 7)), recipe=b"recipe")
    )
    writer.add_target(Tree(100, ((0, 1), (4, 0))))
    writer.finish()
    return writer.take()


def test_what_was_written_is_read_again() -> None:
    data = written()
    index = read_delta_index(data)
    assert is_delta(data)
    assert index.bases == (BASE,)
    assert index.images == {(0, 1): b"recipe"}
    assert index.targets == (
        Chunked((Copy(0, 0, 2, 3), 60_000, 30_000)),
        Spliced((Source(0, 1, 5, 10, unfolded=True), len(NEW) - 90_100, Source(0, None, 0, 7)), recipe=b"recipe"),
        Tree(100, ((0, 1), (4, 0))),
    )
    (frame,) = index.frames
    stored = data[frame.offset : frame.offset + frame.stored_bytes]
    assert open_delta_frame(frame, stored, OLD) == NEW
    assert frame.stored_bytes < 200


def test_the_empty_delta_is_what_the_specification_says() -> None:
    writer = DeltaWriter()
    writer.finish()
    assert writer.take().hex() == EMPTY


def test_what_nothing_makes_smaller_is_stored_as_it_is_without_a_dictionary() -> None:
    noise = Random(2).randbytes(5_000)
    writer = DeltaWriter([BASE])
    writer.add_frame(noise, [Source(0, 0, 0, 100)], OLD[:100])
    writer.add_target(Chunked((5_000,)))
    writer.finish()
    (frame,) = read_delta_index(writer.take()).frames
    assert (frame.stored_bytes, frame.sources) == (5_000, ())


def test_a_frame_that_unpacks_to_very_much_is_split_for_the_reader() -> None:
    writer = DeltaWriter()
    writer.add_frame(bytes(8 * MiB), [], b"")
    writer.add_target(Spliced((8 * MiB,)))
    writer.finish()
    assert len(read_delta_index(writer.take()).frames) > 1


def test_another_base_than_the_writers_never_gives_what_the_writer_meant() -> None:
    data = written()
    (frame,) = read_delta_index(data).frames
    stored = data[frame.offset : frame.offset + frame.stored_bytes]
    assert opened_or_refused(lambda: open_delta_frame(frame, stored, bytes(len(OLD)))) != NEW


def opened_or_refused(work: Callable[[], bytes]) -> bytes | Code:
    try:
        return work()
    except PeerFault as fault:
        return fault.code


@pytest.mark.parametrize("at", [8, 20, -1])
def test_a_changed_byte_in_a_frame_is_found_before_anything_is_made_of_it(at: int) -> None:
    data = bytearray(written())
    (frame,) = read_delta_index(bytes(data)).frames
    data[at if at > 0 else frame.offset + frame.stored_bytes - 1] ^= 1
    with pytest.raises(PeerFault) as refused:
        open_delta_frame(frame, bytes(data[frame.offset : frame.offset + frame.stored_bytes]), OLD)
    assert refused.value.code is Code.BAD_HASH


def test_a_changed_byte_in_the_index_or_the_trailer_is_found() -> None:
    whole = written()
    (frame,) = read_delta_index(whole).frames
    for at in range(frame.offset + frame.stored_bytes, len(whole)):
        with pytest.raises(PeerFault):
            read_delta_index(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])


@pytest.mark.parametrize("length", [0, 7, 8, 40, 60])
def test_what_ends_too_early_is_refused(length: int) -> None:
    with pytest.raises(PeerFault):
        read_delta_index(written()[:length])


def with_index(index: Any, frames: bytes = b"") -> bytes:
    """A delta with an index that no writer of ours makes."""
    plain = encode(index)
    stored = compress(plain, b"", 3)
    stored = stored if len(stored) < len(plain) else plain
    sizes = struct.pack(">II", len(stored), len(plain))
    return DELTA_MAGIC + frames + stored + sizes + blake3(sizes + stored).digest(length=16) + DELTA_END


PLAIN = b"plain bytes of a frame"
FRAME = [len(PLAIN), len(PLAIN), frame_digest(PLAIN), []]


def valid() -> list[Any]:
    return [[BASE], [[0, 0, b"recipe"]], [list(FRAME)], [[1, [len(PLAIN)], b""]]]


def spoiled(change: Callable[[list[Any]], object]) -> list[Any]:
    index = valid()
    change(index)
    return index


HOSTILE: dict[str, tuple[Callable[[list[Any]], object], Code]] = {
    "too many bases": (lambda i: i[0].extend([BASE] * MAX_DELTA_BASES), Code.MALFORMED),
    "a base that is no id": (lambda i: i[0].append(b"short"), Code.MALFORMED),
    "a part too many": (lambda i: i.append([]), Code.MALFORMED),
    "an image of a base that is not there": (lambda i: i[1].append([1, 0, b""]), Code.MALFORMED),
    "a frame larger than allowed": (lambda i: i[2][0].__setitem__(1, MAX_FRAME_BYTES + 1), Code.TOO_LARGE),
    "a frame that unpacks from nothing": (lambda i: i[2][0].__setitem__(1, 2 * MiB), Code.TOO_LARGE),
    "a frame of no bytes": (lambda i: i[2][0].__setitem__(1, 0), Code.MALFORMED),
    "a frame that shrinks": (lambda i: i[2][0].__setitem__(1, 3), Code.MALFORMED),
    "a frame that is not there": (lambda i: i[2].append(list(FRAME)), Code.MALFORMED),
    "a negative frame": (lambda i: i[2][0].__setitem__(0, -5), Code.MALFORMED),
    "a dictionary larger than allowed": (
        lambda i: i[2][0].__setitem__(3, [[0, 1, 0, MAX_DELTA_DICTIONARY_BYTES], [0, 1, 0, 1]]),
        Code.TOO_LARGE,
    ),
    "a source of a base that is not there": (lambda i: i[2][0].__setitem__(3, [[1, 1, 0, 5]]), Code.MALFORMED),
    "a source of no bytes": (lambda i: i[2][0].__setitem__(3, [[0, 1, 0, 0]]), Code.MALFORMED),
    "a source before the beginning": (lambda i: i[2][0].__setitem__(3, [[0, 1, -1, 5]]), Code.MALFORMED),
    "a source in an image without a recipe": (lambda i: i[2][0].__setitem__(3, [[0, -9, 0, 5]]), Code.MALFORMED),
    "a copy from an image without a recipe": (
        lambda i: i[3].append([1, [[0, -9, 0, 5]], b"r"]),
        Code.MALFORMED,
    ),
    "targets that need more than there is": (lambda i: i[3].append([0, [5]]), Code.MALFORMED),
    "targets that leave something": (lambda i: i[3].clear(), Code.MALFORMED),
    "a target of an unknown kind": (lambda i: i[3].append([3, []]), Code.MALFORMED),
    "a chunk larger than any": (lambda i: i[3].append([0, [MiB]]), Code.MALFORMED),
    "a run of no chunks": (lambda i: i[3].append([0, [[0, 0, 0, 0]]]), Code.MALFORMED),
    "runs of too many chunks": (
        lambda i: i[3].append([0, [[0, 0, 0, 524_288], [0, 0, 0, 1]]]),
        Code.TOO_LARGE,
    ),
    "a splice of very many bytes": (
        lambda i: i[3].append([1, [[0, 1, 0, MAX_SPLICED_BYTES], [0, 1, 0, 1]], b""]),
        Code.TOO_LARGE,
    ),
    "an image of very many bytes": (
        lambda i: i[3].append([1, [[0, 1, 0, MAX_IMAGE_BYTES], [0, 1, 0, 1]], b"r"]),
        Code.TOO_LARGE,
    ),
    "true for a number of bytes": (lambda i: i[3].append([1, [True], b""]), Code.MALFORMED),
    "a hole for a later target": (lambda i: i[3].append([2, 0, [[0, 1]]]), Code.MALFORMED),
    "a hole twice": (lambda i: i[3].append([2, 0, [[0, 0], [0, 0]]]), Code.MALFORMED),
    "a manifest in a manifest": (lambda i: i[3].extend([[2, 0, []], [2, 0, [[0, 1]]]]), Code.MALFORMED),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_an_index_that_no_writer_makes_is_refused_before_memory_is_taken(case: str) -> None:
    change, code = HOSTILE[case]
    with pytest.raises(PeerFault) as refused:
        read_delta_index(with_index(spoiled(change), PLAIN))
    assert refused.value.code is code


def test_what_the_hostile_ones_are_made_from_is_read() -> None:
    assert read_delta_index(with_index(valid(), PLAIN)).frames[0].plain_bytes == len(PLAIN)


def test_an_index_in_a_second_encoding_is_refused() -> None:
    data = written()
    assert decode(encode(valid()), max_bytes=MiB) == valid()
    trailer = data[-TRAILER_BYTES:]
    assert trailer.endswith(DELTA_END)
    plain = encode(valid()).replace(b"\x90", b"\xdc\x00\x00", 1)
    sizes = struct.pack(">II", len(plain), len(plain))
    longer = DELTA_MAGIC + PLAIN + plain + sizes + blake3(sizes + plain).digest(length=16) + DELTA_END
    with pytest.raises(PeerFault) as refused:
        read_delta_index(longer)
    assert refused.value.code is Code.NOT_CANONICAL


# --- manifests without ids --------------------------------------------------------------------------------------------

TREE = encode_manifest(ManifestEntry(f"page-{number}.html", number, bytes([number]) * 32) for number in range(5))


def test_a_manifest_gets_back_the_ids_that_were_left_out() -> None:
    for left_out in (set[int](), {0}, {1, 3}, {0, 1, 2, 3, 4}):
        data = without_streams(TREE, frozenset(left_out))
        assert len(data) == len(TREE) - 32 * len(left_out)
        assert with_streams(data, {number: bytes([number]) * 32 for number in left_out}) == TREE


@pytest.mark.parametrize("data", [b"", TREE[:-1], TREE + b"\xff\xff", b"x" + TREE])
def test_what_is_no_manifest_takes_no_ids(data: bytes) -> None:
    with pytest.raises(PeerFault):
        with_streams(data, {})


def test_an_id_for_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(PeerFault):
        with_streams(TREE, {5: bytes(32)})


def test_what_goes_on_in_the_same_file_is_said_by_what_it_leaves_out() -> None:
    sources = (
        Source(0, 3, 10, 90),
        4,
        Source(0, 3, 104, 50),
        Source(0, 3, 20, 5),
        Source(0, 3, 0, 9, unfolded=True),
        2,
    )
    copies = (Copy(0, 1, 5, 2), 6, Copy(0, 1, 8, 1), Copy(0, 1, 0, 4), Copy(0, 2, 4, 1))
    writer = DeltaWriter([BASE])
    writer.add_image(0, 3, b"recipe")
    writer.add_frame(b"123456abcdef", [], b"")
    writer.add_target(Spliced(sources))
    writer.add_target(Chunked(copies))
    writer.finish()
    delta = writer.take()
    assert [target.parts for target in read_delta_index(delta).targets] == [sources, copies]  # type: ignore[union-attr]
    place = read_delta_trailer(delta, delta_bytes=len(delta))
    stored = delta[place.offset : place.offset + place.stored_bytes]
    plain = stored if len(stored) == place.plain_bytes else zstandard.decompress(stored)
    rows = cast("list[Any]", decode(plain, max_bytes=MiB))[3]
    assert rows[0][1] == [[0, 4, 10, 90], 4, [4, 50], [-134, 5], [0, -4, 0, 9], 2]
    assert rows[1][1] == [[0, 1, 5, 2], 6, [1, 1], [-9, 4], [0, 2, 4, 1]]


@pytest.mark.parametrize("row", [[4, 50], [-1, 5], [1, 2, 3], [2**60, 1], [0, 0]])
def test_what_goes_on_from_nowhere_or_leads_out_of_a_file_is_refused(row: list[int]) -> None:
    first = [] if row == [4, 50] else [[0, 4, 0, 9]] if row != [-1, 5] else [[0, 4, 0, 0]]
    plain = encode([[BASE], [], [], [[1, [*first, row], b""]]])
    digest = blake3(struct.pack(">II", len(plain), len(plain)) + plain).digest(length=16)
    place = IndexPlace(len(DELTA_MAGIC), len(plain), len(plain), digest)
    with pytest.raises(PeerFault):
        decode_delta_index(plain, place)
