"""The pages that everybody has: home, who is there, how the exchange stands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from protocol.errors import BadInput, Code, Refused
from protocol.folds.coursework import HandInState, Work
from protocol.model.entry import Kind
from protocol.model.work import ItemKind
from protocol.portable_names import displayable
from protocol.replica.console import parameters as given
from sync_agent.health import LastSync
from sync_agent.keys.former_returns import ASKED, FormerReturn, list_former_returns
from sync_agent.machine.called import is_called_anothers
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.navigation import inside, see
from sync_agent.portal.each_page.visit import Visit, remember_who
from sync_agent.portal.shown.shelf import Piece, Told, by_due, newest_first
from sync_agent.portal.teacher.held_back import news_of
from sync_agent.portal.teacher.readers import MAX_NOTICES, home_notices
from sync_agent.portal.teacher.sign_in_notices import home_sign_ins
from sync_agent.portal.wording import Words
from sync_agent.school.device_names import key_words
from sync_agent.school.forgetting import forgetting_of
from sync_agent.school.held_back import own_held_back
from sync_agent.school.let_count import let_count_here
from sync_agent.status import fingerprint
from sync_agent.transport.spoken_elsewhere import has_spoken_elsewhere

MAX_CARD_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class Card:
    """A piece on the home page; for an assignment, how far the chosen person's last hand-in has come."""

    piece: Piece
    due: str | None
    near: bool
    state: str | None
    told: Told | None
    handed: int
    unopened: int
    unread: bool
    text: str = ""
    """What a word says, or its beginning."""
    author: str | None = None
    """Whose word that is."""

    @property
    def is_done(self) -> bool:
        """Whether the person has handed in, and is not asked to do it again."""
        return self.told is not None and self.told.state is not HandInState.REDO


