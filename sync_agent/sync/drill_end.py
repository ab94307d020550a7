"""What passes to the server in a drill: its order first, then whether it was stopped (docs/adr/0224, 0232).

Rules:
- who begins a drill brings its order to the server before falling silent, if that is in reach, for the other devices
  hear of it there; where it is not, nobody is held up, and it is brought as soon as the server answers;
- beside that this is all that passes while a drill runs: every few minutes, at a moment that each device draws, it
  takes in what the server has of the school's own space (what was ordered there, who has which right), as in
  reconciling;
- it sends nothing else of its own, and of the classes nothing comes: neither people nor what the drill has to show are
  served by a server that is to be out of reach;
- who gets no answer has lost nothing: the drill ends by itself, at its time;
- who syncs by hand asks first: somebody has just been told on the telephone that it is over, say.

docs/protocol.md, "Measures".
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from protocol.errors import RelaisError
from protocol.folds.measures import Drill
from protocol.messages.calls import ReconcileRequest
from sync_agent.app import Agent
from sync_agent.machine.marks import DRILL_TOLD_MARK
from sync_agent.scheduler import Draw
from sync_agent.school.measures import DrillTransport, is_told, ordered, schools_of
from sync_agent.sync.reconciling import Reconciling, Taking
from sync_agent.transport.sealed_calls import SealedCalls

ASK_AFTER_S: Final = (60.0, 300.0)
"""How long it is from one question to the next: so soon a stop is heard of that was ordered at the server."""
ANSWER_S: Final = 30.0
TELL_S: Final = 5.0
"""So long an order that was given here waits for the server before this device falls silent."""

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
        self._telling = asyncio.Lock()

    async def run(self) -> None:
        """Ask now and then while a drill runs, until cancelled."""
        while True:
            await asyncio.sleep(self._draw(*ASK_AFTER_S))
            if self._transport.ends_ms is not None and not self._agent.budget.is_paused:
                await self.tell()
                await self.ask()

    async def ask_first(self) -> None:
        """Before somebody syncs by hand: ask, if a drill runs, and let the way be open if it does no more."""
        if self._transport.ends_ms is not None:
            await self.tell()
            await self.ask()
            self._transport.follow(await ordered(self._agent))

    async def tell(self) -> bool:
        """Bring the order of the drill that runs, if it was given here, to the server; whether that has it now."""
        async with self._telling:
            drill = (await ordered(self._agent)).drill
            if drill is None or drill.by != self._agent.device or await is_told(self._agent, drill):
                return drill is not None
            if self._agent.budget.is_paused:
                return False
            try:
                async with asyncio.timeout(TELL_S):
                    return await self._brought(drill)
            except (RelaisError, TimeoutError) as error:
                _log.info("the server cannot be told of the drill: %s", error)
                return False

    async def _brought(self, drill: Drill) -> bool:
        store = self._agent.replica.store
        order = (await store.get([drill.id]))[drill.id]
        calls = SealedCalls(self._agent, self._transport.past_drill)
        answer = await calls.reconcile(ReconcileRequest(drill.space, None, push=(order,)))
        if drill.id in answer.waiting or any(refusal.id == drill.id for refusal in answer.refused):
            return False
        # it stays in the outbox: only a sync knows whether the store that took it is the one that was there before
        await store.set_marks({DRILL_TOLD_MARK: drill.id})
        return True

    async def ask(self) -> None:
        """Ask once. Who does not answer is asked again later."""
        reconciling = Reconciling(self._agent, SealedCalls(self._agent, self._transport.past_drill), Taking())
        try:
            async with asyncio.timeout(ANSWER_S):
                for school in await schools_of(self._agent):
                    await reconciling.reconcile(school)
        except (RelaisError, TimeoutError) as error:
            _log.info("whether the drill was stopped cannot be asked: %s", error)
            return
        self._heard()
