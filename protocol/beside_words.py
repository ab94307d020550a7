"""What somebody, or something, is called, where it stands beside words or a fingerprint that people compare.

Rules (docs/adr/0375):
- a name is its owner's word, and a stranger's may say the very words that the reader looks for: it stands behind them,
  quoted, and cut;
- what has the form of what is compared (three of the words, a fingerprint) is left out of it.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from protocol.shown_text import name_shown
from protocol.words import WORDS

MAX_BESIDE_CHARS: Final = 40
_LEFT_OUT: Final = "…"
_FEWEST_WORDS: Final = 3
"""So many of the words are in a name by intent; one or two are in honest ones."""
_QUOTES_AND_LABELS: Final = re.compile(r"[«»“”„\"<>:=·\s]+")
_FINGERPRINT: Final = re.compile(r"(?<![0-9A-Z])[0-9A-Z]{3}(?:[\W_]*[0-9A-Z]{4}){3}(?![0-9A-Z])", re.IGNORECASE)


def _folded(text: str) -> tuple[str, list[int]]:
    """`text` without accents and capitals, and of each character there the place of the one that it comes from."""
    chars: list[str] = []
    places: list[int] = []
    for place, char in enumerate(text):
        for part in unicodedata.normalize("NFKD", char).casefold():
            if not unicodedata.combining(part):
                chars.append(part)
                places.append(place)
    return "".join(chars), places


_WORD: Final = re.compile("|".join(sorted({_folded(word)[0] for word in WORDS}, key=len, reverse=True)))


def unlike_words(text: str) -> str:
    """`text` with an ellipsis for what has the form of what people compare."""
    text = _FINGERPRINT.sub(lambda found: _LEFT_OUT if any(map(str.isdigit, found[0])) else found[0], text)
    folded, places = _folded(text)
    words = list(_WORD.finditer(folded))
    if len(words) < _FEWEST_WORDS:
        return text
    left_out = {places[at] for word in words for at in range(*word.span())}
    kept = "".join(_LEFT_OUT if place in left_out else char for place, char in enumerate(text))
    return re.sub(rf"{_LEFT_OUT}(?:\W*{_LEFT_OUT})*", _LEFT_OUT, kept)


def beside_words(name: str) -> str:
    """The same of a name, to be quoted: on one line, cut, without quotes or signs that could begin something else."""
    plain = _QUOTES_AND_LABELS.sub(" ", unlike_words(name_shown(name))).strip()
    return plain if len(plain) <= MAX_BESIDE_CHARS else plain[: MAX_BESIDE_CHARS - 1].rstrip() + _LEFT_OUT
