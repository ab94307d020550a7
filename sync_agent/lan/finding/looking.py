"""How long a device looks about itself, and waits for what others say (docs/protocol.md, "One download").

Rules:
- it is counted by moments of the program's own, each as one however long it took by the clock: what others have said
  lies unread while a program does not get the processor, and it would be done waiting before it has begun to hear.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

MOMENT_S: Final = 0.05


async def in_moments(
    least_s: float,
    most_s: float,
    over: Callable[[], bool],
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Wait until it is `over`, for `least_s` at least and `most_s` at most where no moment is late."""
    least, most = round(least_s / MOMENT_S), round(most_s / MOMENT_S)
    for moment in range(most):
        if moment >= least and over():
            return
        await pause(MOMENT_S)
