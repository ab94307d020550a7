"""What a teacher's device adds: publish and change, withdraw and restore, settle, open hand-ins, answer them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from aiohttp import web

from protocol.errors import BadInput, Code, RelaisError
from protocol.model.work import ItemKind
from protocol.portable_names import portable_name
from protocol.replica.console import parameters as given
from protocol.replica.console.operation import JSON, NO_FILES, Outgoing, Table
from sync_agent.coursework.dates import due_ms
from sync_agent.coursework.texts import TEXT_FILE
from sync_agent.portal.each_page.desk import ONCE_FIELD, Desk
from sync_agent.portal.each_page.navigation import see
from sync_agent.portal.each_page.shared_names import told_of_names
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.everybody.item_pages import PERSONAL_FILE, ItemPages
from sync_agent.portal.files.archive import Archive
from sync_agent.portal.files.saving import OneFile
from sync_agent.portal.files.uploads import Form
from sync_agent.portal.shown.shelf import Piece
from sync_agent.portal.teacher.changing import Change, change_meant, change_of

MAX_LISTED_NAMES: Final = 30
_WRITTEN: Final = ("space", "kind", "title", "subject", "due", "text", "had_text")
LEVELS: Final = ("level_1", "level_2", "level_3", "level_4")
"""The four levels of the Livret scolaire unique, keys `teach.…`."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing was published: a sentence, of each name that does not fit why, and how many more there are."""

    status: HTTPStatus
    sentence: str
    names: Sequence[tuple[str, str]]
    more: int


