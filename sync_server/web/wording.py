"""The words of the pages, one catalogue per language, and how times, spans and sizes are said in it.

Rules:
- a key that is counted has `_one` and `_other`;
- every catalogue has every key, with the same names in braces (tests/unit/test_server_wording.py).
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final

from protocol.replica.catalogues import Catalogues, size_text

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
_DAY_MS: Final = 24 * _HOUR_MS
_MONTH_MS: Final = 30 * _DAY_MS
_MINUTES_MATTER_BELOW_H: Final = 6


CATALOGUES: Final = Catalogues(Path(__file__).with_name("locale"))


class Words:
    """Texts for one reader, who reads at `now_ms`. Clocks and days are meant in `zone`, by default the machine's."""

    def __init__(self, language: str, now_ms: int, zone: dt.tzinfo | None = None) -> None:
        self.language = language
        self.now_ms = now_ms
        self._texts = CATALOGUES.texts(language)
        self._zone = zone

    def __call__(self, key: str, /, **facts: object) -> str:
        """The text of `key`, with `facts` in place of the names in braces. Raises `KeyError` for an unknown key."""
        text = self._texts[key]
        return text.format_map(facts) if facts else text

    def count(self, key: str, number: int, **facts: object) -> str:
        """The text for so many; French says "one" for none too."""
        single = number == 1 or (number == 0 and self.language == "fr")
        return self(f"{key}_{'one' if single else 'other'}", n=self.number(number), **facts)

    def number(self, number: int) -> str:
        """12 345 in French, 12,345 in English."""
        return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if self.language == "fr" else f"{number:,}"

    # --- times --------------------------------------------------------------------------------------------------------

    def moment(self, at_ms: int) -> dt.datetime:
        """The local time of `at_ms`; one that no calendar holds becomes the last that it does."""
        try:
            return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).astimezone(self._zone)
        except (ValueError, OverflowError, OSError):
            return dt.datetime.max.replace(tzinfo=dt.UTC)

    def clock(self, at_ms: int) -> str:
        """10 h 12."""
        when = self.moment(at_ms)
        return self("time.clock", hour=when.hour, minute=f"{when.minute:02}")

    def full(self, at_ms: int) -> str:
        """24 novembre 2026 à 10 h 12."""
        when = self.moment(at_ms)
        month = self("time.month_names").split()[when.month - 1]
        return self("time.full", day=when.day, month=month, year=when.year, clock=self.clock(at_ms))

    def ago(self, at_ms: int) -> str:
        """Il y a 3 min."""
        span_ms = self.now_ms - at_ms
        if abs(span_ms) < _MINUTE_MS:
            return self("time.now")
        return self("time.ago" if span_ms > 0 else "time.ahead", span=self.span(abs(span_ms)))

    def span(self, span_ms: int) -> str:
        """3 min, 2 h 05, 8 jours: as exact as matters."""
        if span_ms < _MINUTE_MS:
            return self("time.moment")
        if span_ms < _HOUR_MS:
            return self("time.minutes", n=span_ms // _MINUTE_MS)
        if span_ms < _DAY_MS:
            hours, minutes = divmod(span_ms // _MINUTE_MS, 60)
            if hours < _MINUTES_MATTER_BELOW_H and minutes:
                return self("time.hours_minutes", n=hours, m=f"{minutes:02}")
            return self("time.hours", n=hours)
        if span_ms < 2 * _MONTH_MS:
            return self.count("time.days", span_ms // _DAY_MS)
        return self.count("time.months", span_ms // _MONTH_MS)

    # --- sizes --------------------------------------------------------------------------------------------------------

    def size(self, size_bytes: int) -> str:
        """1,2 Mo."""
        return size_text(size_bytes, self("size.units"), self("size.point"))
