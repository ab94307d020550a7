"""What was destroyed here is not brought back by a disk, and not carried on (docs/protocol.md, "Courier disks").

What an erasure covers is hidden at once and destroyed when it is due (`protocol.replica.upkeep.eraser`). From then on
this device takes bare headers of it only; it has no others to give. Once the erasure is held back or taken back, a disk
may be the only place that still has what it covered: what is merely bare here stays there, and comes from there.
"""

from __future__ import annotations

from dataclasses import replace

from protocol.model.entry import Entry
from protocol.replica.upkeep.orders import DestroyedHere


def spare(entry: Entry, destroyed: DestroyedHere) -> Entry:
    """The entry as it may come in."""
    return replace(entry, salt=None, payload=None) if destroyed.covers(entry) else entry
