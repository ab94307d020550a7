"""The pages that everybody has: home, an item, handing in, what became of it, how the exchange stands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from protocol.coursework import HandInState, Item, Version, Work
from protocol.errors import BadInput, Code, Refused
from protocol.manifest import ManifestEntry
from protocol.portable_names import portable_form
from protocol.receipt_code import proof_code
from protocol.replica import parameters as given
from protocol.replica.operation import JSON, Params
from protocol.work import ContentRef, ItemKind
from sync_agent.confirming import list_readers
from sync_agent.device_names import key_words, machine_of
from sync_agent.drafts import Kept
from sync_agent.health import LastSync
from sync_agent.kept_edits import kept_edits
from sync_agent.portal.class_work import rows_of, teacher_key
from sync_agent.portal.delivery import deliver
from sync_agent.portal.desk import ONCE_FIELD, Desk
from sync_agent.portal.door import SAVED_FILE_POLICY
from sync_agent.portal.lessons import ORIGIN_DIGITS, address_in, large_address, print_address, printed
from sync_agent.portal.navigation import inside, see
from sync_agent.portal.readers import notices_of
from sync_agent.portal.readers import shown as shown_devices
from sync_agent.portal.shelf import Piece, Told, by_due, entry_page, newest_first
from sync_agent.portal.uploads import KeptFiles, form_with_files
from sync_agent.portal.visit import Visit, remember_who
from sync_agent.portal.wording import Words
from sync_agent.proof import picture_of
from sync_agent.status import fingerprint_words
from sync_agent.texts import TEXT_FILE

SAVED_FILE: Final = {"Content-Security-Policy": SAVED_FILE_POLICY}
PERSONAL_FILE: Final = {**SAVED_FILE, "Cache-Control": "no-store"}
"""For work and feedback: nothing of it stays in the browser of a PC that many use."""
MAX_LISTED_FILES: Final = 500
MAX_LISTED_WORKS: Final = 200
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
            unopened=sum(card.unopened for card in assignments) if visit.reads else 0,
            many_rooms=len(visit.classes) > 1,
            readers=notices_of(shown_devices(visit, await list_readers(self._shelf.agent)) if visit.teaches else ()),
        )

    async def _card(self, visit: Visit, piece: Piece, refusals: Mapping[str, bytes]) -> Card:
        told = None
        text = ""
        works = piece.works_of(None) if piece.is_assignment else []
        if visit.me is not None and not visit.teaches:
            mine = [work for work in works if visit.is_mine(work)]
            told = self._shelf.told(mine[0], refusals) if mine else None
        if piece.readable is not None and piece.item.shown.record.kind is ItemKind.ANNOUNCEMENT:
            text = await self._shelf.text(piece.room.space, piece.readable.record.content)
        return Card(
            piece=piece,
            due=visit.due(piece),
            near=visit.is_near(piece),
            state=None if told is None else visit.state(self._shelf, piece.room, told),
            told=told,
            handed=len({visit.owner(work) for work in works}),
            unopened=_to_open(visit, works) if visit.reads else 0,
            unread=told is not None and told.state in {HandInState.MARKED, HandInState.REDO},
            text=_beginning(text),
        )

    # --- who ----------------------------------------------------------------------------------------------------------

    async def who(self, request: web.Request) -> web.Response:
        """The class list, to choose a name from."""
        visit = await self._desk.visit(request)
        return self._desk.page(visit, "who.html", back=inside(request.query.get("back")))

    async def choose(self, request: web.Request) -> web.Response:
        """Remember, or forget, a name."""
        fields = await self._desk.fields(request)
        visit = await self._desk.visit(request)
        person = given.person(fields, "person") if fields.get("person") else None
        known = {each.id for each in (*visit.pupils, *visit.adults)}
        if person is not None and person not in known:
            raise BadInput(Code.UNKNOWN_PERSON, "nobody on this class list has that id")
        back = inside(fields.get("back"))
        if person in visit.guarded:
            return see(f"/sign-in/{fields['person']}?{urlencode({'back': back})}")
        response = see(back)
        remember_who(request, response, person)
        return response

    # --- an item ------------------------------------------------------------------------------------------------------

    async def item(self, request: web.Request) -> web.Response:
        """An item: its content in a frame, its files, and for an assignment the way to hand in."""
        visit = await self._desk.visit(request)
        piece = await self.visible(visit, request)
        content = None if piece.readable is None else piece.readable.record.content
        files = await self._shelf.files(content)
        entry = entry_page(files)
        text = await self._shelf.text(piece.room.space, content)
        if text:
            files = [file for file in files if file.path != TEXT_FILE]
        refusals = await self._shelf.refusals()
        works = [
            self._shelf.told(work, refusals)
            for work in (piece.works_of(None if visit.me is None else visit.me.id) if not visit.teaches else [])
        ]
        if visit.me is None:
            works = [told for told in works if told.made_here and visit.owner(told.work) not in visit.guarded]
        return self._desk.page(
            visit,
            "item.html",
            frame=None if entry is None else self._desk.lesson_origin(piece.item.id),
            piece=piece,
            record=piece.item.shown.record,
            author=self._author(visit, piece, piece.item.shown),
            due=visit.due(piece),
            text=text,
            late=piece.due_ms is not None and piece.due_ms < visit.now_ms,
            files=files[:MAX_LISTED_FILES],
            more_files=max(0, len(files) - MAX_LISTED_FILES),
            address=lambda path: self._desk.lesson_address(piece.item.id, path),
            large=lambda path: large_address(piece.item.id.hex()[:ORIGIN_DIGITS], path),
            printing=lambda path: print_address(piece.item.id.hex()[:ORIGIN_DIGITS], path),
            entry=entry,
            works=[(told, visit.state(self._shelf, piece.room, told)) for told in works],
            versions=await self._versions(visit, piece),
            may_publish=visit.teaches and await self._shelf.may_publish(piece.room),
            rows=await rows_of(visit, self._shelf, piece),
            done=request.query.get("done"),
            draft=await self._draft_of(visit, piece),
            edits=await kept_edits(self._shelf.agent, piece.item.id),
        )

    async def large(self, request: web.Request) -> web.Response:
        """A lesson in a frame of the size of the window; whether it may be read is for the lessons' listener to say."""
        visit = await self._desk.visit(request)
        digits, path = request.match_info["digits"], request.match_info["path"]
        origin = self._desk.lesson_origin(bytes.fromhex(digits))
        return self._desk.page(visit, "large.html", frame=origin, path=path, address=address_in(origin, path))

    async def printing(self, request: web.Request) -> web.Response:
        """As `large`, of a page that has the browser print the file."""
        visit = await self._desk.visit(request)
        digits, path = request.match_info["digits"], request.match_info["path"]
        origin = self._desk.lesson_origin(bytes.fromhex(digits))
        return self._desk.page(visit, "large.html", frame=origin, path=path, address=printed(address_in(origin, path)))

    async def _draft_of(self, visit: Visit, piece: Piece) -> Kept | None:
        """What the person at this machine has begun for it."""
        if visit.me is None or visit.teaches or not piece.is_assignment:
            return None
        found = await self._shelf.drafts.begun_by(visit.me.id, piece.item.id, piece.room.roster)
        return None if found is None else found[1]

    async def visible(self, visit: Visit, request: web.Request) -> Piece:
        """The item of the address. Raises `BadInput(UNKNOWN_ITEM)`, for pupils also where it was withdrawn."""
        wanted = given.identifier(request.match_info, "item", Code.UNKNOWN_ITEM, "item")
        piece = await self._shelf.piece(visit.rooms, wanted)
        if piece.item.withdrawn and not visit.teaches:
            raise BadInput(Code.UNKNOWN_ITEM, "this item has been withdrawn")
        return piece

    async def _versions(self, visit: Visit, piece: Piece) -> list[dict[str, object]]:
        """The heads of a conflict, for a teacher to choose from."""
        if not (visit.teaches and piece.item.conflict):
            return []
        return [await self._version(visit, piece, head) for head in piece.item.heads]

    def _author(self, visit: Visit, piece: Piece, version: Version) -> str | None:
        """Who wrote something; a device that nobody of theirs confirmed is named as such, not by the person."""
        if self._shelf.is_unconfirmed(version.grant, piece.room):
            return visit.say("unknown.unconfirmed")
        return self._shelf.author_of(version.grant, piece.room)

    async def _version(self, visit: Visit, piece: Piece, head: Version) -> dict[str, object]:
        files = await self._shelf.files(head.record.content)
        here = await self._shelf.is_here(piece.room.space, head.record.content)
        return {
            "id": head.id.hex(),
            "title": head.record.title,
            "shown": head is piece.item.shown,
            "author": self._author(visit, piece, head) or visit.say("unknown.person"),
            "when": visit.say.when(head.at_ms, visit.now_ms),
            "size": head.record.content.size,
            "files": len(files),
            "address": self._desk.lesson_address(head.id, "") if here else None,
        }

    async def save(self, request: web.Request) -> web.StreamResponse:
        """A file of an item, to save."""
        visit = await self._desk.visit(request)
        piece = await self.visible(visit, request)
        content = None if piece.readable is None else piece.readable.record.content
        return await self._file(request, content)

    async def _file(
        self, request: web.Request, content: ContentRef | None, headers: Mapping[str, str] = SAVED_FILE
    ) -> web.StreamResponse:
        file = _named(await self._shelf.files(content), request.match_info["path"])
        return await deliver(request, self._shelf.agent, file, headers, save=True)

    async def fetch(self, request: web.Request) -> web.Response:
        """Bring back what made way here; the page that follows shows it."""
        visit = await self._desk.visit(request)
        await self._desk.fields(request)
        piece = await self.visible(visit, request)
        await self._desk.do("fetch", {"item": piece.item.id.hex()})
        return see(f"/item/{piece.item.id.hex()}")

    # --- handing in ---------------------------------------------------------------------------------------------------

    async def hand_in(self, request: web.Request) -> web.Response:
        """Keep a pupil's work; the page that follows says so."""
        item = request.match_info["item"]

        async def act() -> str:
            if not form.files.files:
                raise BadInput(Code.NOTHING_TO_SEND, "there is no file to hand in")
            if form.text("later"):
                await self._keep_draft(await self.visible(visit, request), chosen, form.files)
                return f"/item/{item}?done=begun"
            sizes: list[JSON] = [[path, size] for path, size in form.files.sizes]
            done = await self._desk.do("hand-in", {"item": item, "person": person, "files": sizes}, form.files)
            return f"/work/{done['id']}?done=kept"

        folder = self._shelf.agent.folder
        visit = await self._desk.visit(request)
        async with form_with_files(request, folder, self._desk.token_check(request), as_named=False) as form:
            person = form.text("person")
            chosen = given.person({"person": person}, "person")
            if chosen in visit.guarded and not visit.is_signed_in(chosen):
                raise Refused(Code.NOT_SIGNED_IN, "this person is not signed in here")
            response = see(await self._desk.once(form.text(ONCE_FIELD), act))
        if chosen not in visit.guarded:
            remember_who(request, response, chosen)
        return response

    async def _keep_draft(self, piece: Piece, person: bytes, files: KeptFiles) -> None:
        """Keep what was begun: for a pupil of the class, and for an assignment, as there are only so many places."""
        roster = (await self._shelf.agent.replica.view(piece.item.space)).roster
        if not piece.is_assignment:
            raise BadInput(Code.NOT_AN_ASSIGNMENT, "this is no assignment; nothing can be handed in for it")
        if person not in roster.persons:
            raise BadInput(Code.UNKNOWN_PERSON, "nobody of that name is on this class list", person=person.hex())
        drafts, others = self._shelf.drafts, (await self._shelf.drafts.ids_of(person, roster))[1:]
        await drafts.keep(person, piece.item.id, files.sizes, files)
        for other in others:
            await drafts.drop(other, piece.item.id)  # the last one takes the place of the one before

    async def draft(self, request: web.Request) -> web.Response:
        """Hand in what was kept for later, or put it away."""
        fields = await self._desk.fields(request)
        visit = await self._desk.visit(request)
        piece = await self.visible(visit, request)
        item, drafts = piece.item.id, self._shelf.drafts
        me = None if visit.teaches else visit.me
        begun = None if me is None else await drafts.begun_by(me.id, item, piece.room.roster)
        if begun is None or me is None:
            raise BadInput(Code.NOTHING_TO_SEND, "nothing has been kept for later here")
        owner, kept = begun
        if fields.get("act") == "drop":
            await drafts.drop(owner, item)
            return see(f"/item/{item.hex()}")
        sizes: list[JSON] = [[path, size] for path, size in kept.files]
        params: Params = {"item": item.hex(), "person": me.id.hex(), "files": sizes}

        async def act() -> str:
            done = await self._desk.do("hand-in", params, drafts.incoming(kept))
            await drafts.drop(owner, item, only=kept)
            return f"/work/{done['id']}?done=kept"

        return see(await self._desk.once(fields.get(ONCE_FIELD, ""), act))

    async def works(self, request: web.Request) -> web.Response:
        """What was handed in: by the chosen person, or here by anybody; for a teacher, by assignment."""
        visit = await self._desk.visit(request)
        if visit.teaches:
            return await self._overview(visit)
        refusals = await self._shelf.refusals()
        told = [
            (room, self._shelf.told(work, refusals))
            for room in visit.rooms
            for work in room.coursework.hand_ins.values()
            if (
                self._shelf.agent.made(work) and visit.owner(work) not in visit.guarded
                if visit.me is None
                else visit.is_mine(work)
            )
        ]
        told.sort(key=lambda pair: (pair[1].work.at_ms, pair[1].work.id), reverse=True)
        unlisted = max(0, len(told) - MAX_LISTED_WORKS)
        rows = [
            {
                "told": one,
                "state": visit.state(self._shelf, room, one),
                "title": _title(room.coursework.items.get(one.work.item), visit.say),
                "older": one.work.id not in room.newest,
                "name": room.name_of(one.work.person) or visit.say("unknown.person"),
            }
            for room, one in told[:MAX_LISTED_WORKS]
        ]
        return self._desk.page(visit, "works.html", rows=rows, unlisted=unlisted)

    async def _overview(self, visit: Visit) -> web.Response:
        pieces = [piece for piece in await self._shelf.pieces(visit.rooms) if piece.is_assignment]
        tables = [
            (piece, visit.due(piece), await rows_of(visit, self._shelf, piece))
            for piece in newest_first(pieces)
            if not piece.item.withdrawn or piece.works_of(None)
        ]
        return self._desk.page(visit, "overview.html", tables=tables, many_rooms=len(visit.classes) > 1)

    async def work(self, request: web.Request) -> web.Response:
        """One hand-in: where it is, what was said of it; for a teacher, its files and the way to answer."""
        visit = await self._desk.visit(request)
        agent = self._shelf.agent
        wanted = given.identifier(request.match_info, "work", Code.UNKNOWN_HAND_IN, "hand-in")
        room, work = await self._shelf.work(visit.rooms, wanted)
        told = self._shelf.told(work, await self._shelf.refusals())
        mine = visit.is_mine(work)
        if not visit.sees(work, made_here=told.made_here):
            raise BadInput(Code.UNKNOWN_HAND_IN, "this is the work of somebody else")
        note = None if work.feedback is None or not mine else work.feedback.record
        item = room.coursework.items.get(work.item)
        versions = [each for each in room.versions_of(work) if visit.sees(each, made_here=agent.made(each))]
        return self._desk.page(
            visit,
            "work.html",
            room=room,
            work=work,
            told=told,
            item=item if item is None or visit.teaches or not item.withdrawn else None,
            title=_title(item, visit.say),
            name=room.name_of(work.person) or visit.say("unknown.person"),
            state=visit.state(self._shelf, room, told),
            hint=visit.hint(self._shelf, room, told),
            key=await teacher_key(visit, self._shelf, work) if visit.teaches else told.state.value,
            files=await self._shelf.sealed_files(work) if mine else (),
            note=note,
            note_files=await self._shelf.files(None if note is None else note.content),
            answerer=visit.answerer(self._shelf, room, work),
            mine=mine,
            newest=versions[0],
            others=[each for each in versions[: MAX_LISTED_WORKS + 1] if each.id != work.id][:MAX_LISTED_WORKS],
            unlisted=max(0, len(versions) - 1 - MAX_LISTED_WORKS),
            machine=await machine_of(agent, work),
            done=request.query.get("done"),
        )

    async def receipt(self, request: web.Request) -> web.Response:
        """The proof of a hand-in, to print: for whoever may see how far it has come."""
        visit = await self._desk.visit(request)
        wanted = given.identifier(request.match_info, "work", Code.UNKNOWN_HAND_IN, "hand-in")
        room, work = await self._shelf.work(visit.rooms, wanted)
        told = self._shelf.told(work, await self._shelf.refusals())
        if not visit.sees(work, made_here=told.made_here):
            raise BadInput(Code.UNKNOWN_HAND_IN, "this is the work of somebody else")
        return self._desk.page(
            visit,
            "receipt.html",
            work=work,
            code=proof_code(work.id),
            picture=picture_of(proof_code(work.id)),
            title=_title(room.coursework.items.get(work.item), visit.say),
            name=room.name_of(work.person) or visit.say("unknown.person"),
            place=room.name,
        )

    async def save_note_file(self, request: web.Request) -> web.StreamResponse:
        """A file of the feedback, to save."""
        visit = await self._desk.visit(request)
        wanted = given.identifier(request.match_info, "work", Code.UNKNOWN_HAND_IN, "hand-in")
        _, work = await self._shelf.work(visit.rooms, wanted)
        if not visit.is_mine(work):
            raise BadInput(Code.UNKNOWN_HAND_IN, "this is the work of somebody else")
        content = None if work.feedback is None else work.feedback.record.content
        return await self._file(request, content, PERSONAL_FILE)

    # --- the exchange -------------------------------------------------------------------------------------------------

    async def state(self, request: web.Request) -> web.Response:
        """What is here, what waits, when agreement was last proven."""
        visit = await self._desk.visit(request)
        agent = self._shelf.agent
        missing = {need.space for need in await agent.missing()}
        _, _, content_bytes = await agent.replica.content.totals()
        last = await LastSync.read(agent.replica.store)
        return self._desk.page(
            visit,
            "state.html",
            rows=[(room, room.space in missing, await self._shelf.proven_ms(room)) for room in visit.classes],
            last_ms=None if last is None else last.at_ms,
            territory=agent.enrolment.territory_name,
            fingerprint=fingerprint_words(agent),
            words=key_words(agent.device),
            free=await agent.replica.content.free_bytes(),
            content=content_bytes,
            budget=agent.budget.shown(),
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
        found[card.piece.item.shown.record.subject].append(card)
    named = sorted((subject for subject in found if subject), key=str.casefold)
    rows: list[tuple[str | None, list[Card]]] = [(subject, found[subject]) for subject in named]
    if found.get(None):
        rows.append((say("home.other_subject") if named else None, found[None]))
    return rows


def _newest(cards: Sequence[Card]) -> list[Card]:
    return sorted(cards, key=lambda card: (card.piece.item.shown.at_ms, card.piece.item.id), reverse=True)


def _to_open(visit: Visit, works: Sequence[Work]) -> int:
    """How many pupils' last work, of these with the newest first, nobody has opened or answered yet."""
    last = {visit.owner(work): work for work in reversed(works)}
    return sum(not work.opened and work.feedback is None for work in last.values())


def _beginning(text: str) -> str:
    """As much of a text as a card holds, whole words."""
    if len(text) <= MAX_CARD_CHARS:
        return text
    cut = text[:MAX_CARD_CHARS]
    return (cut.rpartition(" ")[0] or cut) + " …"


def _title(item: Item | None, say: Words) -> str:
    return say("unknown.title") if item is None else item.shown.record.title


def _named(files: Sequence[ManifestEntry], path: str) -> ManifestEntry:
    wanted = portable_form(path)
    for file in files:
        if file.path == wanted:
            return file
    raise BadInput(Code.UNKNOWN_PATH, "there is no such file")
