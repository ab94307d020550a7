"""Dates as people give them on the command line."""

from __future__ import annotations

import datetime as dt
from typing import Final

from protocol.errors import BadInput, Code
from protocol.portable_names import displayable

_END_OF_DAY: Final = dt.time(23, 59, 59, 999_000)
_SHOWN_CHARS: Final = 40


def due_ms(given: str, zone: dt.tzinfo | None = None) -> int:
    """The time in ms since 1970 that an ISO 8601 date or date and time means.

    A bare date means its end; what names no zone is meant in `zone`, by default the machine's. Raises
    `BadInput(BAD_DATE)`.
    """
    text = given.strip()
    try:
        try:
            when = dt.datetime.combine(dt.date.fromisoformat(text), _END_OF_DAY)
        except ValueError:
            when = dt.datetime.fromisoformat(text)
        if when.tzinfo is None:
            when = when.astimezone() if zone is None else when.replace(tzinfo=zone)
        milliseconds = (when - dt.datetime.fromtimestamp(0, dt.UTC)) // dt.timedelta(milliseconds=1)
    except (ValueError, OverflowError, OSError):
        raise _bad_date(given) from None
    if milliseconds < 0:
        raise _bad_date(given)
    return milliseconds


def _bad_date(given: str) -> BadInput:
    return BadInput(
        Code.BAD_DATE,
        f"“{displayable(given[:_SHOWN_CHARS])}” is no date; write it like 2026-12-24 or 2026-12-24T18:00",
        date=given,
    )
