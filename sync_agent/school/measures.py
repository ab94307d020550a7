"""What this machine does of what its school was told to do for a while: drills and quarantine (`folds.measures`).

Rules:
- while a drill runs, the server is as good as out of reach: nothing goes there and nothing comes from there, and people
  are told why; it ends by itself, by this machine's clock as the server last set it right;
- what alone passes is the order, before whoever gave it falls silent, and the question whether the drill was stopped
  (`sync.drill_end`);
- drills take three hours of a day at most, whatever is ordered: who has a stolen key must not keep from machines for
  good that it was cut off (docs/adr/0103);
- a drill that is heard of hours before its time never begins: it was meant for then, and a clock was ahead;
- under quarantine the school's network and sticks are off; reading, printing and the server go on, and no drill runs:
  one of both ways is always open; of a stick nothing is heard but orders, and so of its end (`hear_orders`);
- who hears of a quarantine passes it on for a moment before it falls silent.

docs/protocol.md, "Measures".
"""

# ruff: noqa: D102  (the methods of `DrillTransport` are those of `Transport`)

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from protocol import canonical
from protocol.errors import Code, PeerFault, Refused, RelaisError
from protocol.folds.measures import Drill, Measures, Played, Quarantine, is_early, may_begin, of_last_day
from protocol.limits import MAX_DRILL_MINUTES
from protocol.model.entry import ids_in
from protocol.replica.office.measures import measures_of
from sync_agent.app import Agent
from sync_agent.health import LastSync
from sync_agent.machine.marks import DRILL_MARK, DRILL_TOLD_MARK, EARLY_DRILLS_MARK
from sync_agent.network.trouble import Seen, Trouble, no_answer

if TYPE_CHECKING:
    from sync_agent.transport.answers import Response
    from sync_agent.transport.interface import Transport
    from sync_agent.transport.server_chain import IsOurs, Knows

_log = logging.getLogger(__name__)

PASS_ON_S: Final = 5.0
_LONGEST_WAIT_S: Final = 60.0
_MAX_MARK_BYTES: Final = 4_096
_MOST_EARLY: Final = 16
"""How many drills of those that were heard of too early are remembered: the next in time."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """What is in force here: the quarantines, oldest first; the drill that runs, and when it ends by our clock."""

    quarantines: tuple[Quarantine, ...] = ()
    drill: Drill | None = None
    ends_ms: int = 0

    @property
    def quarantined(self) -> bool:
        """Whether the school is under quarantine."""
        return bool(self.quarantines)

    @property
    def is_liftable(self) -> bool:
        """Whether the head teacher can lift what is in force: she cannot lift what who runs the system has imposed."""
        return all(each.is_by_head for each in self.quarantines)


NOTHING_ORDERED: Final = Ordered()


async def schools_of(agent: Agent) -> list[bytes]:
    """The schools of this device."""
    door = agent.replica.door
    return [space for space in await agent.spaces() if door.parent(space) == door.territory]


async def ordered(agent: Agent) -> Ordered:
    """What is in force here now; notes when a drill was first heard of."""
    found = [await measures_of(agent.replica, school) for school in await schools_of(agent)]
    quarantines = tuple(each for measures in found for each in measures.quarantines)
    if quarantines:
        return Ordered(quarantines)
    skew_ms = await _skew_ms(agent)
    drill = await _running(agent, found, agent.now_ms(), skew_ms)
    if drill is None:
        return Ordered()
    return Ordered(drill=drill[0], ends_ms=drill[0].end_here_ms(drill[1]) + skew_ms)


async def is_told(agent: Agent, drill: Drill) -> bool:
    """Whether the server has the order of a drill: only who gave it can be the one to bring it."""
    return drill.by != agent.device or await agent.replica.store.mark(DRILL_TOLD_MARK) == drill.id


async def true_ms(agent: Agent, own_ms: int) -> int:
    """What the server's clock shows, as it last said, when ours shows `own_ms`."""
    return own_ms - await _skew_ms(agent)


async def _skew_ms(agent: Agent) -> int:
    last = await LastSync.read(agent.replica.store)
    return 0 if last is None else last.skew_ms


async def _running(agent: Agent, found: list[Measures], own_ms: int, skew_ms: int) -> tuple[Drill, int] | None:
    """The drill that runs here, and since when it is known."""
    now_ms = own_ms - skew_ms
    played = await _played(agent)
    noted = {one.id: one for one in played}
    ordered_here = [drill for each in found for drill in each.drills]
    early = await _heard_early(agent, ordered_here, now_ms)
    for drill in ordered_here:
        one = noted.get(drill.id)
        if one is not None and one.lasts(own_ms) and drill.runs(one.seen_ms, now_ms):
            return drill, one.seen_ms
    for drill in ordered_here:
        if drill.id not in noted.keys() | early and drill.runs(now_ms, now_ms) and may_begin(drill, played, own_ms):
            await _note(agent, (*of_last_day(played, own_ms), Played(drill.id, now_ms, own_ms, drill.minutes)))
            return drill, now_ms
    return None


async def _heard_early(agent: Agent, drills: Iterable[Drill], now_ms: int) -> set[bytes]:
    """Those that were heard of so long before their time that they do not begin here; noted until that is over."""
    store = agent.replica.store
    mark = await store.mark(EARLY_DRILLS_MARK) or b""
    before = set(ids_in(mark))
    early = [drill for drill in drills if is_early(drill, now_ms) or (drill.id in before and now_ms < drill.planned_ms)]
    early = sorted(early, key=lambda drill: (drill.start_ms, drill.id))[:_MOST_EARLY]
    noted = b"".join(drill.id for drill in early)
    if noted != mark:
        await store.set_marks({EARLY_DRILLS_MARK: noted or None})
    return {drill.id for drill in early}


