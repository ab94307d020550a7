"""What a device shares on the school's network: the spaces that both sides hold, nothing else (R1, R11).

Rules:
- entries and content go out and come in only for spaces that this device holds itself and the caller may read; the
  territory alone is no reason to talk;
- content comes in only while some of the space is missing here, or a second copy of somebody's work may be kept, and
  while there is room on the disk; a pack that is on its way here already, from one source and growing, comes from no
  second one.

docs/protocol.md, "Neighbours".
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from protocol.limits import GiB
from protocol.model.entry import Entry
from protocol.replica.answering.scope import Scope
from protocol.replica.content.holdings import Need
from protocol.rights.door import Authority
from protocol.roles import KEEPS_REPORTS
from sync_agent.app import Agent
from sync_agent.hand_ins.copies import Copies, note_forgotten
from sync_agent.sync.in_doubt import spaces_in_doubt
from sync_agent.sync.peer_news import news_marks

KEPT_FREE_BYTES: Final = GiB // 2


class LanScope(Scope):
    """A device's."""

    def __init__(self, agent: Agent, copies: Copies | None = None) -> None:
        super().__init__(agent.replica)
        self._agent = agent
        self._copies = copies or Copies(agent, set)

    async def shared(self, readable: Mapping[bytes, Authority]) -> dict[bytes, Authority]:
        """The spaces in common, if there are more than the territory."""
        mine = await self._agent.spaces()
        common = {space: authority for space, authority in readable.items() if space in mine}
        return common if common.keys() - {self.replica.territory} else {}

    async def wanted(self, entries: Iterable[Entry]) -> set[bytes]:
        """The spaces of this device, those included that what is brought may show to be open to it."""
        mine = {*await self._agent.spaces(), *await spaces_in_doubt(self._agent)}
        return {entry.header.space for entry in entries if entry.header.space in mine}

    def marks(self, spaces: Iterable[bytes]) -> Mapping[str, bytes | None]:
        """That the server may lack what a peer brings."""
        return news_marks(spaces, self._agent.entropy)

    async def needs(self, space: bytes) -> list[Need]:
        """What this device should hold of a space."""
        authority = (await self._agent.spaces()).get(space)
        return [] if authority is None else await self._agent.needs(space, authority)

    async def takes(self, space: bytes, size: int) -> bool:
        """While something of the space is missing here, and the disk has room."""
        if await self.replica.content.free_bytes() < KEPT_FREE_BYTES + size:
            return False
        if await self._agent.holdings.incomplete(await self.needs(space), most=1):
            return True
        return await self._copies.may_keep(space, size)

    async def keeps_reports(self) -> bool:
        """A teacher's device or a relay does: it passes them on."""
        return not KEEPS_REPORTS.isdisjoint(await self._agent.roles())

    async def lets_send(self, pack: bytes, sender: bytes) -> bool:
        """While it does not come from elsewhere; but nobody keeps others away for long by sending little."""
        if self._agent.fetching.comes(pack, asyncio.get_running_loop().time()):
            return False
        return await self._agent.sending.lets(pack, sender, self._agent.now_ms())

    async def let_in(self, entries: Sequence[Entry]) -> None:
        """What this device is brought of its own, it has forgotten; a payload that it destroyed it has not."""
        await note_forgotten(self._agent, entries, self._agent.device)

    async def brought_back(self, entries: Sequence[Entry], device: bytes) -> None:
        """A device that asks for what it wrote itself forgets."""
        await note_forgotten(self._agent, entries, device)

    async def entrusted(self, space: bytes, device: bytes) -> frozenset[bytes]:
        """Work that was handed in here, if the device is to keep a second copy of it."""
        return await self._copies.entrusted(space, device)
