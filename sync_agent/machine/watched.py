"""How much time has passed while this device watched: a clock that nobody sets, and that no wrong one moves.

Rules (docs/protocol.md, "Sealed hand-ins"; docs/adr/0131):
- it goes on by what a clock that nobody sets says, where that has the beginning that it had when this one was noted
  (`steady`), and by what the own one says where nobody watched; of both `MAX_UNWATCHED_MS` count at most from one look
  to the next;
- it begins with what the own clock says, never before what was noted by that clock earlier, and never goes back;
- where it stands is a mark of this replica, written now and then: what passes until the next counts all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.folds.erasing import watched_ms
from protocol.replica.steady import note_of, passed_ms

WATCHED_MARK: Final = "watched"
"""→ 8 bytes of ms where this clock stood, 8 of what the own one said then, and a note of `steady`, or none."""
_NOTED_EVERY_MS: Final = 10 * 60 * 1000


class WatchedTime:
    """That of an opened replica. `clocks` reads in ms the machine's own clock, and one that nobody sets."""

    def __init__(self, clocks: Callable[[], tuple[int, int]], beginning: bytes = b"") -> None:
        self._clocks = clocks
        self._beginning = beginning
        self._noted: tuple[int, int, bytes] | None = None
        self._begin_ms = 0
        self._last: tuple[int, int, int] | None = None

    def resume(self, mark: bytes | None, latest_ms: int) -> None:
        """Go on from a mark; where there is none, from no time before the latest that was noted by the own clock."""
        self._begin_ms = latest_ms
        if mark is not None:
            self._noted = int.from_bytes(mark[:8], "big"), int.from_bytes(mark[8:16], "big"), mark[16:]

    def now_ms(self) -> int:
        """Where it stands."""
        wall_ms, steady_ms = self._clocks()
        if self._last is not None:
            at_ms, wall_before_ms, steady_before_ms = self._last
            at_ms += watched_ms(wall_ms - wall_before_ms, steady_ms - steady_before_ms)
        elif self._noted is not None:
            at_ms, wall_before_ms, note = self._noted
            at_ms += watched_ms(wall_ms - wall_before_ms, passed_ms(note, steady_ms, self._beginning))
        else:
            at_ms = max(wall_ms, self._begin_ms)
        self._last = at_ms, wall_ms, steady_ms
        return at_ms

    def marks(self) -> dict[str, bytes]:
        """What is to be noted of it now, if it is time."""
        at_ms = self.now_ms()
        if self._noted is not None and at_ms - self._noted[0] < _NOTED_EVERY_MS:
            return {}
        wall_ms, steady_ms = self._clocks()
        self._noted = at_ms, max(wall_ms, 0), note_of(steady_ms, self._beginning)
        return {WATCHED_MARK: at_ms.to_bytes(8, "big") + self._noted[1].to_bytes(8, "big") + self._noted[2]}
