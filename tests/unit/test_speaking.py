"""From which devices a voice starts, by what a replica remembers (`protocol.rights.speaking`)."""

from __future__ import annotations

from protocol.rights.speaking import Remembered, speaking_devices
from protocol.rights.vouching import Voices

PETIT, LAPTOP = b"p" * 16, (b"l" * 32, b"L" * 32)


def test_of_whom_it_is_remembered_that_no_voice_started_one_starts_where_words_lead() -> None:
    """As a class is folded as if nothing of it were hidden, by what started as it counts."""
    said = Voices(standings=frozenset({(LAPTOP, PETIT)}), firsts={PETIT: (LAPTOP,)})
    speaking, starts = speaking_devices(said, frozenset(), Remembered(firsts={PETIT: ()}))
    assert starts == {PETIT: (LAPTOP,)}
    assert speaking == {PETIT: frozenset({LAPTOP})}
