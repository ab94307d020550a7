"""That a server was made anew, from the kit or a backup: it may not have heard of what another one was given since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MADE_ANEW_MARK: Final = "made-anew"
"""→ 8 bytes of ms: when."""
_TIME_BYTES: Final = 8


def made_anew_mark(at_ms: int) -> Mapping[str, bytes | None]:
    """The mark that says so."""
    return {MADE_ANEW_MARK: at_ms.to_bytes(_TIME_BYTES, "big")}


def made_anew_ms(mark: bytes | None) -> int | None:
    """When that was, by its mark; None for a server that never was."""
    return None if mark is None else int.from_bytes(mark, "big")
