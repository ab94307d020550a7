"""One request as the pages see it: who reads, in which words, what this device has.

Choices that a browser remembers are cookies without meaning for anybody else: the language, the register, and on a
shared PC the name that was chosen, which goes with the browser's session or after two hours. Where a class signs in,
who it is stands in a session of this portal (`sessions`), and a name that was merely chosen counts for nothing.

What lies in a class with sign-in belongs to who has signed in in that very class, whatever other lists say of whom, and
wherever else somebody has signed in: another class may be one that a thief has made up (docs/adr/0288). So may one that
signs in somebody of a class without sign-in: there, of those that list them, the one counts that was here first (0302).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from protocol.errors import Code, LocalFailure
from protocol.folds.coursework import HandInState, Work
from protocol.limits import MAX_SIGN_IN_TRIES
from protocol.model.entry import PERSON_BYTES
from protocol.rights.roster import Person
from protocol.roles import RUNS_A_SCHOOL, PersonRole, Role
from sync_agent.app import Agent
from sync_agent.coursework.closed_classes import Closed, none_but_closed
from sync_agent.coursework.past_years import past_spaces
from sync_agent.hand_ins.looked_at import Eyes, all_eyes
from sync_agent.keys.confirming import own_grants
from sync_agent.portal.door import VISIT_COOKIE, Door, cookie_name
from sync_agent.portal.each_page.navigation import MISSED
from sync_agent.portal.each_page.sessions import Sessions
from sync_agent.portal.shown.first_names import Pupil, told_apart
from sync_agent.portal.shown.shelf import Piece, Room, Shelf, Told
from sync_agent.portal.shown.standing import Exchange
from sync_agent.portal.wording import CATALOGUES, Register, Words
from sync_agent.scheduler import Outcome
from sync_agent.school.device_names import key_words
from sync_agent.school.measures import NOTHING_ORDERED, Ordered, ordered
from sync_agent.school.own_stay import OwnStay, own_stay
from sync_agent.school.sign_in import Guards
from sync_agent.sync.withdrawn import ended_names
from sync_agent.watching.titles import NOTHING_HINDERED, Hindered, hindered

LANGUAGE_COOKIE: Final = "relais-language"
REGISTER_COOKIE: Final = "relais-register"
WHO_COOKIE: Final = "relais-who"
SESSION_COOKIE: Final = "relais-signed-in"
BACKGROUND_FIELD: Final = "X-Relais-Live"
"""Of what an open page fetches by itself (`portal.js`)."""
MIN_MISSES_TOLD: Final = 3

NO_GUARDS: Final = Guards()
PULSE_MS: Final = 8_000
_PREFERENCE_S: Final = 365 * 86_400
_WHO_S: Final = 2 * 3_600
_MISSES_TOLD: Final = frozenset(map(str, range(MIN_MISSES_TOLD, MAX_SIGN_IN_TRIES)))
_SECONDARY: Final = re.compile(
    r"\b(?:6|5|4|3)\s?(?:e|è|ème|eme|ième)\b|\b(?:2n?de|1[eè]re|tle|term|seconde|premi[eè]re|terminale|bts)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Visit:
    """See the module. `me` is who was chosen, or signed in, on a shared PC, or on a teacher's device the teacher."""

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
    reads: bool = False
    """Whether this is the device of somebody who reads pupils' work."""
    ended: tuple[str, ...] = ()
    """The classes that this device has lost."""
    runs_school: bool = False
    """Whether this is the device of a head teacher, or an administrator's."""
    stay: OwnStay | None = None
    """The access of this device that ends first, if it has an end."""
    past_classes: int = 0
    """How many classes of past years are here and not shown."""
    closed: tuple[Closed, ...] = ()
    """The classes that were closed, where there is no other."""
    guards: Guards = NO_GUARDS
    """Whose own things this machine shows to themselves only, and where that holds of everybody."""
    proven: frozenset[bytes] = frozenset()
    """The classes in which `me` has signed in."""
    adults: tuple[Person, ...] = ()
    """Adults of the classes who may sign in here."""
    hindered: Hindered = NOTHING_HINDERED
    """What of the teacher's own folders is not published."""
    ordered: Ordered = NOTHING_ORDERED
    """The drill and the quarantines that are in force here."""
    leads: bool = False
    """Whether this is a head teacher's device, which leads drills."""
    apart: Code | None = None
    """What keeps this device from the others of the school, by its stable name."""
    my_ids: Mapping[bytes, Collection[bytes]] = field(default_factory=dict)
    """Under which ids, by space, what was handed in is that of `me`: nothing where they have still to sign in."""
    eyes: Mapping[bytes, Eyes] = field(default_factory=dict)
    """Of a teacher's device, whose words spare its person a look at work, by space."""

    @property
    def pulse(self) -> int:
        """Changes every few seconds on the device from which a running drill is led: what it sees around it does."""
        return self.now_ms // PULSE_MS if self.leads and self.ordered.drill is not None else 0

    @property
    def signed_in(self) -> bool:
        """Whether somebody is signed in here."""
        return bool(self.proven)

    @property
    def missed(self) -> int:
        """On the page to which a sign-in led: how many tries had failed before it, if that is worth telling; else 0."""
        text = self.request.query.get(MISSED, "") if self.signed_in else ""
        return int(text) if text in _MISSES_TOLD else 0

    def may_be(self, person: bytes, space: bytes) -> bool:
        """Whether who sits here hands in under this name in a space, and changes what was begun there."""
        is_me = self.me is not None and self.me.id == person and space in self.my_ids
        return is_me or (space not in self.guards.spaces and person not in self.guards.guarded)

    def ways_of(self, person: bytes) -> list[Room]:
        """The classes in which somebody can sign in, those first that list them."""
        there = self.guards.ways.get(person, {})
        return sorted((room for room in self.rooms if room.space in there), key=lambda room: not room.lists(person))

    @property
    def unproven(self) -> list[Room]:
        """The classes in which `me` has something to sign in with, and has not signed in."""
        if self.me is None or self.teaches:
            return []
        there = self.guards.ways.get(self.me.id, {})
        return [
            room for room in self.ways_of(self.me.id) if there[room.space] is not None and room.space not in self.proven
        ]

    def signs_in_at(self, room: Room, back: str) -> str | None:
        """Where who sits here says who they are before they hand in something there; None where they need not."""
        if self.teaches or room.space in self.my_ids:
            return None
        if room.space not in self.guards.spaces and not self.guards.guarded.issuperset(one.id for one in room.pupils):
            return None
        query = urlencode({"back": back, "space": room.space.hex()})
        asks_elsewhere = room.space not in self.guards.spaces and self.me is not None and room.lists(self.me.id)
        if self.me is not None and self.signed_in and (asks_elsewhere or room in self.ways_of(self.me.id)):
            return f"/sign-in/{self.me.id.hex()}?{query}"
        return f"/who?{query}"

    def sees(self, work: Work, *, made_here: bool) -> bool:
        """Whether a hand-in is shown at all: a teacher's device, its pupil, or, where nobody signs in, its machine."""
        return self.is_mine(work) or (made_here and not self.is_guarded(work))

    def is_guarded(self, work: Work) -> bool:
        """Whether it is shown to whose it is alone, once they have signed in."""
        guards = self.guards
        return work.space in guards.spaces or not guards.guarded.isdisjoint((work.person, self.owner(work)))

    def is_mine(self, work: Work) -> bool:
        """Whether all of a hand-in is shown: it is the person's own, or this is a teacher's device.

        Of who was added twice it is as with drafts: a list may be a thief's, and gives nobody another's (`my_ids`).
        """
        return self.teaches or work.person in self.my_ids.get(work.space, ())

    def owner(self, work: Work) -> bytes:
        """Whose work it is; who was added twice is one."""
        room = next((room for room in self.rooms if room.space == work.space), None)
        return work.person if room is None else room.roster.who(work.person)

    def pupil(self, room: Room, person: bytes) -> str:
        """What whose work lies in a class is called; who has left its list, so that nobody takes them for another."""
        left = room.left.get(room.roster.who(person))
        gone = None if left is None else self.say("unknown.left", name=left)
        return room.called(person) or gone or self.say("unknown.person")

    def counts(self, work: Work) -> bool:
        """Whether it is this teacher's word, or of whom theirs have confirmed, that made the state of a hand-in."""
        return work.space in self.eyes and self.eyes[work.space].count(work.said_under)

    def is_to_open(self, work: Work) -> bool:
        """Whether who reads here has still to look at a hand-in, whatever others say of it."""
        return work.space in self.eyes and self.eyes[work.space].have_to_open(work)

    @property
    def classes(self) -> list[Room]:
        """The rooms that are classes or groups, by their names."""
        return sorted(
            (room for room in self.rooms if room.is_class), key=lambda room: (room.name.casefold(), room.space)
        )

    @property
    def pupils(self) -> list[Person]:
        """All pupils of this device's classes, each once, by name; of one name, by their numbers."""
        found = {person.id: person for room in self.classes for person in room.pupils}
        number = {one: pupil.number for one, pupil in self._listed.items()}
        return sorted(found.values(), key=lambda person: (person.name.casefold(), number[person.id], person.id))

    @property
    def called(self) -> Mapping[bytes, str]:
        """What pupils are called on a machine that many use: by as little as tells them apart."""
        return told_apart(self._listed.values())

    @property
    def _listed(self) -> dict[bytes, Pupil]:
        """The pupils of all rooms, a school's included; who is in several is told by the one that listed them first."""
        found: dict[bytes, tuple[int, Pupil]] = {}
        for room in self.rooms:
            for one in room.pupils:
                since = room.places[one.id].since if one.id in room.places else 0
                if one.id not in found or since < found[one.id][0]:
                    found[one.id] = since, Pupil(one.id, one.name, room.name, room.number_of(one.id))
        return {person: pupil for person, (_, pupil) in found.items()}

    @property
    def my_name(self) -> str:
        """What `me` is called."""
        if self.me is None:
            return ""
        return self.me.name if self.teaches else self.called.get(self.me.id, self.me.name)

    def teacher_name(self, room: Room | None = None) -> str:
        """The teacher of a class where there is one, else who teaches in general."""
        teachers = {person.id: person for found in ([room] if room else self.classes) for person in found.teachers}
        names = [person.name for person in teachers.values()]
        return names[0] if len(names) == 1 else self.say("unknown.teacher")

    def voice_of(self, person: bytes | None) -> str | None:
        """The name of somebody who teaches, wherever it is said; None of whom no list here has one.

        Of whom a list calls somebody else the one under which they came here (docs/adr/0461, 0180).
        """
        voices = (room.voice_of(person) for room in self.rooms)
        return next((voice for voice in voices if voice is not None), None)

    def author(self, shelf: Shelf, room: Room, grant: bytes | None) -> str | None:
        """Whose word something is that was published; a device that nobody of theirs confirmed is named as such."""
        if shelf.is_unconfirmed(grant, room):
            return self.say("unknown.unconfirmed")
        return self._author_of(shelf, room, grant)

    def _author_of(self, shelf: Shelf, room: Room, grant: bytes | None) -> str | None:
        """With a word where none of theirs has confirmed the device, and it is heard all the same for now."""
        name = shelf.author_of(grant, room)
        return self.say("unknown.heard_on", name=name) if name and grant in room.roster.heard_on else name

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
        return self.say.sentence(
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
        """Whose word made the state of a hand-in: somebody, where no list has a name for any of them.

        Where nobody has answered or opened it, who teaches here.
        """
        if not work.said_under:
            return self.teacher_name(room)
        return self.who_said(shelf, room, *work.said_under)

    def who_said(self, shelf: Shelf, room: Room, *grants: bytes | None) -> str:
        """The name of whose word stands under the first of these grants that has one: never that of anybody else."""
        names = (self._author_of(shelf, room, grant) for grant in grants)
        return next((name for name in names if name is not None), None) or self.say("unknown.somebody")

    def said_by(self, shelf: Shelf, author: bytes, grant: bytes | None) -> str:
        """Who has said what stands under a grant: of another device its key's words, never whose it is said to be.

        A copied server key lets in what it likes as a head teacher's; a name here would have her decide what it does.
        """
        door = shelf.agent.replica.door
        given = door.authority(grant)
        if given is None:
            return self.say("school.by_kit")
        return self.say("school.by_server") if given.role is Role.SERVER else key_words(author, door)


async def visit_of(
    request: web.Request, shelf: Shelf, door: Door, sessions: Sessions, outcome: Outcome | None
) -> Visit:
    """The request, with what the pages need to know."""
    rooms = await shelf.rooms()
    teaches = await shelf.teaches()
    guards = NO_GUARDS if teaches else await shelf.sign_in.guards(room.space for room in rooms)
    proven: frozenset[bytes] = frozenset()
    if teaches:
        me = _person(rooms, shelf.agent.person)
    else:
        me, proven = _signed_in(request, rooms, sessions, guards)
        me = me or _chosen(request, rooms, guards)
    own = _own(rooms, guards, me, proven)
    language, roles = _language(request), await shelf.agent.roles()
    closed = tuple(await none_but_closed(shelf.agent))
    past = (await past_spaces(shelf.agent)).intersection(await shelf.agent.spaces())
    visit_id = door.visit_of(request)
    say = Words(language, _register(request, rooms, me, teaches=teaches))
    return Visit(
        request=request,
        say=say,
        rooms=[_named(room, say) for room in rooms],
        me=me,
        teaches=teaches,
        device_name=shelf.agent.enrolment.device_name,
        visit_id=visit_id,
        token=door.token_of(visit_id),
        exchange=await shelf.exchange(outcome, rooms),
        now_ms=shelf.agent.now_ms(),
        reads=teaches and bool(await own_grants(shelf.agent)),
        ended=tuple(await ended_names(shelf.agent)),
        runs_school=not RUNS_A_SCHOOL.isdisjoint(roles),
        ordered=await _ordered(shelf.agent),
        leads=Role.HEAD in roles,
        apart=None if (problem := shelf.agent.network_problem()) is None else problem[0],
        my_ids={room.space: await shelf.drafts.ids_of(me.id, room.roster) for room in own} if me is not None else {},
        eyes=await all_eyes(shelf.agent) if teaches else {},
        stay=await own_stay(shelf.agent, is_refused=outcome is Outcome.REFUSED),
        past_classes=len(past.difference(each.space for each in closed)),
        closed=closed,
        guards=guards,
        proven=proven,
        hindered=await hindered(shelf.agent.replica.store) if teaches else NOTHING_HINDERED,
        adults=tuple(
            found
            for person, ways in guards.ways.items()
            if person in guards.guarded
            and any(proof is not None for proof in ways.values())
            and (found := _person(rooms, person)) is not None
            and found.role is not PersonRole.PUPIL
        ),
    )


def _named(room: Room, say: Words) -> Room:
    """A room as people call it: a school that has no name but its UAI is the whole school to them."""
    return room if room.uai is None else replace(room, name=say("unknown.school", uai=room.uai))


async def _ordered(agent: Agent) -> Ordered:
    """What is in force here; that a full disk lets nothing be noted keeps nobody from reading."""
    try:
        return await ordered(agent)
    except LocalFailure:
        return NOTHING_ORDERED


def remember(visit: Visit, response: web.StreamResponse) -> None:
    """Set the cookies that keep what this visit was."""
    _cookie(response, cookie_name(visit.request, VISIT_COOKIE), visit.visit_id, None)
    for name, cookie, value in (
        ("lang", LANGUAGE_COOKIE, visit.say.language),
        ("register", REGISTER_COOKIE, visit.say.register.value),
    ):
        if visit.request.query.get(name) == value:
            _cookie(response, cookie, value, _PREFERENCE_S)
    if visit.me is not None and not visit.teaches and not visit.signed_in:
        remember_who(visit.request, response, visit.me.id)


def remember_who(request: web.Request, response: web.StreamResponse, person: bytes | None) -> None:
    """Keep, or forget, who was chosen."""
    _keep(response, cookie_name(request, WHO_COOKIE), None if person is None else person.hex(), _WHO_S)


def remember_session(request: web.Request, response: web.StreamResponse, token: str | None) -> None:
    """Keep, or forget, the token of a session; it goes with the browser's."""
    _keep(response, cookie_name(request, SESSION_COOKIE), token, None)


def session_token(request: web.Request) -> str:
    """The token of a session that the browser shows; empty for none."""
    return request.cookies.get(cookie_name(request, SESSION_COOKIE), "")


def _keep(response: web.StreamResponse, name: str, value: str | None, max_age_s: int | None) -> None:
    if value is None:
        response.del_cookie(name, path="/", httponly=True, samesite="Strict")
    else:
        _cookie(response, name, value, max_age_s)


def _cookie(response: web.StreamResponse, name: str, value: str, max_age_s: int | None) -> None:
    response.set_cookie(name, value, max_age=max_age_s, path="/", httponly=True, samesite="Strict")


def _language(request: web.Request) -> str:
    for wish in (request.query.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if wish in CATALOGUES.languages:
            return str(wish)
    return CATALOGUES.preferred(request.headers.get("Accept-Language", ""))


def _register(request: web.Request, rooms: list[Room], me: Person | None, *, teaches: bool) -> Register:
    for wish in (request.query.get("register"), request.cookies.get(REGISTER_COOKIE)):
        if wish in list(Register):
            return Register(wish)
    adult = teaches or (me is not None and me.role is not PersonRole.PUPIL)
    return Register.ADULT if adult else register_of_classes([room.name for room in rooms if room.is_class])


def register_of_classes(names: list[str]) -> Register:
    """What a machine of these classes begins with: 11–18 where every class is one of secondary school."""
    return Register.TEEN if names and all(_SECONDARY.search(name) for name in names) else Register.YOUNG


def _own(rooms: Collection[Room], guards: Guards, me: Person | None, proven: Collection[bytes]) -> list[Room]:
    """Where whoever is somebody here is shown what is theirs: in a class with sign-in, if they signed in there.

    In the others, if they signed in where they have to (`Guards.first`), or nowhere.
    """
    is_free = me is None or guards.counts_beside(me.id, proven)
    return [room for room in rooms if (is_free if room.space not in guards.spaces else room.space in proven)]


def _signed_in(
    request: web.Request, rooms: list[Room], sessions: Sessions, guards: Guards
) -> tuple[Person | None, frozenset[bytes]]:
    """Who is signed in, and in which classes: in those where what proved them is what proves them now."""
    session = sessions.find(session_token(request), used=_by_a_person(request))
    found = None if session is None else _person(rooms, session.person)
    if session is None or found is None:
        return None, frozenset()
    set_now = {space: way.entry for space, way in guards.ways.get(found.id, {}).items() if way is not None}
    proven = frozenset(space for space, entry in session.proofs.items() if set_now.get(space) == entry)
    return (found if proven else None), proven


def _by_a_person(request: web.Request) -> bool:
    """Whether somebody asked for it, and not an open page by itself: older browsers say that by our own field alone."""
    is_by_itself = request.path == "/live" or BACKGROUND_FIELD in request.headers
    return not is_by_itself and request.headers.get("Sec-Fetch-Dest", "document") != "empty"


def _chosen(request: web.Request, rooms: list[Room], guards: Guards) -> Person | None:
    try:
        person = bytes.fromhex(request.cookies.get(cookie_name(request, WHO_COOKIE), ""))
    except ValueError:
        return None
    found = _person(rooms, person) if len(person) == PERSON_BYTES else None
    is_free = found is not None and found.role is PersonRole.PUPIL and person not in guards.guarded
    return found if is_free else None


def _person(rooms: list[Room], person: bytes | None) -> Person | None:
    if person is None:
        return None
    return next((found for room in rooms if (found := room.roster.persons.get(person)) is not None), None)
