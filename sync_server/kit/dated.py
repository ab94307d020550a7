"""Days that are typed for a command with the kit, beside the times that were signed.

A day is this machine's, as times are told, or that of UTC, as JSON has them.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import date, datetime
from typing import Final

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code
from protocol.model.entry import Entry
from protocol.replica.console import parameters as given

_TO: Final = ".."


class Days:
    """The days that were typed: one by one (2026-03-02), or all from one to another (2026-03-02..2026-03-09)."""

    def __init__(self, typed: Iterable[str]) -> None:
        """Raises `BadInput(BAD_DATE)`."""
        self._spans = tuple(map(_span, typed))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._spans)

    def hold(self, entry: Entry) -> bool:
        """Whether an entry is dated on one of them."""
        return any(first <= day <= last for first, last in self._spans for day in days_of(entry))


def days_of(entry: Entry) -> list[date]:
    """The day on which an entry is dated, by this machine's clock and in UTC."""
    moment = datetime.fromisoformat(rfc3339(entry.timestamp_ms) or "")
    found = [moment.date()]
    with suppress(OverflowError, OSError, ValueError):
        found.insert(0, moment.astimezone().date())
    return found


def _span(typed: str) -> tuple[date, date]:
    first, to, last = typed.strip().partition(_TO)
    with suppress(ValueError):
        return date.fromisoformat(first), date.fromisoformat(last if to else first)
    raise BadInput(
        Code.BAD_DATE,
        f"“{given.shown(typed)}” is no day here: 2026-03-02 is, and 2026-03-02..2026-03-09 are eight",
    )
