"""From when a class of a school year is past (docs/protocol.md, "Erasure"; docs/adr/0047, 0420)."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

_YEAR: Final = re.compile(r"(\d{4})(?:\s*[-–/]\s*(\d{4}|\d{2}))?", re.ASCII)


def past_from_ms(year: str | None) -> int | None:
    """From when a class of this year ("2026-2027", or "2026" where years are) is past; None if it names none."""
    named = None if year is None else _YEAR.fullmatch(year.strip())
    if named is None:
        return None
    first, second = int(named[1]), named[2]
    if not dt.MINYEAR < first < dt.MAXYEAR - 1 or second not in (None, str(first + 1), f"{(first + 1) % 100:02}"):
        return None
    # lessons end with December where a year is one, with July (or before) where it spans two
    start = dt.datetime(first + 1, 4 if second is None else 10, 1, tzinfo=dt.UTC)
    return int(start.timestamp() * 1000)
