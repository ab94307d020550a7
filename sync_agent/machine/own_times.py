"""Marks that hold when this device did something last, by its own clock: so many times, the latest.

What a device does again after a while goes by these: dates of entries, its own too, go by others' words and by what
servers sign (docs/adr/0612, docs/adr/0621).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_TIME_BYTES: Final = 8


def times_in(mark: bytes | None) -> list[int]:
    """In ms, the earliest first."""
    noted = mark or b""
    return [int.from_bytes(noted[at : at + _TIME_BYTES], "big") for at in range(0, len(noted), _TIME_BYTES)]


def noting_times(times_ms: Sequence[int], most: int) -> bytes:
    """What notes the last of these, so many at most."""
    return b"".join(at_ms.to_bytes(_TIME_BYTES, "big") for at_ms in times_ms[-most:])
