"""Hand-ins whose content is not here yet, and coursework of which there are two versions, class by class.

A class is folded again only when its own set has grown, or when something has come above it that a fold of rights
heeds: the first look at a large territory takes its time, every later one looks at what is new. Of what lies above, a
fold needs all only where a revocation must be weighed; elsewhere erasures are all that counts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.coursework import Coursework, fold_coursework
from protocol.entry import Entry, Kind
from protocol.roster import fold_roster
from sync_server.app import Server

_HEEDED_ABOVE: Final = frozenset({Kind.CERTIFICATE, Kind.GRANT, Kind.SUCCESSOR, Kind.REVOKE, Kind.ERASE})
_COUNTED: Final = frozenset({Kind.HAND_IN, Kind.REVISION})


@dataclass(frozen=True, slots=True)
class Awaited:
    """Of one class: (author, time in ms) of each hand-in that is awaited, and how many items are in conflict."""

    hand_ins: tuple[tuple[bytes, int], ...]
    conflicts: int

    @property
    def oldest_ms(self) -> int | None:
        """The time of the oldest hand-in that is awaited, by its device's clock."""
        return min((at_ms for _, at_ms in self.hand_ins), default=None)


_NOTHING: Final = Awaited((), 0)


@dataclass(slots=True)
class _Above:
    """What is heeded of a space above classes: of `seen` entries how many, whether any revokes, which erase."""

    seen: int = 0
    heeded: int = 0
    revokes: bool = False
    erasures: tuple[Entry, ...] = ()

    def add(self, entries: Sequence[Entry]) -> None:
        """These have come."""
        self.seen += len(entries)
        self.heeded += sum(entry.header.kind in _HEEDED_ABOVE for entry in entries)
        self.revokes = self.revokes or any(entry.header.kind == Kind.REVOKE for entry in entries)
        self.erasures += tuple(entry for entry in entries if entry.header.kind == Kind.ERASE)


class Waiting:
    """What is awaited in every class, as far as it has been looked at: `known`."""

    def __init__(self, server: Server) -> None:
        """Over an opened server; nothing is known yet."""
        self.known: dict[bytes, Awaited] = {}
        self._server = server
        self._made_from: dict[bytes, tuple[int, ...]] = {}
        self._above: dict[bytes, _Above] = {}

    async def catch_up(self, classes: Iterable[bytes], counts: Mapping[bytes, int]) -> AsyncGenerator[bytes, None]:
        """Look at the classes that have changed, and give each; `counts` are the entries of each space now."""
        door = self._server.replica.door
        read: set[bytes] = set()
        for space in classes:
            _, *line = door.lineage(space)
            for member in line:
                if member not in read:
                    read.add(member)
                    await self._read_above(member, counts.get(member, 0))
            made_from = (counts.get(space, 0), *(self._above[member].heeded for member in line))
            if self._made_from.get(space) != made_from:
                self.known[space] = await self._look_at(space, [self._above[member] for member in line])
                self._made_from[space] = made_from
                yield space

    async def _look_at(self, space: bytes, above: Sequence[_Above]) -> Awaited:
        own = [stored.entry for stored in await self._server.store.scan(space)]
        kinds = {entry.header.kind for entry in own}
        if _COUNTED.isdisjoint(kinds):
            return _NOTHING
        coursework: Coursework
        if Kind.REVOKE in kinds or any(each.revokes for each in above):
            coursework = (await self._server.replica.view(space)).coursework
        else:
            erasures = [entry for each in above for entry in each.erasures]
            roster = fold_roster(space, own, erasures, self._server.replica.door)
            coursework = fold_coursework(space, own, roster)
        return Awaited(
            tuple((work.author, work.at_ms) for work in coursework.hand_ins.values() if not work.at_server),
            sum(item.conflict for item in coursework.items.values()),
        )

    async def _read_above(self, space: bytes, count: int) -> None:
        """Take in what has come into a space above; all of it anew if it holds less than it did."""
        above = self._above.get(space)
        if above is None or above.seen > count:
            above = self._above[space] = _Above()
        if above.seen < count:
            above.add([stored.entry for stored in await self._server.store.scan(space, after=above.seen)])
