"""“Compte de nouveau”: what was held back and counts by a ruling, with whose word that is, until somebody has looked.

Which words these are, and for whom: `sync_agent.school.let_count`. On a teacher's device, and where a school is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from protocol.errors import Code
from protocol.model.entry import Entry
from protocol.replica.console import parameters as given
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.navigation import see
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.teacher.held_back import MAX_SHOWN, Shown, shown_word
from sync_agent.school.device_names import called_as, device_names, key_words
from sync_agent.school.let_count import LetCountWord, acknowledge_let_count, first_let_count, let_count_here

ADDRESS: Final = "/let-count"


@dataclass(frozen=True, slots=True)
class Ruled:
    """A word, as it is shown: said on which device, and by whose ruling, of which day, it counts."""

    word: LetCountWord
    said: Shown
    device: str
    day: str
    by: str


class LetCountPage:
    """Handlers, all of them for devices of teachers and heads only."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._agent = desk.shelf.agent

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The words at which nobody has looked here."""
        visit = await self._desk.visit(request)
        words = await let_count_here(self._agent)
        names = await device_names(self._agent) if words else {}
        shown = [self._ruled(visit, word, names) for word in await first_let_count(self._agent, words, MAX_SHOWN)]
        return self._desk.page(visit, "let_count.html", words=shown, more=len(words) - len(shown))

    async def seen(self, request: web.Request) -> web.StreamResponse:
        """Somebody has looked at what the page showed."""
        fields = await self._desk.fields(request)
        pairs = [pair.partition(":") for pair in fields.get("words", "").split(",")[:MAX_SHOWN]]
        await acknowledge_let_count(self._agent, {(_identifier(word), _identifier(by)) for word, _, by in pairs})
        return see("/")

    def _ruled(self, visit: Visit, word: LetCountWord, names: Mapping[bytes, str | None]) -> Ruled:
        ruling = word.ruling
        return Ruled(
            word,
            shown_word(visit, word.entry),
            self._called(visit, word.entry, names),
            visit.say.day(ruling.timestamp_ms, visit.now_ms),
            visit.said_by(self._desk.shelf, ruling.header.author, ruling.header.grant),
        )

    def _called(self, visit: Visit, said: Entry, names: Mapping[bytes, str | None]) -> str:
        """What people know the device by that said something: as whose it was let in, and words that nobody chooses."""
        door, key = self._agent.replica.door, said.header.author
        given = door.authority(said.header.grant)
        persons = () if given is None or given.person is None else (room.voice_of(given.person) for room in visit.rooms)
        return called_as(names.get(key), next(filter(None, persons), None), key_words(key, door))


def _identifier(text: str) -> bytes:
    return given.identifier({"word": text}, "word", Code.USAGE, "entry")
