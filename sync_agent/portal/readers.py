"""“Qui lit les travaux”: “Est-ce bien votre nouvel ordinateur ?”, and the colleagues who read a class's work.

Only a human's word, after comparing six words on both screens, gives a device keys or earlier work
(docs/protocol.md, "Confirmed devices").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from protocol.errors import BadInput, Code
from protocol.replica import parameters as given
from sync_agent.confirming import Reader, acknowledge, list_readers, own_grants
from sync_agent.portal.desk import Desk
from sync_agent.portal.navigation import see
from sync_agent.portal.visit import Visit

ADDRESS: Final = "/readers"


@dataclass(frozen=True, slots=True)
class Shown:
    """A device, in the classes that it reads: what is said of it, and of whom."""

    reader: Reader
    teacher: str
    rooms: tuple[str, ...]
    is_news: bool


def shown(visit: Visit, readers: Sequence[Reader]) -> list[Shown]:
    """One for each device, whatever the number of classes; it counts as confirmed once it is so in all of them."""
    found = []
    for one in dict.fromkeys(reader.id for reader in readers):
        theirs = [reader for reader in readers if reader.id == one]
        rooms = [room for room in visit.rooms if any(reader.space == room.space for reader in theirs)]
        names = (room.name_of(theirs[0].person) for room in rooms)
        found.append(
            Shown(
                min(theirs, key=lambda reader: reader.confirmed),
                next((name for name in names if name is not None), visit.say("unknown.person")),
                tuple(room.name for room in rooms),
                any(reader.is_news for reader in theirs),
            )
        )
    return found


class Readers:
    """Handlers, all of them for teachers' devices only."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._agent = desk.shelf.agent

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The teacher's devices, then the colleagues'."""
        visit = await self._desk.visit(request)
        devices = shown(visit, await list_readers(self._agent))
        return self._desk.page(
            visit,
            "readers.html",
            mine=[each for each in devices if each.reader.mine],
            teaches=bool(await own_grants(self._agent)),
            others=[each for each in devices if not each.reader.mine],
            done=request.query.get("done"),
        )

    async def act(self, request: web.Request) -> web.StreamResponse:
        """Confirm a device, or say that it has been seen."""
        fields = await self._desk.fields(request)
        match request.match_info["act"]:
            case "confirm":
                shown = {key: fields.get(key, "") for key in ("reader", "shown_as")}
                await self._desk.do("key-confirm", shown)
            case "seen":
                reader = given.identifier(fields, "reader", Code.UNKNOWN_DEVICE, "device")
                if all(each.id != reader for each in await list_readers(self._agent)):
                    raise BadInput(Code.UNKNOWN_DEVICE, "no such device teaches in a class of this one")
                await acknowledge(self._agent, reader)
            case _:
                raise web.HTTPNotFound
        return see(f"{ADDRESS}?done={request.match_info['act']}")
