"""The words of the pages: one catalogue per language, and in it up to three registers.

Rules:
- a key may have a text per register: `young` (6–11), `teen` (11–18), `adult`, or `older` for both of the latter;
- a key that is counted has `_one` and `_other`;
- every catalogue has every key, with the same names in braces (tests/unit/test_portal_wording.py).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from protocol.replica.catalogues import Catalogues, size_text


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


CATALOGUES: Final = Catalogues(Path(__file__).with_name("locale"))


class Words:
    """Texts for one reader. `zone` is where clocks and days are meant, by default the machine's."""

    def __init__(self, language: str, register: Register, zone: dt.tzinfo | None = None) -> None:
        self.language = language
        self.register = register
        self._texts = CATALOGUES.texts(language)
        self._zone = zone

    def __call__(self, key: str, /, **facts: object) -> str:
        """The text of `key`, with `facts` in place of the names in braces. Raises `KeyError` for an unknown key."""
        for ending in _FALLBACK[self.register]:
            text = self._texts.get(key + ending)
            if text is not None:
                return text.format_map(facts) if facts else text
        raise KeyError(key)

    def sentence(self, key: str, /, **facts: object) -> str:
        """The same, with a capital where it begins: what stands for a name may stand first."""
        text = self(key, **facts)
        return text[:1].upper() + text[1:]

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

    # --- numbers and sizes --------------------------------------------------------------------------------------------

    def number(self, number: int) -> str:
        """1 000."""
        return f"{number:,}".replace(",", self("size.thousands"))

    def size(self, size_bytes: int) -> str:
        """1,2 Mo."""
        return size_text(size_bytes, self("size.units"), self("size.point"))
