"""Whether a drill was stopped before its time: asked by who plays it, of the server, and nothing else (docs/adr/0224).

Rules:
- while a drill runs this is all that passes: every few minutes, at a moment that each device draws, it takes in what
  the server has of the school's own space (what was ordered there, who has which right), as in reconciling;
- it sends nothing of its own, and of the classes nothing comes: neither people nor what the drill has to show are
  served by a server that is to be out of reach;
- who gets no answer has lost nothing: the drill ends by itself, at its time;
- who syncs by hand asks first: somebody has just been told on the telephone that it is over, say.

docs/protocol.md, "Measures".
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from protocol.errors import RelaisError
from protocol.model.entry import Entry
from sync_agent.app import Agent
from sync_agent.scheduler import Draw
from sync_agent.school.measures import DrillTransport, ordered, schools_of
from sync_agent.sync.reconciling import Reconciling
from sync_agent.transport.sealed_calls import SealedCalls

ASK_AFTER_S: Final = (60.0, 300.0)
"""How long it is from one question to the next: so soon a stop is heard of that was ordered at the server."""
ANSWER_S: Final = 30.0

_log = logging.getLogger(__name__)


class DrillEnd:
    """Of one agent. `heard` is called after each question that was answered."""

    def __init__(
        self, agent: Agent, transport: DrillTransport, heard: Callable[[], object], *, draw: Draw = random.uniform
    ) -> None:
        self._agent = agent
        self._transport = transport
        self._heard = heard
        self._draw = draw

    async def run(self) -> None:
        """Ask now and then while a drill runs, until cancelled."""
        while True:
            await asyncio.sleep(self._draw(*ASK_AFTER_S))
            if self._transport.ends_ms is not None and not self._agent.budget.is_paused:
                await self.ask()

    async def ask_first(self) -> None:
        """Before somebody syncs by hand: ask, if a drill runs, and let the way be open if it does no more."""
        if self._transport.ends_ms is not None:
            await self.ask()
            self._transport.follow(await ordered(self._agent))

    async def ask(self) -> None:
        """Ask once. Who does not answer is asked again later."""
        reconciling = Reconciling(self._agent, SealedCalls(self._agent, self._transport.past_drill), _Taking())
        try:
            async with asyncio.timeout(ANSWER_S):
                for school in await schools_of(self._agent):
                    await reconciling.reconcile(school)
        except (RelaisError, TimeoutError) as error:
            _log.info("whether the drill was stopped cannot be asked: %s", error)
            return
        self._heard()


class _Taking:
    """See `Giving`: what the server lacks waits until the drill is over."""

    async def give(self, have: Sequence[bytes]) -> None:
        """Nothing."""

    async def push(self) -> tuple[Entry, ...]:
        """Nothing."""
        return ()

    def marks(self, space: bytes) -> Mapping[str, bytes | None]:
        """Nothing: what the server brings, it holds."""
        del space
        return {}
