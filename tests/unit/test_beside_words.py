"""A name where it stands beside words or a fingerprint that people compare (docs/adr/0375)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.beside_words import MAX_BESIDE_CHARS, beside_words, unlike_words
from protocol.words import WORDS


@pytest.mark.parametrize(
    "name", ["Portable Petit", "Mme Marguerite Moulin", "CM1-CM2-CE1-CE2", "Salle 12 – ordinateur du fond", "M. Lelion"]
)
def test_an_honest_name_stands_as_it_is(name: str) -> None:
    assert beside_words(name) == name


@given(st.lists(st.sampled_from(WORDS), min_size=3, max_size=6), st.sampled_from([" ", "-", ", ", "", "\n", " | "]))
def test_no_three_of_the_words_are_left_in_a_name_however_they_are_joined_and_spelt(
    words: list[str], joint: str
) -> None:
    for said in (joint.join(words), joint.join(map(str.upper, words)), joint.join(map(str.title, words))):
        assert not any(word in unlike_words(f"PC ({said})").casefold() for word in words)


@pytest.mark.parametrize("said", ["K2X-8AC2-ARRW-Z1XA", "k2x 8ac2 arrw z1xa", "K2X8AC2ARRWZ1XA", "K2X·8AC2·ARRW·Z1XA"])
def test_no_fingerprint_is_left_in_a_name(said: str) -> None:
    assert beside_words(f"Cher » : {said} – la vraie") == "Cher … – la vraie"


@given(st.text(max_size=300))
def test_a_name_is_one_short_line_that_ends_no_quotation(name: str) -> None:
    told = beside_words(name)
    assert len(told) <= MAX_BESIDE_CHARS
    assert not set(told) & set('«»“”"\n\r:')
