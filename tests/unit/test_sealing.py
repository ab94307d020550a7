from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import canonical
from protocol.errors import BadInput, Code, LocalFailure, PeerFault, TooLarge
from protocol.identity import LOW_ORDER_AGREEMENT_KEYS, AgreementKey
from protocol.limits import (
    MAX_FILE_BYTES,
    MAX_FILES_PER_REVISION,
    MAX_SEALED_MANIFEST_BYTES,
    MIN_SEALED_BYTES,
    SEALED_CHUNK_BYTES,
)
from protocol.transfer.chunking import ChunkRef, chunk_list, cut
from protocol.trust import sealing
from protocol.trust.sealed_chunks import SealedChunks
from protocol.trust.sealing import (
    WRAP_BYTES,
    SealedFile,
    SealReader,
    SealWriter,
    bucket,
    has_sealed_form,
    unwrap_key,
    wrap_info,
    wrap_key,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "sealing.json").read_text(encoding="utf-8"))
KEY = bytes([1]) * 32
OTHER_KEY = bytes([2]) * 32
READER = AgreementKey(bytes([3]) * 32)
EPHEMERAL = bytes([4]) * 32
BOUND = {
    "space": bytes([5]) * 32,
    "item": bytes([6]) * 32,
    "person": bytes([7]) * 16,
    "author": bytes([8]) * 32,
    "commitment": bytes([9]) * 32,
}


def of_work(content_key: bytes) -> SealedChunks:
    return SealedChunks(content_key, sealing._CONTENT, "hand-in")


def noise(size: int) -> bytes:
    return Random(size).randbytes(size)


def sealed(contents: dict[str, bytes], key: bytes = KEY, step: int = 50_000) -> list[bytes]:
    writer = SealWriter(key, [SealedFile(path, len(data)) for path, data in contents.items()])
    chunks = []
    for data in contents.values():
        for at in range(0, len(data), step):
            chunks += writer.feed(data[at : at + step])
    return [*chunks, *writer.finish()]


def opened(chunks: Sequence[bytes], key: bytes = KEY) -> dict[str, bytes]:
    reader = SealReader(key)
    pieces = [piece for at, chunk in enumerate(chunks, 1) for piece in reader.feed(chunk, last=at == len(chunks))]
    reader.finish()
    assert reader.files is not None
    contents = [b"".join(data for index, data in pieces if index == at) for at in range(len(reader.files))]
    assert [len(data) for data in contents] == [file.size for file in reader.files]
    return {file.path: data for file, data in zip(reader.files, contents, strict=True)}


def refused(chunks: Sequence[bytes], key: bytes = KEY) -> Code:
    with pytest.raises(PeerFault) as caught:
        opened(chunks, key)
    return caught.value.code


def handmade(plain: bytes) -> list[bytes]:
    """Chunks that a hand-in's author sealed correctly around anything."""
    keys = of_work(KEY)
    parts = [plain[at : at + SEALED_CHUNK_BYTES] for at in range(0, len(plain), SEALED_CHUNK_BYTES)]
    return [keys.seal(part, at, last=at == len(parts) - 1) for at, part in enumerate(parts)]


def around(manifest: canonical.Value, content: bytes = b"", size: int = MIN_SEALED_BYTES) -> bytes:
    encoded = canonical.encode(manifest)
    return (len(encoded).to_bytes(4, "big") + encoded + content).ljust(size, b"\x00")


THREE = sealed({"a.txt": noise(70_000), "b.txt": noise(80_000)})


# --- its form ---


@pytest.mark.parametrize("size", [0, 1, 4_000, 5_000, 65_000, 65_536, 66_000, 131_072, 200_000, 1_000_000])
def test_sealed_work_has_a_form_of_its_own(size: int) -> None:
    chunks = [ChunkRef(bytes(32), len(chunk)) for chunk in sealed({"a": noise(size)})]
    assert has_sealed_form(chunks)
    assert not has_sealed_form([*chunks[:-1], ChunkRef(bytes(32), chunks[-1].length - 1)])
    assert not has_sealed_form([*chunks, chunks[-1]])
    assert not has_sealed_form([])


def test_other_content_has_hardly_ever_the_form_of_sealed_work() -> None:
    assert sum(has_sealed_form(chunk_list(cut(noise(size)))) for size in range(3_000, 300_000, 997)) <= 1
    assert not any(has_sealed_form([ChunkRef(bytes(32), 65_536)] * count) for count in range(1, 9))


# --- the work comes back ---


