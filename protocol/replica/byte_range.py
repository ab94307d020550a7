"""The `Range` of a request (RFC 9110 §14): one range of bytes; anything else is answered whole, as the RFC allows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_ONE_RANGE: Final = re.compile(r"bytes=[ \t]*(\d{0,19})-(\d{0,19})[ \t]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes from `start` on, `length` of them."""

    start: int
    length: int


class NotSatisfiable(ValueError):
    """The range begins behind the end."""


def asked_span(value: str | None, size: int) -> Span | None:
    """The part of `size` bytes (1 or more) that a `Range` field asks for, or None for the whole.

    Raises `NotSatisfiable` where no byte is asked for that there is.
    """
    found = None if value is None else _ONE_RANGE.fullmatch(value)
    if found is None or (not found[1] and not found[2]):
        return None
    if not found[1]:
        suffix = min(int(found[2]), size)
        if suffix == 0:
            raise NotSatisfiable
        return Span(size - suffix, suffix)
    first = int(found[1])
    last = int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return None
    if first >= size:
        raise NotSatisfiable
    return Span(first, min(last, size - 1) - first + 1)
