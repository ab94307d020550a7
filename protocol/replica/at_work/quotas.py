"""How much one device may say in a space before others carry no more of it (docs/protocol.md, "Admission").

Rules:
- what one key says counts, and what all keys of one line of successors say: of machines their classes 4 and 5, of
  relays, teachers, heads and administrators, who may be robbed of a laptop, all that they may write;
- what is beyond the quota is refused where it is brought by anybody but a server, with `over-quota`: a bound on what a
  flood costs everybody, no part of the door, whose verdicts agree everywhere;
- a hand-in that a server or a teacher has acknowledged comes in within as much again: a flood that gets to a server
  restored from an old backup first keeps nothing out that the one before had (docs/adr/0238);
- what a server holds is taken, so that its set and those of its devices agree; not from one that was cut off.

No honest device comes near: a machine's quota is what a whole class hands in, in years, from one room of cloned PCs; a
teacher's more than twice what one who has thirty pupils alone opens and answers in a year, five works a day of each.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

from protocol.limits import (
    MAX_ENTRIES_PER_DEVICE,
    MAX_ENTRIES_PER_KEY,
    MAX_ENTRY_BYTES_PER_DEVICE,
    MAX_STAFF_ENTRIES_PER_DEVICE,
    MAX_STAFF_ENTRY_BYTES_PER_DEVICE,
)
from protocol.model.entry import Entry, Kind, KindClass, class_of
from protocol.replica.interfaces import EntryStore
from protocol.replica.recently_used import shorten
from protocol.rights.door import Door
from protocol.roles import Role

_CLASSES: Final = (KindClass.STRUCTURE, KindClass.COURSE, KindClass.ANSWER, KindClass.WORK, KindClass.WITNESS)
_ACKNOWLEDGING: Final = frozenset({Kind.RECEIPT_SERVER, Kind.RECEIPT_TEACHER})
_KEPT_SPACES: Final = 64


class _Quota(NamedTuple):
    """How many entries of one key, of one line of keys, and how many bytes of these."""

    by_key: int
    by_line: int
    bytes_by_line: int

    def holds(self, said: tuple[int, int, int]) -> bool:
        """Whether so much is within it."""
        return all(number <= most for number, most in zip(said, self, strict=True))

    def twice(self) -> _Quota:
        """What a flood and as much that was acknowledged before it take up."""
        return _Quota(*(2 * most for most in self))


class Quotas:
    """What devices have said in the spaces of one store, counted when it is first asked for."""

    def __init__(self, store: EntryStore, door: Door) -> None:
        self._store = store
        self._door = door
        self._written: OrderedDict[bytes, dict[bytes, tuple[int, int]]] = OrderedDict()
        self._acknowledged: OrderedDict[bytes, set[bytes]] = OrderedDict()

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
            origin, quota = self._door.origin(author), _quota_of(self._role_of(entry))
            with_it = keys[author] + 1, numbers[origin] + 1, sizes[origin] + entry.header.size
            is_within = quota.holds(with_it)
            if not is_within and not (quota.twice().holds(with_it) and await self._is_acknowledged(entry)):
                found.add(entry.id)
                continue
            keys[author] += 1
            numbers[origin] += 1
            sizes[origin] += entry.header.size
        return found

    async def is_half_spent(self, space: bytes, author: bytes, role: Role) -> bool:
        """Whether one who wrote with this role has said half of what may be said."""
        keys, numbers, sizes = await self._totals(space)
        origin, quota = self._door.origin(author), _quota_of(role)
        said = (keys[author], numbers[origin], sizes[origin])
        return any(2 * number >= most for number, most in zip(said, quota, strict=True))

    def note(self, entries: Iterable[Entry]) -> None:
        """These have come in."""
        for entry in entries:
            written = self._written.get(entry.header.space)
            if written is not None and class_of(entry.header.kind) in _CLASSES:
                count, size = written.get(entry.header.author, (0, 0))
                written[entry.header.author] = count + 1, size + entry.header.size
            acknowledged = self._acknowledged.get(entry.header.space)
            if acknowledged is not None and entry.header.kind in _ACKNOWLEDGING:
                acknowledged.update(_targets([entry]))

    def _counts(self, entry: Entry) -> bool:
        if class_of(entry.header.kind) not in _CLASSES:
            return False
        role = self._role_of(entry)
        return role is not None and role is not Role.SERVER

    def _role_of(self, entry: Entry) -> Role | None:
        """With which role it was written; None for a root, and where the grant is not known."""
        authority = self._door.authority(entry.header.grant)
        return None if authority is None else authority.role

    async def _is_acknowledged(self, entry: Entry) -> bool:
        """Whether a receipt is in the set already: those that come along are not verified yet."""
        if entry.header.kind != Kind.HAND_IN:
            return False
        space = entry.header.space
        acknowledged = self._acknowledged.get(space)
        if acknowledged is None:
            receipts = await self._store.of_kinds(space, _ACKNOWLEDGING)
            acknowledged = self._acknowledged[space] = _targets(stored.entry for stored in receipts)
        shorten(self._acknowledged, space, _KEPT_SPACES)
        return entry.id in acknowledged

    async def _totals(self, space: bytes) -> tuple[Counter[bytes], Counter[bytes], Counter[bytes]]:
        """Entries by key, entries by line, bytes by line."""
        written = self._written.get(space)
        if written is None:
            written = self._written[space] = await self._store.written(space, _CLASSES)
        shorten(self._written, space, _KEPT_SPACES)
        keys, numbers, sizes = Counter[bytes](), Counter[bytes](), Counter[bytes]()
        for author, (count, size) in written.items():
            origin = self._door.origin(author)
            keys[author] += count
            numbers[origin] += count
            sizes[origin] += size
        return keys, numbers, sizes


def _quota_of(role: Role | None) -> _Quota:
    if role is Role.MACHINE:
        return _Quota(MAX_ENTRIES_PER_KEY, MAX_ENTRIES_PER_DEVICE, MAX_ENTRY_BYTES_PER_DEVICE)
    return _Quota(MAX_STAFF_ENTRIES_PER_DEVICE, MAX_STAFF_ENTRIES_PER_DEVICE, MAX_STAFF_ENTRY_BYTES_PER_DEVICE)


def _targets(receipts: Iterable[Entry]) -> set[bytes]:
    return {entry.header.target for entry in receipts if entry.header.target is not None}
