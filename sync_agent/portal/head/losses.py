"""“Un poste est perdu ou volé”, on a head teacher's device: what it held, what it has said, and it is cut off.

Rules:
- the form is the command `lost`, with the same checks; with or without a server;
- what cuts somebody off asks to be meant: a box to tick beside the button;
- of the times since when it may have been in wrong hands those are offered of which something was noted here; of an
  earlier one the command alone takes all that a device ever said, and says so (`--anyway`);
- those come first that were reported, and count again by others' word (docs/adr/0178);
- none is called cut off that reads on by a right that no report here takes: it is told where, and who takes that
  (docs/adr/0546);
- whoever finds out later since when one that is cut off was in wrong hands says so here as well;
- shown are the devices of the school that this one may cut off, by what they call themselves and by three words of
  their key, which they cannot choose; as whose, each one's first right says, and beside it whom other rights name, and
  what lists once called them: of a laptop that is gone nobody can compare the words (docs/adr/0515).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final, TypeAlias

from aiohttp import web

from protocol.beside_words import beside_words
from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.replica.console.operation import JSON
from protocol.replica.office.arrivals import noted_since_ms
from protocol.replica.office.held_in_space import grants_not_undone
from protocol.replica.office.mentioned import MAX_NAMES_SHOWN
from protocol.replica.office.spaces import space_records
from protocol.replica.office.taken_names import once_otherwise
from protocol.replica.office.whose_device import whose_device
from protocol.rights.door import Door
from protocol.roles import DEVICES
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.head.school import enter_school
from sync_agent.school.device_names import key_words
from sync_agent.school.devices import counted_again
from sync_agent.school.office import SchoolOffice

MAX_PHRASES_SHOWN: Final = 10
_Rooms: TypeAlias = dict[bytes, dict[str, None]]
_SINCE: Final = {"24h": DAY_MS, "3d": 3 * DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS}


@dataclass(frozen=True, slots=True)
class Shown:
    """A device of the school: its name for itself, three words of its key, whose it is, where, when it last spoke.

    `reported` is the day of a report that was taken back since; `by_rank`, by a right that no report takes. `let_into`
    names classes into which it was let since, where the report itself stands. It `is_gone` where it is cut off; `kept`
    names classes that it reads all the same, by a right that no report here takes.
    `others` are called its owners by further rights, `once` is what lists called its person besides.
    """

    id: str
    name: str | None
    words: str
    role: str
    person: str | None
    rooms: tuple[str, ...]
    seen: str | None
    reported: str | None
    by_rank: bool
    let_into: str
    kept: str
    is_gone: bool
    others: str
    once: str

    @property
    def is_back(self) -> bool:
        """Whether it was cut off, and reads in the school."""
        return self.reported is not None or bool(self.kept)


class Losses:
    """Handlers; where this device runs no school, there are no such pages."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def show(self, request: web.Request) -> web.Response:
        """The school's devices."""
        visit, office = await enter_school(self._desk, request)
        return await self._list(visit, office)

    async def _list(self, visit: Visit, office: SchoolOffice, *, too_early: bool = False) -> web.Response:
        noted_ms = await noted_since_ms(office.replica.store, office.now_ms())
        offered = [] if noted_ms is None else [one for one, ago in _SINCE.items() if office.now_ms() - ago >= noted_ms]
        devices = await self._devices(visit, office)
        return self._desk.page(
            visit,
            "lost.html",
            status=HTTPStatus.BAD_REQUEST if too_early else HTTPStatus.OK,
            devices=[each for each in devices if not each.is_gone],
            gone=[each for each in devices if each.is_gone] if offered else [],
            since=["", *offered],
            noted=None if noted_ms is None else visit.say.day(noted_ms, visit.now_ms),
            too_early=too_early,
            is_short=len(offered) < len(_SINCE),
        )

    async def report(self, request: web.Request) -> web.Response:
        """One of them is lost."""
        fields = await self._desk.fields(request)
        visit, office = await enter_school(self._desk, request)
        if fields.get("meant") != "yes":
            raise BadInput(Code.USAGE, "what cannot be undone must be meant: tick the box")
        since = fields.get("since", "")
        since = since if since in _SINCE else ""
        try:
            told = await self._desk.do("lost", {"device": fields.get("device", ""), "since": since or None})
        except BadInput as refusal:
            if refusal.code is not Code.BAD_DATE:
                raise
            return await self._list(visit, office, too_early=True)
        words = key_words(bytes.fromhex(str(told["device"])), office.replica.door)
        copies, image, confirmed, besides = (
            _named_in(told[which], office.replica.door) for which in ("copies", "image", "confirmed", "besides")
        )
        days = _days(visit, told["phrases"])
        return self._desk.page(
            visit,
            "lost_report.html",
            told=told,
            words=words,
            copies=copies,
            image=image,
            confirmed=confirmed,
            besides=besides,
            phrases=days[:MAX_PHRASES_SHOWN],
            more_phrases=max(0, len(days) - MAX_PHRASES_SHOWN),
            sign_in_pages=[room.space.hex() for room in visit.classes],
            since=since,
        )

    async def _devices(self, visit: Visit, office: SchoolOffice) -> list[Shown]:
        """Those of lower rank, by their names; those that are cut off last."""
        names, reports = await office.device_names(), await office.reports_ms()
        rooms, cut_off_in, kept = await _where(visit, office)
        whose = {key: await whose_device(office.replica, key) for key in {**rooms, **cut_off_in}}
        once = await once_otherwise(office.replica, {each.person for each in whose.values() if each.person is not None})
        found = []
        taken_back = await counted_again(office)
        records = await space_records(office) if taken_back else {}
        for key, each in whose.items():
            seen_ms = reports.get(key)
            seen = None if seen_ms is None else visit.say.when(seen_ms, visit.now_ms)
            report = taken_back.get(key)
            reported = None if report is None else visit.say.when(report.said_ms, visit.now_ms)
            by_rank = report is not None and report.by_rank
            words, reads = key_words(key, office.replica.door), {**rooms.get(key, {}), **kept.get(key, {})}
            is_gone = key not in rooms and key not in kept
            where = tuple(cut_off_in[key] if is_gone else reads)
            into = () if report is None else report.let_into
            let_into = ", ".join(records[space].name if space in records else space.hex() for space in into)
            others = [visit.voice_of(other) or visit.say("unknown.person") for other in each.others]
            before = once.get(each.person or b"", [])
            reads_on = ", ".join(kept.get(key, ()))
            told = seen, reported, by_rank, let_into, reads_on, is_gone, _listed(others), _listed(before)
            person = visit.voice_of(each.person)
            found.append(Shown(key.hex(), names.get(key), words, each.role.value, person, where, *told))
        order = sorted(found, key=lambda each: (not each.is_back, each.person or "", each.name or "", each.id))
        return sorted(order, key=lambda each: each.is_gone)


