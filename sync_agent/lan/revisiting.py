"""Looking again where devices of the school were met before, while multicast shows too few (`places_met`).

Rules:
- only a device that listens for others looks for them, and only by the interface on which it listens;
- who is announced is `neighbourhood`'s to choose: those are left out here, and so is whoever is in touch already; all
  together are no more than `MAX_NEIGHBOURS`;
- politely: each place is dialled once, those that were tried longest ago first, and let go when nobody answers; again
  after a minute while nobody at all is in touch, else after a quarter of an hour;
- where somebody broke the protocol, or is none of ours any more, nobody is looked for again in this run.

docs/protocol.md, "Neighbours"; docs/adr/0182.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

from protocol.limits import MAX_NEIGHBOURS
from sync_agent.app import Agent
from sync_agent.lan.exchange.link import Link, LinkState
from sync_agent.lan.finding.multicast import leads_by
from sync_agent.lan.finding.places_met import Places, places_mark, read_places, with_met, with_named, worth_a_try
from sync_agent.machine.addresses import Address
from sync_agent.scheduler import Draw

FIRST_S: Final = (4.0, 8.0)
"""So long multicast is given to show who is there."""
ALONE_S: Final = (30.0, 60.0)
IN_TOUCH_S: Final = (450.0, 900.0)
_LEFT_ALONE: Final = frozenset({LinkState.ASIDE, LinkState.REFUSED})


class Revisits:
    """What is noted, and where somebody is looked for now."""

    def __init__(self, agent: Agent, draw: Draw) -> None:
        self.wanted: set[Address] = set()
        """Where a link is tried, or stands."""
        self._agent = agent
        self._draw = draw
        self._host = ""
        self._places: Places = ()
        self._noted: Places = ()
        self._tried: dict[Address, int] = {}
        self._round = 0
        self._shunned: set[Address] = set()

    async def load(self, host: str) -> None:
        """Remember, on a device that listens at `host`."""
        self._host = host
        self._places = self._noted = await read_places(self._agent.replica.store)

    def met(self, address: Address, device: bytes) -> None:
        """A device has proved there who it is."""
        self._places = with_met(self._places, address, device, self._agent.now_ms())

    def named(self, address: Address, device: bytes | None) -> None:
        """A person says that a device is there; who was met there is wanted at once."""
        self._shunned.discard(address)
        if device is None:
            self._places = with_named(self._places, address, self._agent.now_ms())
        else:
            self.met(address, device)
            self.wanted.add(address)

    async def note(self) -> None:
        """Keep what has changed. Raises `LocalFailure`."""
        if self._noted != self._places:
            places = self._places
            await self._agent.replica.store.set_marks(places_mark(places))
            self._noted = places

    def pause_s(self, *, in_touch: bool) -> float:
        """How long until it is looked again."""
        return self._draw(*(FIRST_S if not self._round else IN_TOUCH_S if in_touch else ALONE_S))

    async def look(
        self, taken: Collection[Address], announced: Collection[Address], in_touch: Collection[bytes]
    ) -> None:
        """Want more, where there is room beside the links to `taken`."""
        self._round += 1
        left_out = {*taken, *announced, *self.wanted, *self._shunned}
        here = worth_a_try(self._places, self._agent.now_ms(), left_out, in_touch)
        here.sort(key=lambda address: self._tried.get(address, 0))
        room = MAX_NEIGHBOURS - len({*taken, *self.wanted})
        for address in here[: max(0, room)]:
            self._tried[address] = self._round
            if await asyncio.get_running_loop().run_in_executor(None, leads_by, self._host, address.host):
                self.wanted.add(address)

    def let_go(self, links: Mapping[Address, Link], announced: Collection[Address]) -> None:
        """Want no more where nobody answers, nor whom multicast has found meanwhile: those are chosen otherwise."""
        for address in list(self.wanted):
            link = links.get(address)
            if link is not None and link.is_gone:
                self.wanted.discard(address)
                if link.state in _LEFT_ALONE:
                    self._shunned.add(address)
        self.wanted -= set(announced)
