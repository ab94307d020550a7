"""How tests wait for what must come: they look for it, and far longer than it takes, so that no busy machine fails one.

Where something tells (a task that ends, a message, what a service manager hears), that is waited for. The two functions
here are for the rest, and nothing else in the tests looks again: what another process holds, and says when it is asked.
A time limit is for what never comes; nothing may depend on how quick a machine is.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 120.0
_LOOKS_APART_S = 0.005
_PAUSES = 6
"""Asking, a command or a page, takes the processor from what is waited for: pauses are so many times as long."""
_LONGEST_PAUSE_S = 0.5


async def until(holds: Callable[[], object]) -> None:
    """Return when it holds, for what another task, another thread or another program brings about and tells nobody.

    What has to be asked for is an answer to wait for: `holds` may be a coroutine function.
    """
    async with asyncio.timeout(PATIENCE_S):
        while True:
            asked = time.monotonic()
            held = holds()
            if await held if inspect.isawaitable(held) else held:
                return
            await asyncio.sleep(_pause_s(asked))


def eventually(what: str, ask: Callable[[], T | None], patience_s: float = PATIENCE_S) -> T:
    """Ask until the answer is true, at most `patience_s`; whoever is asked has most of the time for what it does."""
    deadline = time.monotonic() + patience_s
    while True:
        asked = time.monotonic()
        if answer := ask():
            return answer
        assert asked < deadline, f"waited {patience_s} s for: {what}"
        time.sleep(_pause_s(asked))


def _pause_s(asked: float) -> float:
    """How long nobody asks again: what was asked at that time has been answered."""
    took_s = time.monotonic() - asked
    return max(_LOOKS_APART_S, took_s, min(_PAUSES * took_s, _LONGEST_PAUSE_S))