def test_a_hand_in_is_that_of_the_vectors() -> None:
    contents = {"dictée.txt": b"bleue", "photo.png": bytes(number % 251 for number in range(70_000))}
    chunks = sealed(contents, bytes.fromhex(VECTORS["content_key"]))
    assert [len(chunk) for chunk in chunks] == [known["bytes"] for known in VECTORS["chunks"]]
    for chunk, known in zip(chunks, VECTORS["chunks"], strict=True):
        assert blake3(chunk).hexdigest() == known["blake3"]
        assert chunk[:64].hex() == known["starts"]
        assert chunk[-16:].hex() == known["ends"]
    assert opened(chunks, bytes.fromhex(VECTORS["content_key"])) == contents


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.text("abcdefgh", min_size=1, max_size=8),
        st.integers(0, 300) | st.integers(0, 200_000) | st.sampled_from([0, SEALED_CHUNK_BYTES]),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 300_000),
)
def test_files_of_any_sizes_come_back_however_they_were_fed(sizes: dict[str, int], step: int) -> None:
    contents = {path: noise(sizes[path]) for path in sorted(sizes)}
    step = max(step, sum(sizes.values()) // 200 + 1)
    chunks = sealed(contents, step=step)
    assert opened(chunks) == contents
    assert chunks == sealed(contents, step=1 << 20)


@given(st.integers(-70, 70))
def test_a_hand_in_that_ends_near_the_edge_of_a_chunk_comes_back(more: int) -> None:
    contents = {"a": noise(2 * SEALED_CHUNK_BYTES + more)}
    assert opened(sealed(contents)) == contents


def test_a_list_of_files_longer_than_a_chunk_comes_back() -> None:
    contents = {f"{number:05}-{'x' * 100}.txt": b"" for number in range(2_000)}
    chunks = sealed(contents)
    assert len(chunks) > 3
    assert opened(chunks) == contents


# --- what shows from outside ---


@given(st.integers(0, 50 * SEALED_CHUNK_BYTES))
def test_a_bucket_adds_at_most_a_sixteenth(size: int) -> None:
    padded = bucket(size)
    assert size <= padded
    assert padded == MIN_SEALED_BYTES or padded - size <= size / 16
    assert bucket(padded) == padded


def test_buckets_are_those_of_the_vectors() -> None:
    for size, padded in VECTORS["buckets"].items():
        assert bucket(int(size)) == padded


def test_neither_names_nor_exact_sizes_show_in_sealed_work() -> None:
    shapes = {tuple(len(chunk) for chunk in sealed({"a": noise(size)})) for size in range(100_100, 100_300, 20)}
    assert len(shapes) == 1
    assert b"dictee" not in b"".join(sealed({"dictee.txt": b"x"}))


def test_short_works_all_have_one_size() -> None:
    assert {len(sealed({"a": noise(size)})[0]) for size in (0, 1, 500, 4_000)} == {32 + MIN_SEALED_BYTES + 16}


def test_the_same_work_under_two_keys_has_nothing_in_common() -> None:
    contents = {"a": noise(100_000)}
    for one, other in zip(sealed(contents), sealed(contents, OTHER_KEY), strict=True):
        assert one != other


def test_chunks_are_of_one_size_but_for_the_first_commitment_and_the_last() -> None:
    sizes = [len(chunk) for chunk in sealed({"a": noise(400_000)})]
    assert sizes[0] == SEALED_CHUNK_BYTES + 48
    assert set(sizes[1:-1]) == {SEALED_CHUNK_BYTES + 16}
    assert sizes[-1] <= SEALED_CHUNK_BYTES + 16


# --- damage and malice on the way ---


@given(st.integers(min_value=0))
def test_any_changed_bit_is_noticed(bit: int) -> None:
    chunks = [bytearray(chunk) for chunk in THREE]
    whole = sum(map(len, chunks)) * 8
    bit %= whole
    for chunk in chunks:
        if bit < len(chunk) * 8:
            chunk[bit // 8] ^= 1 << bit % 8
            break
        bit -= len(chunk) * 8
    assert refused([bytes(chunk) for chunk in chunks]) is Code.BAD_SEAL


def test_a_missing_end_is_noticed() -> None:
    assert len(THREE) == 3
    assert refused(THREE[:-1]) is Code.BAD_SEAL
    assert refused(THREE[:1]) is Code.BAD_SEAL
    reader = SealReader(KEY)
    for chunk in THREE[:-1]:
        reader.feed(chunk, last=False)
    with pytest.raises(PeerFault) as caught:
        reader.finish()
    assert caught.value.code is Code.BAD_SEAL
    with pytest.raises(PeerFault):
        SealReader(KEY).finish()


def test_the_last_chunk_is_known_as_the_last() -> None:
    reader = SealReader(KEY)
    for chunk in THREE[:-1]:
        reader.feed(chunk, last=False)
    with pytest.raises(PeerFault) as caught:
        reader.feed(THREE[-1], last=False)
    assert caught.value.code is Code.BAD_SEAL


def test_chunks_after_the_end_are_refused_even_from_the_author() -> None:
    keys = of_work(KEY)
    reader = SealReader(KEY)
    assert reader.feed(keys.seal(around([["a", 0]]), 0, last=True), last=True) == []
    with pytest.raises(PeerFault) as caught:
        reader.feed(keys.seal(bytes(100), 1, last=True), last=True)
    assert caught.value.code is Code.BAD_SEAL


def test_chunks_out_of_order_doubled_or_left_out_are_noticed() -> None:
    four = sealed({"a": noise(4 * SEALED_CHUNK_BYTES - 1_000)})
    assert len(four) == 4
    one, two, three, last = four
    for wrong in ([one, three, two, last], [one, two, two, last], [one, three, last], [two, one, three, last]):
        assert refused(wrong) is Code.BAD_SEAL


def test_a_chunk_of_another_hand_in_is_noticed() -> None:
    other = sealed({"a.txt": noise(70_000), "b.txt": noise(80_000)}, OTHER_KEY)
    assert refused([THREE[0], other[1], THREE[2]]) is Code.BAD_SEAL
    assert refused([THREE[0], THREE[1], other[2]]) is Code.BAD_SEAL


def test_the_key_of_another_hand_in_is_noticed_at_the_first_byte() -> None:
    with pytest.raises(PeerFault) as caught:
        opened(THREE, OTHER_KEY)
    assert "not the key" in caught.value.message


def test_a_key_that_is_not_committed_to_opens_nothing_even_where_the_cipher_would() -> None:
    forged = of_work(OTHER_KEY).seal(around([["a", 0]]), 0, last=True)
    assert opened([forged], OTHER_KEY) == {"a": b""}
    assert refused([of_work(KEY)._commitment + forged[32:]], OTHER_KEY) is Code.BAD_SEAL


# --- what a hostile author seals ---


@pytest.mark.parametrize(
    "manifest",
    [
        None,
        {},
        [],
        [["a"]],
        [["a", -1]],
        [["a", True]],
        [["a", "0"]],
        [[b"a", 0]],
        [["a", 0, 0]],
        [["a", MAX_FILE_BYTES + 1]],
        [["b", 0], ["a", 0]],
        [["a", 0], ["a", 0]],
        [["A", 0], ["a", 0]],
        [["e\u0301", 0]],
        [["", 0]],
        [["/etc/passwd", 0]],
        [["../a", 0]],
        [["a/../b", 0]],
        [["a\\b", 0]],
        [["C:", 0]],
        [["con.txt", 0]],
        [["a\u202egpj.exe", 0]],
    ],
)
def test_a_list_of_files_that_no_honest_author_makes_is_refused(manifest: canonical.Value) -> None:
    assert refused(handmade(around(manifest))) is Code.MALFORMED


def test_a_hand_in_that_holds_less_than_it_says_is_refused() -> None:
    assert refused(handmade(around([["a", MIN_SEALED_BYTES]]))) is Code.MALFORMED
    assert refused(handmade((1000).to_bytes(4, "big") + bytes(100))) is Code.MALFORMED


def test_padding_holds_nothing_and_is_as_long_as_it_should_be() -> None:
    assert opened(handmade(around([["a", 3]], b"abc"))) == {"a": b"abc"}
    assert refused(handmade(around([["a", 3]], b"abcd"))) is Code.MALFORMED
    assert refused(handmade(around([["a", 3]], b"abc", size=MIN_SEALED_BYTES - 1))) is Code.MALFORMED
    assert refused(handmade(around([["a", 3]], b"abc", size=MIN_SEALED_BYTES + 1))) is Code.MALFORMED
    assert refused(handmade(around([["a", 3]], b"abc", size=3 * SEALED_CHUNK_BYTES))) is Code.MALFORMED


def test_chunks_of_an_odd_size_are_refused() -> None:
    keys = of_work(KEY)
    plain = around([["a", 100_000]], noise(100_000), size=bucket(100_020))
    half = [keys.seal(plain[:1000], 0, last=False), keys.seal(plain[1000:], 1, last=True)]
    assert refused(half) is Code.MALFORMED
    assert refused([keys.seal(plain, 0, last=True)]) is Code.MALFORMED
    assert refused([keys.seal(b"", 0, last=True)]) is Code.MALFORMED


def test_a_list_of_files_that_is_too_long_is_refused_at_its_first_bytes() -> None:
    reader = SealReader(KEY)
    chunk = of_work(KEY).seal((MAX_SEALED_MANIFEST_BYTES + 1).to_bytes(4, "big").ljust(65_536), 0, last=False)
    with pytest.raises(TooLarge):
        reader.feed(chunk, last=False)


# --- what cannot be handed in ---


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ([], Code.NOTHING_TO_SEND),
        ([SealedFile("a", MAX_FILE_BYTES + 1)], Code.FILE_TOO_LARGE),
        ([SealedFile("b", 0), SealedFile("a", 0)], Code.BAD_NAME),
        ([SealedFile("nul", 0)], Code.BAD_NAME),
        ([SealedFile(f"{number:06}", 0) for number in range(MAX_FILES_PER_REVISION + 1)], Code.TOO_MANY_FILES),
    ],
)
def test_what_cannot_be_handed_in_is_said_before_anything_is_sealed(files: list[SealedFile], code: Code) -> None:
    with pytest.raises(BadInput) as caught:
        SealWriter(KEY, files)
    assert caught.value.code is code


