"""Images that are kept compressed: what is written is read again, in any range."""

from __future__ import annotations

import tracemalloc
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.transfer.image import Image

PATTERN = b"".join(bytes([n % 251]) * (n % 97) for n in range(20_000)) + Random(1).randbytes(300_000)


@given(st.lists(st.integers(0, 400_000), max_size=6), st.integers(0, 1_500_000), st.integers(0, 1_500_000))
def test_any_range_is_what_was_written(cuts: list[int], start: int, stop: int) -> None:
    image = Image()
    for first, last in zip([0, *sorted(cuts)], [*sorted(cuts), len(PATTERN)], strict=True):
        image.write(memoryview(PATTERN)[first:last])
    assert len(image) == len(PATTERN)
    assert image[start:stop] == PATTERN[start:stop]
    assert b"".join(image.pieces(start, 1_000)) == PATTERN[start : start + 1_000]
    assert image[:] == PATTERN


def test_an_image_takes_a_small_part_of_what_it_holds() -> None:
    tracemalloc.start()
    image = Image()
    for number in range(400):
        image.write(b"a row of a picture %d " % (number // 9) * 2_000)
    held_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(image) > 15_000_000
    assert held_bytes < 1_500_000


def test_an_image_is_not_read_backwards() -> None:
    with pytest.raises(ValueError, match="beginning"):
        Image()[::-1]
