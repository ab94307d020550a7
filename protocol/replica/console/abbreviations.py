"""Ids as people type them: a beginning that only one has is enough, from `SHORTEST_CHARS` hexadecimal digits on.

A whole id is never looked up here, so that scripts pay nothing; what is neither is left to whoever parses ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from protocol.errors import BadInput, Code

SHORTEST_CHARS: Final = 8
_BEGINNING: Final = re.compile(r"[0-9a-fA-F]+")
_NAMED_AT_MOST: Final = 4


def is_beginning(text: str, whole_bytes: int) -> bool:
    """Whether `text` may be the beginning of an id of so many bytes."""
    return SHORTEST_CHARS <= len(text) < 2 * whole_bytes and _BEGINNING.fullmatch(text) is not None


def beginning_with(text: str, known: Iterable[bytes]) -> list[str]:
    """Those ids of `known`, in hexadecimal, that begin with `text`."""
    return sorted({name for one in known if (name := one.hex()).startswith(text.lower())})


def whole(text: str, known: Iterable[bytes], code: Code, what: str) -> str:
    """The one id of `known` that begins with `text`, in hexadecimal; `text` itself if none does.

    Raises `BadInput(code)` if several do.
    """
    found = beginning_with(text, known)
    if len(found) > 1:
        named = ", ".join(found[:_NAMED_AT_MOST])
        raise BadInput(code, f"“{text}” is the beginning of {len(found)} {what}s: {named}; type more of it")
    return found[0] if found else text
