"""Where a space stands: what cursors and checkpoints say (R12; docs/protocol.md, "Cursors and checkpoints").

A cursor names the first N arrivals of one store's space by a chained hash, so that the store can tell whether it
still is the store that the cursor was made by. A checkpoint is a cursor that the server signs, with the set's
fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from protocol.limits import CURSOR_HASH_BYTES

EMPTY_CHAIN: Final = bytes(CURSOR_HASH_BYTES)
"""What a cursor says before anything has arrived."""
CHAIN_START: Final = bytes(32)
"""The state of a chain before the first arrival; a cursor shows the first 8 bytes of a state."""


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
