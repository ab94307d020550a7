"""“Exercice de coupure”: the head teacher begins it, is led through it, prints what it has shown; and the quarantine.

Rules:
- the page says what to do now, what has been seen so far, and how long it still lasts; it needs no manual;
- it says who has heard of the order, as far as this device knows: nobody reads that all PCs play who cannot know it;
- what changes by itself keeps itself current (`pulse`), what a person presses stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from protocol.folds.measures import MINUTE_MS, Drill
from protocol.replica.console.operation import JSON
from protocol.replica.office.measures import USUAL_MINUTES, measures_of
from protocol.rights.door import Door
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.navigation import DRILL, see
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.head.drill_steps import Watcher, steps_of
from sync_agent.scheduler import Outcome
from sync_agent.school.device_names import key_words
from sync_agent.school.measures import is_told, schools_of

LENGTHS: Final = (15, USUAL_MINUTES, 60)
SHOWN_FOR_MS: Final = 24 * 60 * MINUTE_MS
"""So long the page goes on with the last drill, whose work may still be on its way."""


class Drills:
    """Handlers, all of them for a head teacher's device only."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._agent = desk.shelf.agent
        self._watcher = Watcher(desk.shelf.agent)

    async def show(self, request: web.Request) -> web.StreamResponse:
        """What to do now, what has been seen, and, once it is over, what still goes on."""
        visit = await self._desk.visit(request)
        now, drill = visit.ordered, await self._last(visit)
        is_over = drill is not None and now.drill is None
        steps = None
        if drill is not None:
            steps = steps_of(await self._watcher.observe(drill, running=not is_over), visit.say, is_over=is_over)
        elsewhere_ms = None
        if drill is not None and is_over and drill.end_ms < drill.planned_ms and visit.now_ms < drill.planned_ms:
            elsewhere_ms = drill.planned_ms
        return self._desk.page(
            visit,
            "drill.html",
            phase="before" if drill is None else "after" if is_over else "during",
            now=now,
            drill=drill,
            steps=steps,
            left=max(0, -(-(now.ends_ms - visit.now_ms) // MINUTE_MS)),
            elsewhere_ms=elsewhere_ms,
            order=None if drill is None else await self._order(drill),
            reached=visit.exchange.outcome is Outcome.DONE,
            listens=self._agent.listens_at is not None,
            near=max(self._agent.around.found(), self._agent.live_neighbours()),
            lengths=LENGTHS,
            usual=USUAL_MINUTES,
        )

    async def report(self, request: web.Request) -> web.StreamResponse:
        """What the last drill has shown, to print and to sign."""
        visit = await self._desk.visit(request)
        drills = await self._drills()
        if not drills:
            raise web.HTTPNotFound
        drill = drills[0]
        is_over = visit.ordered.drill is None or visit.ordered.drill.id != drill.id
        seen = await self._watcher.observe(drill, running=not is_over)
        told = await self._desk.do("drill report", {})
        return self._desk.page(
            visit,
            "drill_report.html",
            drill=drill,
            report=told,
            words=_words(told.get("devices"), self._agent.replica.door),
            steps=steps_of(seen, visit.say, is_over=True),
            is_over=is_over,
            leader=self._leader(visit, drill),
        )

    async def act(self, request: web.Request) -> web.StreamResponse:
        """Begin or end one of the two."""
        fields = await self._desk.fields(request)
        match request.match_info["act"]:
            case "start":
                minutes = fields.get("minutes", "")
                length = int(minutes) if minutes.isascii() and minutes.isdecimal() else USUAL_MINUTES
                await self._desk.do("drill start", {"minutes": length})
            case "stop":
                await self._desk.do("drill stop", {})
            case "isolate":
                await self._desk.do("quarantine start", {})
            case "rejoin":
                await self._desk.do("quarantine stop", {})
            case _:
                raise web.HTTPNotFound
        return see(DRILL)

    async def _order(self, drill: Drill) -> str:
        """Who has the order of a drill, as far as is known here: `server`, `here` alone, or who gave it `elsewhere`."""
        if drill.by != self._agent.device:
            return "elsewhere"
        return "server" if await is_told(self._agent, drill) else "here"

    async def _drills(self) -> list[Drill]:
        """The drills of this device's schools, the newest first."""
        found = [drill for school in await schools_of(self._agent) for drill in await self._of(school)]
        return sorted(found, key=lambda drill: drill.start_ms, reverse=True)

    async def _of(self, school: bytes) -> tuple[Drill, ...]:
        return (await measures_of(self._agent.replica, school)).drills

    async def _last(self, visit: Visit) -> Drill | None:
        """The drill that runs here, or that was over a short while ago."""
        if visit.ordered.drill is not None:
            return visit.ordered.drill
        recent = [drill for drill in await self._drills() if visit.now_ms - drill.end_ms < SHOWN_FOR_MS]
        return next(iter(recent), None)

    def _leader(self, visit: Visit, drill: Drill) -> str | None:
        """Who began it, by name; None for who runs the system."""
        if drill.by == self._agent.device:
            return visit.device_name if visit.me is None else visit.me.name
        if any(self._desk.shelf.is_unconfirmed(drill.grant, room) for room in visit.rooms):
            return visit.say("unknown.unconfirmed")
        names = (visit.author(self._desk.shelf, room, drill.grant) for room in visit.rooms)
        return next((name for name in names if name is not None), None)


def _words(devices: JSON, door: Door) -> dict[str, str]:
    """Words for each device of a report, by its id: for those that told nobody here their names."""
    listed = devices if isinstance(devices, Sequence) else ()
    named = [str(each["device"]) for each in listed if isinstance(each, Mapping)]
    return {name: key_words(bytes.fromhex(name), door) for name in named}
