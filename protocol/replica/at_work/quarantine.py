"""Entries outside the set: what waits for a grant, a header or an erasure that has not come yet (R7).

Rules:
- it is bounded for each source, in entries and in bytes; what finds no room may be brought again;
- what became known has tried again what waits for just that, and nothing else: whoever fills it makes nobody's entry
  cost more than it does;
- what was read out of the store is verified once more: somebody else may have written it.

docs/protocol.md, "Admission".
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from protocol.limits import MAX_WAITING_BYTES, MAX_WAITING_ENTRIES
from protocol.model.entry import Entry, signature_holds
from protocol.replica.at_work.passage import Passage, names_awaited
from protocol.replica.interfaces import EntryStore, Held
from protocol.replica.left_due import LeftDue
from protocol.rights.door import Door

_SLICE_ENTRIES: Final = 128
_ROUNDS: Final = 4
"""So often what waits is read by name before all of it is."""


class Quarantine:
    """What a `store` holds in quarantine, which is `held`; what is awaited there is known without reading it."""

    def __init__(self, store: EntryStore, door: Door, held: Iterable[Held] = ()) -> None:
        self._store = store
        self._door = door
        self._awaited = _Awaited()
        self._verified: dict[bytes, bytes] = {}  # id → signature
        for one in held:
            self._await(one)

    async def try_again(self, passage: Passage) -> dict[bytes, Held]:
        """Judge again what waits for something that became known, on and on; returns that as it was held before."""
        before: dict[bytes, Held] = {}
        rounds = 0
        while told := [name for name in passage.learned if name in self._awaited]:
            woken = {one for name in told for one in self._awaited.take(name)} - before.keys()
            rounds += 1
            # in a long line each lets in the next: all of it is read at once
            found = await self._store.held(woken if rounds <= _ROUNDS else None) if woken else []
            found = [held for held in found if held.entry.id not in before]
            before |= {held.entry.id: held for held in found}
            for held, signed in await self._verified_again(found):
                passage.judge(held, signed=signed)
        for name in before:
            if name in passage.waiting:
                self._await(passage.waiting[name])
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
        unheld = {held.entry.id for held in kept}
        # what waits keeps nobody from hearing what came along
        with LeftDue().where_there_is_room():
            unheld = set(await self._store.hold(kept, max_entries=MAX_WAITING_ENTRIES, max_bytes=MAX_WAITING_BYTES))
        for held in kept:
            if held.entry.id not in unheld:
                self._verified[held.entry.id] = held.entry.signature
                self._await(held)
        return unheld

    def released(self, passage: Passage, before: Mapping[bytes, Held]) -> list[bytes]:
        """The ids that wait no more, admitted or refused, to be dropped in the transaction in which the set grows."""
        release = [name for name in before if name not in passage.waiting]
        if self._awaited or release:
            release += [name for name in passage.admitted if name not in before]
        for name in release:
            gone = before.get(name)
            self._forget(passage.admitted[name] if gone is None else gone.entry, None if gone is None else gone.missing)
        return release

    def let_go(self, held: Iterable[Held]) -> None:
        """Some of what waited waits no more: it was dropped from the store."""
        for one in held:
            self._forget(one.entry, one.missing)

    def _await(self, held: Held) -> None:
        for name in names_awaited(self._door, held):
            self._awaited.add(name, held.entry.id)

    def _forget(self, entry: Entry, missing: bytes | None) -> None:
        self._verified.pop(entry.id, None)
        # a bare header may have lain there before
        for name in (*self._door.awaited(entry), *([] if missing is None else [missing])):
            self._awaited.discard(name, entry.id)

    async def _verified_again(self, waiting: Sequence[Held]) -> list[tuple[Held, bool]]:
        """As `verified`, but for what this replica itself has put there since it read the store."""
        unknown = [held for held in waiting if self._verified.get(held.entry.id) != held.entry.signature]
        found = {held.entry.id: signed for held, signed in await verified(unknown)}
        return [(held, found.get(held.entry.id, True)) for held in waiting]


class _Awaited:
    """Which entries wait for which names; a line of ten thousand that wait for one each is the common attack."""

    def __init__(self) -> None:
        self._by_name: dict[bytes, bytes | set[bytes]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def __contains__(self, name: bytes) -> bool:
        return name in self._by_name

    def add(self, name: bytes, entry: bytes) -> None:
        known = self._by_name.setdefault(name, entry)
        if isinstance(known, set):
            known.add(entry)
        elif known != entry:
            self._by_name[name] = {known, entry}

    def take(self, name: bytes) -> Collection[bytes]:
        """Those that wait for a name; they do no longer."""
        known = self._by_name.pop(name, set())
        return known if isinstance(known, set) else (known,)

    def discard(self, name: bytes, entry: bytes) -> None:
        known = self._by_name.get(name)
        if isinstance(known, set):
            known.discard(entry)
        if known in (entry, set()):
            del self._by_name[name]


async def verified(candidates: Sequence[Held]) -> list[tuple[Held, bool]]:
    """Each candidate with whether its signature holds, giving way to other tasks between slices."""
    found = []
    for start in range(0, len(candidates), _SLICE_ENTRIES):
        found += [(held, signature_holds(held.entry)) for held in candidates[start : start + _SLICE_ENTRIES]]
        await asyncio.sleep(0)
    return found
