"""The sets of a replica as reconciliation sees them: read once, and then what has come (docs/protocol.md, "Reconcile").

They are those of one numbering of arrivals: whoever has read a store anew makes this anew.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import starmap
from typing import Final

from protocol.reconcile.negentropy import Record
from protocol.reconcile.sorted_records import SortedRecords
from protocol.replica.interfaces import EntryStore
from protocol.replica.recently_used import shorten

_KEPT: Final = 128


class SetRecords:
    """Over one store."""

    def __init__(self, store: EntryStore) -> None:
        self._store = store
        self._kept: OrderedDict[bytes, SortedRecords] = OrderedDict()

    async def of(self, space: bytes) -> SortedRecords:
        """The records of a space: as many as have arrived."""
        count = (await self._store.position(space)).count
        records = self._kept.get(space)
        if records is None:
            records = SortedRecords(starmap(Record, await self._store.times(space)))
        elif len(records) != count:
            later = [stored.entry for stored in await self._store.scan(space, after=len(records))]
            records = records.with_added([Record(entry.timestamp_ms, entry.id) for entry in later])
        self._kept[space] = records
        shorten(self._kept, space, _KEPT)
        return records
