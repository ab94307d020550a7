"""What a device holds of all its spaces, in one hash: for who asks whether that is what a store holds (docs/adr/0340).

A fingerprint is a sum, quick to split and to join; who may choose many entries makes two sets of one sum. So what
somebody relies on is hashed whole, in the order of reconciliation. docs/protocol.md, "Cursors and checkpoints".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from blake3 import blake3

from protocol import canonical
from protocol.canonical import Value
from protocol.limits import SETS_BYTES

_SETS_PREFIX: Final = b"relais/0 sets"


def sets_of(digests: Iterable[tuple[bytes, bytes]]) -> bytes:
    """One hash for (space, `SortedRecords.digest`) of all spaces of which anything is held, whatever their order."""
    rows: list[Value] = [[space, digest] for space, digest in sorted(digests)]
    return blake3(_SETS_PREFIX + canonical.encode(rows)).digest(SETS_BYTES)
