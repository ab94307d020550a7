"""When to sync: pure rules, and the thin loop that follows them (R14, R16).

Rules:
- while the server answers, a sync comes every few seconds, so that news is learnt within 10 s; every few minutes where
  the server tells of news by itself;
- while it does not, the pause is drawn from the whole range up to a bound that doubles with each failure (full jitter:
  Brooker, "Exponential Backoff And Jitter", 2015). The bound stays below `RECONNECT_S` for the first minutes, so that
  after a short outage the agent is back within 30 s, and grows after that;
- `Retry-After` is honoured, with jitter on top: nothing, not even a local write, comes before it;
- a local write, or a command that waits for a sync, otherwise ends the pause at once; what others of the school have
  heard as well ends it after a moment (full jitter), unless a sync begins before that;
- pauses are measured by the monotonic clock: wall clocks jump.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from protocol.errors import Code, LocalFailure, NoAnswer, Refused, RelaisError
from protocol.replica.process.unforeseen import Unforeseen
from sync_agent.machine.sync_result import SyncResult
from sync_agent.network.trouble import Seen, seen_in

FIRST_BOUND_S: Final = 2.0
RECONNECT_S: Final = 18.0
LONG_OUTAGE_S: Final = 600.0
LONG_BOUND_S: Final = 120.0
REFUSED_BOUND_S: Final = 300.0
JITTER_AFTER_BUSY_S: Final = 10.0
POLL_WHILE_HEARING_S: Final = (240.0, 300.0)

_log = logging.getLogger(__name__)

Draw = Callable[[float, float], float]
"""A number drawn evenly between two."""
Wait = Callable[[asyncio.Event, float], Awaitable[None]]
"""Returns when the event is set, or after so many seconds."""


class Outcome(StrEnum):
    """How a sync ended, for the pause that follows."""

    DONE = "done"
    NO_ANSWER = "no-answer"
    BUSY = "busy"
    REFUSED = "refused"
    FAILED = "failed"


def outcome_of(error: RelaisError | None) -> Outcome:
    """The outcome that an error stands for."""
    match error:
        case None:
            return Outcome.DONE
        case NoAnswer(code=Code.BUSY):
            return Outcome.BUSY
        case NoAnswer(code=Code.DISK_FULL | Code.READ_ONLY | Code.STORAGE_FAILED | Code.DAMAGED | Code.INTERNAL):
            return Outcome.FAILED
        case NoAnswer():
            return Outcome.NO_ANSWER
        case Refused():
            return Outcome.REFUSED
        case _:
            return Outcome.FAILED


@dataclass(frozen=True, slots=True)
class Pace:
    """The rhythm so far: failures in a row, and since when (monotonic seconds)."""

    failures: int = 0
    failing_since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Pause:
    """How long to wait, and how much of that even a wake-up must wait."""

    delay_s: float
    at_least_s: float = 0.0


def next_pause(
    pace: Pace, outcome: Outcome, retry_after_s: int | None, now_s: float, poll_s: tuple[float, float], draw: Draw
) -> tuple[Pace, Pause]:
    """The rhythm after a sync that ended at `now_s`, and the pause before the next one."""
    if outcome is Outcome.DONE:
        return Pace(), Pause(draw(*poll_s))
    if pace.failures == 0:
        pace = replace(pace, failing_since_s=now_s)
    pace = replace(pace, failures=pace.failures + 1)
    if outcome is Outcome.BUSY and retry_after_s is not None:
        return pace, Pause(retry_after_s + draw(0, JITTER_AFTER_BUSY_S), at_least_s=retry_after_s)
    return pace, Pause(draw(0, bound_s(pace, outcome, now_s)))


def bound_s(pace: Pace, outcome: Outcome, now_s: float) -> float:
    """The longest pause after `pace.failures` failures in a row."""
    doubled = FIRST_BOUND_S * 2.0 ** min(pace.failures - 1, 16)
    if outcome is Outcome.REFUSED:
        return min(doubled * 4, REFUSED_BOUND_S)
    lasting = now_s - pace.failing_since_s >= LONG_OUTAGE_S
    return min(doubled, LONG_BOUND_S if lasting else RECONNECT_S)


async def wait(event: asyncio.Event, delay_s: float) -> None:
    """Return when `event` is set, or after `delay_s` seconds of the loop's monotonic clock."""
    try:
        async with asyncio.timeout(delay_s):
            await event.wait()
    except TimeoutError:
        return


