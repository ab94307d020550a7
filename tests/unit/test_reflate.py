"""Reflate: laws of image and recipe, containers as other programs write them, and hostile recipes."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import MAX_RECIPE_BYTES, MAX_REFLATE_DEPTH
from protocol.transfer.byte_source import PIECE_BYTES, evened, in_pieces
from protocol.transfer.deflate_parameters import ALL_LEVELS, NO_LEVELS, Parameters, Profile, deflate, profile
from protocol.transfer.deflate_streams import Wrapping
from protocol.transfer.reflate import Unfolded, can_fold, fold, fold_cost_ms, fold_pieces, pays, reopen, unfold
from protocol.transfer.reflate_recipe import Sequence, Step, decode_recipe, encode_recipe

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "reflate.json").read_text("utf-8"))
WORDS = [bytes(random.Random(number).choices(b"etaoin shrdlu", k=3 + number % 7)) for number in range(500)]


def prose(seed: int, size: int) -> bytes:
    chosen = random.Random(seed)
    return b" ".join(chosen.choice(WORDS) for _ in range(size // 4))[:size]


def zip_of(members: dict[str, bytes], level: int = 6, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method, compresslevel=level) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=method, compresslevel=level)
    return out.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def png_of(scanlines: bytes, chunk_bytes: list[int], level: int = 9) -> bytes:
    packed, at, out = zlib.compress(scanlines, level), 0, b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", bytes(13))
    for size in chunk_bytes:
        if at < len(packed):
            out += png_chunk(b"IDAT", packed[at : at + size])
        at += size
    if at < len(packed):
        out += png_chunk(b"IDAT", packed[at:])
    return out + png_chunk(b"IEND", b"")


def pdf_of(*streams: bytes) -> bytes:
    parts = [b"%PDF-1.5\n"]
    for number, stream in enumerate(streams):
        parts.append(
            b"%d 0 obj\n<</Filter/FlateDecode>>\nstream\n%s\nendstream\nendobj\n" % (number, zlib.compress(stream))
        )
    return b"".join(parts) + b"%%EOF\n"


def unfolded(data: bytes) -> Unfolded:
    made = unfold(data, allowed=ALL_LEVELS)
    assert made is not None
    assert fold(made.image, made.recipe, max_bytes=len(data)) == data
    assert reopen(data, made.recipe, max_bytes=len(made.image)) == made.image
    return made


# --- what people put into lessons -------------------------------------------------------------------------------------


def test_one_changed_word_in_a_document_leaves_the_rest_of_its_image_as_it_was() -> None:
    text = prose(1, 40_000)
    old, new = (zip_of({"content.xml": part, "styles.xml": prose(2, 9_000)}) for part in (text, b"Bonjour" + text))
    before, after = unfolded(old).image, unfolded(new).image
    assert text in before
    assert text in after
    assert text not in new


def test_a_picture_gives_its_scanlines_without_the_frames_of_its_chunks() -> None:
    scanlines = prose(3, 60_000)
    data = png_of(scanlines, [8_192] * 100)
    made = unfolded(data)
    assert scanlines in made.image
    assert b"IDAT" not in made.image
    assert len(made.recipe) < 20


@pytest.mark.parametrize("chunk_bytes", [[], [100], [100, 200, 300], [100, 100, 50, 50, 60], [2], [7] * 50])
def test_a_picture_comes_back_however_its_chunks_are_cut(chunk_bytes: list[int]) -> None:
    assert b"IDAT" not in unfolded(png_of(prose(4, 9_000), chunk_bytes)).image


def test_the_streams_of_a_pdf_are_found_without_their_lengths() -> None:
    streams = [prose(number, 3_000) for number in range(20)]
    image = unfolded(pdf_of(*streams)).image
    assert all(stream in image for stream in streams)


def test_a_gzip_file_with_a_name_gives_its_content() -> None:
    out = io.BytesIO()
    with gzip.GzipFile("dessin.svg", "wb", 9, out, mtime=0) as file:
        file.write(prose(5, 20_000))
    assert prose(5, 20_000) in unfolded(out.getvalue()).image


def test_a_picture_in_a_document_in_an_archive_is_seen() -> None:
    scanlines = prose(6, 30_000)
    document = zip_of({"content.xml": prose(7, 5_000), "picture.png": png_of(scanlines, [])}, method=zipfile.ZIP_STORED)
    assert scanlines in unfolded(zip_of({"a.odt": document, "b.txt": prose(8, 5_000)})).image


def test_what_lies_deeper_than_allowed_stays_as_it_is() -> None:
    inner = prose(9, 3_000)
    data = inner
    for _ in range(MAX_REFLATE_DEPTH + 1):
        data = zip_of({"x": data})
    assert inner not in unfolded(data).image
    assert inner in unfolded(zip_of({"x": inner})).image


@pytest.mark.parametrize("level", range(1, 10))
@pytest.mark.parametrize("memory_level", [8, 9])
@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED])
def test_every_level_that_writers_use_is_found(level: int, memory_level: int, strategy: int) -> None:
    text = prose(10, 30_000)
    stream = b"".join(deflate([text], Parameters(level, memory_level, 15, strategy)))
    data = b"stream\n" + zlib.compress(b"", level)[:2] + stream + b"endstream"
    assert text in unfolded(data).image


def test_a_file_by_more_writers_than_a_recipe_can_name_still_comes_back() -> None:
    text = prose(24, 40_000)
    writers = [
        Parameters(level, 8, window, strategy)
        for level in range(1, 10)
        for window in range(9, 15)
        for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED)
    ]
    data = b"".join(
        b"stream\n" + zlib.compressobj(w.level, zlib.DEFLATED, w.window_bits).flush()[:2] + b"".join(deflate([text], w))
        for w in writers
    )
    made = unfolded(data)
    assert made.image.count(text) >= 64
    assert len(set(decode_recipe(made.recipe).all_parameters())) == 64


def test_a_stream_whose_check_is_missing_is_still_unfolded() -> None:
    text = prose(11, 4_000)
    assert text in unfolded(pdf_of(text).replace(zlib.adler32(text).to_bytes(4, "big"), b"")).image


def test_a_member_stored_encrypted_or_made_by_another_compressor_stays_as_it_is() -> None:
    text = prose(12, 20_000)
    assert unfold(zip_of({"a": text}, method=zipfile.ZIP_STORED), allowed=ALL_LEVELS) is None
    other = b"".join(deflate([text], Parameters(6, 5, 15, zlib.Z_RLE)))
    assert unfold(b"stream\n\x78\x9c" + other + b"endstream", allowed=ALL_LEVELS) is None
    encrypted = bytearray(zip_of({"a": text}))
    encrypted[6] |= 1
    assert unfold(bytes(encrypted), allowed=ALL_LEVELS) is None


def test_only_levels_that_the_receiver_reproduces_are_used() -> None:
    data = zip_of({"a": prose(13, 20_000)}, level=1)
    assert unfold(data, allowed=NO_LEVELS) is None
    assert unfold(data, allowed=Profile(0b111111110)) is None
    assert unfold(data, allowed=Profile(0b000000001)) is not None


def test_streams_stay_compressed_where_their_plain_bytes_find_no_room() -> None:
    large, small = prose(21, 90_000), prose(22, 5_000)
    data = zip_of({"large": large, "small": small})
    made = unfold(data, allowed=ALL_LEVELS, max_image_bytes=len(data) + 10_000)
    assert made is not None
    assert len(made.image) <= len(data) + 10_000
    assert small in made.image
    assert large not in made.image
    assert fold(made.image, made.recipe, max_bytes=len(data)) == data
    assert unfold(data, allowed=ALL_LEVELS, max_image_bytes=len(data) - 1) is None


def test_a_machine_knows_from_a_recipe_whether_its_zlib_will_do() -> None:
    recipe = unfolded(zip_of({"a": zip_of({"b": prose(23, 9_000)}, level=1)}, level=6)).recipe
    assert can_fold(recipe, ALL_LEVELS)
    assert can_fold(recipe, Profile(0b000100001))
    assert not can_fold(recipe, Profile(0b111111110))
    assert not can_fold(recipe, Profile(0b111011111))
    with pytest.raises(PeerFault):
        can_fold(b"no recipe", ALL_LEVELS)


def test_plain_files_are_left_alone() -> None:
    for data in (b"", b"x", prose(14, 100_000), random.Random(1).randbytes(50_000)):
        assert unfold(data, allowed=ALL_LEVELS) is None


# --- laws -------------------------------------------------------------------------------------------------------------

pieces_of_files = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([b"PK\x03\x04", b"stream\n", b"\x1f\x8b\x08\0", b"\x89PNG\r\n\x1a\n", b"IDAT", b"x\x9c"]),
    st.builds(lambda seed, level: zip_of({"a": prose(seed, 900)}, level), st.integers(0, 9), st.integers(1, 9)),
    st.builds(
        lambda seed, sizes: png_of(prose(seed, 700), sizes), st.integers(0, 9), st.lists(st.integers(1, 90), max_size=5)
    ),
    st.builds(lambda seed: pdf_of(prose(seed, 500)), st.integers(0, 9)),
    st.builds(lambda seed: gzip.compress(zip_of({"a": prose(seed, 900)})), st.integers(0, 9)),
)


@given(st.lists(pieces_of_files, max_size=6).map(b"".join), st.data())
@settings(max_examples=60, deadline=None)
def test_fold_undoes_unfold_on_whatever_lies_in_a_file(data: bytes, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(data)))
    for part in (data, data[:cut], data[cut:]):
        made = unfold(part, allowed=ALL_LEVELS)
        if made is not None:
            assert fold(made.image, made.recipe, max_bytes=len(part)) == part
            assert reopen(part, made.recipe, max_bytes=len(made.image)) == made.image


@given(st.lists(pieces_of_files, min_size=1, max_size=4).map(b"".join), st.data())
@settings(max_examples=60, deadline=None)
def test_fold_undoes_unfold_on_damaged_containers(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        if damaged:
            at = draw.draw(st.integers(0, len(damaged) - 1))
            damaged[at : at + draw.draw(st.integers(0, 3))] = draw.draw(st.binary(max_size=3))
    made = unfold(bytes(damaged), allowed=ALL_LEVELS)
    if made is not None:
        assert fold(made.image, made.recipe, max_bytes=len(damaged)) == damaged
        assert reopen(bytes(damaged), made.recipe, max_bytes=len(made.image)) == made.image


numbers = st.integers(1, 3_000)
parameters = st.builds(Parameters, st.integers(1, 9), st.integers(1, 9), st.integers(9, 15), st.integers(0, 4))


def steps(content: st.SearchStrategy[int | Sequence]) -> st.SearchStrategy[Step]:
    plain = st.builds(Step, numbers, st.sampled_from([Wrapping.RAW, Wrapping.ZLIB, Wrapping.GZIP]), parameters, content)
    return plain | st.builds(
        Step, numbers, st.just(Wrapping.IDAT), parameters, content, st.just((50, 60)) | st.just((9,))
    )


def sequences(content: st.SearchStrategy[int | Sequence]) -> st.SearchStrategy[Sequence]:
    return st.builds(Sequence, st.lists(steps(content), min_size=1, max_size=3).map(tuple), numbers)


recipes = sequences(numbers | sequences(numbers | sequences(numbers)))


@given(recipes)
@settings(max_examples=100, deadline=None)
def test_a_recipe_has_one_encoding(sequence: Sequence) -> None:
    assert decode_recipe(encode_recipe(sequence)) == sequence


@given(recipes, st.integers(1, 5_000), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_where_the_pieces_of_an_image_end_changes_nothing(sequence: Sequence, piece: int, seed: int) -> None:
    image, recipe = prose(seed, sequence.image_bytes).ljust(sequence.image_bytes), encode_recipe(sequence)
    pieces = [image[at : at + piece] for at in range(0, len(image), piece)]

    def outcome(given_pieces: list[Any]) -> object:
        try:
            return b"".join(fold_pieces(given_pieces, recipe, max_bytes=10**7))
        except PeerFault as reason:
            return reason.code

    is_same = outcome(pieces) == outcome(list(in_pieces(image)))
    assert is_same  # not compared in the assertion: a report of where megabytes differ takes minutes


@given(st.lists(st.integers(0, 300_000), max_size=6))
@settings(max_examples=40, deadline=None)
def test_pieces_are_made_even_and_nothing_is_lost(sizes: list[int]) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    made = list(evened(pieces))
    assert b"".join(made) == b"".join(pieces)
    assert all(len(piece) == PIECE_BYTES for piece in made[:-1])
    assert all(0 < len(piece) <= PIECE_BYTES for piece in made[-1:])


# --- bad input --------------------------------------------------------------------------------------------------------

GOOD = unfold(
    zip_of({"a.odt": zip_of({"p": png_of(prose(15, 4_000), [99])}), "b": prose(16, 4_000)}), allowed=ALL_LEVELS
)
assert GOOD is not None


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_recipe_makes_another_file_or_is_refused(draw: st.DataObject) -> None:
    assert GOOD is not None
    recipe = bytearray(GOOD.recipe)
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(recipe) - 1))
        recipe[at : at + draw.draw(st.integers(0, 2))] = draw.draw(st.binary(max_size=2))
        if not recipe:
            break
    try:
        made = fold(GOOD.image, bytes(recipe), max_bytes=20_000)
    except PeerFault:
        return
    assert len(made) <= 20_000
    assert encode_recipe(decode_recipe(bytes(recipe))) == recipe
    # Where the other file comes from the same recipe, its image does too, or the recipe is refused.
    with contextlib.suppress(PeerFault):
        assert len(reopen(made, bytes(recipe), max_bytes=10**6)) == len(GOOD.image)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_file_has_another_image_or_none(draw: st.DataObject) -> None:
    assert GOOD is not None
    data = bytearray(fold(GOOD.image, GOOD.recipe, max_bytes=20_000))
    at = draw.draw(st.integers(0, len(data) - 1))
    data[at : at + draw.draw(st.integers(0, 2))] = draw.draw(st.binary(max_size=2))
    with contextlib.suppress(PeerFault):
        assert len(reopen(bytes(data), GOOD.recipe, max_bytes=len(GOOD.image))) == len(GOOD.image)


@given(st.binary(max_size=60), st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_noise_is_no_recipe(recipe: bytes, image: bytes) -> None:
    for noise in (recipe, b"\0\1\x68\xf0" + recipe):
        with contextlib.suppress(PeerFault):
            assert len(fold(image, noise, max_bytes=5_000)) <= 5_000


@pytest.mark.parametrize(
    ("recipe", "code"),
    [
        ("", Code.UNKNOWN_FORMAT),
        ("01", Code.UNKNOWN_FORMAT),
        ("00", Code.MALFORMED),  # ends too early
        ("0000 00 00", Code.NOT_CANONICAL),  # no stream
        ("000168f0 00 00", Code.NOT_CANONICAL),
        ("000168f0 01 00 00 05 00 00", Code.MALFORMED),  # a byte too many
        ("000168f0 01 00 00 05", Code.MALFORMED),
        ("000168f0 01 00 08 05 00", Code.MALFORMED),  # parameters that are not named
        ("000168f0 01 00 00 00 00", Code.MALFORMED),  # nothing to compress
        ("000108f0 01 00 00 05 00", Code.MALFORMED),  # level 0
        ("0001a8f0 01 00 00 05 00", Code.MALFORMED),  # level 10
        ("000160f0 01 00 00 05 00", Code.MALFORMED),  # memory level 0
        ("00016880 01 00 00 05 00", Code.MALFORMED),  # window of 8 bits
        ("000168f5 01 00 00 05 00", Code.MALFORMED),  # strategy 5
        ("000268f098f0 01 00 00 05 00", Code.NOT_CANONICAL),  # a name that no stream uses
        ("000268f068f0 02 00 00 05 00 08 05 00", Code.NOT_CANONICAL),  # one twice
        ("000168f0 01 00 00 8500 00", Code.NOT_CANONICAL),  # a long 5
        ("000168f0 01 00 00 ffffffffff01 00", Code.MALFORMED),  # a number of six bytes
        ("000168f0 01 00 06 02 0505 05 00", Code.NOT_CANONICAL),  # a chunk's size repeated
        ("000168f0 01 00 06 01 00 05 00", Code.TOO_LARGE),  # an empty chunk
        ("000168f0 01 00 06 00 05 00", Code.TOO_LARGE),  # no chunk
        ("000168f0 ffffff7f", Code.TOO_LARGE),  # streams
        ("000168f0 01 00 00 ffffffff0f 00", Code.TOO_LARGE),  # bytes
        ("000168f0 01 00 01 01 00 01 01 00 01 01 00 00 05 00 00 00 00", Code.TOO_LARGE),  # depth
        ("0041" + "68f0" * 65, Code.TOO_LARGE),
    ],
)
def test_a_recipe_that_breaks_a_rule_is_refused_with_its_code(recipe: str, code: Code) -> None:
    with pytest.raises(PeerFault) as caught:
        decode_recipe(bytes.fromhex(recipe))
    assert caught.value.code is code


def test_a_recipe_of_more_bytes_than_allowed_is_not_read() -> None:
    with pytest.raises(TooLarge):
        decode_recipe(bytes(MAX_RECIPE_BYTES + 1))


def test_an_image_must_have_the_size_that_its_recipe_says() -> None:
    recipe = encode_recipe(Sequence((Step(3, Wrapping.ZLIB, Parameters(6, 8, 15, 0), 100),), 4))
    assert fold(bytes(107), recipe, max_bytes=1_000)
    for size in (0, 2, 50, 106, 108, 10_000):
        with pytest.raises(PeerFault):
            fold(bytes(size), recipe, max_bytes=1_000)


def test_a_file_stops_growing_at_the_first_byte_too_many() -> None:
    data = zip_of({"a": prose(17, 50_000)})
    made = unfolded(data)
    with pytest.raises(TooLarge):
        fold(made.image, made.recipe, max_bytes=len(data) - 1)


def test_a_picture_with_more_chunk_sizes_than_chunks_is_refused() -> None:
    recipe = encode_recipe(Sequence((Step(0, Wrapping.IDAT, Parameters(6, 8, 15, 0), 100, (8, 900, 3)),), 0))
    with pytest.raises(PeerFault):
        fold(bytes(102), recipe, max_bytes=1_000)


def test_a_recipe_is_refused_on_a_file_that_it_was_not_made_for() -> None:
    data = zip_of({"a": prose(18, 5_000)})
    made = unfolded(data)
    for other in (b"", data[:-1], data + b"x", data[:900] + data[910:], b"x" + data, zip_of({"a": prose(19, 5_001)})):
        with pytest.raises(PeerFault):
            reopen(other, made.recipe, max_bytes=10**6)
    with pytest.raises(TooLarge):
        reopen(data, made.recipe, max_bytes=len(made.image) - 1)


def test_a_thousandfold_expansion_stays_packed() -> None:
    assert unfold(zip_of({"bomb": bytes(50_000_000)}), allowed=ALL_LEVELS) is None


def test_a_stream_of_nothing_but_empty_blocks_ends() -> None:
    empty = b"\0\0\0\xff\xff" * 200_000
    recipe = encode_recipe(Sequence((Step(0, Wrapping.RAW, Parameters(6, 8, 15, 0), 1),), 0))
    with pytest.raises(PeerFault):
        reopen(empty, recipe, max_bytes=100)
    assert unfold(b"stream\nx\x9c" + empty, allowed=ALL_LEVELS) is None


def test_many_headers_before_one_long_stream_cost_linear_work() -> None:
    # Each header tempts to read all that follows; what failures may cost is bounded, so that the test ends.
    tempting = (b"stream\nx\x9c\0\xff\xff\0\0" + b"." * 40) * 20_000
    assert unfold(tempting, allowed=ALL_LEVELS) is None


def test_fewer_bytes_must_be_worth_the_time_of_an_old_pc() -> None:
    assert pays(1_000, 10)
    assert pays(1, 0)
    assert not pays(0, 0)
    assert not pays(-5, 10)
    assert not pays(1_000, 1_000)
    lesson = unfolded(zip_of({"content.xml": prose(20, 500_000)}))
    assert 1 < lesson.fold_ms < 100
    assert fold_cost_ms(decode_recipe(lesson.recipe)) == lesson.fold_ms


# --- the specification ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS["files"], ids=lambda vector: vector["name"])
def test_vectors_of_whole_files(vector: dict[str, str]) -> None:
    data, image, recipe = (bytes.fromhex(vector[name]) for name in ("file", "image", "recipe"))
    assert fold(image, recipe, max_bytes=len(data)) == data
    assert reopen(data, recipe, max_bytes=len(image)) == image
    made = unfolded(data)
    assert (made.image, made.recipe) == (image, recipe)


def test_the_zlib_at_hand_passes_the_self_test() -> None:
    assert profile() == ALL_LEVELS
