"""An item of a class: its content in a frame, its files, its versions, and for an assignment the way to hand in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final, TypeVar

from aiohttp import web

from protocol.errors import BadInput, Code, LocalFailure
from protocol.folds.coursework import Item, Version
from protocol.model.entry import Entry
from protocol.model.work import ContentRef
from protocol.portable_names import portable_form
from protocol.replica.console import parameters as given
from protocol.replica.office.not_shown import switched_by
from protocol.transfer.manifest import ManifestEntry
from sync_agent.coursework.kept_edits import kept_edits
from sync_agent.coursework.odd_dates import OddDate, odd_date
from sync_agent.coursework.own_versions import own_voice
from sync_agent.coursework.reading import others_called
from sync_agent.coursework.texts import TEXT_FILE
from sync_agent.hand_ins.drafts import Kept
from sync_agent.hand_ins.file_names import Names
from sync_agent.portal.door import SAVED_FILE_POLICY
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.navigation import see
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.everybody.class_work import rows_of
from sync_agent.portal.files.delivery import deliver
from sync_agent.portal.files.lessons import (
    ORIGIN_DIGITS,
    address_in,
    large_address,
    name_of_version,
    print_address,
    printed,
)
from sync_agent.portal.shown.shelf import Piece, Shelf, entry_page

T = TypeVar("T")

SAVED_FILE: Final = {"Content-Security-Policy": SAVED_FILE_POLICY}
PERSONAL_FILE: Final = {**SAVED_FILE, "Cache-Control": "no-store"}
"""For work and feedback: nothing of it stays in the browser of a PC that many use."""
MAX_LISTED_FILES: Final = 500
MAX_LISTED_VERSIONS: Final = 50
_ODD_DATES: Final = {OddDate.FOR_NOTHING: "teach.due_for_nothing", OddDate.PAST: "teach.due_past"}


def listed_files(files: Sequence[T]) -> Sequence[T]:
    """Those of the files of something that its page lists: of a browser's, and of whoever looks, the patience ends."""
    return files[:MAX_LISTED_FILES]