async def _note(agent: Agent, played: Iterable[Played]) -> None:
    rows: list[canonical.Value] = [[one.id, one.seen_ms, one.began_ms, one.minutes] for one in played]
    await agent.replica.store.set_marks({DRILL_MARK: canonical.encode(rows)})


async def _played(agent: Agent) -> list[Played]:
    """The drills that began here, as far as they were noted."""
    try:
        noted = canonical.decode(await agent.replica.store.mark(DRILL_MARK) or b"", max_bytes=_MAX_MARK_BYTES)
    except PeerFault:
        return []
    match noted:
        case [bytes(name), int(seen_ms)]:  # as it was noted when one was remembered
            return [Played(name, seen_ms, seen_ms, MAX_DRILL_MINUTES)]
        case [*rows]:
            return [one for one in map(_noted, rows) if one is not None]
    return []


def _noted(row: object) -> Played | None:
    match row:
        case [bytes(name), int(seen_ms), int(began_ms), int(minutes)]:
            return Played(name, seen_ms, began_ms, minutes)
    return None


async def check_open(agent: Agent) -> None:
    """Raise `Refused(QUARANTINED)` while sticks and the school's network are off."""
    if (await ordered(agent)).quarantined:
        raise Refused(
            Code.QUARANTINED,
            "this school is under quarantine: its network and sticks are off until who ordered that lifts it; reading, "
            "printing and the server go on",
        )


class DrillTransport:
    """See `Transport`: that of `inner`, as if nobody answered while a drill runs."""

    def __init__(self, inner: Transport, url: str) -> None:
        self._inner = inner
        self._url = url
        self.traffic = inner.traffic
        self.ends_ms: int | None = None
        """When the drill that runs ends, by this machine's clock."""

    def follow(self, now: Ordered) -> None:
        """Be cut as long as what is ordered now says."""
        self.ends_ms = now.ends_ms if now.drill else None

    @property
    def past_drill(self) -> Transport:
        """The way as if no drill ran: for the question alone whether it was stopped (`sync.drill_end`)."""
        return self._inner

    async def post(self, path: str, body: bytes) -> Response:
        self._check()
        return await self._inner.post(path, body)

    async def fetch(self, capability: str, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
        self._check()
        async with aclosing(self._inner.fetch(capability, start, length)) as pieces:
            async for piece in pieces:
                self._check()
                yield piece

    async def send(self, capability: str, offset: int, length: int, pieces: AsyncIterator[bytes]) -> Response:
        self._check()
        return await self._inner.send(capability, offset, length, pieces)

    async def listen(self, capability: str, *, pushed: bool) -> AsyncGenerator[bool, None]:
        self._check()
        async with aclosing(self._inner.listen(capability, pushed=pushed)) as news:
            async for moved in news:
                self._check()
                yield moved

    async def renew(self) -> None:
        await self._inner.renew()

    def hold_to(self, is_ours: IsOurs, knows: Knows | None = None) -> None:
        self._inner.hold_to(is_ours, knows)

    async def close(self) -> None:
        await self._inner.close()

    def _check(self) -> None:
        if self.ends_ms is not None:
            raise no_answer(self._url, Seen(Trouble.DRILL, _clock(self.ends_ms)))


class Heeding:
    """Follows what is ordered while `run` is up. `changed` is called when the quarantine begins or ends.

    `tell` brings the order of a drill that was given here to the server, before the way there is cut; it takes a moment
    at most.
    """

    def __init__(
        self,
        agent: Agent,
        transport: DrillTransport,
        changed: Callable[[], None],
        *,
        quarantined: bool,
        tell: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._agent = agent
        self._transport = transport
        self._changed = changed
        self._quarantined = quarantined
        self._tell = tell
        self._moved = asyncio.Event()

    def look(self) -> None:
        """Something has come, or was written."""
        self._moved.set()

    async def run(self) -> None:
        """Heed until cancelled, or until `changed` was called."""
        while (now := await self._heeded()) is None or now.quarantined == self._quarantined:
            await self._wait(now)
        await asyncio.sleep(PASS_ON_S if now.quarantined else 0.0)
        self._changed()

    async def _heeded(self) -> Ordered | None:
        """As `heed`; None if that cannot be known now, a full disk say: it is asked again."""
        try:
            return await self.heed()
        except RelaisError as error:
            _log.error("what is ordered cannot be heeded: %s", error)
            return None

    async def heed(self) -> Ordered:
        """Do as is ordered now: cut the way to the server, or open it again."""
        self._moved.clear()
        now = await ordered(self._agent)
        before = self._transport.ends_ms
        if before is None and now.drill is not None and self._tell is not None:
            await self._tell()
            now = await ordered(self._agent)
        self._transport.follow(now)
        if before is None and now.drill is not None:
            await self._transport.renew()
        return now

    async def _wait(self, now: Ordered | None) -> None:
        """Until something moves, or the drill is over; a clock may be set meanwhile, so look now and then."""
        if now is None:
            left_s: float | None = _LONGEST_WAIT_S
        else:
            left_s = None if now.drill is None else (now.ends_ms - self._agent.now_ms()) / 1000
        try:
            async with asyncio.timeout(None if left_s is None else min(max(left_s, 0.05), _LONGEST_WAIT_S)):
                await self._moved.wait()
        except TimeoutError:
            return


def _clock(at_ms: int) -> str:
    """The time of day here: 10:32."""
    return dt.datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%H:%M")
