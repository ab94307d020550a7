"""Errors that nobody foresaw, in work that must not end with them: counted, logged with their place, shown to people.

Rules:
- foreseen errors are those of `protocol.errors`, and each loop deals with its own; what leaves a loop, or is no such
  error, is a bug of ours: the work is begun again after a pause that doubles, and the bug is said each time;
- a store that must be opened again, and memory that has run out, are for whoever holds the process: they are raised;
- what is logged and shown is the kind of error and the place in the code, never its text, which may hold a name.

Whoever runs this in a test looks at `rows`: nothing is hidden that was met.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protocol.clock import rfc3339
from protocol.errors import LocalFailure
from protocol.replica.process.background import background
from protocol.replica.storage.database import must_open_again

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 300.0
CALM_S: Final = 600.0
"""After so long without one, the next pause is short again."""
FRESH_MS: Final = 24 * 3600 * 1000
_MOST_DOUBLINGS: Final = 10
_FRAMES: Final = 8

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Met:
    """A bug that a piece of work has met: what kind of error, where, how often, and when last."""

    work: str
    what: str
    where: str
    count: int
    last_ms: int

    def shown(self) -> Mapping[str, str | int | None]:
        """For `status`."""
        return {
            "work": self.work,
            "what": self.what,
            "where": self.where,
            "count": self.count,
            "last": rfc3339(self.last_ms),
        }


class Unforeseen:
    """What was met since the process began."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._met: dict[tuple[str, str, str], Met] = {}

    def note(self, work: str, error: Exception) -> None:
        """Count an error that this work has met, and log where it came from."""
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
        steps = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
        what, where = type(error).__name__, steps[-1] if steps else "nowhere"
        met = self._met.setdefault((work, what, where), Met(work, what, where, 0, 0))
        met.count += 1
        met.last_ms = self._now_ms()
        _log.error("unforeseen, time %d: %s met %s at %s", met.count, work, what, " < ".join(reversed(steps)))

    def rows(self) -> list[Met]:
        """Each bug once, the latest first."""
        return sorted(self._met.values(), key=lambda met: met.last_ms, reverse=True)

    def is_fresh(self) -> bool:
        """Whether anything was met within a day: who looks after machines is told for so long."""
        return any(self._now_ms() - met.last_ms < FRESH_MS for met in self._met.values())

    def counts(self) -> dict[str, int]:
        """How many errors each piece of work has met."""
        found: dict[str, int] = {}
        for met in self._met.values():
            found[met.work] = found.get(met.work, 0) + met.count
        return found


async def enduring(
    work: str,
    begin: Callable[[], Coroutine[None, None, None]],
    unforeseen: Unforeseen,
    *,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Do a piece of work until it ends by itself, beginning again after what nobody foresaw."""
    clock = asyncio.get_running_loop().time
    failures = 0
    while True:
        begun_s = clock()
        try:
            await begin()
        except MemoryError:
            raise
        except Exception as error:
            if isinstance(error, LocalFailure) and must_open_again(error):
                raise
            failures = 1 if clock() - begun_s > CALM_S else failures + 1
            unforeseen.note(work, error)
        else:
            return
        await pause(min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), LONGEST_PAUSE_S))


def lasting(
    work: str, begin: Callable[[], Coroutine[None, None, None]], unforeseen: Unforeseen
) -> AbstractAsyncContextManager[None]:
    """As `background`, for work that `enduring` keeps going."""
    return background(enduring(work, begin, unforeseen))
