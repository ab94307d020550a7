"""What is odd about the date of something that is published: whoever gave it is told, and it stays as it is."""

from __future__ import annotations

from enum import Enum, auto

from protocol.model.work import ItemKind, Revision


class OddDate(Enum):
    """A date of something for which nothing is handed in; one that is past."""

    FOR_NOTHING = auto()
    PAST = auto()


def odd_date(record: Revision, now_ms: int) -> OddDate | None:
    """What is odd about it; None where nothing is, or there is no date."""
    if record.due_ms is None:
        return None
    if record.kind is not ItemKind.ASSIGNMENT:
        return OddDate.FOR_NOTHING
    return OddDate.PAST if record.due_ms < now_ms else None
