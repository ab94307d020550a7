"""What was destroyed here is not brought back by a disk, and not carried on (docs/protocol.md, "Courier disks").

What an erasure covers is hidden at once and destroyed when it is due (`protocol.replica.upkeep.eraser`). From then on
this device takes bare headers of it only; it has no others to give. Once the erasure is held back or taken back, a disk
may be the only place that still has what it covered: what is merely bare here stays there, and comes from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from protocol.folds.erasing import is_covered
from protocol.model.entry import Entry
from protocol.replica.upkeep.orders import destroyed_in
from protocol.rights.door import Door
from sync_agent.app import Agent
from sync_agent.upkeep.erasing import destroy_erased


class Erased:
    """What is destroyed in each space, by erasures in force. Made by `of`."""

    def __init__(self, names: Mapping[bytes, set[bytes]], door: Door) -> None:
        self._names = names
        self._door = door

    @classmethod
    async def of(cls, agent: Agent) -> Erased:
        """As things stand once what is due has been destroyed. Raises `LocalFailure`."""
        await destroy_erased(agent)
        return cls(await destroyed_in(agent.replica), agent.replica.door)

    @property
    def is_any(self) -> bool:
        """Whether anything was destroyed here."""
        return any(self._names.values())

    def covers(self, entry: Entry) -> bool:
        """Whether an entry is to be nothing but a header."""
        if not self._names:
            return False
        names = {name for space in self._door.lineage(entry.header.space) for name in self._names.get(space, ())}
        return is_covered(entry, names)

    def spare(self, entry: Entry) -> Entry:
        """The entry as it may come in."""
        return replace(entry, salt=None, payload=None) if self.covers(entry) else entry
