"""Handing in, what was begun for later, and what became of what was handed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from protocol.errors import BadInput, Code, Refused
from protocol.folds.coursework import Item, by_turns, latest_first
from protocol.limits import MAX_FILES_PER_HAND_IN
from protocol.replica.console import parameters as given
from protocol.replica.console.operation import JSON
from protocol.trust.receipt_code import proof_code
from sync_agent.hand_ins.drafts import Drafts, Kept
from sync_agent.hand_ins.file_names import check_number
from sync_agent.hand_ins.known_machines import known_since
from sync_agent.portal.each_page.desk import ONCE_FIELD, Desk
from sync_agent.portal.each_page.navigation import see
from sync_agent.portal.each_page.visit import Visit, remember_who
from sync_agent.portal.everybody.class_work import Standing, rows_of, standing_of
from sync_agent.portal.everybody.item_pages import PERSONAL_FILE, ItemPages, listed_files, save_file
from sync_agent.portal.everybody.remarks import Remarks, remarks_on
from sync_agent.portal.files.joined import JoinedFiles
from sync_agent.portal.files.uploads import Form, KeptFiles
from sync_agent.portal.shown.proof import attested, picture_of
from sync_agent.portal.shown.shelf import Piece, newest_first
from sync_agent.portal.wording import Words
from sync_agent.school.device_names import machine_of

MAX_LISTED_WORKS: Final = 200


@dataclass(frozen=True, slots=True)
class _Begun:
    """What was kept for later, and under which of a pupil's ids."""

    drafts: Drafts
    owner: bytes
    kept: Kept

    @property
    def is_lost(self) -> bool:
        """Whether nothing opens it: it stays until somebody throws it away, or keeps something else."""
        return not self.drafts.opens(self.kept)

    async def joined_with(self, added: KeptFiles) -> KeptFiles | JoinedFiles:
        """Its files, and those that a form brings; where it is lost, these. Raises `LocalFailure(DAMAGED)`."""
        if self.is_lost:
            return added
        return JoinedFiles(await self.drafts.files_of(self.kept), lambda: self.drafts.incoming(self.kept), added)


