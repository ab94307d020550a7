"""From which devices a voice starts, by what a replica remembers (`protocol.rights.speaking`)."""

from __future__ import annotations

import pytest

from protocol.rights.speaking import Remembered, Said, speaking_devices
from protocol.rights.vouching import Voices, Word

PETIT, LAPTOP = b"p" * 16, (b"l" * 32, b"L" * 32)


def test_of_whom_it_is_remembered_that_no_voice_started_one_starts_where_words_lead() -> None:
    """As a class is folded as if nothing of it were hidden, by what started as it counts."""
    said = Voices(standings=frozenset({(LAPTOP, PETIT)}), firsts={PETIT: (LAPTOP,)})
    spoken, starts = speaking_devices(Said(said, said, {}), frozenset(), Remembered(firsts={PETIT: ()}))
    assert starts == {PETIT: (LAPTOP,)}
    assert spoken.listed == {PETIT: frozenset({LAPTOP})}


@pytest.mark.parametrize("ids", [(b"A" * 16, b"B" * 16), (b"B" * 16, b"A" * 16)])
def test_where_her_first_leads_to_that_of_another_id_of_hers_no_third_one_is_begun_from(
    ids: tuple[bytes, bytes],
) -> None:
    listed, other = ids
    first, others, met = ((letter * 32, letter.upper() * 32) for letter in (b"a", b"b", b"x"))
    apart = Voices(
        standings=frozenset({(first, listed), (others, other), (met, other)}),
        firsts={listed: (first,), other: (others, met)},
    )
    together = Voices(
        standings=frozenset({(first, listed), (others, listed), (met, listed)}),
        firsts={listed: (first, others, met)},
        words={first: frozenset({Word(others, listed, listed, listed)})},
    )
    remembered = Remembered(
        firsts={listed: (first,), other: (others,)}, anywhere={listed: {first: 1}, other: {met: 1, others: 2}}
    )
    _, starts = speaking_devices(Said(together, apart, {other: listed}), frozenset(), remembered)
    assert starts == {listed: (first,), other: (others,)}, "whichever id sorts first: ids are others' to choose"
