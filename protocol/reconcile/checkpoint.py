"""Where a space stands: what cursors and checkpoints say (R12; docs/protocol.md, "Cursors and checkpoints").

A cursor names the first N arrivals of one store's space by a chained hash, so that the store can tell whether it
still is the store that the cursor was made by. A checkpoint is a cursor that the server signs, with the set's
fingerprint. A standing is one hash for the cursors of all spaces, for a device that has many and expects no news.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from protocol import canonical
from protocol.canonical import Value
from protocol.limits import CURSOR_HASH_BYTES, STANDING_BYTES

EMPTY_CHAIN: Final = bytes(CURSOR_HASH_BYTES)
"""What a cursor says before anything has arrived."""
CHAIN_START: Final = bytes(32)
"""The state of a chain before the first arrival; a cursor shows the first 8 bytes of a state."""

_STANDING_PREFIX: Final = b"relais/0 standing"


def next_chain(chain: bytes, arrived: bytes) -> bytes:
    """The 32-byte state of the chain after one more arrival: BLAKE3-256(state before ‖ id)."""
    return blake3(chain + arrived).digest()


@dataclass(frozen=True, slots=True)
class Cursor:
    """What a caller holds of the recipient's store: `space` is the whole id, or its first 4 bytes once both know it.

    `complete` says that all content of those first `count` arrivals is at the caller's.
    """

    space: bytes
    count: int
    chain: bytes
    complete: bool


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the server signs about a space: how many entries, in which order of arrival, and the set's fingerprint."""

    space: bytes
    count: int
    chain: bytes
    fingerprint: bytes


def standing_of(places: Iterable[tuple[bytes, int, bytes]]) -> bytes:
    """One hash for (space, count, chain) of all spaces in which anything has arrived, whatever their order."""
    rows: list[Value] = [[space, count, chain] for space, count, chain in sorted(places) if count]
    return blake3(_STANDING_PREFIX + canonical.encode(rows)).digest(STANDING_BYTES)
