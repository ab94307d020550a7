"""What neighbours tell each other of where they stand: one line, read as it was said, and one hash for equal sets."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.limits import CURSOR_HASH_BYTES, LIKENESS_BYTES, MAX_TOLD_CURSORS
from protocol.messages.likeness import MOVED, Told, likeness_of

ids = st.binary(min_size=32, max_size=32)
sets = st.dictionaries(ids, st.binary(min_size=16, max_size=16), max_size=4)
streams = st.frozensets(st.tuples(ids, ids), max_size=4)
cursors = st.tuples(st.integers(0, 10**12), st.binary(min_size=CURSOR_HASH_BYTES, max_size=CURSOR_HASH_BYTES))
likenesses = st.binary(min_size=LIKENESS_BYTES, max_size=LIKENESS_BYTES)


@given(likenesses, st.lists(cursors, max_size=MAX_TOLD_CURSORS))
def test_what_is_said_is_read_as_it_was(likeness: bytes, places: list[tuple[int, bytes]]) -> None:
    told = Told(likeness, tuple(places))
    assert Told.parse(told.text) == told
    assert told.text.startswith(f"{MOVED} "), "who knows no more takes it for news"
    assert len(told.text) <= 1024, "a frame of the line for news has no more"


def test_of_very_many_spaces_no_cursor_is_said() -> None:
    told = Told(bytes(LIKENESS_BYTES), ((1, bytes(CURSOR_HASH_BYTES)),) * (MAX_TOLD_CURSORS + 1))
    assert Told.parse(told.text) == Told(bytes(LIKENESS_BYTES))


@pytest.mark.parametrize(
    "text", ["", MOVED, "moved ", "moved 00", f"moved {'0' * 31}G", f"moved {'00' * 16} 1", f"x moved {'00' * 16}", "é"]
)
def test_anything_else_says_nothing_of_where_one_stands(text: str) -> None:
    assert Told.parse(text) is None


@given(sets, sets, streams, streams, st.randoms(use_true_random=False))
def test_two_are_alike_when_they_hold_the_same_and_lack_the_same_in_whatever_order(
    one: dict[bytes, bytes],
    other: dict[bytes, bytes],
    lacking: frozenset[tuple[bytes, bytes]],
    others: frozenset[tuple[bytes, bytes]],
    chance: Random,
) -> None:
    shuffled = list(one.items())
    chance.shuffle(shuffled)
    assert likeness_of(one, lacking) == likeness_of(dict(shuffled), sorted(lacking, reverse=True))
    assert (likeness_of(one, lacking) == likeness_of(other, others)) == ((one, lacking) == (other, others))
