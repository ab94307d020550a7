"""Entries outside the set: what waits for a grant, a header or an erasure that has not come yet (R7).

Rules:
- it is bounded for each source, in entries and in bytes; what finds no room may be brought again;
- it is tried again when something became known that any of it waits for, and only then;
- what was read out of the store is verified once more: somebody else may have written it.

docs/protocol.md, "Admission".
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from protocol.limits import MAX_WAITING_BYTES, MAX_WAITING_ENTRIES
from protocol.model.entry import Entry, signature_holds
from protocol.replica.interfaces import EntryStore, Held
from protocol.replica.passage import Passage, names_awaited
from protocol.rights.door import Door

_SLICE_ENTRIES: Final = 128


class Quarantine:
    """What a `store` holds in quarantine, which is `held`; what is awaited there is known without reading it."""

    def __init__(self, store: EntryStore, door: Door, held: Iterable[Held] = ()) -> None:
        self._store = store
        self._door = door
        self._awaited = {name for one in held for name in names_awaited(door, one)}
        self._verified: set[tuple[bytes, bytes]] = set()

    async def try_again(self, passage: Passage) -> dict[bytes, Held]:
        """Judge again what waits if something became known that it waits for; returns what was held before."""
        if passage.learned.isdisjoint(self._awaited):
            return {}
        before = {held.entry.id: held for held in await self._store.held()}
        for held, signed in await self._verified_again(list(before.values())):
            passage.judge(held, signed=signed)
        self._verified &= {(held.entry.id, held.entry.signature) for held in before.values()}
        self._awaited = {
            name
            for held in passage.waiting.values()
            if held.entry.id in before
            for name in names_awaited(self._door, held)
        }
        return before

    async def keep(self, passage: Passage, fresh: Mapping[bytes, Entry], before: Mapping[bytes, Held]) -> set[bytes]:
        """Keep what waits, and note what waits for something else now; the ids that found no room.

        Done before the set grows: marks in that transaction may say that all of the batch is here.
        """
        kept = [
            held
            for name, held in passage.waiting.items()
            if (name in fresh if name not in before else held.missing != before[name].missing)
        ]
        if not kept:
            return set()
        unheld = set(await self._store.hold(kept, max_entries=MAX_WAITING_ENTRIES, max_bytes=MAX_WAITING_BYTES))
        for held in kept:
            if held.entry.id not in unheld:
                self._verified.add((held.entry.id, held.entry.signature))
                self._awaited.update(names_awaited(self._door, held))
        return unheld

    def released(self, passage: Passage, before: Mapping[bytes, Held]) -> list[bytes]:
        """The ids that wait no more, admitted or refused, to be dropped in the transaction in which the set grows."""
        release = [name for name in before if name not in passage.waiting]
        if self._awaited or release:
            release += [name for name in passage.admitted if name not in before]
        return release

    async def _verified_again(self, waiting: Sequence[Held]) -> list[tuple[Held, bool]]:
        """As `verified`, but for what this replica itself has put there since it read the store."""
        unknown = [held for held in waiting if (held.entry.id, held.entry.signature) not in self._verified]
        found = {held.entry.id: signed for held, signed in await verified(unknown)}
        return [(held, found.get(held.entry.id, True)) for held in waiting]


async def verified(candidates: Sequence[Held]) -> list[tuple[Held, bool]]:
    """Each candidate with whether its signature holds, giving way to other tasks between slices."""
    found = []
    for start in range(0, len(candidates), _SLICE_ENTRIES):
        found += [(held, signature_holds(held.entry)) for held in candidates[start : start + _SLICE_ENTRIES]]
        await asyncio.sleep(0)
    return found
