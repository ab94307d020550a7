"""What is taken from a neighbour, and what only this device has brought to it: its turns of `reconciling.Giving` (R3).

docs/protocol.md, "Neighbours" and "Reconcile".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from protocol.limits import MAX_PUSHED_BYTES
from protocol.model.entry import Entry
from sync_agent.app import Agent
from sync_agent.hand_ins.copies import note_forgotten
from sync_agent.sync.peer_news import news_marks
from sync_agent.sync.reconciling import Taking

_AT_ONCE: Final = 64


@dataclass(slots=True)
class FromPeer(Taking):
    """From a peer alone, which is given nothing."""

    agent: Agent

    def marks(self, space: bytes) -> Mapping[str, bytes | None]:
        """That the server may lack what it brings."""
        return news_marks([space], self.agent.entropy)


@dataclass(slots=True)
class ToPeer(FromPeer):
    """What it lacks goes with the next steps of the dialogue."""

    device: bytes
    waiting: list[bytes] = field(default_factory=list)

    async def give(self, have: Sequence[bytes]) -> int:
        """The other side lacks these: what a server has refused too, which says nothing to a neighbour."""
        self.waiting += have
        return len(have)

    async def push(self) -> tuple[Entry, ...]:
        """As many as a message may hold, and one if there is any, in their order."""
        room = MAX_PUSHED_BYTES
        fitting: list[Entry] = []
        while self.waiting and room > 0:
            some = self.waiting[:_AT_ONCE]
            found = await self.agent.replica.store.get(some)
            for place, entry in enumerate(map(found.get, some)):
                room -= 0 if entry is None else entry.wire_bytes
                if fitting and room < 0:
                    some = some[:place]
                    break
                fitting += [] if entry is None else [entry]
            self.waiting = self.waiting[len(some) :]
        await note_forgotten(self.agent, fitting, self.device)
        return tuple(fitting)
