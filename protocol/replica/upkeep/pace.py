"""By which time a replica looks for what is to be destroyed, from wherever it does so (docs/protocol.md, "Erasure").

Rules:
- an opened store has one `Pace`, and every look goes through that one: the hourly one, and that of a stick;
- what has waited is what was watched: time over which the own clock was set, to either side, is none; of a time that
  nobody watched, and of any that is longer than that, `MAX_UNWATCHED_MS` counts at most;
- the clock that nobody sets is noted with each look, so that whoever opens the store again watches on (`steady`):
  others say how often that is, with each quarantine;
- the time of looks is the own clock's within an hour: by how much that is set at each look adds up meanwhile, so that
  no number of small steps passes for waiting;
- a day, of those that have each their number, is one of what was watched, whatever the calendar says meanwhile
  (docs/adr/0570);
- so a clock that was wrong when a machine was switched off shortens no week by more than that, and who was off for the
  holidays hears of what was taken back meanwhile before it destroys anything;
- when the last look was, by that time, is a mark of this replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from protocol.folds.erasing import reckoned
from protocol.replica.steady import note_of, passed_ms
from protocol.replica.upkeep.eraser import Destroyed, Eraser


class Pace:
    """The looks at one opened replica, one after another."""

    def __init__(self, eraser: Eraser, clocks: Callable[[], tuple[int, int]], beginning: bytes = b"") -> None:
        """`clocks` reads in ms this machine's own clock, and one that nobody sets, which has that `beginning`."""
        self._eraser = eraser
        self._clocks = clocks
        self._beginning = beginning
        self._last: tuple[int, int] | None = None
        self._looking = asyncio.Lock()

    async def look(self) -> Destroyed:
        """Destroy what is due. Raises `LocalFailure`; may be called from many tasks at once."""
        async with self._looking:
            wall_ms, steady_ms = self._clocks()
            if self._last is None:
                before_ms, note = await self._eraser.looked()
                watched_ms = passed_ms(note, steady_ms, self._beginning)
            else:
                before_ms, watched_ms = self._last[0], steady_ms - self._last[1]
            now_ms, leapt_ms = (wall_ms, 0) if before_ms is None else reckoned(before_ms, wall_ms, watched_ms)
            await self._eraser.note_look(now_ms, leapt_ms, note_of(steady_ms, self._beginning))
            self._last = now_ms, steady_ms
            return await self._eraser.sweep(now_ms)
