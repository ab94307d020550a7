"""How much one machine may say in a space before others carry no more of it (docs/protocol.md, "Admission").

Rules:
- entries of classes 4 and 5 by machines count: those of one key, and those of all keys of one line of successors;
- what is beyond the quota is refused where it is brought by anybody but a server, with `over-quota`: a bound on what a
  flood costs everybody, no part of the door, whose verdicts agree everywhere;
- what a server holds is taken, so that its set and those of its devices agree.

No honest machine comes near: the quota is what a whole class hands in, in years, from one room of cloned PCs.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Final

from protocol.entry import Entry, KindClass, class_of
from protocol.limits import MAX_ENTRIES_PER_DEVICE, MAX_ENTRIES_PER_KEY, MAX_ENTRY_BYTES_PER_DEVICE
from protocol.replica.interfaces import EntryStore
from protocol.rights import Door
from protocol.roles import Role

_CLASSES: Final = (KindClass.WORK, KindClass.WITNESS)
_KEPT_SPACES: Final = 64


class Quotas:
    """What machines have said in the spaces of one store, counted when it is first asked for."""

    def __init__(self, store: EntryStore, door: Door) -> None:
        self._store = store
        self._door = door
        self._written: OrderedDict[bytes, dict[bytes, tuple[int, int]]] = OrderedDict()

    async def beyond(self, entries: Iterable[Entry]) -> set[bytes]:
        """The ids of those entries that would be beyond a quota, if those before them came in."""
        found = set()
        lines: dict[bytes, tuple[Counter[bytes], Counter[bytes], Counter[bytes]]] = {}
        for entry in entries:
            if not self._counts(entry):
                continue
            space, author = entry.header.space, entry.header.author
            if space not in lines:
                lines[space] = await self._totals(space)
            keys, numbers, sizes = lines[space]
            origin = self._door.origin(author)
            if (
                keys[author] >= MAX_ENTRIES_PER_KEY
                or numbers[origin] >= MAX_ENTRIES_PER_DEVICE
                or sizes[origin] + entry.header.size > MAX_ENTRY_BYTES_PER_DEVICE
            ):
                found.add(entry.id)
                continue
            keys[author] += 1
            numbers[origin] += 1
            sizes[origin] += entry.header.size
        return found

    def note(self, entries: Iterable[Entry]) -> None:
        """These have come in."""
        for entry in entries:
            written = self._written.get(entry.header.space)
            if written is not None and class_of(entry.header.kind) in _CLASSES:
                count, size = written.get(entry.header.author, (0, 0))
                written[entry.header.author] = count + 1, size + entry.header.size

    def _counts(self, entry: Entry) -> bool:
        if class_of(entry.header.kind) not in _CLASSES:
            return False
        authority = self._door.authority(entry.header.grant)
        return authority is not None and authority.role is Role.MACHINE

    async def _totals(self, space: bytes) -> tuple[Counter[bytes], Counter[bytes], Counter[bytes]]:
        """Entries by key, entries by line, bytes by line."""
        written = self._written.get(space)
        if written is None:
            written = self._written[space] = await self._store.written(space, _CLASSES)
        self._written.move_to_end(space)
        while len(self._written) > _KEPT_SPACES:
            self._written.popitem(last=False)
        keys, numbers, sizes = Counter[bytes](), Counter[bytes](), Counter[bytes]()
        for author, (count, size) in written.items():
            origin = self._door.origin(author)
            keys[author] += count
            numbers[origin] += count
            sizes[origin] += size
        return keys, numbers, sizes