async def _where(visit: Visit, office: SchoolOffice) -> tuple[_Rooms, _Rooms, _Rooms]:
    """The names of the classes in which each device reads, of those in which each is cut off, and of those it keeps.

    A device keeps what it reads by a right that this office does not take, where it is cut off elsewhere. What the
    root's word holds back was never given (docs/adr/0607).
    """
    rooms, cut_off_in, by_higher, door = _Rooms(), _Rooms(), _Rooms(), office.replica.door
    for grant in await grants_not_undone(office.replica, list(door.authorities())):
        # who has a right from further up is cut off in the whole school
        here = grant.space if office.governs(grant.space) else office.home
        if grant.role not in DEVICES or not door.covers(grant, here):
            continue
        is_in = (await office.replica.view(here)).roster.may_read(grant.key)
        if grant.rank >= office.rank and not is_in:
            continue
        found_in = by_higher if grant.rank >= office.rank else rooms if is_in else cut_off_in
        room = next((room for room in visit.rooms if room.space == grant.space), None)
        found_in.setdefault(grant.key, {}).update({} if room is None else {room.name: None})
    return rooms, cut_off_in, _kept(by_higher, cut_off_in)


def _kept(by_higher: _Rooms, cut_off_in: _Rooms) -> _Rooms:
    return {key: names for key, names in by_higher.items() if key in cut_off_in}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(beside_words(name) for name in names[:MAX_NAMES_SHOWN]))


def _days(visit: Visit, phrases: JSON) -> list[str]:
    """When each phrase that counts was drawn on a lost device, the latest first."""
    rows = [row for row in phrases if isinstance(row, dict) and row["counts"]] if isinstance(phrases, list) else []
    moments = [datetime.fromisoformat(str(row["drawn"])) for row in rows]
    return [visit.say.when(int(moment.timestamp() * 1000), visit.now_ms) for moment in moments]


def _named_in(rows: JSON, door: Door) -> dict[str, str]:
    """The devices of some rows, by three words of their key: so the page of losses lists them."""
    keys = [str(row["device"]) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return {key: key_words(bytes.fromhex(key), door) for key in keys}
