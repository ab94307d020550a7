"""Marks that hold any number of entries, each once: the beginnings of their ids.

Or their whole ids, where one author chooses both what is noted and what is compared with that: two ids that begin alike
take 2^32 hashes (docs/adr/0601).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from protocol.model.entry import ID_BYTES

BEGINNING_BYTES: Final = 8


def beginnings(mark: bytes | None) -> frozenset[bytes]:
    """Those that are noted."""
    value = mark or b""
    return frozenset(value[at : at + BEGINNING_BYTES] for at in range(0, len(value), BEGINNING_BYTES))


def noting(names: Iterable[bytes]) -> bytes:
    """What notes these, by their ids or by the beginnings of them."""
    return b"".join(sorted({name[:BEGINNING_BYTES] for name in names}))


def whole_ids(mark: bytes | None) -> frozenset[bytes]:
    """Those that are noted whole. What an earlier version noted, by beginnings alone, names none."""
    value = mark or b""
    parts = (value[at : at + ID_BYTES] for at in range(0, len(value), ID_BYTES))
    return frozenset(part for part in parts if len(part) == ID_BYTES)


def noting_whole(names: Iterable[bytes]) -> bytes:
    """What notes these by their whole ids."""
    return b"".join(sorted(set(names)))