class Teaching:
    """Handlers, all of them for teachers' devices only."""

    def __init__(self, desk: Desk, items: ItemPages, table: Table) -> None:
        self._desk = desk
        self._shelf = desk.shelf
        self._items = items
        self._table = table

    # --- publishing ---------------------------------------------------------------------------------------------------

    async def publish_form(self, request: web.Request) -> web.Response:
        """The form for a new item, or for a new version of one."""
        visit = await self._desk.visit(request)
        piece = await self._items.visible(visit, request) if "item" in request.match_info else None
        if piece is None:
            return await self._publish_page(visit, None, {})
        change = await change_of(self._items, self._shelf, visit, piece, {}, request.query.get("from"))
        record = change.base.record
        due = "" if record.due_ms is None else visit.say.moment(record.due_ms).date().isoformat()
        text = await self._shelf.text(piece.room.space, record.content)
        values = {"kind": record.kind.value, "title": record.title, "subject": record.subject or "", "due": due}
        values |= {"text": text, "had_text": "yes" if text else ""}
        return await self._publish_page(visit, piece, values, change=change)

    async def _publish_page(
        self,
        visit: Visit,
        piece: Piece | None,
        values: Mapping[str, str],
        *,
        change: Change | None = None,
        refused: Refusal | None = None,
    ) -> web.Response:
        rooms = [room for room in visit.rooms if await self._shelf.may_publish(room)]
        return self._desk.page(
            visit,
            "publish.html",
            status=HTTPStatus.OK if refused is None else refused.status,
            refused=refused,
            piece=piece,
            change=change,
            values={name: values.get(name, "") for name in _WRITTEN},
            # classes first: that is where nearly everything is published
            choices=sorted(rooms, key=lambda room: not room.is_class),
            shared=await told_of_names(visit, self._shelf, {room.space for room in rooms}, among=self._ever_hers()),
            kinds=list(ItemKind),
            subjects=sorted(_subjects(visit)),
        )

    def _ever_hers(self) -> set[bytes]:
        """Where this computer ever had a right, by any key of its own: one that is away may be back in an hour."""
        agent = self._shelf.agent
        door = agent.replica.door
        given = [each.space for key in agent.own_keys for each in door.authorities_of(key)]
        return {space for top in given for space in door.below(top)}

    async def publish(self, request: web.Request) -> web.Response:
        """Publish what the form says; where that cannot be, the form again, with what was written into it."""
        item = request.match_info.get("item")

        async def act() -> str:
            params = _wish(form, item)
            if form.problems:
                raise BadInput(Code.BAD_NAME, "names do not fit")
            if item is not None:
                piece = await self._items.visible(visit, request)
                params |= await change_meant(self._shelf, piece, form)
            done = await self._desk.do("publish", params, form.files if form.files.files else NO_FILES)
            self._desk.note_left_out(str(done["item"]), form.left_out[:MAX_LISTED_NAMES])
            return f"/item/{done['item']}?done=published"

        async with self._desk.form(request, as_named=True) as (visit, form):
            try:
                return see(await self._desk.once(form.text(ONCE_FIELD), form.digest, act))
            except RelaisError as error:
                return await self._again(await self._desk.visit(request), form, error)

    async def _again(self, visit: Visit, form: Form, error: RelaisError) -> web.Response:
        """The form with what was written, why it was not published, and of each name that does not fit why."""
        request = visit.request
        piece = await self._items.visible(visit, request) if "item" in request.match_info else None
        change = None
        if piece is not None:
            change = await change_of(self._items, self._shelf, visit, piece, form.fields, None)
        bad = () if error.code is not Code.BAD_NAME else form.problems[:MAX_LISTED_NAMES]
        sentence = self._desk.sentence(visit, error)
        if bad:
            sentence = visit.say("teach.bad_names")
        elif error.code is Code.BAD_NAME and error.facts.get("path") == TEXT_FILE:
            sentence = visit.say("teach.two_texts", name=TEXT_FILE)
        elif error.code is Code.UNKNOWN_REVISION:
            sentence = visit.say("teach.version_gone")
        elif error.code is Code.NOT_YET and change is not None:
            sentence = visit.say("teach.changed_meanwhile" if change.news else "teach.look_first")
        names = [(problem.path, visit.say(f"names.{problem.shown_as.value}")) for problem in bad]
        refused = Refusal(self._desk.status(error), sentence, names, len(form.problems) - len(bad) if bad else 0)
        return await self._publish_page(visit, piece, form.fields, change=change, refused=refused)

    async def withdraw(self, request: web.Request) -> web.Response:
        """Take an item out of sight."""
        return await self._act(request, "withdraw", "withdrawn")

    async def restore(self, request: web.Request) -> web.Response:
        """Bring it back."""
        return await self._act(request, "restore", "restored")

    async def go_back(self, request: web.Request) -> web.Response:
        """Show an earlier version again."""
        return await self._act(request, "restore", "went_back", "revision")

    async def settle(self, request: web.Request) -> web.Response:
        """Keep one of several versions, of those that the page showed."""
        fields, item = await self._desk.fields(request), request.match_info["item"]
        shown: list[JSON] = [*fields.get("shown", "").split(",")]
        await self._desk.do("settle", {"item": item, "keep": fields.get("keep", ""), "shown": shown})
        return see(f"/item/{item}?done=settled")

    async def _act(self, request: web.Request, command: str, done: str, *names: str) -> web.Response:
        fields = await self._desk.fields(request)
        item = request.match_info["item"]
        await self._desk.do(command, {"item": item, **{name: fields.get(name, "") for name in names}})
        return see(f"/item/{item}?done={done}")

    # --- pupils' work -------------------------------------------------------------------------------------------------

    async def open(self, request: web.Request) -> web.StreamResponse:
        """Save a hand-in's files, one or all, and let the pupil know that they were opened."""
        fields = await self._desk.fields(request)
        visit = await self._desk.visit(request)
        wanted = given.identifier(request.match_info, "work", Code.UNKNOWN_HAND_IN, "hand-in")
        room, work = await self._shelf.work(visit.rooms, wanted)
        path = fields.get("path", "")
        headers = PERSONAL_FILE
        if path:
            one = OneFile(request, path, headers)
            await self._unseal(wanted, one)
            if not one.found:
                raise BadInput(Code.UNKNOWN_PATH, "there is no such file in this work")
            response = one.response
        else:
            item = room.coursework.items.get(work.item)
            name = f"{visit.pupil(room, work.person)} - {'' if item is None else item.shown.record.title}".strip(" -")
            archive = Archive(request, f"{portable_name(name)[:150]}.zip", headers)
            await self._unseal(wanted, archive)
            await archive.finish()
            response = archive.response
        await response.write_eof()
        await self._desk.do("confirm-opened", {"id": wanted.hex()})
        return response

    async def _unseal(self, wanted: bytes, outgoing: Outgoing) -> None:
        await self._table["open-hand-in"]({"id": wanted.hex()}, NO_FILES, outgoing)

    async def feedback(self, request: web.Request) -> web.Response:
        """Answer a pupil's work."""
        work = request.match_info["work"]

        async def act() -> str:
            level = form.text("level")
            if level and level not in LEVELS:
                raise BadInput(Code.USAGE, "there is no such level")
            params: Mapping[str, JSON] = {
                "id": work,
                "text": form.fields.get("text", "").replace("\r\n", "\n").strip(),
                "mark": visit.say(f"teach.{level}") if level else form.text("mark") or None,
                "redo": form.text("redo") == "yes",
            }
            await self._desk.do("feedback", params, form.files if form.files.files else NO_FILES)
            return f"/work/{work}?done=given"

        async with self._desk.form(request, as_named=False) as (visit, form):
            return see(await self._desk.once(form.text(ONCE_FIELD), form.digest, act))


def _wish(form: Form, item: str | None) -> dict[str, JSON]:
    """The parameters of `publish` that the form means; what it does not have stays as it is."""
    if not form.text("title"):
        raise BadInput(Code.USAGE, "a title is needed")
    due = form.text("due")
    params: dict[str, JSON] = {
        "item": item,
        "kind": form.text("kind") or None,
        "title": form.text("title"),
        "subject": form.text("subject") or None,
        "due_ms": due_ms(due) if due else None,
    }
    text = form.fields.get("text", "").strip()
    if text or form.text("had_text"):
        params["text"] = text
    if item is None:
        params["space"] = form.text("space")
    return params


def _subjects(visit: Visit) -> set[str]:
    """School subjects that were used before, to choose from."""
    return {
        subject
        for room in visit.rooms
        for item in room.coursework.items.values()
        if (subject := item.shown.record.subject)
    }