class Scheduler:
    """Runs syncs one at a time, by the rules; `wake`, `sync_now` and `stop` may come from anywhere in the loop."""

    def __init__(
        self,
        sync: Callable[[bool], Awaitable[SyncResult]],
        *,
        poll_s: tuple[float, float],
        monotonic: Callable[[], float],
        draw: Draw,
        pause: Wait = wait,
        unforeseen: Unforeseen | None = None,
    ) -> None:
        """`sync` is told whether it is a routine one, which may spare the disk.

        With `unforeseen`, an error that nobody foresaw is noted there and is a failed sync, else it is raised.
        """
        self._unforeseen = unforeseen
        self._sync = sync
        self._poll_s = poll_s
        self._monotonic = monotonic
        self._draw = draw
        self._pause = pause
        self._pace = Pace()
        self._seen: Seen | None = None
        self._wanted = asyncio.Event()
        self._stopping = asyncio.Event()
        self._turn = asyncio.Lock()
        self._last_result = SyncResult()
        self._later: asyncio.TimerHandle | None = None
        self.hears = False
        """Whether the server tells of news by itself: then a routine sync comes seldom."""
        self.outcome: Outcome | None = None
        """How the last sync ended; None before the first."""
        self.asked = asyncio.Event()
        """Set once a first sync has ended, however it did."""

    def wake(self) -> None:
        """Something was written here: sync soon."""
        self._wanted.set()

    def wake_within(self, most_s: float) -> None:
        """Something came that may wait for a moment, and for what else comes meanwhile: sync within so many seconds."""
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(self._draw(0, most_s), self._wake_now)

    def _wake_now(self) -> None:
        self._later = None
        self.wake()

    def stop(self) -> None:
        """End `run_forever` after the sync that is running, if one is."""
        self._stopping.set()
        self._wanted.set()

    async def sync_now(self) -> SyncResult:
        """Sync for a command: after the sync that is running, whose work counts as part of it. Raises as it does."""
        running = self._turn.locked()
        async with self._turn:
            joined = self._last_result if running else SyncResult()
            result = joined + await self._one(routine=False)
        if self._pace.failures:
            # The server answers again: back to the usual rhythm.
            self.wake()
        return result

    async def run_forever(self) -> None:
        """Sync by the rules until `stop`. Raises `LocalFailure` when the store must be opened again."""
        while not self._stopping.is_set():
            self._wanted.clear()
            error: RelaisError | None = None
            try:
                async with self._turn:
                    await self._one(routine=True)
            except RelaisError as raised:
                error = raised
                if isinstance(error, LocalFailure) and error.code is Code.STORAGE_FAILED:
                    raise
            await self._rest(error)

    async def _one(self, *, routine: bool) -> SyncResult:
        if self._later is not None:
            # this sync asks for what came before it
            self._later.cancel()
            self._later = None
        self._last_result = SyncResult()
        try:
            self._last_result = await self._sync(routine)
        except RelaisError as error:
            self.outcome = outcome_of(error)
            raise
        except Exception as bug:
            self.outcome = Outcome.FAILED
            if self._unforeseen is None or isinstance(bug, MemoryError):
                raise
            self._unforeseen.note("a sync with the server", bug)
            raise LocalFailure(
                Code.INTERNAL, f"this sync met an error that nobody foresaw ({type(bug).__name__}); the log says where"
            ) from bug
        finally:
            self.asked.set()
        self.outcome = Outcome.DONE
        return self._last_result

    async def _rest(self, error: RelaisError | None) -> None:
        retry_after_s = None if error is None else error.facts.get("retry_after_s")
        before = self._pace
        self._pace, pause = next_pause(
            self._pace,
            outcome_of(error),
            retry_after_s if isinstance(retry_after_s, int) else None,
            self._monotonic(),
            POLL_WHILE_HEARING_S if self.hears else self._poll_s,
            self._draw,
        )
        seen = seen_in(error)
        if error is not None and (before.failures == 0 or seen != self._seen):
            _log.warning("%s", error)
        elif error is None and before.failures:
            lasted_s = self._monotonic() - before.failing_since_s
            failures = "1 failure" if before.failures == 1 else f"{before.failures} failures"
            _log.info("the server is reached again, after %s in %d s", failures, lasted_s)
        self._seen = seen
        if pause.at_least_s:
            await self._pause(self._stopping, pause.at_least_s)
        if not self._stopping.is_set():
            await self._pause(self._wanted, pause.delay_s - pause.at_least_s)
