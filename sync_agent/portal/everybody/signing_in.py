"""Signing in on a shared machine: a name, three pictures or a code, and "Is that you?"; signing out.

Rules:
- it is for one class: where several have set something for somebody, the page asks which, and names it;
- each picture is a button, so that nothing needs a script; what has been chosen so far travels in the form;
- the page asks whether it is them, by name, and leads back from there: what is then shown is the answer;
- what went wrong is said in one sentence;
- who signs in after others have tried hears of it: each machine counts alone, and only the tenth miss locks.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from protocol.errors import BadInput, Code
from protocol.folds.sign_in import Method
from protocol.limits import SIGN_IN_PICTURES, SIGN_IN_PICTURES_CHOSEN
from protocol.replica.console import parameters as given
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.navigation import after_misses, inside, see
from sync_agent.portal.each_page.visit import MIN_MISSES_TOLD, Visit, remember_session, session_token
from sync_agent.portal.shown.shelf import Room
from sync_agent.school.sign_in import Try

PICTURES: Final = tuple(range(1, SIGN_IN_PICTURES + 1))
_MINUTE_MS: Final = 60_000


class SigningIn:
    """Handlers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._book = desk.shelf.sign_in

    async def show(self, request: web.Request) -> web.Response:
        """The pictures, or the field, of one person."""
        visit = await self._desk.visit(request)
        person = self._person(visit, request.match_info["person"])
        back, room = inside(request.query.get("back")), self._room(visit, person, request.query.get("space"))
        if room is None:
            return self._which(visit, person, back)
        return await self._page(visit, person, room, back=back, problem=None)

    async def answer(self, request: web.Request) -> web.Response:
        """A picture more, or a code: the next page, a session, or what went wrong."""
        fields = await self._desk.fields(request)
        visit = await self._desk.visit(request)
        person = self._person(visit, request.match_info["person"])
        back, room = inside(fields.get("back")), self._room(visit, person, fields.get("space"))
        if room is None:
            return self._which(visit, person, back)
        secret = fields.get("secret", "")
        if "picture" in fields:
            chosen = [*_chosen(fields), fields["picture"]]
            if len(chosen) < SIGN_IN_PICTURES_CHOSEN:
                return await self._page(visit, person, room, back=back, problem=None, chosen=chosen)
            secret = "-".join(chosen)
        tried = await self._book.attempt(room.space, person, secret)
        if tried.how is not Try.PROVEN:
            return await self._page(visit, person, room, back=back, problem=tried.how, wait_ms=tried.wait_ms)
        response = see(back if tried.missed < MIN_MISSES_TOLD else after_misses(back, tried.missed))
        token = self._desk.sessions.begin(person, room.space, tried.entry, session_token(request))
        remember_session(request, response, token)
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        """End the session."""
        await self._desk.fields(request)
        self._desk.sessions.end(session_token(request))
        response = see("/who")
        remember_session(request, response, None)
        return response

    def _person(self, visit: Visit, text: str) -> bytes:
        person = given.person({"person": text}, "person")
        if not (visit.ways_of(person) and any(room.lists(person) for room in visit.rooms)):
            raise BadInput(Code.UNKNOWN_PERSON, "nobody on this class list signs in by that name")
        return person

    def _room(self, visit: Visit, person: bytes, space: str | None) -> Room | None:
        """The class that was asked for, else the only one that lists them and has set something; None to ask which.

        For one without sign-in it is the one that counts there.
        """
        ways, there = visit.ways_of(person), visit.guards.ways[person]
        if any(room.space.hex() == space and room.space not in visit.guards.spaces for room in visit.rooms):
            space = visit.guards.first.get(person, b"").hex()
        asked = next((room for room in ways if room.space.hex() == space), None)
        has_set = [room for room in ways if room.lists(person) and there[room.space] is not None]
        if asked is not None or len(has_set) > 1:
            return asked
        return has_set[0] if has_set else ways[0]

    def _which(self, visit: Visit, person: bytes, back: str) -> web.Response:
        """In which class somebody signs in."""
        ways = [room for room in visit.ways_of(person) if visit.guards.ways[person][room.space] is not None]
        return self._desk.page(
            visit, "sign_in_where.html", person=person, name=_name(visit, person), rooms=ways, back=back
        )

    async def _page(
        self,
        visit: Visit,
        person: bytes,
        room: Room,
        *,
        back: str,
        problem: Try | None,
        wait_ms: int = 0,
        chosen: list[str] | None = None,
    ) -> web.Response:
        standing, method = await self._book.standing(room.space, person)
        if problem is None and standing.how is not Try.WRONG:
            problem, wait_ms = standing.how, standing.wait_ms
        return self._desk.page(
            visit,
            "sign_in.html",
            person=person,
            name=_name(visit, person),
            room=room,
            many=len(visit.ways_of(person)) > 1,
            method=None if method is None else method.name.lower(),
            is_open=standing.how is Try.WRONG,
            problem=None if problem is None else problem.name.lower(),
            minutes=max(1, -(-wait_ms // _MINUTE_MS)),
            soon=0 < wait_ms < _MINUTE_MS,
            chosen=chosen or [],
            pictures=PICTURES if method is Method.PICTURES else (),
            back=back,
        )


def _name(visit: Visit, person: bytes) -> str:
    """What somebody is called whom a class lists."""
    name = next(room.roster.persons[person].name for room in visit.rooms if room.lists(person))
    return visit.called.get(person, name)


def _chosen(fields: dict[str, str]) -> list[str]:
    """The pictures that the form says were chosen before, no more than may come before the last."""
    parts = [part for part in fields.get("chosen", "").split("-") if part]
    return parts[: SIGN_IN_PICTURES_CHOSEN - 1]
