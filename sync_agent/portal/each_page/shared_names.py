"""Of a class whose name another has, or had: since when each is there, by whose word, and what it was called (0533).

Whoever has a copy of the server's key makes a class of another's name, lists the same people there, and chooses every
date: which class came to this computer first, and by whose word each is there, they do not choose. Nor does a class
that they hide for a moment lose its names: it is told of as hidden (0596).
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass

from blake3 import blake3

from protocol.beside_words import beside_words
from protocol.model.entry import Entry
from protocol.replica.office.mentioned import MAX_NAMES_SHOWN
from protocol.replica.office.space_namesakes import NamedClass, SharedName, shared_names
from protocol.replica.office.spaces import is_hidden
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.shown.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of a class: of itself, then of the others; who says its name is the author of `said`."""

    name: str
    lines: tuple[str, ...]
    said: Entry

    @property
    def seen(self) -> str:
        """What a yes is about."""
        return blake3(repr((self.name, self.lines)).encode()).hexdigest(length=16)


async def told_of_names(
    visit: Visit,
    shelf: Shelf,
    shown: Collection[bytes],
    home: bytes | None = None,
    among: Container[bytes] | None = None,
) -> Mapping[bytes, Told]:
    """What is told of each of the classes `shown` whose name another has, or had: as `shared_names`."""
    shared = await shared_names(shelf.agent.replica, shown, visit.now_ms, home, among)
    return {space: await _told(visit, shelf, each) for space, each in shared.items()}


async def _told(visit: Visit, shelf: Shelf, shared: SharedName) -> Told:
    classes = (shared.this, *shared.others[:MAX_NAMES_SHOWN])
    hidden = {each.id for each in classes if await is_hidden(shelf.agent.replica, each.id)}
    first = min(shared.this.place, *(each.place for each in shared.others))
    lines = tuple(
        _line(visit, shelf, each, is_this=each is shared.this, first=first, is_hidden=each.id in hidden)
        for each in classes
    )
    more = ("…",) if len(shared.others) > MAX_NAMES_SHOWN else ()
    return Told(shared.this.now, lines + more, shared.this.said)


def _line(visit: Visit, shelf: Shelf, each: NamedClass, *, is_this: bool, first: int, is_hidden: bool) -> str:
    say = visit.say
    parts = [say("school.shared_this") if is_this else say("school.shared_other", name=beside_words(each.now))]
    parts += [say("school.shared_hidden")] if is_hidden else []
    parts += [say("school.shared_first")] if each.place == first else []
    parts.append(_word(visit, shelf, "school.shared_made", each.made))
    if each.said.id != each.made.id:
        parts.append(_word(visit, shelf, "school.shared_named", each.said))
    if each.once:
        parts.append(say("school.double_once", names=", ".join(each.once[:MAX_NAMES_SHOWN])))
    return " · ".join(parts)


def _word(visit: Visit, shelf: Shelf, key: str, said: Entry) -> str:
    is_own = said.header.author == shelf.agent.device
    by = visit.say("school.by_this") if is_own else visit.said_by(shelf, said.header.author, said.header.grant)
    return visit.say(key, day=visit.say.day(said.timestamp_ms, visit.now_ms), by=by)
