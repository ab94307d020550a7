"""What a responder over HTTP tells of itself to whoever counts: bytes that moved, calls that ended."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Protocol


class Direction(StrEnum):
    """Which way bytes went, as this side sees it."""

    IN = "in"
    OUT = "out"


class Result(StrEnum):
    """How a sync call ended."""

    OK = "ok"
    STRANGER = "stranger"
    REFUSED = "refused"
    BUSY = "busy"
    FAILED = "failed"


def result_of(status: int) -> Result:
    """How a call with this HTTP status ended."""
    return _RESULTS.get(status, Result.FAILED)


_RESULTS: Final[Mapping[int, Result]] = {
    200: Result.OK,
    403: Result.REFUSED,
    421: Result.STRANGER,
    503: Result.BUSY,
}


class Meter(Protocol):
    """Counts what moves."""

    def session(self, result: Result) -> None:
        """A sync call has ended."""
        ...

    def moved(self, direction: Direction, size: int) -> None:
        """Bytes of messages or packs have gone one way."""
        ...
