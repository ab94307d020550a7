"""Marks that hold any number of entries: the beginnings of their ids, each once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

BEGINNING_BYTES: Final = 8


def beginnings(mark: bytes | None) -> frozenset[bytes]:
    """Those that are noted."""
    value = mark or b""
    return frozenset(value[at : at + BEGINNING_BYTES] for at in range(0, len(value), BEGINNING_BYTES))


def noting(names: Iterable[bytes]) -> bytes:
    """What notes these, by their ids or by the beginnings of them."""
    return b"".join(sorted({name[:BEGINNING_BYTES] for name in names}))
