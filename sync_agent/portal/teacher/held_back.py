"""“Mis de côté”: what was said on this computer and is held back, so that she says it again, or has it let count.

What these words are, and when they are news no more: `sync_agent.school.held_back`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from aiohttp import web

from protocol.errors import Code, PeerFault
from protocol.folds.coursework import item_named, work_named
from protocol.model.entry import Entry, Kind
from protocol.model.work import Feedback, Revision
from protocol.replica.console import parameters as given
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.navigation import see
from sync_agent.portal.each_page.visit import Visit
from sync_agent.school.held_back import TOPICS, HeldWord, acknowledge_held_back, own_held_back

ADDRESS: Final = "/held-back"
MAX_SHOWN: Final = 50
_MAX_QUOTED_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class Shown:
    """A word as a page shows it: what it is, where she says it again, about whom or what, and the words themselves."""

    topic: str
    link: str | None
    name: str | None
    title: str | None
    text: str
    at_ms: int


class HeldBack:
    """Handlers, all of them for teachers' devices only."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._agent = desk.shelf.agent

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The words: first those at which nobody has looked, each newest first."""
        visit = await self._desk.visit(request)
        words = sorted(await own_held_back(self._agent), key=lambda word: word.seen)
        return self._desk.page(
            visit,
            "held_back.html",
            words=[(word, shown_word(visit, word.entry)) for word in words[:MAX_SHOWN]],
            more=max(0, len(words) - MAX_SHOWN),
            is_news=any(not word.seen for word in words),
        )

    async def seen(self, request: web.Request) -> web.StreamResponse:
        """She has looked at what the page showed: the first page tells no more of these, and of what came since."""
        fields = await self._desk.fields(request)
        shown = [
            given.identifier({"word": one}, "word", Code.USAGE, "entry")
            for one in fields.get("words", "").split(",")[:MAX_SHOWN]
        ]
        await acknowledge_held_back(self._agent, frozenset(shown))
        return see("/")


def news_of(words: Sequence[HeldWord]) -> int:
    """Of how many words the first page tells."""
    return sum(not word.seen for word in words)


def shown_word(visit: Visit, entry: Entry) -> Shown:
    """A word, by what its class knows of what it is about."""
    title, text = _said(entry)
    shown = Shown(TOPICS[entry.header.kind], None, None, title, text, entry.timestamp_ms)
    room = next((room for room in visit.rooms if room.space == entry.header.space), None)
    if room is None:
        return shown
    work = room.coursework.hand_ins.get(work_named(entry) or b"")
    item = room.coursework.items.get((item_named(entry) if work is None else work.item) or b"")
    link = None
    if work is not None:
        link = f"/work/{work.id.hex()}"
    elif item is not None:
        link = f"/item/{item.id.hex()}"
    elif entry.header.kind == Kind.SIGN_IN:
        link = f"/sign-ins/{room.space.hex()}"
    name = None if entry.header.subject is None else visit.pupil(room, entry.header.subject)
    return replace(shown, link=link, name=name, title=title or (None if item is None else item.shown.record.title))


def _said(entry: Entry) -> tuple[str | None, str]:
    """The title that a version gives an item; the words of an answer, or their beginning."""
    try:
        match entry.header.kind:
            case Kind.REVISION:
                return Revision.parse(entry.payload or b"").title, ""
            case Kind.FEEDBACK:
                answer = Feedback.parse(entry.payload or b"")
                said = " · ".join(each for each in (answer.mark, answer.text) if each)
                return None, said if len(said) <= _MAX_QUOTED_CHARS else f"{said[:_MAX_QUOTED_CHARS]}…"
    except PeerFault:
        pass
    return None, ""
