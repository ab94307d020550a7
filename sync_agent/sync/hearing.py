"""Listening for news: the server says that something has moved, and the agent syncs (R14).

Rules:
- a WebSocket and, a moment later, asking and waiting (long polling), side by side: whichever stands first is heard at
  once, and a WebSocket that stands ends the asking. So a box that refuses WebSockets, or holds their frames, costs no
  time;
- what a line has shown is remembered: where no WebSocket stood, or each one fell young, asking comes first, and a
  WebSocket is tried beside it once in a while;
- while a line stands routine syncs come seldom; else at the usual pace;
- whoever is woken with a whole school waits a moment of its own (full jitter), so that the server is not met by all:
  a longer one the more devices are around, but for who is named to ask for all. Meanwhile neighbours bring what that
  one was given, and the server's next word comes: one call does for all of it.

docs/protocol.md, "Wake-up".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from protocol.errors import RelaisError
from protocol.limits import CAPABILITY_LIFETIME_S
from protocol.replica.process.unforeseen import lasting
from sync_agent.scheduler import Draw, Scheduler
from sync_agent.sync.session import Session
from sync_agent.transport.interface import Transport

MOMENT_S: Final = 0.3
FOR_EACH_S: Final = 0.1
"""So much for each device around: a server that takes 10 ms to answer one is left nine tenths of its time."""
MOST_MOMENT_S: Final = 3.0
HEAD_START_S: Final = 1.0
"""How long a WebSocket is given before the asking begins beside it."""
AFTER_FALL_S: Final = (1.0, 10.0)
PUSH_AGAIN_S: Final = 600.0
YOUNG_S: Final = 120.0
MOST_YOUNG_FALLS: Final = 3
_NEARLY: Final = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Heard:
    """How one try went: for how long a WebSocket stood (None: never; `tried`: one was), and whether asking did."""

    tried: bool
    pushed_s: float | None
    asked_s: float | None

    @property
    def stood_s(self) -> float | None:
        """How long the line stood that stood longest."""
        return max((lasted for lasted in (self.pushed_s, self.asked_s) if lasted is not None), default=None)


@dataclass(frozen=True, slots=True)
class Ear:
    """What the way to the server has shown so far. Times are monotonic seconds."""

    asks_first: bool = False
    push_again_s: float = 0.0
    young_falls: int = 0

    def pushes(self, now_s: float) -> bool:
        """Whether a WebSocket is worth a try."""
        return not self.asks_first or now_s >= self.push_again_s

    def after(self, heard: Heard, now_s: float) -> Ear:
        """What is known after a try."""
        if heard.pushed_s is not None and heard.pushed_s >= YOUNG_S:
            return Ear()
        falls = self.young_falls + (heard.pushed_s is not None)
        blocked = heard.tried and heard.pushed_s is None and heard.asked_s is not None
        if blocked or falls >= MOST_YOUNG_FALLS:
            return Ear(asks_first=True, push_again_s=now_s + PUSH_AGAIN_S)
        return Ear(self.asks_first, self.push_again_s, falls)


def moment_s(others: int) -> float:
    """How long at most whoever heard something with so many others waits before it asks the server."""
    return min(MOST_MOMENT_S, max(MOMENT_S, FOR_EACH_S * others))


def pause_s(heard: Heard, draw: Draw) -> float:
    """How long to wait before the next try: not at all where only the capability had come to its end."""
    stood_s = heard.stood_s
    return draw(0, MOMENT_S) if (stood_s or 0) >= CAPABILITY_LIFETIME_S - _NEARLY else draw(*AFTER_FALL_S)


@contextlib.asynccontextmanager
async def listening(
    session: Session, transport: Transport, scheduler: Scheduler, *, draw: Draw = random.uniform
) -> AsyncIterator[None]:
    """Listen while the context lasts."""
    unforeseen = session.agent.unforeseen
    async with lasting("listening for news", lambda: _listen(session, transport, scheduler, draw), unforeseen):
        yield


async def _listen(session: Session, transport: Transport, scheduler: Scheduler, draw: Draw) -> None:
    capabilities: asyncio.Queue[str] = asyncio.Queue(maxsize=1)

    def take(capability: str) -> None:
        if capabilities.empty():
            capabilities.put_nowait(capability)

    session.on_live = take
    clock = asyncio.get_running_loop().time
    ear = Ear()
    while True:
        session.ask_for_live()
        capability = await capabilities.get()
        heard = await _Try(transport, capability, session, scheduler, ear, clock).hear()
        ear = ear.after(heard, clock())
        await asyncio.sleep(pause_s(heard, draw))


class _Try:
    """The lines of one capability, from its first use until none of them stands."""

    def __init__(
        self,
        transport: Transport,
        capability: str,
        session: Session,
        scheduler: Scheduler,
        ear: Ear,
        clock: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._capability = capability
        self._session = session
        self._scheduler = scheduler
        self._ear = ear
        self._clock = clock
        self._pushes = ear.pushes(clock())
        self._began: dict[bool, float] = {}
        self._lasted: dict[bool, float] = {}
        self._push_over = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None

    async def hear(self) -> Heard:
        """Wake the scheduler at news until the lines have fallen; how they did."""
        tasks = {asyncio.create_task(self._ask())}
        (self._asking,) = tasks
        if self._pushes:
            tasks.add(asyncio.create_task(self._push()))
        try:
            await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for failure in ended:
            if isinstance(failure, Exception):
                raise failure
        return Heard(self._pushes, self._lasted.get(True), self._lasted.get(False))

    async def _push(self) -> None:
        try:
            await self._follow(pushed=True)
        finally:
            self._push_over.set()

    async def _ask(self) -> None:
        if self._pushes and not self._ear.asks_first:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEAD_START_S):
                    await self._push_over.wait()
        await self._follow(pushed=False)

    async def _follow(self, *, pushed: bool) -> None:
        try:
            async with contextlib.aclosing(self._transport.listen(self._capability, pushed=pushed)) as line:
                async for moved in line:
                    if pushed not in self._began:
                        self._stands(pushed=pushed)
                    elif moved:
                        self._session.hear_news()
                        self._scheduler.wake_within(await self._moment_s())
        except RelaisError as error:
            _log.info("listening for news: %s", error)
        finally:
            self._fallen(pushed=pushed)

    async def _moment_s(self) -> float:
        agent, sharing = self._session.agent, self._session.sharing
        if sharing is None or sharing.is_named(await agent.spaces()):
            return MOMENT_S
        return moment_s(agent.around.found())

    def _stands(self, *, pushed: bool) -> None:
        self._began[pushed] = self._clock()
        if pushed and self._asking is not None:
            self._asking.cancel()
        self._scheduler.hears = True
        # What moved between the last sync and this moment was not told.
        self._session.hear_news()
        self._scheduler.wake()

    def _fallen(self, *, pushed: bool) -> None:
        began = self._began.get(pushed)
        if began is None:
            return
        self._lasted[pushed] = self._clock() - began
        if self._began.keys() == self._lasted.keys():
            self._scheduler.hears = False
            self._scheduler.wake()
