"""“Qui lit les travaux”: “Est-ce bien votre nouvel ordinateur ?”, “Était-ce bien vous ?”, and who else reads them.

Only a human's word, after comparing six words on both screens, gives a device keys or earlier work
(docs/protocol.md, "Confirmed devices").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from protocol.beside_words import beside_words
from protocol.errors import BadInput, Code
from protocol.replica.console import parameters as given
from sync_agent.app import Agent
from sync_agent.keys.confirming import (
    NOT_SHOWN,
    WAITS,
    YOURS,
    Reader,
    acknowledge,
    list_readers,
    own_device,
    own_grants,
    rows,
    words_of,
)
from sync_agent.keys.former_returns import FormerReturn, decline_former_return, list_former_returns
from sync_agent.keys.past_readers import PastReader, acknowledge_past, list_past_readers, one_past_reader
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.navigation import see
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.shown.shelf import Room
from sync_agent.space_names import space_names

ADDRESS: Final = "/readers"
MAX_SHOWN: Final = 20
"""Devices in each list of a page: of one's own, and of others'."""
MAX_NOTICES: Final = 10
"""Of each kind, on the home page."""
MAX_PLACE_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Shown:
    """A device, in the classes that it reads as that: what is said of it, and of whom.

    `news` are the classes in which nobody has looked at it as that, since `news_ms`; `was_there` says that it is news
    as one that read when these were met; `seen` is the id of just this row (`rows`), and that is all that a click
    on it is about. What `is_above` reads nothing but what lies above the classes of this device.
    """

    reader: Reader
    seen: str
    teacher: str
    rooms: tuple[str, ...]
    news: tuple[str, ...]
    news_ms: int
    was_there: bool
    is_above: bool

    @property
    def is_news(self) -> bool:
        """Whether there are any."""
        return bool(self.news)


def shown(visit: Visit, readers: Sequence[Reader]) -> list[Shown]:
    """One for each device and as what it is shown; it counts as confirmed, or said, once it is so in all of these."""
    found = []
    for seen, theirs in rows(readers).items():
        spaces, news = {reader.space for reader in theirs}, [reader for reader in theirs if reader.is_news]
        rooms = [room for room in visit.rooms if room.space in spaces]
        names = (room.voice_of(theirs[0].person) for room in rooms)
        found.append(
            Shown(
                min(theirs, key=lambda reader: (reader.confirmed, reader.state == WAITS, not reader.waits_for)),
                seen.hex(),
                beside_words(next((name for name in names if name is not None), visit.say("unknown.person"))),
                _called(rooms),
                _called(room for room in rooms if room.space in {reader.space for reader in news}),
                min((reader.since_ms or 0 for reader in news), default=0),
                # who came to one class since is told as new
                bool(news) and all(reader.was_there for reader in news),
                all(reader.is_above for reader in theirs),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Former:
    """A former device of which it is asked whether it was in the teacher's hands, and in which classes it spoke."""

    back: FormerReturn
    rooms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Past:
    """Somebody who could read for a time: who, by which computers, in which classes, on which days."""

    reader: PastReader
    who: str
    computers: str
    rooms: tuple[str, ...]
    days: str


async def past_shown(visit: Visit, agent: Agent, readers: Sequence[Reader]) -> list[Past]:
    """Those who could read and are not among the `readers`, as a page shows them.

    Also in what is no room of it: a class that is hidden by now, and what lies above hers.
    """
    past = await list_past_readers(agent, readers)
    names = await space_names(agent) if past else {}
    return [_past(visit, each, names) for each in past]


def _past(visit: Visit, reader: PastReader, names: Mapping[bytes, str]) -> Past:
    say = visit.say
    computers = ", ".join(dict.fromkeys(beside_words(name or say("unknown.device")) for _, name in reader.devices))
    who = beside_words(reader.called) if reader.called else say("readers.past_nobody")
    if reader.claimed:
        who = say("readers.past_claimed", name=who)
    first, last = (say.day(at_ms, visit.now_ms) for at_ms in (reader.first_ms, reader.last_ms))
    return Past(
        reader,
        say("readers.past_own", name=computers) if reader.mine else who,
        computers,
        tuple(beside_words(names.get(space, space.hex())) for space in reader.spaces),
        first if first == last else say("readers.past_days", first=first, last=last),
    )


@dataclass(frozen=True, slots=True)
class Notices:
    """Devices on the home page: how many may be the teacher's own, colleagues' that are new, and how many more.

    No device's own word stands there, and nothing to compare: that is the page's. This one itself may wait for others.
    `there` are the people who read already when this device met a class, by name with their classes.
    Then who could read for a time and was not looked at, and how many more of them.
    """

    asked: int
    news: Sequence[Shown]
    more: int
    waits_for: bool
    there: Sequence[str]
    there_more: int
    past: Sequence[Past]
    past_more: int


