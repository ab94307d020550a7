"""How far the content that is on its way has come, for who waits for it: `sync`, `status` (docs/protocol.md, "Sync").

Honest, so: bytes that links have announced and bytes that have come, nothing else; the time that is left follows from
the last half a minute, and is not said before there are a few seconds to judge from.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from protocol.replica.console.operation import JSON
from protocol.replica.process.background import background

TOLD_EVERY_S: Final = 2.0
_JUDGED_FROM_S: Final = 3.0
_WINDOW_S: Final = 30.0
_KILO: Final = 1_000
_MINUTE_S: Final = 60


@dataclass(frozen=True, slots=True)
class Moving:
    """What is on its way at one moment: bytes that have moved, of how many, and the seconds that are left, if known."""

    sends: bool
    moved_bytes: int
    of_bytes: int
    seconds_left: int | None


@dataclass(slots=True)
class TransferProgress:
    """One batch of transfers after the other; `sends` says which way. Times are of a clock that never goes back."""

    of_bytes: int = 0
    moved_bytes: int = 0
    sends: bool = False
    _samples: deque[tuple[float, int]] = field(default_factory=deque)

    def begin(self, of_bytes: int, *, sends: bool) -> None:
        """A batch of so many bytes begins."""
        self.of_bytes, self.moved_bytes, self.sends = of_bytes, 0, sends
        self._samples.clear()

    def note(self, moved_bytes: int, now_s: float) -> None:
        """That so many more bytes have moved."""
        self.moved_bytes = min(self.moved_bytes + moved_bytes, self.of_bytes)
        if not self._samples or now_s - self._samples[-1][0] >= 1:
            self._samples.append((now_s, self.moved_bytes))
        while len(self._samples) > 2 and now_s - self._samples[0][0] > _WINDOW_S:  # noqa: PLR2004  (a rate needs two)
            self._samples.popleft()

    def end(self) -> None:
        """Nothing is on its way."""
        self.begin(0, sends=self.sends)

    @property
    def seconds_left(self) -> int | None:
        """How long the rest will take at the pace of the last half a minute, if that can be said."""
        if not self._samples:
            return None
        (first_s, before), (last_s, after) = self._samples[0], self._samples[-1]
        if last_s - first_s < _JUDGED_FROM_S or after <= before:
            return None
        return round((self.of_bytes - self.moved_bytes) * (last_s - first_s) / (after - before))

    @property
    def moving(self) -> Moving | None:
        """How it stands now; None while nothing is on its way."""
        if not self.of_bytes:
            return None
        return Moving(self.sends, self.moved_bytes, self.of_bytes, self.seconds_left)

    def shown(self) -> dict[str, JSON] | None:
        """As `status` says it; None while nothing is on its way."""
        if not self.of_bytes:
            return None
        way = "send" if self.sends else "fetch"
        return {"way": way, "bytes": self.moved_bytes, "of": self.of_bytes, "seconds_left": self.seconds_left}

    def sentence(self) -> str | None:
        """For a person who waits; None while nothing is on its way."""
        if not self.of_bytes:
            return None
        done = f"{'sending' if self.sends else 'fetching'}: {_size(self.moved_bytes)} of {_size(self.of_bytes)}"
        left = self.seconds_left
        return done if left is None else f"{done}, about {_time(left)} left"


async def told(progress: TransferProgress, tell: Callable[[str], Awaitable[None]]) -> None:
    """Tell how far it has come, every two seconds in which something has changed, until cancelled."""
    before = None
    while True:
        await asyncio.sleep(TOLD_EVERY_S)
        now = progress.sentence()
        if now is not None and now != before:
            await tell(now)
        before = now


async def telling(work: Awaitable[JSON], progress: TransferProgress, tell: Callable[[str], Awaitable[None]]) -> JSON:
    """The result of `work`, whose progress is told meanwhile."""
    async with background(told(progress, tell)):
        return await work


def _size(count: int) -> str:
    return f"{count / _KILO:.0f} kB" if count < _KILO * _KILO else f"{count / _KILO / _KILO:.1f} MB"


def _time(seconds: int) -> str:
    return f"{seconds} s" if seconds < 2 * _MINUTE_S else f"{round(seconds / _MINUTE_S)} min"
