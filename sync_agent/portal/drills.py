"""“Exercice de coupure”: the head teacher begins it, ends it, and reads what it has shown; and the quarantine."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from protocol.errors import BadInput
from protocol.replica.measures import USUAL_MINUTES
from protocol.roles import Role
from sync_agent.measures import ordered
from sync_agent.portal.desk import Desk
from sync_agent.portal.door import Handler
from sync_agent.portal.navigation import see

ADDRESS: Final = "/drill"
LENGTHS: Final = (15, USUAL_MINUTES, 60)


class Drills:
    """Handlers, all of them for a head teacher's device only."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def add_to(self, app: web.Application) -> None:
        """Let the listener serve them."""
        app.router.add_get(ADDRESS, self._only_heads(self.show))
        app.router.add_post(f"{ADDRESS}/{{act}}", self._only_heads(self.act))

    def _only_heads(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            if await self._desk.shelf.agent.role() is not Role.HEAD:
                raise web.HTTPNotFound
            return await handler(request)

        return guarded

    async def show(self, request: web.Request) -> web.StreamResponse:
        """What is ordered now, and the report of the last drill."""
        visit = await self._desk.visit(request)
        now = await ordered(self._desk.shelf.agent)
        try:
            report = await self._desk.do("drill report", {})
        except BadInput:
            report = {}
        return self._desk.page(visit, "drill.html", now=now, report=report, lengths=LENGTHS, usual=USUAL_MINUTES)

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
        return see(ADDRESS)
