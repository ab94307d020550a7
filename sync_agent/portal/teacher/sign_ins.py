"""Sign-in of a class, on a teacher's device: on or off, three pictures or a code for each pupil, cards to print, locks.

Rules:
- pictures are drawn by the machine, shown once on cards to print, and kept nowhere in clear;
- everything here works with no network, and reaches the class's machines by whatever path comes first;
- a lock is a machine's word, and is shown with whose: one that locks pupils for fun is found, and cut off;
- whose secret a computer could open that is lost is named until another one is set (docs/adr/0281);
- so is whose is held back: the computer that had set it says it again, or any other draws (docs/adr/0312);
- nobody whose name, number or place was another's gets any before a box in their row says that they are meant, under
  the names that the page showed; what draws for many leaves them out (docs/adr/0528, 0530).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from aiohttp import web

from protocol.errors import BadInput, Code, Refused
from protocol.folds.sign_in import Method
from protocol.model.entry import Kind
from protocol.replica.console import parameters as given
from protocol.replica.office.whose_device import whose_device
from protocol.rights.roster import Person
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.navigation import see
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.shown.shelf import Room
from sync_agent.school.device_names import called_as, key_words, names_seen
from sync_agent.school.sign_in import drawn_pictures
from sync_agent.school.whose_sign_in import Asked, asked_about

MAX_LOST_NAMED: Final = 5
_CODES: Final = {"pin": Method.PIN, "password": Method.PASSWORD}


class ClassSignIns:
    """Handlers, all of them for teachers' devices only."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._book = desk.shelf.sign_in

    async def show(self, request: web.Request) -> web.Response:
        """Who signs in with what; without a class of that name, there is no such page."""
        visit = await self._desk.visit(request)
        return await self._page(visit, await self._room(visit, request), done=request.query.get("done"))

    async def switch(self, request: web.Request) -> web.Response:
        """On, which draws pictures for who has nothing yet, or off."""
        fields = await self._desk.fields(request)
        visit = await self._desk.visit(request)
        room = await self._room(visit, request)
        on = fields.get("on") == "yes"
        cards = await self._draw(room, await self._sure(room, await self._without(room))) if on else ()
        await self._book.switch(room.space, on=on)
        return await self._page(visit, room, cards=cards, done="on" if on else "off")

    async def draw(self, request: web.Request) -> web.Response:
        """New pictures for one pupil, for all whose secret a lost computer could open, or who have nothing yet."""
        fields = await self._desk.fields(request)
        visit = await self._desk.visit(request)
        room = await self._room(visit, request)
        if fields.get("person"):
            chosen = [self._pupil(room, fields)]
            if not await self._is_meant(room, chosen[0], fields):
                return await self._page(visit, room, unsure=chosen[0])
        else:
            chosen = await self._sure(room, await self._chosen(room, fields))
        return await self._page(visit, room, cards=await self._draw(room, chosen), done="drawn" if chosen else None)

    async def set(self, request: web.Request) -> web.Response:
        """A PIN or a password for one pupil."""
        fields = await self._desk.fields(request)
        visit = await self._desk.visit(request)
        room = await self._room(visit, request)
        method = _CODES.get(fields.get("method", ""))
        if method is None:
            raise BadInput(Code.USAGE, "a PIN or a password is set here")
        pupil = self._pupil(room, fields)
        if not await self._is_meant(room, pupil, fields):
            return await self._page(visit, room, unsure=pupil)
        await self._book.set(room.space, {pupil.id: (method, fields.get("secret", ""))})
        return see(f"/sign-ins/{room.space.hex()}?done=set")

    async def say_again(self, request: web.Request) -> web.Response:
        """What was set on this computer, and is held back, is good."""
        await self._desk.fields(request)
        visit = await self._desk.visit(request)
        room = await self._room(visit, request)
        await self._book.say_again(room.space)
        return see(f"/sign-ins/{room.space.hex()}?done=again")

    async def unlock(self, request: web.Request) -> web.Response:
        """Let a pupil try again."""
        fields = await self._desk.fields(request)
        visit = await self._desk.visit(request)
        room = await self._room(visit, request)
        await self._book.unlock(room.space, self._pupil(room, fields).id)
        return see(f"/sign-ins/{room.space.hex()}?done=unlocked")

    async def _room(self, visit: Visit, request: web.Request) -> Room:
        """The class of the address, where this device may set its sign-in. Raises `BadInput(UNKNOWN_SPACE)`."""
        wanted = given.identifier(request.match_info, "space", Code.UNKNOWN_SPACE, "space")
        room = next((room for room in visit.classes if room.space == wanted), None)
        if room is not None:
            try:
                await self._desk.shelf.agent.right(wanted, Kind.SIGN_IN)
            except Refused:
                room = None
        if room is None:
            raise BadInput(Code.UNKNOWN_SPACE, "this device sets no sign-in there")
        return room

    def _pupil(self, room: Room, fields: Mapping[str, str]) -> Person:
        wanted = given.person(fields, "person")
        found = next((pupil for pupil in room.pupils if pupil.id == wanted), None)
        if found is None:
            raise BadInput(Code.UNKNOWN_PERSON, "nobody on this class list has that id")
        return found

    async def _without(self, room: Room) -> list[Person]:
        persons = (await self._book.of(room.space)).persons
        return [pupil for pupil in room.pupils if pupil.id not in persons or not persons[pupil.id].is_set]

    async def _chosen(self, room: Room, fields: Mapping[str, str]) -> list[Person]:
        """Whom the button is about that was pressed."""
        if fields.get("undone"):
            return await self._undone(room)
        return await (self._opened(room) if fields.get("opened") else self._without(room))

    async def _undone(self, room: Room) -> list[Person]:
        in_doubt = (await self._book.of(room.space)).in_doubt
        return [pupil for pupil in room.pupils if pupil.id in in_doubt]

    async def _opened(self, room: Room) -> list[Person]:
        opened = await self._book.opened_by_gone(room.space)
        return [pupil for pupil in room.pupils if pupil.id in opened]

    async def _asked(self, room: Room) -> Mapping[bytes, Asked]:
        return await asked_about(self._desk.shelf.agent, room.roster)

    async def _sure(self, room: Room, pupils: Sequence[Person]) -> list[Person]:
        """Those of these about whom nothing is asked."""
        asked = await self._asked(room)
        return [pupil for pupil in pupils if pupil.id not in asked]

    async def _is_meant(self, room: Room, pupil: Person, fields: Mapping[str, str]) -> bool:
        """Whether nothing is asked about a pupil, or it was said of the very names that the list has by now."""
        why = (await self._asked(room)).get(pupil.id)
        return why is None or fields.get("meant") == _yes(room, pupil, why)

    async def _draw(self, room: Room, pupils: Sequence[Person]) -> Sequence[tuple[Person, list[int]]]:
        """Pictures for each, and what to print."""
        drawn = {pupil.id: drawn_pictures(self._desk.shelf.agent.entropy) for pupil in pupils}
        if drawn:
            await self._book.set(room.space, {person: (Method.PICTURES, text) for person, text in drawn.items()})
        return [(pupil, [int(part) for part in drawn[pupil.id].split("-")]) for pupil in pupils]

    async def _page(
        self,
        visit: Visit,
        room: Room,
        *,
        cards: Sequence[tuple[Person, list[int]]] = (),
        done: str | None = None,
        unsure: Person | None = None,
    ) -> web.Response:
        sign_ins = await self._book.of(room.space)
        opened = await self._book.opened_by_gone(room.space)
        lost = list(dict.fromkeys(device for pupil in room.pupils for device in opened.get(pupil.id, ())))
        locked_by = [device for each in sign_ins.persons.values() for device in each.locked_by]
        called = await self._called(room, [*lost, *locked_by])
        beside = [device for device in lost if device not in room.roster.cut]
        lost = [device for device in lost if device in room.roster.cut]
        asked, rows = await self._asked(room), []
        for pupil in room.pupils:
            mine = sign_ins.persons.get(pupil.id)
            method = await self._book.method(room.space, pupil.id) if mine is not None and mine.is_set else None
            known = "unset" if mine is None or not mine.is_set else "unknown" if method is None else method.name.lower()
            known = "undone" if pupil.id in sign_ins.in_doubt else known
            locked = [] if mine is None else [called(each) for each in mine.locked_by]
            why = asked.get(pupil.id)
            yes = None if why is None else _yes(room, pupil, why)
            rows.append({"pupil": pupil, "method": known, "locked": locked, "asked": why, "yes": yes})
        return self._desk.page(
            visit,
            "sign_ins.html",
            room=room,
            names=room.whole_names,
            on=sign_ins.on,
            unsettled=bool(sign_ins.unsettled),
            undone=await self._undone(room),
            own_undone=await self._book.own_undone(room.space),
            rows=rows,
            opened=[pupil for pupil in room.pupils if pupil.id in opened],
            lost=[called(device) for device in lost[:MAX_LOST_NAMED]],
            more_lost=len(lost) > MAX_LOST_NAMED,
            beside=[called(device) for device in beside[:MAX_LOST_NAMED]],
            more_beside=len(beside) > MAX_LOST_NAMED,
            asked_about=asked,
            unsure=unsure,
            cards=cards,
            done=done if rows else None,
        )

    async def _called(self, room: Room, devices: Collection[bytes]) -> Callable[[bytes], str]:
        """What these computers are called: by their own word, by whose they are, by words that they did not choose."""
        agent = self._desk.shelf.agent
        names, door = await names_seen(agent, devices), agent.replica.door
        whose = {device: (await whose_device(agent.replica, device)).person for device in devices}

        def called(device: bytes) -> str:
            return called_as(names.get(device), room.voice_of(whose[device]), key_words(device, door))

        return called


def _yes(room: Room, pupil: Person, why: Asked) -> str:
    """What the box of a pupil's row says: whom the page showed, and what it said of them (docs/adr/0517)."""
    return json.dumps([room.whole_names[pupil.id], *why.once, *why.lost], ensure_ascii=False)
