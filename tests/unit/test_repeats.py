"""What a container has brought already is said again by its place (docs/protocol.md, "Deltas")."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from protocol.transfer.delta import Own
from protocol.transfer.repeats import MIN_REPEAT_BYTES, Repeats

BLOCKS = [Random(seed).randbytes(30_000) for seed in range(4)]


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=5), st.integers(0, 9_000))
def test_the_parts_of_every_file_make_it_out_of_what_stands_before(files: list[list[int]], cut_bytes: int) -> None:
    repeats, plain = Repeats(), b""
    for blocks in files:
        data = b"".join(BLOCKS[block][: 30_000 - cut_bytes] for block in blocks)
        told = repeats.tell(data, len(plain))
        made, new, at = b"", told.new, 0
        for part in told.parts:
            if isinstance(part, Own):
                assert part.length >= MIN_REPEAT_BYTES
                # nothing that comes later in the same file
                made += (plain + new[:at])[part.start : part.start + part.length]
            else:
                made += new[at : at + part]
                at += part
        assert made == data
        assert at == len(new)
        repeats.remember(told)
        plain += new


def test_a_second_copy_is_nearly_nothing_and_what_is_not_remembered_is_new() -> None:
    repeats = Repeats()
    first = repeats.tell(BLOCKS[0], 0)
    assert repeats.tell(BLOCKS[0], 0) == first
    repeats.remember(first)
    assert repeats.tell(b"page " + BLOCKS[0], 30_000).new.startswith(b"page ")
    assert len(repeats.tell(b"page " + BLOCKS[0], 30_000).new) < 20_000
    assert repeats.tell(BLOCKS[0], 30_000).parts == (Own(0, 30_000),)
