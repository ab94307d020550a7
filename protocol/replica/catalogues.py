"""The texts of pages, one catalogue per language: read, set, and chosen for a reader. Both programs have some.

Rules:
- a catalogue is `locale/LANGUAGE.toml`; another file is another language, no code changes;
- French is the default, and its signs never begin a line.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

DEFAULT_LANGUAGE: Final = "fr"

_MAX_ACCEPT_CHARS: Final = 1_000
_KILO: Final = 1000
_ROUND_FROM: Final = 100
_FRENCH_GAPS: Final = (
    (re.compile(r" (?=[;!?])"), "\N{NARROW NO-BREAK SPACE}"),
    (re.compile(r" (?=[:»])|(?<=«) "), "\N{NO-BREAK SPACE}"),
    (re.compile(r"(?<=\d) (?=h\b|\d|[kMG]?o\b)"), "\N{NO-BREAK SPACE}"),
)


class Catalogues:
    """The catalogues in one folder `locale`."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read yet."""
        self._folder = folder
        self.texts = lru_cache(maxsize=8)(self._texts)
        """language → its texts by their dotted keys"""

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """The languages that there are, the default first."""
        found = sorted(path.stem for path in self._folder.glob("*.toml"))
        return (DEFAULT_LANGUAGE, *(language for language in found if language != DEFAULT_LANGUAGE))

    def preferred(self, accept: str) -> str:
        """The first of our languages that an `Accept-Language` field would take (RFC 9110 §12.5.4)."""
        wishes: list[tuple[float, int, str]] = []
        for place, part in enumerate(accept[:_MAX_ACCEPT_CHARS].split(",")):
            name, _, rest = part.strip().partition(";")
            try:
                weight = float(rest.strip().removeprefix("q=")) if rest else 1.0
            except ValueError:
                weight = 0.0
            wishes.append((-weight, place, name.split("-")[0].strip().lower()))
        known = self.languages
        return next((name for weight, _, name in sorted(wishes) if weight < 0 and name in known), DEFAULT_LANGUAGE)

    def _texts(self, language: str) -> Mapping[str, str]:
        with (self._folder / f"{language}.toml").open("rb") as file:
            return dict(_flat("", tomllib.load(file), language))


def _flat(prefix: str, table: Mapping[str, object], language: str) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value, language)
        else:
            yield f"{prefix}{key}", _typeset(str(value), language)


def _typeset(text: str, language: str) -> str:
    """French puts spaces before signs and units, which must not begin a line."""
    if language == "fr":
        for pattern, gap in _FRENCH_GAPS:
            text = pattern.sub(gap, text)
    return text


def size_text(size_bytes: int, units: str, point: str) -> str:
    """1,2 Mo: `units` are the names of bytes, kilobytes …, with spaces between them, `point` the decimal sign."""
    value, unit = float(size_bytes), 0
    names = units.split()
    while round(value) >= _KILO and unit < len(names) - 1:
        value, unit = value / _KILO, unit + 1
    number = f"{value:.0f}" if unit == 0 or value >= _ROUND_FROM else f"{value:.1f}"
    return f"{number.removesuffix('.0').replace('.', point)}\N{NO-BREAK SPACE}{names[unit]}"