def test_a_file_that_grows_or_shrinks_meanwhile_is_noticed() -> None:
    writer = SealWriter(KEY, [SealedFile("a", 3)])
    with pytest.raises(LocalFailure) as caught:
        writer.feed(b"abcd")
    assert caught.value.code is Code.CHANGING_FILE
    writer = SealWriter(KEY, [SealedFile("a", 3)])
    writer.feed(b"ab")
    with pytest.raises(LocalFailure) as caught:
        writer.finish()
    assert caught.value.code is Code.CHANGING_FILE


def test_the_sealed_size_is_known_beforehand() -> None:
    writer = SealWriter(KEY, [SealedFile("a", 100_000)])
    chunks = [*writer.feed(noise(100_000)), *writer.finish()]
    assert sum(map(len, chunks)) == writer.sealed_bytes


# --- wraps ---


def test_a_wrap_is_that_of_the_vectors() -> None:
    known = {name: bytes.fromhex(text) for name, text in VECTORS["wrap"].items()}
    info = wrap_info(**{name: known[name] for name in BOUND})
    assert info == known["info"]
    reader = AgreementKey(known["reader_secret"])
    content_key = bytes.fromhex(VECTORS["content_key"])
    assert wrap_key(content_key, reader.public, info, known["ephemeral_secret"]) == known["bytes"]
    assert unwrap_key(known["bytes"], reader, info) == content_key


