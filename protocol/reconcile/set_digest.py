"""What a set is, and what a device holds of all its sets, in one hash (docs/adr/0340, docs/adr/0486).

The fingerprints of reconciliation are sums, quick to split and to join; who may choose many entries makes two sets of
one sum. So what somebody relies on is hashed whole, in the order of reconciliation. docs/protocol.md, "Cursors and
checkpoints".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from blake3 import blake3

from protocol import canonical
from protocol.canonical import Value
from protocol.limits import SET_FINGERPRINT_BYTES, SETS_BYTES
from protocol.reconcile.sorted_records import SortedRecords

_SETS_PREFIX: Final = b"relais/0 sets"


def fingerprint_of(records: SortedRecords, without: Collection[bytes] = ()) -> bytes:
    """By which sets are compared: 16 bytes, shown in hex by `status` and `space list`, and in checkpoints.

    Of these records but for some ids. Two sets of one fingerprint take 2**64 tries to whoever may choose both.
    """
    return records.digest(without)[:SET_FINGERPRINT_BYTES]


def sets_of(digests: Iterable[tuple[bytes, bytes]]) -> bytes:
    """One hash for (space, `SortedRecords.digest`) of all spaces of which anything is held, whatever their order."""
    rows: list[Value] = [[space, digest] for space, digest in sorted(digests)]
    return blake3(_SETS_PREFIX + canonical.encode(rows)).digest(SETS_BYTES)
