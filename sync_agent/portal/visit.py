"""One request as the pages see it: who reads, in which words, what this device has.

Choices that a browser remembers are cookies without meaning for anybody else: the language, the register, and on a
shared PC the name that was chosen, which goes with the browser's session or after two hours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from protocol.coursework import HandInState, Work
from protocol.entry import PERSON_BYTES
from protocol.roles import PersonRole
from protocol.roster import Person
from sync_agent.portal.door import VISIT_COOKIE, Door
from sync_agent.portal.shelf import Piece, Room, Shelf, Told
from sync_agent.portal.standing import Exchange
from sync_agent.portal.wording import CATALOGUES, Register, Words
from sync_agent.scheduler import Outcome

LANGUAGE_COOKIE: Final = "relais-language"
REGISTER_COOKIE: Final = "relais-register"
WHO_COOKIE: Final = "relais-who"
_PREFERENCE_S: Final = 365 * 86_400
_WHO_S: Final = 2 * 3_600
_SECONDARY: Final = re.compile(
    r"\b(?:6|5|4|3)\s?(?:e|è|ème|eme|ième)\b|\b(?:2n?de|1[eè]re|tle|term|seconde|premi[eè]re|terminale|bts)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Visit:
    """See the module. `me` is who was chosen on a shared PC, or on a teacher's device the teacher."""

    request: web.Request
    say: Words
    rooms: list[Room]
    me: Person | None
    teaches: bool
    device_name: str
    visit_id: str
    token: str
    exchange: Exchange
    now_ms: int

    @property
    def classes(self) -> list[Room]:
        """The rooms that are classes or groups."""
        return [room for room in self.rooms if room.is_class]

    @property
    def pupils(self) -> list[Person]:
        """All pupils of this device's classes, each once, by name."""
        found = {person.id: person for room in self.classes for person in room.pupils}
        return sorted(found.values(), key=lambda person: (person.name.casefold(), person.id))

    def teacher_name(self, room: Room | None = None) -> str:
        """The teacher of a class where there is one, else who teaches in general."""
        teachers = {person.id: person for found in ([room] if room else self.classes) for person in found.teachers}
        names = [person.name for person in teachers.values()]
        return names[0] if len(names) == 1 else self.say("unknown.teacher")

    def due(self, piece: Piece) -> str | None:
        """Pour vendredi 11 décembre."""
        if piece.due_ms is None:
            return None
        say, at_ms = self.say, piece.due_ms
        if at_ms < self.now_ms:
            return say("due.past", day=say.day(at_ms, self.now_ms))
        when = say.moment(at_ms)
        if (when.hour, when.minute) == (23, 59):
            return say("due.for", day=say.day(at_ms, self.now_ms))
        return say("due.before", day=say.day(at_ms, self.now_ms), clock=say.clock(at_ms))

    def is_near(self, piece: Piece) -> bool:
        """Whether it is due today or tomorrow, or was."""
        return (
            piece.due_ms is not None
            and (self.say.moment(piece.due_ms).date() - self.say.moment(self.now_ms).date()).days <= 1
        )

    def state(self, shelf: Shelf, room: Room, told: Told) -> str:
        """The state of a hand-in in words."""
        key = told.state.value
        if told.state is HandInState.LOCAL and not told.made_here:
            key = "local_elsewhere"
        teacher = self.answerer(shelf, room, told.work)
        return self.say(
            f"states.{key}",
            device=self.device_name,
            by=self.say("unknown.courier" if told.state is HandInState.CARRIED else "unknown.device"),
            teacher=teacher,
            action=self.say("unknown.action", teacher=teacher),
        )

    def hint(self, shelf: Shelf, room: Room, told: Told) -> str:
        """What the state means for who handed in."""
        key = told.state.value
        if told.state is HandInState.LOCAL and not told.made_here:
            key = "local_elsewhere"
        return self.say(f"states.hint.{key}", teacher=self.answerer(shelf, room, told.work))

    def answerer(self, shelf: Shelf, room: Room, work: Work) -> str:
        """Who gave feedback to a hand-in, else the teacher of the class."""
        author = None if work.feedback is None else shelf.author_of(work.feedback.author, room)
        return author or self.teacher_name(room)


async def visit_of(request: web.Request, shelf: Shelf, door: Door, outcome: Outcome | None) -> Visit:
    """The request, with what the pages need to know."""
    rooms = await shelf.rooms()
    teaches = await shelf.teaches()
    me = _person(rooms, await shelf.own_person()) if teaches else _chosen(request, rooms)
    language = _language(request)
    visit_id = door.visit_of(request)
    return Visit(
        request=request,
        say=Words(language, _register(request, rooms, teaches=teaches)),
        rooms=rooms,
        me=me,
        teaches=teaches,
        device_name=shelf.agent.enrolment.device_name,
        visit_id=visit_id,
        token=door.token_of(visit_id),
        exchange=await shelf.exchange(outcome, rooms),
        now_ms=shelf.agent.now_ms(),
    )


def remember(visit: Visit, response: web.StreamResponse) -> None:
    """Set the cookies that keep what this visit was."""
    _cookie(response, VISIT_COOKIE, visit.visit_id, None)
    for name, cookie, value in (
        ("lang", LANGUAGE_COOKIE, visit.say.language),
        ("register", REGISTER_COOKIE, visit.say.register.value),
    ):
        if visit.request.query.get(name) == value:
            _cookie(response, cookie, value, _PREFERENCE_S)
    if visit.me is not None and not visit.teaches:
        remember_who(response, visit.me.id)


def remember_who(response: web.StreamResponse, person: bytes | None) -> None:
    """Keep, or forget, who was chosen."""
    if person is None:
        response.del_cookie(WHO_COOKIE, path="/", httponly=True, samesite="Strict")
    else:
        _cookie(response, WHO_COOKIE, person.hex(), _WHO_S)


def _cookie(response: web.StreamResponse, name: str, value: str, max_age_s: int | None) -> None:
    response.set_cookie(name, value, max_age=max_age_s, path="/", httponly=True, samesite="Strict")


def _language(request: web.Request) -> str:
    for wish in (request.query.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if wish in CATALOGUES.languages:
            return str(wish)
    return CATALOGUES.preferred(request.headers.get("Accept-Language", ""))


def _register(request: web.Request, rooms: list[Room], *, teaches: bool) -> Register:
    for wish in (request.query.get("register"), request.cookies.get(REGISTER_COOKIE)):
        if wish in list(Register):
            return Register(wish)
    return Register.ADULT if teaches else register_of_classes([room.name for room in rooms if room.is_class])


def register_of_classes(names: list[str]) -> Register:
    """What a machine of these classes begins with: 11–18 where every class is one of secondary school."""
    return Register.TEEN if names and all(_SECONDARY.search(name) for name in names) else Register.YOUNG


def _chosen(request: web.Request, rooms: list[Room]) -> Person | None:
    try:
        person = bytes.fromhex(request.cookies.get(WHO_COOKIE, ""))
    except ValueError:
        return None
    found = _person(rooms, person) if len(person) == PERSON_BYTES else None
    return found if found is not None and found.role is PersonRole.PUPIL else None


def _person(rooms: list[Room], person: bytes | None) -> Person | None:
    if person is None:
        return None
    return next((found for room in rooms if (found := room.roster.persons.get(person)) is not None), None)
