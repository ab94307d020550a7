"""By which time a replica looks for what is to be destroyed, from wherever it does so (docs/protocol.md, "Erasure").

Rules:
- a program has one `Pace`, and every look of it goes through that one: the hourly one, and that of a stick;
- what has waited is what was watched: time over which the own clock was set, to either side, is none; of a time in
  which the program did not run, or the machine slept, `MAX_UNWATCHED_MS` counts at most;
- the time of looks is the own clock's within an hour: by how much that is set at each look adds up meanwhile, so that
  no number of small steps passes for waiting, nor for days of which each has its number;
- so a clock that was wrong when a program ended shortens no week by more than that, and who was off for the holidays
  hears of what was taken back meanwhile before it destroys anything;
- when the last look was, by that time, is a mark of this replica.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from protocol.folds.erasing import reckoned
from protocol.replica.upkeep.eraser import Destroyed, Eraser


class Pace:
    """The looks of one program at one replica, one after another."""

    def __init__(self, eraser: Eraser, clocks: Callable[[], tuple[int, int]]) -> None:
        """`clocks` reads in ms this machine's own clock, and one that nobody sets."""
        self._eraser = eraser
        self._clocks = clocks
        self._last: tuple[int, int] | None = None
        self._looking = asyncio.Lock()

    async def look(self) -> Destroyed:
        """Destroy what is due. Raises `LocalFailure`; may be called from many tasks at once."""
        async with self._looking:
            wall_ms, steady_ms = self._clocks()
            passed_ms = None
            if self._last is None:
                before_ms = await self._eraser.looked_ms()
            else:
                before_ms, passed_ms = self._last[0], steady_ms - self._last[1]
            now_ms, leapt_ms = (wall_ms, 0) if before_ms is None else reckoned(before_ms, wall_ms, passed_ms)
            await self._eraser.note_look(now_ms, leapt_ms)
            self._last = now_ms, steady_ms
            return await self._eraser.sweep(now_ms)


def steady_ms() -> int:
    """A clock that nobody sets, and that goes on while the machine sleeps where the system has such a one."""
    read = getattr(time, "clock_gettime", None)
    which = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", 0))
    return int((time.monotonic() if read is None else read(which)) * 1000)
