"""The digests of a replica's sets, as they are and as they were some arrivals ago (docs/adr/0340).

Rules:
- a set is read and hashed once for each number of arrivals that somebody asks about: most ask about the same;
- who is many arrivals behind is not told apart: that costs a look at all of these.

docs/protocol.md, "Cursors and checkpoints".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from protocol.reconcile.set_digest import sets_of
from protocol.reconcile.sorted_records import SortedRecords
from protocol.replica.interfaces import EntryStore
from protocol.replica.recently_used import shorten

MAX_BEHIND: Final = 1_000
_REMEMBERED: Final = 4_096


class SetDigests:
    """Over one store, whose sets are read through `records`."""

    def __init__(self, store: EntryStore, records: Callable[[bytes], Awaitable[SortedRecords]]) -> None:
        self._store = store
        self._records = records
        self._known: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()

    async def sets(
        self, counts: Iterable[tuple[bytes, int]], left: Mapping[bytes, Collection[bytes]] = MappingProxyType({})
    ) -> bytes | None:
        """`sets_of` the first so many arrivals of each space, without what is `left`; None where it is too far back."""
        found = []
        for space, count in counts:
            without = left.get(space, ())
            if count > len(without):
                digest = (await self._records(space)).digest(without) if without else await self._at(space, count)
                if digest is None:
                    return None
                found.append((space, digest))
        return sets_of(found)

    async def _at(self, space: bytes, count: int) -> bytes | None:
        known = self._known.get((space, count))
        if known is None:
            if (await self._store.position(space)).count - count > MAX_BEHIND:
                return None
            # the set first: what arrives in between is then left out, never forgotten
            records = await self._records(space)
            if len(records) < count:
                return None
            later = {stored.entry.id for stored in await self._store.scan(space, after=count)}
            known = records.digest(later)
            self._known[space, count] = known
        shorten(self._known, (space, count), _REMEMBERED)
        return known
