"""Hand-ins whose content is not here yet, and coursework of which there are two versions, class by class.

A class is folded again only when its own set has grown, or when something has come above it that a fold of rights
heeds: the first look at a large territory takes its time, every later one looks at what is new.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from protocol.entry import Kind
from sync_server.app import Server

_HEEDED_ABOVE: Final = frozenset({Kind.CERTIFICATE, Kind.GRANT, Kind.SUCCESSOR, Kind.REVOKE, Kind.ERASE})


@dataclass(frozen=True, slots=True)
class Awaited:
    """Of one class: (author, time in ms) of each hand-in that is awaited, and how many items are in conflict."""

    hand_ins: tuple[tuple[bytes, int], ...]
    conflicts: int

    @property
    def oldest_ms(self) -> int | None:
        """The time of the oldest hand-in that is awaited, by its device's clock."""
        return min((at_ms for _, at_ms in self.hand_ins), default=None)


class Waiting:
    """What is awaited in every class, as far as it has been looked at: `known`."""

    def __init__(self, server: Server) -> None:
        """Over an opened server; nothing is known yet."""
        self.known: dict[bytes, Awaited] = {}
        self._server = server
        self._made_from: dict[bytes, tuple[int, ...]] = {}
        self._heeded: dict[bytes, tuple[int, int]] = {}

    async def catch_up(self, classes: Iterable[bytes], counts: Mapping[bytes, int]) -> AsyncGenerator[bytes, None]:
        """Look at the classes that have changed, and give each; `counts` are the entries of each space now."""
        door = self._server.replica.door
        above_now: dict[bytes, int] = {}
        for space in classes:
            own, *above = door.lineage(space)
            for member in above:
                if member not in above_now:
                    above_now[member] = await self._heeded_in(member, counts.get(member, 0))
            made_from = (counts.get(own, 0), *(above_now[member] for member in above))
            if self._made_from.get(space) != made_from:
                coursework = (await self._server.replica.view(space)).coursework
                works = coursework.hand_ins.values()
                self.known[space] = Awaited(
                    tuple((work.author, work.at_ms) for work in works if not work.at_server),
                    sum(item.conflict for item in coursework.items.values()),
                )
                self._made_from[space] = made_from
                yield space

    async def _heeded_in(self, space: bytes, count: int) -> int:
        """How many entries of a space above say something about rights."""
        seen, heeded = self._heeded.get(space, (0, 0))
        if seen > count:
            seen, heeded = 0, 0
        if seen < count:
            later = await self._server.store.scan(space, after=seen)
            heeded += sum(stored.entry.header.kind in _HEEDED_ABOVE for stored in later)
            self._heeded[space] = (count, heeded)
        return heeded
