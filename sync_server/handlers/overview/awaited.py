"""Hand-ins whose content is not here yet, and coursework of which there are two versions, class by class.

A class is folded again only when its own set has grown, or when something has come above it that a fold heeds: the
first look at a large territory takes its time, every later one looks at what is new.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass

from protocol.replica.at_work.views import Basis
from sync_server.opened.app import Server


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
        self._made_from: dict[bytes, tuple[tuple[int, ...], Basis]] = {}

    async def catch_up(self, classes: Iterable[bytes], counts: Mapping[bytes, int]) -> AsyncGenerator[bytes, None]:
        """Look at the classes that have changed, and give each; `counts` are the entries of each space now."""
        replica = self._server.replica
        for space in classes:
            sizes = tuple(counts.get(member, 0) for member in replica.door.lineage(space))
            before, basis = self._made_from.get(space, (None, None))
            if before == sizes:
                continue
            view = await replica.changed_view(space, basis)
            if view is None:
                if basis is not None:
                    self._made_from[space] = sizes, basis
                continue
            self.known[space] = Awaited(
                tuple((work.author, work.at_ms) for work in view.coursework.hand_ins.values() if not work.at_server),
                sum(item.conflict for item in view.coursework.items.values()),
            )
            self._made_from[space] = sizes, view.basis
            yield space
