"""How tests wait for what must come: they look for it, and far longer than it takes, so that no busy machine fails one.

A time limit is for what never comes; nothing may depend on how quick a machine is.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

PATIENCE_S = 120.0
_LOOKS_APART_S = 0.005


async def until(holds: Callable[[], object]) -> None:
    """Return when it holds, for what another task, another thread or another program brings about and tells nobody.

    What has to be asked for is an answer to wait for: `holds` may be a coroutine function.
    """
    async with asyncio.timeout(PATIENCE_S):
        while True:
            held = holds()
            if await held if inspect.isawaitable(held) else held:
                return
            await asyncio.sleep(_LOOKS_APART_S)