class ItemPages:
    """Handlers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._shelf = desk.shelf

    async def show(self, request: web.Request) -> web.Response:
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
            self._shelf.told(piece.room, work, refusals)
            for work in (piece.works_of(None) if not visit.teaches else [])
            if visit.me is None or visit.is_mine(work)
        ]
        if visit.me is None:
            works = [told for told in works if visit.sees(told.work, made_here=told.made_here)]
        return self._desk.page(
            visit,
            "item.html",
            frame=None if entry is None else self._desk.lesson_origin(piece.item.id),
            piece=piece,
            record=piece.record,
            author=visit.author(self._shelf, piece.room, piece.version.grant),
            newer_by=None if piece.is_newest else visit.author(self._shelf, piece.room, piece.item.shown.grant),
            due=visit.due(piece),
            text=text,
            late=piece.due_ms is not None and piece.due_ms < visit.now_ms,
            files=listed_files(files),
            more_files=len(files) - len(listed_files(files)),
            address=lambda path: self._desk.lesson_address(piece.item.id, path),
            large=lambda path: large_address(piece.item.id.hex()[:ORIGIN_DIGITS], path),
            printing=lambda path: print_address(piece.item.id.hex()[:ORIGIN_DIGITS], path),
            entry=entry,
            works=[(told, visit.state(self._shelf, piece.room, told)) for told in works],
            shown_again=await self._shown_again(visit, piece),
            withdrawn_by_others=await self._withdrawn_by_others(visit, piece),
            versions=await self._versions(visit, piece),
            earlier=(earlier := await self._earlier(visit, piece)),
            more_earlier=len(piece.item.versions) - len(piece.item.heads) - len(earlier),
            may_publish=visit.teaches and await self._shelf.may_publish(piece.room),
            rows=await rows_of(visit, self._shelf, piece),
            done=(done := request.query.get("done")),
            left_out=self._desk.left_out(piece.item.id.hex()) if done == "published" and visit.teaches else (),
            twin=_twin(piece) if done == "published" and visit.teaches else None,
            dated=_dated(piece, visit.now_ms) if done == "published" and visit.teaches else None,
            draft=(draft := await self._draft_of(visit, piece)),
            is_draft_lost=draft is not None and not self._shelf.drafts.opens(draft),
            begun=await self._names_in(draft),
            sign_in_at=visit.signs_in_at(piece.room, f"/item/{piece.item.id.hex()}"),
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
        if visit.me is None or visit.teaches or not piece.is_assignment or piece.room.space not in visit.my_ids:
            return None
        found = await self._shelf.drafts.begun_by(visit.me.id, piece.item.id, piece.room.roster)
        return None if found is None else found[1]

    async def _names_in(self, draft: Kept | None) -> Names:
        """Of the files of what was begun; none where that can only be dropped, since it cannot be read any more."""
        try:
            return () if draft is None else await self._shelf.drafts.files_of(draft)
        except LocalFailure:
            return ()

    async def visible(self, visit: Visit, request: web.Request) -> Piece:
        """The item of the address. Raises `BadInput(UNKNOWN_ITEM)`, for pupils also where it was withdrawn."""
        wanted = given.identifier(request.match_info, "item", Code.UNKNOWN_ITEM, "item")
        piece = await self._shelf.piece(visit.rooms, wanted)
        if piece.item.withdrawn and not visit.teaches:
            raise BadInput(Code.UNKNOWN_ITEM, "this item has been withdrawn")
        return piece

    async def _shown_again(self, visit: Visit, piece: Piece) -> str | None:
        """For a teacher, by whom it is shown again that was withdrawn: whoever has the server's key says so, too."""
        if not visit.teaches or piece.item.withdrawn:
            return None
        word = await switched_by(self._shelf.agent.replica, piece.item)
        return None if word is None else self._said_by(visit, piece, word, "item.shown_again_by")

    async def _withdrawn_by_others(self, visit: Visit, piece: Piece) -> str | None:
        """For a teacher, by whom it was withdrawn, if that is no word of theirs: it may count no more one day."""
        word = await switched_by(self._shelf.agent.replica, piece.item) if piece.item.withdrawn else None
        if not visit.teaches or word is None:
            return None
        if (await own_voice(self._shelf.agent, piece.room.space)).stands_by_word(word):
            return None
        return self._said_by(visit, piece, word, "item.withdrawn_by")

    def _said_by(self, visit: Visit, piece: Piece, word: Entry, key: str) -> str:
        """By whom a word about an item was said, and when: in so many words, or that it is in nobody's name."""
        author = visit.author(self._shelf, piece.room, word.header.grant)
        day = visit.say.day(word.timestamp_ms, visit.now_ms)
        return visit.say(key if author else f"{key}_nobody", author=author or "", day=day)

    async def _earlier(self, visit: Visit, piece: Piece) -> list[dict[str, object]]:
        """What was shown before, for a teacher to bring back, the newest first; what is a head is none of it."""
        if not visit.teaches:
            return []
        heads = {head.id for head in piece.item.heads}
        earlier = (version for version in piece.item.versions.values() if version.id not in heads)
        return [await self.told_version(visit, piece, version) for version in islice(earlier, MAX_LISTED_VERSIONS)]

    async def _versions(self, visit: Visit, piece: Piece) -> list[dict[str, object]]:
        """The heads of a conflict, for a teacher to choose from."""
        if not (visit.teaches and piece.item.conflict):
            return []
        return [await self.told_version(visit, piece, head) for head in piece.item.heads]

    async def told_version(
        self, visit: Visit, piece: Piece, head: Version, *, nobody: str = "unknown.person"
    ) -> dict[str, object]:
        """What a teacher is told of a version: whose it is, when it came, where its files are to be looked at."""
        here = await self._shelf.is_here(piece.room.space, head.record.content)
        return {
            "id": head.id.hex(),
            "title": head.record.title,
            "shown": head is piece.item.shown,
            "author": visit.author(self._shelf, piece.room, head.grant) or visit.say(nobody),
            "when": visit.say.when(head.at_ms, visit.now_ms),
            "size": head.record.content.size,
            "files": head.record.content.files,
            "address": self._desk.lesson_address(name_of_version(head.id), "") if here else None,
        }

    async def save(self, request: web.Request) -> web.StreamResponse:
        """A file of an item, to save."""
        visit = await self._desk.visit(request)
        piece = await self.visible(visit, request)
        content = None if piece.readable is None else piece.readable.record.content
        return await save_file(self._desk.shelf, request, content, SAVED_FILE)

    async def fetch(self, request: web.Request) -> web.Response:
        """Bring back what made way here; the page that follows shows it."""
        await self._desk.fields(request)
        visit = await self._desk.visit(request)
        piece = await self.visible(visit, request)
        await self._desk.do("fetch", {"item": piece.item.id.hex()})
        return see(f"/item/{piece.item.id.hex()}")


def _twin(piece: Piece) -> Item | None:
    """Another item of a new one's title: it was meant as a new version, perhaps."""
    return next(iter(others_called(piece.room.coursework, piece.item)), None) if len(piece.item.versions) == 1 else None


def _dated(piece: Piece, now_ms: int) -> str | None:
    """What is odd about the date of something just published: the key of its sentence, or nothing."""
    odd = odd_date(piece.item.shown.record, now_ms)
    return None if odd is None else _ODD_DATES[odd]


async def save_file(
    shelf: Shelf, request: web.Request, content: ContentRef | None, headers: Mapping[str, str]
) -> web.StreamResponse:
    """The file of `content` that the address names, to save. Raises `BadInput(UNKNOWN_PATH)`."""
    file = _named(await shelf.files(content), request.match_info["path"])
    return await deliver(request, shelf.agent, file, headers, save=True)


def _named(files: Sequence[ManifestEntry], path: str) -> ManifestEntry:
    wanted = portable_form(path)
    for file in files:
        if file.path == wanted:
            return file
    raise BadInput(Code.UNKNOWN_PATH, "there is no such file")
