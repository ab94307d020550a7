"""Names that look alike where they stand on a page, though they are spelt otherwise (docs/adr/0383).

Rules:
- for comparing alone, and never what is shown, stored or looked for: who looks like another bears a number, or is asked
  about;
- in what most pages, portals and file managers are set in, a capital I, a small l, a 1 and a | are one stroke: within
  a word of small letters it is an l, at its beginning, before a consonant, an I, and within one of capitals an I. So
  are 0 and O within a word, rn and m, vv and w;
- of Greek and Cyrillic letters those that have the shape of a Latin one are that;
- two names are taken for one where people say the same words (`people.spoken`), or where they look alike: neither takes
  the place of the other, since Anne McIver and Anne Mciver are one, and look otherwise.

Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Final, TypeAlias

from protocol.replica.office.people import spoken

Reading: TypeAlias = Callable[[str], str]
"""What of a name is compared."""
Words: TypeAlias = frozenset[str]
"""The parts of a name, as people say them."""

_STROKES: Final = "Il1|"
_AS_L: Final = str.maketrans("I1|0", "lllo")
_AS_I: Final = str.maketrans("l1|0", "IIIO")
_NO_CONSONANTS: Final = "AEIOUYaeiouy"
_WORD: Final = re.compile(r"[\w|]+")

_SHAPES: Final = {
    # Cyrillic
    **str.maketrans(
        "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0405\u0406\u0408\u04c0",
        "ABEKMHOPCTYXSIJI",
    ),
    **str.maketrans(
        "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0455\u0456\u0458\u04bb\u04cf\u0501\u051b\u051d",
        "aeopcyxsijhldqw",
    ),
    # Greek
    **str.maketrans(
        "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
        "ABEZHIKMNOPTYX",
    ),
    **str.maketrans("\u03b1\u03b9\u03bd\u03bf\u03c1\u03c5", "aivopu"),
    # Latin: a dotless i, a click, and two letters of phonetic alphabets
    **str.maketrans("\u0131\u01c0\u0251\u0261", "i|ag"),
}


def seen(name: str) -> str:
    """Equal for two names that look alike, as far as these rules go; else as `people.spoken`."""
    bare = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    read = _WORD.sub(lambda word: _read(word[0]), bare.translate(_SHAPES))
    return spoken(read.casefold().replace("rn", "m").replace("vv", "w"))


READINGS: Final[tuple[Reading, ...]] = (spoken, seen)
"""Two names are taken for one where either says the same of both."""


def words_of(name: str, as_: Reading = spoken) -> Words:
    """The parts of a name, in no order."""
    return frozenset(as_(name).split())


def is_more_of(one: Words, other: Words) -> bool:
    """Whether one name is the other, or that and something more."""
    return bool(one and other) and (one <= other or other <= one)


def _read(word: str) -> str:
    others = [char for char in word if char.isalpha() and char not in _STROKES]
    if not others:
        return word
    if all(char.isupper() for char in others):
        return word.translate(_AS_I)
    first, rest = word[0], word[1:].translate(_AS_L)
    if first in "l1|":
        is_capital = rest[:1].isalpha() and rest[0] not in _NO_CONSONANTS
        return ("I" if is_capital else "l") + rest
    return first.replace("0", "O") + rest
