"""Listening for news: the server says that something has moved, and the agent syncs (R14).

Rules:
- a WebSocket first; where that line does not stand, a proxy may be in the way: then asking and waiting, then polling as
  before; the WebSocket is tried again after a while;
- while a WebSocket stands routine syncs come seldom; else at the usual pace;
- whoever is woken with a whole school waits a moment of its own (full jitter), so that the server is not met by all.

docs/protocol.md, "Wake-up".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from typing import Final

from protocol.errors import RelaisError
from protocol.replica.background import background
from sync_agent.scheduler import Scheduler
from sync_agent.session import Session
from sync_agent.transport import Transport

MOMENT_S: Final = 0.3
AFTER_FALL_S: Final = (1.0, 10.0)
PUSHED_AGAIN_AFTER: Final = 20

_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def listening(session: Session, transport: Transport, scheduler: Scheduler) -> AsyncIterator[None]:
    """Listen while the context lasts."""
    async with background(_listen(session, transport, scheduler)):
        yield


async def _listen(session: Session, transport: Transport, scheduler: Scheduler) -> None:
    capabilities: asyncio.Queue[str] = asyncio.Queue(maxsize=1)

    def take(capability: str) -> None:
        if capabilities.empty():
            capabilities.put_nowait(capability)

    session.on_live = take
    pushed = True
    fallen = 0
    while True:
        session.ask_for_live()
        capability = await capabilities.get()
        stood = await _hear(transport, capability, scheduler, pushed=pushed)
        fallen += 1
        if not stood:
            pushed = not pushed
        elif not pushed and fallen % PUSHED_AGAIN_AFTER == 0:
            pushed = True
        await asyncio.sleep(random.uniform(*AFTER_FALL_S))  # noqa: S311  (jitter, not a secret)


async def _hear(transport: Transport, capability: str, scheduler: Scheduler, *, pushed: bool) -> bool:
    """Wake the scheduler at news until the line falls; whether it ever stood."""
    stood = False
    try:
        async with contextlib.aclosing(transport.listen(capability, pushed=pushed)) as line:
            async for moved in line:
                if not stood:
                    # Between two questions nobody listens: only a WebSocket makes routine syncs rare.
                    stood, scheduler.hears = True, pushed
                    # What moved between the last sync and this moment was not told.
                    scheduler.wake()
                elif moved:
                    await asyncio.sleep(random.uniform(0, MOMENT_S))  # noqa: S311  (jitter, not a secret)
                    scheduler.wake()
    except RelaisError as error:
        _log.info("listening for news: %s", error)
    finally:
        scheduler.hears = False
        if stood:
            scheduler.wake()
    return stood
