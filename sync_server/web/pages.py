"""The administrators' pages: which address shows what, and to whom.

Every page is whole without scripts; with them, `live` tells an open page to fetch itself again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from http import HTTPStatus
from typing import Final, ParamSpec, TypeVar

from aiohttp import web

from protocol.errors import BadInput, LocalFailure, RelaisError
from protocol.model.entry import Entry
from protocol.replica.at_work.replica import Entropy
from protocol.replica.office.erasures import closed_by_kit
from protocol.replica.office.grants import confirm_clone, is_listed_but_revoked, passed_on_now
from protocol.replica.office.names import device_id, entry_id
from protocol.replica.office.spaces import shown_by_id, space_records
from sync_server.config import RunConfig
from sync_server.handlers.by_kit.came_after_closing import closing_notices
from sync_server.handlers.by_kit.held_rights import words_of
from sync_server.handlers.by_kit.not_closed import not_closed_notices
from sync_server.handlers.by_kit.waiting import list_waiting, rule, waiting_notices
from sync_server.handlers.overview.device_query import matching, select, tally, versions_of, worst
from sync_server.handlers.overview.devices import Device, DeviceState
from sync_server.handlers.overview.figures import last_backup_ms
from sync_server.handlers.overview.schools import SchoolQuery, class_rows, school_rows, select_schools
from sync_server.handlers.overview.survey import Snapshot, Survey
from sync_server.handlers.record.erasures import erasure_notices
from sync_server.handlers.record.late_rights import late_right_notices
from sync_server.handlers.record.overused_codes import overused_notices
from sync_server.handlers.store.notices import backup_notices, key_notices, notices
from sync_server.handlers.store.restored import restored
from sync_server.web import addresses
from sync_server.web.acts_shown import EXPORT, MAX_TOLD_BROKEN, ActView, Shown, told_id
from sync_server.web.door import Door
from sync_server.web.exports import as_csv, as_json
from sync_server.web.live import Live
from sync_server.web.reception import LANGUAGE_COOKIE, Form, Reception, Visit, guarded, leads_to, mark_of
from sync_server.web.sign_in_pages import SignInPages
from sync_server.web.signing_in import Sessions
from sync_server.web.views import DeviceView, WaitingView, class_views, moment, notice_of, school_name, school_views
from sync_server.web.wording import CATALOGUES, Words

MANY_DEVICES: Final = 10_000
FIRST_DEVICES: Final = 10
FIRST_SCHOOLS: Final = 5
MAX_LISTED_SCHOOLS: Final = 300
STILL_THERE_EVERY_S: Final = 15.0
_YEAR_S: Final = 366 * 24 * 3600

P = ParamSpec("P")
T = TypeVar("T")


class Pages:
    """The pages of one server. `clock_s` is a monotonic clock; `on_failure` hears of failures of this machine."""

    def __init__(
        self,
        survey: Survey,
        config: RunConfig,
        *,
        entropy: Entropy,
        clock_s: Callable[[], float],
        on_failure: Callable[[LocalFailure], None],
    ) -> None:
        self._survey = survey
        self._server = survey.server
        self._reception = Reception(self._server, Door(config), Sessions(entropy, clock_s), on_failure=on_failure)
        self._sign_in_pages = SignInPages(self._server, self._reception, entropy=entropy, clock_s=clock_s)
        self._live = Live(survey, clock_s)

    def add_to(self, app: web.Application) -> None:
        """Let the listener serve the pages."""
        add, add_post = app.router.add_get, app.router.add_post
        public, private, deed = self._reception.public, self._reception.private, self._reception.deed
        add("/", _to_the_pages)
        add(addresses.ROOT.rstrip("/"), _to_the_pages)
        add(addresses.ROOT, private(self._overview))
        add(addresses.DEVICES, private(self._devices))
        add(f"{addresses.DEVICES}.csv", private(partial(self._export, as_csv, "csv"), leads=False, looked_up=EXPORT))
        add(f"{addresses.DEVICES}.json", private(partial(self._export, as_json, "json"), leads=False, looked_up=EXPORT))
        add(f"{addresses.DEVICES}/{{device}}", private(self._device))
        add_post(f"{addresses.DEVICES}/{{device}}/confirm", deed(self._confirm, _confirming))
        add(addresses.SCHOOLS, private(self._schools))
        add(f"{addresses.SCHOOLS}/{{uai}}", private(self._school))
        add(addresses.WAITING, private(self._waiting, looked_up="look at what waits"))
        add_post(addresses.WAITING, deed(self._rule, _ruling))
        add(addresses.AUDIT, private(self._audit))
        add(addresses.LIVE, private(self._watch, leads=False), allow_head=False)
        add(addresses.LANGUAGE, public(self._choose_language))
        add(f"{addresses.STATIC}/{{name}}", public(self._static))
        self._sign_in_pages.add_to(app)
        add(f"{addresses.ROOT}{{rest:.*}}", private(self._nothing))

    async def close(self) -> None:
        """Send everybody away."""
        await self._live.close()
        await self._survey.close()

    # --- the pages ----------------------------------------------------------------------------------------------------

    async def _overview(self, visit: Visit) -> web.StreamResponse:
        found = await self._survey.snapshot()
        rows = await _apart(found, school_rows, found)
        schools = select_schools([row for row in rows if row.standing.needing], SchoolQuery())
        backup_ms = await last_backup_ms(self._server)
        came = [device.heard.enrolled_ms for device in found.devices if device.heard.enrolled_ms is not None]
        said = [
            *await key_notices(self._server),
            *notices(self._server),
            *backup_notices(backup_ms, min(came, default=None), self._server.now_ms()),
        ]
        if (old := await restored(self._server)) is not None:
            said.append(old.notice)
        said += [*await erasure_notices(self._server), *await late_right_notices(self._server)]
        said += [*await overused_notices(self._server), *await closing_notices(self._server)]
        said += [*await waiting_notices(self._server), *await not_closed_notices(self._server)]
        return self._reception.html(
            visit,
            "overview.html",
            "overview.title",
            found,
            counts=tally(found),
            total=len(found.devices),
            school_count=len(rows),
            needing=len(found.needing),
            first=_device_views(await _apart(found, worst, found, FIRST_DEVICES), found, visit.words),
            schools=school_views(schools.rows[:FIRST_SCHOOLS], visit.words),
            notices=[notice_of(visit.words, notice) for notice in said],
            backup=moment(visit.words, backup_ms),
            free=visit.words.size(await self._server.replica.content.free_bytes()),
            pending=sum(len(awaited.hand_ins) for awaited in found.awaited.values()),
            conflicts=sum(awaited.conflicts for awaited in found.awaited.values()),
        )

    async def _devices(self, visit: Visit) -> web.StreamResponse:
        found = await self._survey.snapshot()
        asked = visit.request.query
        query = addresses.device_query_of(asked, asked.getall("state", []))
        selection = await _apart(found, select, found, query)
        schools = list(found.places.schools)
        return self._reception.html(
            visit,
            "devices.html",
            "devices.title",
            found,
            query=query,
            selection=selection,
            rows=_device_views(selection.rows, found, visit.words),
            schools=[school_name(found, uai) for uai in schools] if len(schools) <= MAX_LISTED_SCHOOLS else None,
            versions=await _apart(found, versions_of, found),
            address=partial(addresses.devices_address, query),
        )

    async def _device(self, visit: Visit) -> web.StreamResponse:
        found = await self._survey.snapshot()
        device = _device_named(found, visit.request.match_info["device"])
        if device is None:
            return self._reception.problem(visit, HTTPStatus.NOT_FOUND, "device.gone")
        view = DeviceView(device, found, visit.words)
        stays_out = device.state is DeviceState.RETIRED and await is_listed_but_revoked(self._server, device.id)
        passed_on = await passed_on_now(self._server, device.id) if view.awaits_confirmation else ()
        is_in = dict.fromkeys(each.space for each in passed_on)
        return self._reception.html(
            visit,
            "device.html",
            "device.title",
            found,
            title_facts={"name": view.label},
            device=view,
            stays_out=stays_out,
            confirmed_in=dict(zip(map(bytes.hex, is_in), await self._places_of(is_in, visit.words), strict=True)),
        )

    async def _places_of(self, spaces: Iterable[bytes], words: Words) -> list[str]:
        return await shown_by_id(self._server, spaces, words("device.everywhere"), words("device.quoted"))

    async def _confirm(self, visit: Visit, form: Form) -> web.StreamResponse:
        """A person says that a clone belongs here: into the spaces that its page has shown them, and no other."""
        device = _device_named(await self._survey.snapshot(), visit.request.match_info["device"])
        if device is None or device.clone_of is None:
            return self._reception.problem(visit, HTTPStatus.NOT_FOUND, "device.gone")
        try:
            await confirm_clone(self._server, device.id, within=_shown_spaces(form))
        except BadInput:
            return self._reception.problem(visit, HTTPStatus.CONFLICT, "device.copy_is_out")
        await self._survey.snapshot(whole=True)
        return leads_to(addresses.device_address(device.id))

    async def _waiting(self, visit: Visit, wrong: str | None = None) -> web.StreamResponse:
        """What came from devices after they were cut off, and waits for somebody to judge."""
        found = await self._survey.snapshot()
        waiting = await list_waiting(self._server)
        words = await words_of(self._server, {each.entry.id: each.gives for each in waiting})
        places = {space: record.name for space, record in (await space_records(self._server)).items()}
        places[self._server.replica.territory] = visit.words("device.everywhere")
        rows = []
        for each in waiting:
            place, author = places.get(each.entry.header.space), await self._author(each.entry)
            rows.append(WaitingView(each, found, visit.words, words.get(each.entry.id), place, author))
        return self._reception.html(visit, "waiting.html", "waiting.title", rows=rows, wrong=wrong)

    async def _author(self, entry: Entry) -> str | None:
        """What the list calls, or called last, whose device said this, as it was let in; None of a shared one."""
        given = self._server.replica.door.authority(entry.header.grant)
        if given is None or given.person is None:
            return None
        person = (await self._server.replica.view(entry.header.space)).roster.named(given.person)
        return None if person is None else person.name

    async def _rule(self, visit: Visit, form: Form) -> web.StreamResponse:
        """A person accepts or refuses it."""
        said, named = _ruled(form), form.get("id", "")
        try:
            ruled = await rule(self._server, [entry_id(named)], accept=said == "accept")
        except BadInput:
            return await self._waiting(visit, visit.words("waiting.gone"))
        if ruled.beyond:
            return await self._waiting(visit, visit.words("waiting.by_kit", command=f"{said} {named}"))
        return leads_to(addresses.WAITING)

    async def _audit(self, visit: Visit) -> web.StreamResponse:
        """Who had this server do what: the newest lines, or those before one."""
        found = await asyncio.to_thread(Shown.of, await self._server.acts.raw(), visit.request.query.get("before", ""))
        return self._reception.html(
            visit,
            "audit.html",
            "audit.title",
            rows=[ActView(line, visit.words) for line in found.lines],
            broken=None if not found.broken else ", ".join(map(str, found.broken[:MAX_TOLD_BROKEN])),
            before=found.before,
        )

    async def _schools(self, visit: Visit) -> web.StreamResponse:
        found = await self._survey.snapshot()
        query = addresses.school_query_of(visit.request.query)
        selection = select_schools(await _apart(found, school_rows, found), query)
        return self._reception.html(
            visit,
            "schools.html",
            "schools.title",
            found,
            query=query,
            selection=selection,
            rows=school_views(selection.rows, visit.words),
            address=partial(addresses.schools_address, query),
        )

    async def _school(self, visit: Visit) -> web.StreamResponse:
        found = await self._survey.snapshot()
        uai = visit.request.match_info["uai"]
        row = next((row for row in await _apart(found, school_rows, found) if row.uai == uai), None)
        if row is None:
            return self._reception.problem(visit, HTTPStatus.NOT_FOUND, "school.gone")
        (view,) = school_views([row], visit.words)
        return self._reception.html(
            visit,
            "school.html",
            "school.title",
            found,
            title_facts={"name": view.school.label},
            school=view,
            counts=row.standing.counts,
            total=row.standing.devices,
            classes=class_views(class_rows(found, uai), visit.words),
            closed={space.hex() for space in await closed_by_kit(self._server.replica)},
        )

    async def _nothing(self, visit: Visit) -> web.StreamResponse:
        return self._reception.problem(visit, HTTPStatus.NOT_FOUND, "problem.missing")

    # --- what programs fetch ------------------------------------------------------------------------------------------

    async def _export(
        self, write: Callable[[Sequence[Device], Snapshot], Iterator[str]], ending: str, visit: Visit
    ) -> web.StreamResponse:
        """All rows that the filters take, whatever the page."""
        found = await self._survey.snapshot()
        asked = visit.request.query
        query = addresses.device_query_of(asked, asked.getall("state", []))
        devices = await _apart(found, matching, found, query)
        day = f"{visit.words.moment(found.now_ms):%Y-%m-%d}"
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/csv; charset=utf-8" if ending == "csv" else "application/json",
                "Content-Disposition": f'attachment; filename="relais-devices-{day}.{ending}"',
            }
        )
        guarded(response)
        response.enable_compression()
        await response.prepare(visit.request)
        for part in write(devices, found):
            await response.write(part.encode(errors="replace"))
        await response.write_eof()
        return response

    async def _watch(self, visit: Visit) -> web.StreamResponse:
        """Server-sent events: `changed` when the page should fetch itself again, `ended` with the session."""
        if self._live.is_full:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        # a proxy that gathers what passes would hold the news back
        response.headers["X-Accel-Buffering"] = "no"
        guarded(response)
        await response.prepare(visit.request)
        with self._live.watching() as watcher, contextlib.suppress(ConnectionError):
            await response.write(b"retry: 3000\n\n")
            if visit.request.query.get("mark") != mark_of(await self._survey.snapshot()):
                watcher.tell()
            async for told in watcher.news(STILL_THERE_EVERY_S):
                if await self._reception.session(visit.request) is None:
                    await response.write(b"event: ended\ndata:\n\n")
                    break
                await response.write(b"event: changed\ndata:\n\n" if told else b": still there\n\n")
            await response.write_eof()
        return response

    async def _choose_language(self, visit: Visit) -> web.StreamResponse:
        response = leads_to(addresses.own_address(visit.request.query.get("next")))
        chosen = visit.request.query.get("to", "")
        if chosen in CATALOGUES.languages:
            response.set_cookie(LANGUAGE_COOKIE, chosen, path="/", max_age=_YEAR_S, httponly=True, samesite="Strict")
        return response

    async def _static(self, visit: Visit) -> web.StreamResponse:
        file = self._reception.rendering.files.get(visit.request.match_info["name"])
        if file is None:
            return self._reception.problem(visit, HTTPStatus.NOT_FOUND, "problem.missing")
        response = web.Response(body=file.data, content_type=file.content_type, charset="utf-8")
        kept = visit.request.query_string == file.tag
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if kept else "no-cache"
        response.enable_compression()
        return response


async def _apart(found: Snapshot, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` gives; over many devices in a thread, so that no sync waits for it."""
    if len(found.devices) <= MANY_DEVICES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


async def _to_the_pages(_request: web.Request) -> web.StreamResponse:
    return leads_to(addresses.ROOT)


def _device_views(devices: Sequence[Device], found: Snapshot, words: Words) -> list[DeviceView]:
    return [DeviceView(device, found, words) for device in devices]


def _device_named(found: Snapshot, text: str) -> Device | None:
    try:
        return found.by_id.get(device_id(text))
    except RelaisError:
        return None


def _shown_spaces(form: Form) -> frozenset[bytes]:
    with contextlib.suppress(ValueError):
        return frozenset(map(bytes.fromhex, form.get("shown", "").split()))
    return frozenset()


def _ruled(form: Form) -> str:
    return "accept" if form.get("say") == "accept" else "refuse"


def _ruling(_request: web.Request, form: Form) -> tuple[str, str]:
    return _ruled(form), told_id(form.get("id", ""))


def _confirming(request: web.Request, _form: Form) -> tuple[str, str]:
    return "confirm", told_id(request.match_info["device"])
