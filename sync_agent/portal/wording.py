"""The words of the pages: one catalogue per language, and in it up to three registers.

Rules:
- a catalogue is `locale/LANGUAGE.toml`; another file is another language, no code changes;
- a key may have a text per register: `young` (6–11), `teen` (11–18), `adult`, or `older` for both of the latter;
- a key that is counted has `_one` and `_other`;
- every catalogue has every key, with the same names in braces (tests/unit/test_portal_wording.py).
"""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Final

_LOCALE: Final = Path(__file__).with_name("locale")
DEFAULT_LANGUAGE: Final = "fr"
_KILO: Final = 1000
_ROUND_FROM: Final = 100
_FRENCH_GAPS: Final = (
    (re.compile(r" (?=[;!?])"), "\N{NARROW NO-BREAK SPACE}"),
    (re.compile(r" (?=[:»])|(?<=«) "), "\N{NO-BREAK SPACE}"),
    (re.compile(r"(?<=\d) (?=h\b|\d|[kMG]?o\b)"), "\N{NO-BREAK SPACE}"),
)


class Register(StrEnum):
    """How people are spoken to."""

    YOUNG = "6-11"
    TEEN = "11-18"
    ADULT = "adult"


_FALLBACK: Final[Mapping[Register, tuple[str, ...]]] = {
    Register.YOUNG: (".young", ""),
    Register.TEEN: (".teen", ".older", ""),
    Register.ADULT: (".adult", ".older", ""),
}


@lru_cache(maxsize=1)
def languages() -> tuple[str, ...]:
    """The languages that there are, the default first."""
    found = sorted(path.stem for path in _LOCALE.glob("*.toml"))
    return (DEFAULT_LANGUAGE, *(language for language in found if language != DEFAULT_LANGUAGE))


@lru_cache(maxsize=8)
def catalogue(language: str) -> Mapping[str, str]:
    """The texts of a language by their dotted keys."""
    with (_LOCALE / f"{language}.toml").open("rb") as file:
        return dict(_flat("", tomllib.load(file), language))


def _flat(prefix: str, table: Mapping[str, object], language: str) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value, language)
        else:
            yield f"{prefix}{key}", _typeset(str(value), language)


def _typeset(text: str, language: str) -> str:
    """French puts spaces before signs, which must not begin a line."""
    if language == "fr":
        for pattern, gap in _FRENCH_GAPS:
            text = pattern.sub(gap, text)
    return text


def preferred_language(accept: str) -> str:
    """The first of our languages that an `Accept-Language` field would take."""
    wishes: list[tuple[float, int, str]] = []
    for place, part in enumerate(accept[:1000].split(",")):
        name, _, rest = part.strip().partition(";")
        try:
            weight = float(rest.strip().removeprefix("q=")) if rest else 1.0
        except ValueError:
            weight = 0.0
        wishes.append((-weight, place, name.split("-")[0].strip().lower()))
    known = languages()
    return next((name for weight, _, name in sorted(wishes) if weight < 0 and name in known), DEFAULT_LANGUAGE)


class Words:
    """Texts for one reader. `zone` is where clocks and days are meant, by default the machine's."""

    def __init__(self, language: str, register: Register, zone: dt.tzinfo | None = None) -> None:
        self.language = language
        self.register = register
        self._texts = catalogue(language)
        self._zone = zone

    def __call__(self, key: str, /, **facts: object) -> str:
        """The text of `key`, with `facts` in place of the names in braces. Raises `KeyError` for an unknown key."""
        for ending in _FALLBACK[self.register]:
            text = self._texts.get(key + ending)
            if text is not None:
                return text.format_map(facts) if facts else text
        raise KeyError(key)

    def has(self, key: str) -> bool:
        """Whether there is a text of that key."""
        return any(key + ending in self._texts for ending in _FALLBACK[self.register])

    def count(self, key: str, number: int, **facts: object) -> str:
        """The text for so many; French says "one" for none too."""
        single = number == 1 or (number == 0 and self.language == "fr")
        return self(f"{key}_{'one' if single else 'other'}", n=number, **facts)

    # --- times --------------------------------------------------------------------------------------------------------

    def moment(self, at_ms: int) -> dt.datetime:
        """The local time of `at_ms`; one that no calendar holds becomes the last or first that it does."""
        try:
            return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).astimezone(self._zone)
        except (ValueError, OverflowError, OSError):
            return dt.datetime.max.replace(tzinfo=dt.UTC)

    def clock(self, at_ms: int) -> str:
        """10 h 12."""
        when = self.moment(at_ms)
        return self("time.clock", hour=when.hour, hour0=f"{when.hour:02}", minute=f"{when.minute:02}")

    def day(self, at_ms: int, now_ms: int) -> str:
        """Today, tomorrow, or vendredi 11 décembre."""
        when, today = self.moment(at_ms), self.moment(now_ms)
        near = {0: "time.today", 1: "time.tomorrow", -1: "time.yesterday"}
        days = (when.date() - today.date()).days
        if days in near:
            return self(near[days])
        text = self(
            "time.day",
            weekday=self._list("time.weekdays")[when.weekday()],
            day=self("time.first") if when.day == 1 else when.day,
            month=self._list("time.months")[when.month - 1],
        )
        return text if when.year == today.year else f"{text} {when.year}"

    def when(self, at_ms: int, now_ms: int) -> str:
        """À 10 h 12 for today, else hier à 10 h 12, lundi 24 novembre à 10 h 12."""
        clock = self("time.at", clock=self.clock(at_ms))
        if self.moment(at_ms).date() == self.moment(now_ms).date():
            return clock
        return f"{self.day(at_ms, now_ms)} {clock}"

    def _list(self, key: str) -> Sequence[str]:
        return self(key).split()

    # --- sizes --------------------------------------------------------------------------------------------------------

    def size(self, size_bytes: int) -> str:
        """1,2 Mo."""
        value, unit = float(size_bytes), 0
        units = self._list("size.units")
        while round(value) >= _KILO and unit < len(units) - 1:
            value, unit = value / _KILO, unit + 1
        number = f"{value:.0f}" if unit == 0 or value >= _ROUND_FROM else f"{value:.1f}"
        return f"{number.removesuffix('.0').replace('.', self('size.point'))}\N{NO-BREAK SPACE}{units[unit]}"