def test_a_reader_unwraps_the_content_key_and_nobody_else_does() -> None:
    wrap = wrap_key(KEY, READER.public, wrap_info(**BOUND), EPHEMERAL)
    assert len(wrap) == WRAP_BYTES
    assert unwrap_key(wrap, READER, wrap_info(**BOUND)) == KEY
    with pytest.raises(PeerFault) as caught:
        unwrap_key(wrap, AgreementKey(bytes([10]) * 32), wrap_info(**BOUND))
    assert caught.value.code is Code.BAD_SEAL


@pytest.mark.parametrize("part", sorted(BOUND))
def test_a_wrap_moved_to_another_space_assignment_pupil_machine_or_work_does_not_open(part: str) -> None:
    wrap = wrap_key(KEY, READER.public, wrap_info(**BOUND), EPHEMERAL)
    moved = wrap_info(**{**BOUND, part: bytes(len(BOUND[part]))})
    with pytest.raises(PeerFault) as caught:
        unwrap_key(wrap, READER, moved)
    assert caught.value.code is Code.BAD_SEAL


@pytest.mark.parametrize("part", sorted(BOUND))
def test_a_binding_with_a_part_of_another_size_is_our_own_mistake(part: str) -> None:
    with pytest.raises(ValueError, match="size"):
        wrap_info(**{**BOUND, part: BOUND[part] + b"\x00"})


def test_a_wrap_that_holds_no_key_is_refused() -> None:
    wrap = wrap_key(KEY[:31], READER.public, wrap_info(**BOUND), EPHEMERAL)
    with pytest.raises(PeerFault) as caught:
        unwrap_key(wrap, READER, wrap_info(**BOUND))
    assert caught.value.code is Code.MALFORMED


def test_no_key_is_wrapped_for_a_reader_whose_key_anybody_could_open() -> None:
    with pytest.raises(PeerFault) as caught:
        wrap_key(KEY, min(LOW_ORDER_AGREEMENT_KEYS), wrap_info(**BOUND), EPHEMERAL)
    assert caught.value.code is Code.WEAK_KEY
