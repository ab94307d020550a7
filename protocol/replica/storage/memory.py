"""Entries in memory: what other tests use, held to the contract of the durable ones (R21).

Packs in memory are `protocol.replica.content.kept.memory_packs`.
"""

# ruff: noqa: D102  (the interfaces say what each method means)

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from protocol.limits import CURSOR_HASH_BYTES
from protocol.model.entry import Entry, class_of
from protocol.reconcile.checkpoint import CHAIN_START, next_chain
from protocol.replica.interfaces import Damage, Held, Position, RegisterRow, Stored


@dataclass(slots=True)
class _Space:
    """Arrivals in order, and the chain after each (`chains[0]` is the one before the first)."""

    entries: list[Stored] = field(default_factory=list)
    chains: list[bytes] = field(default_factory=lambda: [CHAIN_START])


_NOTHING: Final = _Space()
_BEHIND_ALL: Final = "\U0010ffff"


class MemoryStore:
    """See `EntryStore`."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._spaces: dict[bytes, _Space] = {}
        self._unsent: set[bytes] = set()
        self._held: dict[bytes, Held] = {}
        self._held_totals: dict[bytes, tuple[int, int]] = {}
        self._marks: dict[str, bytes] = {}
        self._mark_names: list[str] = []
        """Sorted, as a disk's index has them."""
        self._registers: dict[tuple[int, bytes, bytes], RegisterRow] = {}

    async def append(
        self,
        entries: Sequence[Entry],
        *,
        unsent: bool = False,
        marks: Mapping[str, bytes | None] | None = None,
        release: Iterable[bytes] = (),
    ) -> list[Stored]:
        stored = []
        for entry in entries:
            if entry.id in self._entries:
                continue
            self._entries[entry.id] = entry
            space = self._spaces.setdefault(entry.header.space, _Space())
            space.entries.append(Stored(len(space.entries) + 1, entry))
            space.chains.append(next_chain(space.chains[-1], entry.id))
            stored.append(space.entries[-1])
        if unsent:
            self._unsent.update(one.entry.id for one in stored)
        await self.set_marks(marks or {})
        await self.drop_held(release)
        return stored

    async def present(self, ids: Sequence[bytes]) -> set[bytes]:
        return self._entries.keys() & set(ids)

    async def get(self, ids: Sequence[bytes]) -> dict[bytes, Entry]:
        return {entry_id: self._entries[entry_id] for entry_id in ids if entry_id in self._entries}

    async def position(self, space: bytes) -> Position:
        here = self._spaces.get(space, _NOTHING)
        return Position(len(here.entries), here.chains[-1][:CURSOR_HASH_BYTES])

    async def chain_at(self, space: bytes, count: int) -> bytes | None:
        chains = self._spaces.get(space, _NOTHING).chains
        return chains[count][:CURSOR_HASH_BYTES] if count < len(chains) else None

    async def page(self, space: bytes, after: int, max_bytes: int) -> list[Stored]:
        return list(_within(self._after(space, after), max_bytes))

    async def scan(self, space: bytes, after: int = 0) -> list[Stored]:
        return list(self._after(space, after))

    async def of_kinds(self, space: bytes, kinds: Collection[int], after: int = 0) -> list[Stored]:
        return [stored for stored in self._after(space, after) if stored.entry.header.kind in kinds]

    async def scan_kinds(self, kinds: Sequence[int], after: int = 0) -> list[Entry]:
        return [entry for entry in islice(self._entries.values(), after, None) if entry.header.kind in kinds]

    async def authored(self, space: bytes, author: bytes) -> list[Entry]:
        return [stored.entry for stored in self._after(space, 0) if stored.entry.header.author == author]

    async def latest(self) -> tuple[int, bytes] | None:
        return (len(self._entries), next(reversed(self._entries))) if self._entries else None

    async def authored_by_then(self, author: bytes, latest: tuple[int, bytes]) -> set[bytes] | None:
        until = list(self._entries.values())[: latest[0]]
        if not until or until[-1].id != latest[1]:
            return None
        return {entry.id for entry in until if entry.header.author == author}

    async def written(self, space: bytes, classes: Collection[int]) -> dict[bytes, tuple[int, int]]:
        found: dict[bytes, tuple[int, int]] = {}
        for entry in (stored.entry for stored in self._after(space, 0)):
            if class_of(entry.header.kind) in classes:
                count, size = found.get(entry.header.author, (0, 0))
                found[entry.header.author] = count + 1, size + len(entry.payload or b"")
        return found

    async def times(self, space: bytes) -> list[tuple[int, bytes]]:
        return [(stored.entry.timestamp_ms, stored.entry.id) for stored in self._after(space, 0)]

    async def spaces(self) -> dict[bytes, int]:
        return {space: len(here.entries) for space, here in self._spaces.items()}

    async def unsent(self, max_bytes: int) -> list[Entry]:
        waiting = (Stored(0, entry) for entry in self._entries.values() if entry.id in self._unsent)
        return [stored.entry for stored in _within(waiting, max_bytes)]

    async def unsent_totals(self) -> tuple[int, int]:
        return len(self._unsent), sum(self._entries[entry_id].wire_bytes for entry_id in self._unsent)

    async def unsent_ids(self) -> dict[bytes, set[bytes]]:
        found: dict[bytes, set[bytes]] = {}
        for entry_id in self._unsent:
            found.setdefault(self._entries[entry_id].header.space, set()).add(entry_id)
        return found

    async def mark_sent(self, ids: Iterable[bytes]) -> None:
        self._unsent.difference_update(ids)

    async def mark_unsent(self, ids: Iterable[bytes]) -> None:
        self._unsent |= self._entries.keys() & set(ids)

    async def hold(self, held: Sequence[Held], *, max_entries: int, max_bytes: int) -> list[bytes]:
        refused = []
        for one in held:
            entry, known = one.entry, self._held.get(one.entry.id)
            if known is not None and (entry.payload is None or known.entry.payload is not None):
                self._held[entry.id] = Held(known.source, known.entry, one.missing)
                continue
            count, size = self._held_totals.get(one.source, (0, 0))
            if known is not None and known.source == one.source:
                count, size = count - 1, size - known.entry.wire_bytes
            if count + 1 > max_entries or size + entry.wire_bytes > max_bytes:
                refused.append(entry.id)
                continue
            await self.drop_held([entry.id])
            self._held[entry.id] = one
            self._count_held(one, 1)
        return refused

    async def held(self, ids: Collection[bytes] | None = None) -> list[Held]:
        return [held for name, held in self._held.items() if ids is None or name in ids]

    async def drop_held(self, ids: Iterable[bytes]) -> None:
        for entry_id in ids:
            if (held := self._held.pop(entry_id, None)) is not None:
                self._count_held(held, -1)

    async def mark(self, key: str) -> bytes | None:
        return self._marks.get(key)

    async def marks(self, prefix: str) -> dict[str, bytes]:
        names = self._mark_names
        first, end = bisect_left(names, prefix), bisect_left(names, prefix + _BEHIND_ALL)
        return {name: self._marks[name] for name in names[first:end]}

    async def set_marks(self, marks: Mapping[str, bytes | None], *, by_kit: bool = False) -> None:
        del by_kit
        for key, value in marks.items():
            if value is None:
                if self._marks.pop(key, None) is not None:
                    del self._mark_names[bisect_left(self._mark_names, key)]
                continue
            if key not in self._marks:
                insort(self._mark_names, key)
            self._marks[key] = value

    async def drop_marks(self, seen: Mapping[str, bytes]) -> None:
        await self.set_marks({key: None for key, value in seen.items() if self._marks.get(key) == value})

    async def scrub(self) -> None:
        """What is let go of is gone."""

    async def erase(self, ids: Iterable[bytes], marks: Mapping[str, bytes | None] | None = None) -> None:
        for name in self._entries.keys() & set(ids):
            self._replace(replace(self._entries[name], salt=None, payload=None))
        await self.set_marks(marks or {})

    async def bare(self) -> list[Entry]:
        return [entry for entry in self._entries.values() if entry.payload is None]

    async def fill(self, entries: Sequence[Entry], marks: Mapping[str, bytes | None] | None = None) -> None:
        for entry in entries:
            if (held := self._entries.get(entry.id)) is not None and held.payload is None:
                self._replace(replace(held, salt=entry.salt, payload=entry.payload))
        await self.set_marks(marks or {})

    def _replace(self, entry: Entry) -> None:
        """Put an entry in the place of another copy of itself."""
        self._entries[entry.id] = entry
        here = self._spaces[entry.header.space].entries
        place = next(place for place, other in enumerate(here) if other.entry.id == entry.id)
        here[place] = Stored(place + 1, entry)

    async def put_registers(self, rows: Sequence[RegisterRow]) -> list[RegisterRow]:
        kept = []
        for row in rows:
            key = (row.kind, row.subject, row.device)
            held = self._registers.get(key)
            if held is None or (held.at_ms, held.data) < (row.at_ms, row.data):
                self._registers[key] = row
                kept.append(row)
        return kept

    async def drop_registers(self, devices: Collection[bytes]) -> None:
        self._registers = {key: row for key, row in self._registers.items() if row.device not in devices}

    async def registers(self, kind: int | None = None, since_ms: int = 0) -> list[RegisterRow]:
        rows = [row for _, row in sorted(self._registers.items())]
        return [row for row in rows if kind in (None, row.kind) and row.at_ms >= since_ms]

    async def verify(self) -> list[Damage]:
        return []

    async def close(self) -> None:
        return

    def _after(self, space: bytes, after: int) -> Iterator[Stored]:
        return islice(self._spaces.get(space, _NOTHING).entries, after, None)

    def _count_held(self, held: Held, by: int) -> None:
        count, size = self._held_totals.get(held.source, (0, 0))
        self._held_totals[held.source] = (count + by, size + by * held.entry.wire_bytes)


def _within(rows: Iterable[Stored], max_bytes: int) -> Iterator[Stored]:
    total = 0
    for position, stored in enumerate(rows):
        total += stored.entry.wire_bytes
        if position and total > max_bytes:
            return
        yield stored