def notices_of(devices: Sequence[Shown], past: Sequence[Past]) -> Notices:
    """The first of each kind."""
    asked = sum(each.reader.state == YOURS for each in devices)
    others = [each for each in devices if not each.reader.mine and each.is_news]
    news = [each for each in others if not each.was_there]
    there = _by_teacher(each for each in others if each.was_there)
    waits_for = any(each.reader.is_this and each.reader.waits_for for each in devices)
    told = [each for each in past if each.reader.is_news]
    more, there_more, past_more = (max(0, len(some) - MAX_NOTICES) for some in (news, there, told))
    return Notices(
        asked,
        news[:MAX_NOTICES],
        more,
        waits_for,
        there[:MAX_NOTICES],
        there_more,
        told[:MAX_NOTICES],
        past_more,
    )


def _by_teacher(devices: Iterable[Shown]) -> list[str]:
    """Each name once, however many computers somebody has, with the classes."""
    rooms: defaultdict[tuple[bytes, str], dict[str, None]] = defaultdict(dict)
    for each in devices:
        rooms[each.reader.person, each.teacher].update(dict.fromkeys(each.news))
    return [f"{name} ({', '.join(where)})" for (_, name), where in rooms.items()]


async def home_notices(visit: Visit, agent: Agent) -> Notices:
    """What a teacher's home page says of who reads; nothing on anybody else's."""
    if not visit.teaches:
        return notices_of((), ())
    readers = await list_readers(agent)
    return notices_of(shown(visit, readers), await past_shown(visit, agent, readers))


class Readers:
    """Handlers, all of them for teachers' devices only."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._agent = desk.shelf.agent

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The teacher's devices, then the colleagues': so many of each from the place that is asked for."""
        visit = await self._desk.visit(request)
        readers = await list_readers(self._agent)
        devices = shown(visit, readers)
        past = await past_shown(visit, self._agent, readers)
        returns = await list_former_returns(self._agent)
        former = _former(visit, [each for each in returns if not each.is_declined])
        declined = _former(visit, [each for each in returns if each.is_declined])
        mine = [each for each in devices if each.reader.mine]
        others = [each for each in devices if not each.reader.mine]
        start = _place(request)
        end = start + MAX_SHOWN
        return self._desk.page(
            visit,
            "readers.html",
            former=former[start:end],
            declined=declined[start:end],
            most=MAX_SHOWN,
            mine=mine[start:end],
            has_one=len(mine) == 1,
            teaches=bool(await own_grants(self._agent)),
            unlisted=await _unlisted_words(self._agent, readers),
            others=others[start:end],
            nobody=not others and not any(each.reader.still for each in past),
            there=[each for each in others[start:end] if each.was_there],
            past=past[start:end],
            more=sum(max(0, len(some) - end) for some in (former, declined, mine, others, past)),
            next=f"{ADDRESS}?from={end}",
            words=await words_of(
                [
                    *(device for each in (*former[start:end], *declined[start:end]) for device in each.back.devices),
                    *(each.reader.pair for each in (*mine[start:end], *others[start:end])),
                    *(device for each in mine[start:end] for device, _ in each.reader.waits_for[:MAX_SHOWN]),
                ]
            ),
            done=request.query.get("done"),
        )

    async def act(self, request: web.Request) -> web.StreamResponse:
        """Confirm a device, or say that it has been seen; answer what is asked of a former one."""
        fields = await self._desk.fields(request)
        done = request.match_info["act"]
        match done:
            case "confirm" | "was-me":
                shown = {key: fields[key] for key in ("reader", "shown_as") if fields.get(key)}
                await self._desk.do("key-confirm", shown)
            case "not-me":
                asked = given.identifier(fields, "reader", Code.UNKNOWN_DEVICE, "device")
                await decline_former_return(self._agent, asked)
            case "seen":
                shown_now = {row.hex(): theirs for row, theirs in rows(await list_readers(self._agent)).items()}
                seen = [row for one in fields.get("rows", "").split(",")[:MAX_SHOWN] for row in shown_now.get(one, ())]
                if not seen:
                    raise BadInput(Code.UNKNOWN_DEVICE, NOT_SHOWN)
                await acknowledge(self._agent, seen)
            case "seen-past":
                reader = given.identifier(fields, "reader", Code.UNKNOWN_DEVICE, "device")
                readers = await list_readers(self._agent)
                await acknowledge_past(self._agent, await one_past_reader(self._agent, readers, reader))
                done = "seen"
            case _:
                raise web.HTTPNotFound
        return see(f"{ADDRESS}?done={done}")


async def _unlisted_words(agent: Agent, listed: Iterable[Reader]) -> str | None:
    """The six words of this computer, where no list has it: who lets it in by its id compares them."""
    pair = own_device(agent)
    return None if any(each.is_this for each in listed) else (await words_of([pair]))[pair]


def _former(visit: Visit, returns: Sequence[FormerReturn]) -> list[Former]:
    return [Former(each, _called(room for room in visit.rooms if room.space in each.spaces)) for each in returns]


def _called(rooms: Iterable[Room]) -> tuple[str, ...]:
    """Classes, as they are named beside six words."""
    return tuple(beside_words(room.name) for room in rooms)


def _place(request: web.Request) -> int:
    """From which device on; anything that is no place is the first."""
    given = request.query.get("from", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) <= MAX_PLACE_DIGITS else 0