class WorkPages:
    """Handlers."""

    def __init__(self, desk: Desk, items: ItemPages) -> None:
        self._desk = desk
        self._shelf = desk.shelf
        self._items = items

    async def hand_in(self, request: web.Request) -> web.Response:
        """Keep a pupil's work; the page that follows says so."""
        item = request.match_info["item"]

        async def act() -> str:
            begun = await self._begun(visit, piece, chosen, form)
            if form.text("drop"):
                return await self._put_away(piece, chosen, begun, form.files)
            files = form.files if begun is None else await begun.joined_with(form.files)
            if not files.sizes:
                raise BadInput(Code.NOTHING_TO_SEND, "there is no file to hand in")
            check_number(len(files.sizes))  # with what was begun, before more than that is kept for later
            if form.text("later"):
                await self._keep_draft(piece, chosen, files, begun)
                return f"/item/{item}?done=begun"
            sizes: list[JSON] = [[path, size] for path, size in files.sizes]
            done = await self._desk.do("hand-in", {"item": item, "person": person, "files": sizes}, files)
            if begun is not None and not begun.is_lost:
                await self._shelf.drafts.drop(begun.owner, piece.item.id, only=begun.kept)
            return f"/work/{done['id']}?done=kept"

        sent = self._desk.form(request, as_named=False, most_files=MAX_FILES_PER_HAND_IN)
        async with sent as (visit, form):
            person = form.text("person")
            chosen = given.person({"person": person}, "person")
            piece = await self._items.visible(visit, request)
            if not visit.may_be(chosen, piece.room.space):
                raise Refused(Code.NOT_SIGNED_IN, "this person is not signed in here")
            response = see(await self._desk.once(form.text(ONCE_FIELD), form.digest, act))
        if chosen not in visit.guards.guarded:
            remember_who(request, response, chosen)
        return response

    async def _keep_draft(
        self, piece: Piece, person: bytes, files: KeptFiles | JoinedFiles, begun: _Begun | None
    ) -> None:
        """Keep what was begun: for a pupil of the class, and for an assignment, as there are only so many places.

        It takes the place of what was `begun`, which it holds; what is kept under another id of theirs comes after.
        """
        roster = (await self._shelf.agent.replica.view(piece.item.space)).roster
        if not piece.is_assignment:
            raise BadInput(Code.NOT_AN_ASSIGNMENT, "this is no assignment; nothing can be handed in for it")
        if person not in roster.persons:
            raise BadInput(Code.UNKNOWN_PERSON, "nobody of that name is on this class list", person=person.hex())
        drafts = self._shelf.drafts
        await drafts.keep(person, piece.item.id, files.sizes, files)
        if begun is not None and begun.owner != person:
            await drafts.drop(begun.owner, piece.item.id, only=begun.kept)

    async def _begun(self, visit: Visit, piece: Piece, person: bytes, form: Form) -> _Begun | None:
        """What this person kept for later and the form shows: nothing of another one's, or of what came since.

        Whatever is kept for later goes with what was before, shown or not: it takes nobody's place unseen.
        """
        adds, is_theirs = bool(form.text("later")), visit.me is not None and visit.me.id == person
        found = await self._shelf.drafts.begun_by(person, piece.item.id, piece.room.roster)
        if visit.teaches or found is None or not (adds or (is_theirs and found[1].name == form.text("draft"))):
            return None
        return _Begun(self._shelf.drafts, *found)

    async def _put_away(self, piece: Piece, person: bytes, begun: _Begun | None, chosen: KeptFiles) -> str:
        """Drop what was begun; files that were chosen in the same form are no part of it, and are kept instead."""
        if chosen.files:
            await self._keep_draft(piece, person, chosen, begun)
            return f"/item/{piece.item.id.hex()}?done=begun"
        if begun is not None:
            await self._shelf.drafts.drop(begun.owner, piece.item.id)
        return f"/item/{piece.item.id.hex()}"

    async def listed(self, request: web.Request) -> web.Response:
        """What was handed in: by the chosen person, or here by anybody; for a teacher, by assignment."""
        visit = await self._desk.visit(request)
        if visit.teaches:
            return await self._overview(visit)
        refusals = await self._shelf.refusals()
        told = [
            (room, self._shelf.told(room, work, refusals))
            for room in visit.rooms
            for work in room.coursework.hand_ins.values()
            if (visit.sees(work, made_here=self._shelf.agent.made(work)) if visit.me is None else visit.is_mine(work))
        ]
        in_rooms = {one.work.id: (room, one) for room, one in told}
        in_order = latest_first((one.work for _, one in told), visit.now_ms)
        listed = by_turns(in_order, MAX_LISTED_WORKS, known_since(self._shelf.agent))
        unlisted = len(told) - len(listed)
        rows = [
            {
                "told": one,
                "state": visit.state(self._shelf, room, one),
                "title": _title(room.coursework.items.get(one.work.item), visit.say),
                "older": one.work.id not in room.newest,
                "name": visit.pupil(room, one.work.person),
            }
            for room, one in (in_rooms[work.id] for work in listed)
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

    async def show(self, request: web.Request) -> web.Response:
        """One hand-in: where it is, what was said of it; for a teacher, its files and the way to answer."""
        visit = await self._desk.visit(request)
        agent = self._shelf.agent
        wanted = given.identifier(request.match_info, "work", Code.UNKNOWN_HAND_IN, "hand-in")
        room, work = await self._shelf.work(visit.rooms, wanted)
        told = self._shelf.told(room, work, await self._shelf.refusals())
        mine = visit.is_mine(work)
        if not visit.sees(work, made_here=told.made_here):
            raise BadInput(Code.UNKNOWN_HAND_IN, "this is the work of somebody else")
        item = room.coursework.items.get(work.item)
        words = visit.state(self._shelf, room, told)
        standing = Standing(told.state.value, words)
        if visit.teaches:
            standing = await standing_of(visit, self._shelf, room, work)
        files = await self._shelf.sealed_files(work) if mine else ()
        reads = mine and (visit.reads or not visit.teaches)
        versions = [each for each in room.versions_of(work) if visit.sees(each, made_here=agent.made(each))]
        return self._desk.page(
            visit,
            "work.html",
            room=room,
            work=work,
            told=told,
            item=item if item is None or visit.teaches or not item.withdrawn else None,
            title=_title(item, visit.say),
            name=visit.pupil(room, work.person),
            hint=visit.hint(self._shelf, room, told),
            standing=standing,
            files=listed_files(files),
            more_files=len(files) - len(listed_files(files)),
            empty=", ".join(path for path, size in listed_files(files) if size == 0),
            remarks=await remarks_on(visit, self._shelf, room, work) if reads else Remarks(),
            mine=mine,
            newest=versions[0],
            others=by_turns([each for each in versions if each.id != work.id], MAX_LISTED_WORKS, known_since(agent)),
            unlisted=max(0, len(versions) - 1 - MAX_LISTED_WORKS),
            machine=await machine_of(agent, work),
            done=request.query.get("done"),
        )

    async def receipt(self, request: web.Request) -> web.Response:
        """The proof of a hand-in, to print: for whoever may see how far it has come."""
        visit = await self._desk.visit(request)
        wanted = given.identifier(request.match_info, "work", Code.UNKNOWN_HAND_IN, "hand-in")
        room, work = await self._shelf.work(visit.rooms, wanted)
        told = self._shelf.told(room, work, await self._shelf.refusals())
        if not visit.sees(work, made_here=told.made_here):
            raise BadInput(Code.UNKNOWN_HAND_IN, "this is the work of somebody else")
        return self._desk.page(
            visit,
            "receipt.html",
            work=work,
            code=proof_code(work.id),
            picture=picture_of(proof_code(work.id)),
            title=_title(room.coursework.items.get(work.item), visit.say),
            name=visit.pupil(room, work.person),
            place=room.name,
            said=attested(visit.say, work, lambda grant: visit.who_said(self._shelf, room, grant)),
        )

    async def save_note_file(self, request: web.Request) -> web.StreamResponse:
        """A file of what somebody says of it, to save."""
        visit = await self._desk.visit(request)
        wanted = given.identifier(request.match_info, "work", Code.UNKNOWN_HAND_IN, "hand-in")
        _, work = await self._shelf.work(visit.rooms, wanted)
        if not visit.is_mine(work):
            raise BadInput(Code.UNKNOWN_HAND_IN, "this is the work of somebody else")
        of = request.query.get("of")
        said = (files for note, files in work.said_with_files.items() if of in (None, note.id.hex()))
        return await save_file(self._shelf, request, next(said, None), PERSONAL_FILE)


def _title(item: Item | None, say: Words) -> str:
    return say("unknown.title") if item is None else item.shown.record.title
