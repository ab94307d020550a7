"""What two versions of a file have in common."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.transfer.image import Image
from protocol.transfer.splicing import Span, common_prefix, common_suffix, spans


def noise(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


def rebuilt(old: bytes, new: bytes) -> bytes:
    """The new version made of the spans, as a receiver makes it."""
    made = bytearray()
    for span in spans(old, new):
        assert span.at == len(made)
        assert span.length > 0
        source, start = (new, span.at) if span.old is None else (old, span.old)
        made += source[start : start + span.length]
    return bytes(made)


def new_bytes(found: list[Span]) -> int:
    return sum(span.length for span in found if span.old is None)


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300))
def test_the_spans_of_any_two_versions_make_the_new_one(head: bytes, old: bytes, new: bytes, tail: bytes) -> None:
    assert rebuilt(head + old + tail, head + new + tail) == head + new + tail


@given(st.integers(0, 2**32), st.integers(0, 900_000), st.integers(0, 900_000), st.integers(0, 100_000))
def test_the_spans_of_large_versions_make_the_new_one(seed: int, cut_at: int, moved_to: int, moved: int) -> None:
    old = noise(900_000, seed % 7)
    block, rest = old[cut_at : cut_at + moved], old[:cut_at] + old[cut_at + moved :]
    new = rest[:moved_to] + block + rest[moved_to:]
    assert rebuilt(old, new) == new


def test_an_insertion_into_a_large_file_is_all_that_is_new() -> None:
    old = noise(3_000_000)
    found = spans(old, old[:1_500_000] + b"a sentence that was not there" + old[1_500_000:])
    assert new_bytes(found) == len(b"a sentence that was not there")


def test_a_change_at_both_ends_leaves_the_middle_common() -> None:
    old = noise(40_000)
    found = spans(old, b"new" + old[3:-3] + b"end")
    assert new_bytes(found) <= 6


def test_nothing_in_common_is_one_new_span_beside_all_of_the_old_one() -> None:
    assert spans(b"a" * 100, b"b" * 50) == [Span(0, 50, None, (0, 100))]
    assert spans(b"", b"b" * 50) == [Span(0, 50, None, (0, 0))]
    assert spans(b"a", b"") == []


@given(st.binary(max_size=9_000), st.binary(max_size=40), st.binary(max_size=40))
def test_prefixes_and_suffixes_are_counted_to_the_byte(common: bytes, one: bytes, other: bytes) -> None:
    first, second = common + one, common + other
    most = min(len(first), len(second))
    prefix = common_prefix(b"x" + first, 1, second, 0, most)
    assert prefix >= len(common)
    assert first[:prefix] == second[:prefix]
    assert prefix == most or first[prefix] != second[prefix]
    assert common_suffix(first[::-1] + b"x", len(first), second[::-1], len(second), most) == prefix


def test_what_was_written_in_another_order_is_found_wherever_it_stood() -> None:
    pages = [Random(number).randbytes(15_000) for number in range(60)]
    before = [b"%d 0 obj" % number + page for number, page in enumerate(pages)]
    after = [b"%d 0 obj " % (number + 200) + page for number, page in enumerate(pages)]
    picture = noise(400_000)
    old = b"".join([*before[:30], picture, *before[30:]])
    new = b"".join([*after[30:], picture, *after[:30]])
    assert new_bytes(spans(old, new)) < len(new) // 50
    assert rebuilt(old, new) == new


def image_of(data: bytes) -> Image:
    image = Image()
    image.write(data)
    return image


def test_images_have_the_same_in_common_as_the_bytes_that_they_hold() -> None:
    old = noise(3_000_000, 1) + b"a" * 700_000 + noise(1_500_000, 2)
    new = old[2_000_000:] + noise(50_000, 3) + old[:1_900_000] + noise(1_300_000, 4)
    assert spans(image_of(old), image_of(new)) == spans(old, new)


def test_pieces_do_not_depend_on_the_windows_in_which_they_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    old = noise(900_000, 1)
    new = old[400_000:] + noise(30_000, 5) + old[:400_000]
    found = spans(old, new)
    monkeypatch.setattr("protocol.transfer.splicing._WINDOW_BYTES", 300_000)
    assert spans(old, new) == found