class Pages:
    """Handlers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._shelf = desk.shelf

    # --- home ---------------------------------------------------------------------------------------------------------

    async def home(self, request: web.Request) -> web.Response:
        """What there is to do and to learn."""
        visit = await self._desk.visit(request)
        refusals = await self._shelf.refusals()
        shown: defaultdict[ItemKind, list[Card]] = defaultdict(list)
        withdrawn: list[Piece] = []
        for piece in by_due(await self._shelf.pieces(visit.rooms)):
            if not piece.item.withdrawn:
                shown[piece.item.shown.record.kind].append(await self._card(visit, piece, refusals))
            elif visit.teaches:
                withdrawn.append(piece)
        assignments = shown[ItemKind.ASSIGNMENT]
        finished = [] if visit.teaches else [card for card in assignments if card.is_done]
        return self._desk.page(
            visit,
            "home.html",
            todo=[card for card in assignments if card not in finished],
            done=finished[::-1],
            subjects=_by_subject(visit.say, shown[ItemKind.LESSON]),
            announcements=_newest(shown[ItemKind.ANNOUNCEMENT]),
            withdrawn=newest_first(withdrawn),
            unopened=sum(card.unopened for card in assignments),
            many_rooms=len(visit.classes) > 1,
            readers=await home_notices(visit, self._shelf.agent),
            former=await self._former(visit),
            forgotten=await self._forgotten(visit),
            sign_ins=await home_sign_ins(visit, self._shelf),
            held_back=news_of(await own_held_back(self._shelf.agent)) if visit.teaches else 0,
            let_count=len(await let_count_here(self._shelf.agent)) if visit.teaches else 0,
            called=await self._called(visit),
            elsewhere=(visit.teaches or visit.runs_school) and await has_spoken_elsewhere(self._shelf.agent),
        )

    async def _former(self, visit: Visit) -> Sequence[FormerReturn]:
        """What is asked of former devices of the teacher's."""
        returns = await list_former_returns(self._shelf.agent) if visit.teaches else ()
        return [each for each in returns if each.state == ASKED][:MAX_NOTICES]

    async def _forgotten(self, visit: Visit) -> str | None:
        """That who teaches here is erased, by whose word, and until when; None where it is not so."""
        agent = self._shelf.agent
        person = agent.person if visit.teaches else None
        found = None if person is None else await forgetting_of(agent.replica, person, visit.now_ms)
        if found is None:
            return None
        by = visit.said_by(self._shelf, found.by, found.grant)
        if found.in_doubt:
            return visit.say("home.forgotten_in_doubt", by=by)
        if found.is_over:
            return visit.say("home.forgotten_over", by=by)
        return visit.say("home.forgotten", by=by, day=visit.say.day(found.final_ms, visit.now_ms))

    async def _called(self, visit: Visit) -> str | None:
        """That nothing is said here, as the server calls this computer somebody else's; None where it is not so."""
        for room in visit.rooms if visit.teaches else ():
            try:
                await self._shelf.agent.right(room.space, Kind.REVISION)
            except BadInput:
                continue
            except Refused as refusal:
                if is_called_anothers(refusal):
                    return self._desk.sentence(visit, refusal)
        return None

    async def _card(self, visit: Visit, piece: Piece, refusals: Mapping[str, bytes]) -> Card:
        told = None
        text = ""
        works = piece.works_of(None) if piece.is_assignment else []
        if visit.me is not None and not visit.teaches:
            mine = [work for work in works if visit.is_mine(work)]
            told = self._shelf.told(piece.room, mine[0], refusals) if mine else None
        is_read_here = piece.item.shown.record.kind is ItemKind.ANNOUNCEMENT
        if piece.readable is not None and is_read_here:
            text = await self._shelf.text(piece.room.space, piece.readable.record.content)
        return Card(
            piece=piece,
            due=visit.due(piece),
            near=visit.is_near(piece),
            state=None if told is None else visit.state(self._shelf, piece.room, told),
            told=told,
            handed=len({visit.owner(work) for work in works} & piece.room.whole_names.keys()),
            unopened=_to_open(visit, works),
            unread=told is not None and told.state in {HandInState.MARKED, HandInState.REDO},
            text=_beginning(text),
            author=visit.author(self._shelf, piece.room, piece.version.grant) if is_read_here else None,
        )

    # --- who ----------------------------------------------------------------------------------------------------------

    async def who(self, request: web.Request) -> web.Response:
        """The class list, to choose a name from."""
        visit = await self._desk.visit(request)
        back, space = inside(request.query.get("back")), request.query.get("space", "")
        return self._desk.page(visit, "who.html", back=back, space=space)

    async def choose(self, request: web.Request) -> web.Response:
        """Remember, or forget, a name."""
        fields = await self._desk.fields(request)
        visit = await self._desk.visit(request)
        person = given.person(fields, "person") if fields.get("person") else None
        known = {each.id for each in (*visit.pupils, *visit.adults)}
        if person is not None and person not in known:
            raise BadInput(Code.UNKNOWN_PERSON, "nobody on this class list has that id")
        back = inside(fields.get("back"))
        if person in visit.guards.guarded:
            query = {"back": back} | ({"space": fields["space"]} if fields.get("space") else {})
            return see(f"/sign-in/{fields['person']}?{urlencode(query)}")
        response = see(back)
        remember_who(request, response, person)
        return response

    # --- the exchange -------------------------------------------------------------------------------------------------

    async def state(self, request: web.Request) -> web.Response:
        """What is here, what waits, when agreement was last proven."""
        visit = await self._desk.visit(request)
        agent = self._shelf.agent
        missing = {need.space for need in await agent.missing()}
        _, _, content_bytes = await agent.replica.content.totals()
        from sync_agent.coursework.saved_files import left_of_past  # noqa: PLC0415 — loaded with this page
        from sync_agent.hand_ins.lost_keys import lost_keys  # noqa: PLC0415 — likewise

        last = await LastSync.read(agent.replica.store)
        return self._desk.page(
            visit,
            "state.html",
            rows=[(room, room.space in missing, await self._shelf.proven_ms(room)) for room in visit.classes],
            last_ms=None if last is None else last.at_ms,
            fingerprint=fingerprint(agent),
            words=key_words(agent.device, agent.replica.door),
            free=await agent.replica.content.free_bytes(),
            content=content_bytes,
            budget=agent.budget.shown(),
            lost_keys=await lost_keys(agent),
            saved=[(displayable(each.name), len(each.files)) for each in await left_of_past(agent)],
        )

    async def live(self, request: web.Request) -> web.Response:
        """What the script asks for every few seconds: the strip's words, and whether the page is out of date."""
        visit = await self._desk.visit(request)
        exchange = visit.exchange
        facts = {
            "stamp": self._desk.stamp(visit),
            "standing": exchange.standing.value,
            "strip": exchange.sentence(visit.say, visit.teacher_name(), visit.now_ms),
            "freshness": exchange.freshness(visit.say, visit.now_ms),
            "stick": self._desk.stick(visit),
            "who": self._desk.who(visit),
        }
        return web.json_response(facts, headers={"Cache-Control": "no-store"})


def _by_subject(say: Words, cards: Sequence[Card]) -> list[tuple[str | None, list[Card]]]:
    """Lessons under their subjects, by name, those without one last; newest first in each."""
    found: defaultdict[str | None, list[Card]] = defaultdict(list)
    for card in _newest(cards):
        found[card.piece.record.subject].append(card)
    named = sorted((subject for subject in found if subject), key=str.casefold)
    rows: list[tuple[str | None, list[Card]]] = [(subject, found[subject]) for subject in named]
    if found.get(None):
        rows.append((say("home.other_subject") if named else None, found[None]))
    return rows


def _newest(cards: Sequence[Card]) -> list[Card]:
    return sorted(cards, key=lambda card: (card.piece.version.at_ms, card.piece.item.id), reverse=True)


def _to_open(visit: Visit, works: Sequence[Work]) -> int:
    """How many pupils' last work, of these with the newest first, is still to be opened here."""
    last = {visit.owner(work): work for work in reversed(works)}
    return sum(visit.is_to_open(work) for work in last.values())


def _beginning(text: str) -> str:
    """As much of a text as a card holds, whole words."""
    if len(text) <= MAX_CARD_CHARS:
        return text
    cut = text[:MAX_CARD_CHARS]
    return (cut.rpartition(" ")[0] or cut) + " …"
