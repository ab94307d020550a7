"""The budget as an agent keeps it: what was spent today, a person's pause, what the system says of the connection.

The rules are in `budget`. Counts lie in the store: a restart forgets at most `NOTED_BYTES` of them, a kill no more.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Final

from protocol import canonical
from protocol.canonical import Value
from protocol.clock import rfc3339
from protocol.errors import Code, LocalFailure, PeerFault
from protocol.fields import Fields
from protocol.limits import MiB
from protocol.replica.console.operation import JSON
from protocol.replica.interfaces import EntryStore
from sync_agent.pacing.budget import Bucket, Hold, Limits, Metered, Pausing, Spent, Verdict, is_metered, verdict
from sync_agent.pacing.yielding import Line

SPENT_MARK: Final = "spent"
"""→ canonical {day, bytes}: what was sent and received on a local day."""
PAUSE_MARK: Final = "paused"
"""→ canonical {since, until}: a person's pause."""
NOTED_BYTES: Final = 4 * MiB
LOOK_S: Final = 20.0
METERED_EVERY_S: Final = 60.0
_MAX_MARK_BYTES: Final = 256


class Budget:
    """See the module. `limits` are the operator's; `exempt` says that what is on its way was judged as it began.

    `line` is how others use the line, as far as somebody looks; `zone` is where days and hours are meant, by default
    the machine's.
    """

    def __init__(self, store: EntryStore, now_ms: Callable[[], int], *, zone: dt.tzinfo | None = None) -> None:
        """Made by `open`."""
        self.limits = Limits()
        self.exempt = True
        self.metered: bool | None = None
        self.moved_bytes = 0
        self.line = Line()
        self._store = store
        self._now_ms = now_ms
        self._zone = zone
        self._spent = Spent()
        self._unnoted = 0
        self._pausing: Pausing | None = None
        self._bucket = Bucket()

    @classmethod
    async def open(cls, store: EntryStore, now_ms: Callable[[], int], *, zone: dt.tzinfo | None = None) -> Budget:
        """With what the store remembers."""
        budget = cls(store, now_ms, zone=zone)
        budget._spent = _spent_in(await store.mark(SPENT_MARK))
        budget._pausing = _pausing_in(await store.mark(PAUSE_MARK))
        return budget

    # --- asking -------------------------------------------------------------------------------------------------------

    @property
    def verdict(self) -> Verdict:
        """What is held back now."""
        now_ms = self._now_ms()
        return verdict(
            now_ms, self._moment(now_ms), self._spent, self.limits, metered=self.metered, pausing=self._pausing
        )

    @property
    def is_paused(self) -> bool:
        """Whether a person has paused this device."""
        return self.verdict.hold is Hold.PAUSED

    def check_moving(self) -> None:
        """Raise `LocalFailure(PAUSED)` unless the content that is on its way may go on."""
        hold = self.verdict.hold
        if hold is Hold.PAUSED or (hold is not None and not self.exempt):
            raise held_back(hold)

    # --- spending -----------------------------------------------------------------------------------------------------

    async def spend(self, size: int) -> None:
        """Note bytes that went either way."""
        day = self._moment(self._now_ms()).toordinal()
        self._spent = self._spent.plus(day, size)
        self._unnoted += size
        self.moved_bytes += size
        if self._unnoted >= NOTED_BYTES:
            await self.note()

    async def note(self) -> None:
        """Make the count durable."""
        if self._unnoted:
            self._unnoted = 0
            await self._store.set_marks(
                {SPENT_MARK: canonical.encode({"day": self._spent.day, "bytes": self._spent.size})}
            )

    @property
    def rate_bytes_s(self) -> float | None:
        """How fast content may move: by the rate limit, and by the room that others leave on the line."""
        bounds = (self.limits.rate_bytes_s, self.line.pace_bytes_s)
        return min((bound for bound in bounds if bound is not None), default=None)

    def delay_s(self, size: int, now_s: float) -> float:
        """How long to wait after `size` bytes of content; `now_s` is monotonic."""
        rate_bytes_s = self.rate_bytes_s
        if rate_bytes_s is None:
            return 0.0
        self._bucket, delay_s = self._bucket.take(size, rate_bytes_s, now_s)
        return delay_s

    # --- a person's word ----------------------------------------------------------------------------------------------

    async def pause(self, for_ms: int | None) -> None:
        """Exchange nothing for so long, or until `resume`."""
        now_ms = self._now_ms()
        pausing = Pausing(now_ms, None if for_ms is None else now_ms + for_ms)
        fields: dict[str, Value] = {"since": pausing.since_ms, "until": pausing.until_ms}
        await self._store.set_marks({PAUSE_MARK: canonical.encode(fields)})
        self._pausing = pausing

    async def resume(self) -> None:
        """Exchange again."""
        await self._store.set_marks({PAUSE_MARK: None})
        self._pausing = None

    # --- telling ------------------------------------------------------------------------------------------------------

    def shown(self) -> dict[str, JSON]:
        """What `status` says: what holds content back and until when, and what it follows from."""
        now = self.verdict
        limits = self.limits
        return {
            "state": "open" if now.hold is None else now.hold.value,
            "until": rfc3339(now.until_ms),
            "today": self._spent.on(self._moment(self._now_ms()).toordinal()),
            "daily": limits.daily_bytes,
            "metered": None
            if self.metered is None and limits.metered is Metered.AUTO
            else is_metered(limits, metered=self.metered),
            "quiet_hours": [str(window) for window in limits.quiet],
            "rate_limit": limits.rate_bytes_s,
            "yields_to": None if self.line.pace_bytes_s is None else round(self.line.pace_bytes_s),
        }

    async def watch(self, wake: Callable[[], None], ask: Callable[[], Awaitable[bool | None]]) -> None:
        """Until cancelled: look at the connection every minute, and wake the exchange when it may do more, or less.

        An agent without limits, and not paused, is left asleep.
        """
        loop = asyncio.get_running_loop()
        before = self.verdict.hold
        asked_s = -METERED_EVERY_S
        while True:
            if self.limits.metered is Metered.AUTO and loop.time() - asked_s >= METERED_EVERY_S:
                asked_s = loop.time()
                self.metered = await ask()
            now = self.verdict
            if now.hold is not before:
                before = now.hold
                wake()
            left_s = LOOK_S if now.until_ms is None else (now.until_ms - self._now_ms()) / 1000
            await asyncio.sleep(min(LOOK_S, max(0.1, left_s)))

    def _moment(self, now_ms: int) -> dt.datetime:
        return dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC).astimezone(self._zone)


def held_back(hold: Hold) -> LocalFailure:
    """What to say of content that may not travel now."""
    if hold is Hold.PAUSED:
        return LocalFailure(
            Code.PAUSED, "the exchange of this device is paused; `sync-agent resume` ends that", hold=hold.value
        )
    return LocalFailure(Code.PAUSED, f"content is held back: {hold.value.replace('-', ' ')}", hold=hold.value)


def _spent_in(data: bytes | None) -> Spent:
    try:
        if data is None:
            return Spent()
        fields = Fields(canonical.decode(data, max_bytes=_MAX_MARK_BYTES), "what was spent")
        return Spent(fields.count("day"), fields.count("bytes"))
    except PeerFault:
        return Spent()


def _pausing_in(data: bytes | None) -> Pausing | None:
    try:
        if data is None:
            return None
        fields = Fields(canonical.decode(data, max_bytes=_MAX_MARK_BYTES), "a pause")
        return Pausing(fields.count("since"), fields.count_or_none("until"))
    except PeerFault:
        return None
