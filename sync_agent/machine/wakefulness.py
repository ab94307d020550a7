"""Noticing that this machine has slept: a lid that was closed, a virtual machine that was paused, a stopped process.

Rules:
- a tick that comes much later than planned, by the wall clock or by the monotonic one (some systems stop it in sleep),
  means sleep; so may a wall clock that jumped ahead, which costs one sync more and nothing else;
- after sleep no connection that stood is trusted, and the next sync comes at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from protocol.replica.process.unforeseen import Unforeseen, lasting

TICK_S: Final = 5.0
LATE_S: Final = 10.0

_log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]


def has_slept(wall_s: float, monotonic_s: float) -> bool:
    """Whether so many seconds by the two clocks between two ticks say that the machine was not running meanwhile."""
    return max(wall_s, monotonic_s) > TICK_S + LATE_S


@contextlib.asynccontextmanager
async def wakeful(
    on_waking: Callable[[], Awaitable[None]],
    unforeseen: Unforeseen,
    *,
    now_ms: Callable[[], int],
    monotonic: Callable[[], float],
    sleep: Sleep = asyncio.sleep,
) -> AsyncIterator[None]:
    """Call `on_waking` each time the machine has slept, while the context lasts."""
    async with lasting("noticing sleep", lambda: _watch(on_waking, now_ms, monotonic, sleep), unforeseen):
        yield


async def _watch(
    on_waking: Callable[[], Awaitable[None]], now_ms: Callable[[], int], monotonic: Callable[[], float], sleep: Sleep
) -> None:
    while True:
        wall_ms, at_s = now_ms(), monotonic()
        await sleep(TICK_S)
        if has_slept((now_ms() - wall_ms) / 1000, monotonic() - at_s):
            _log.info("this machine has slept, or its clock was set: connections are made anew")
            await on_waking()
