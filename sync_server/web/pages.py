"""The administrators' pages: which address shows what, and to whom.

Every page is whole without scripts; with them, `live` tells an open page to fetch itself again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar
from urllib.parse import parse_qs, urlencode

from aiohttp import web

from protocol.errors import BadInput, Code, LocalFailure, RelaisError
from protocol.limits import KiB
from protocol.replica.http.bodies import pieces
from protocol.replica.http.problems import Handler
from protocol.replica.office.grants import confirm_clone, is_listed_but_revoked
from protocol.replica.office.names import device_id, entry_id
from protocol.replica.replica import Entropy
from sync_server.config import RunConfig
from sync_server.handlers.administrators import (
    UNKNOWN_VERIFIER,
    Administrator,
    administrator,
    folded,
    list_administrators,
    opens,
)
from sync_server.handlers.device_query import PAGE_SIZES, WORST_FIRST, matching, select, tally, versions_of, worst
from sync_server.handlers.devices import Device, DeviceState
from sync_server.handlers.notices import notices
from sync_server.handlers.passkeys import Passkey, add_passkey, keyring, use_passkey
from sync_server.handlers.schools import SchoolQuery, class_rows, school_rows, select_schools
from sync_server.handlers.second_factor import second_factor, use_second_factor
from sync_server.handlers.survey import Snapshot, Survey
from sync_server.handlers.waiting import list_waiting, rule
from sync_server.handlers.webauthn import as_base64url
from sync_server.web import addresses
from sync_server.web.door import HEADERS, Door, Turned
from sync_server.web.exports import as_csv, as_json
from sync_server.web.known_browsers import known_as, token_for
from sync_server.web.live import Live
from sync_server.web.passkey_forms import asked_of, assertion_in, birth_in, label_in
from sync_server.web.signing_in import Session, Sessions, Throttle, Tickets
from sync_server.web.views import DeviceView, WaitingView, class_views, notice_of, school_name, school_views
from sync_server.web.wording import CATALOGUES, Words

if TYPE_CHECKING:
    from sync_server.web.rendering import Rendering

_log = logging.getLogger(__name__)

MANY_DEVICES: Final = 10_000
FIRST_DEVICES: Final = 10
FIRST_SCHOOLS: Final = 5
MAX_LISTED_SCHOOLS: Final = 300
MAX_FORM_BYTES: Final = 8 * KiB
SIGN_INS_AT_ONCE: Final = 2
MAX_WAITING_SIGN_INS: Final = 16
HANDLE_BYTES: Final = 16
STILL_THERE_EVERY_S: Final = 15.0
BACKGROUND_FIELD: Final = "X-Relais-Live"
_LANGUAGE_COOKIE: Final = "relais-language"
_YEAR_S: Final = 366 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Visit:
    """One request: who asks, if they are signed in, and in which words they are answered."""

    request: web.Request
    session: Session | None
    words: Words
    accounts: bool

    @property
    def signed_in(self) -> Session:
        """The session of a private page's visit."""
        if self.session is None:
            raise LocalFailure(Code.INTERNAL, "a private page was shown to a stranger")
        return self.session


Page = Callable[[Visit], Awaitable[web.StreamResponse]]
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
        self._door = Door(config)
        self._sessions = Sessions(entropy, clock_s)
        self._tickets = Tickets(entropy, clock_s)
        self._entropy = entropy
        self._throttle = Throttle(clock_s)
        self._live = Live(survey, clock_s)
        self._on_failure = on_failure
        self._proving = asyncio.Semaphore(SIGN_INS_AT_ONCE)
        self._waiting_sign_ins = 0

    @cached_property
    def _rendering(self) -> Rendering:
        from sync_server.web.rendering import Rendering  # noqa: PLC0415 — most servers are looked at seldom

        return Rendering()

    def add_to(self, app: web.Application) -> None:
        """Let the listener serve the pages."""
        add = app.router.add_get
        add("/", _to_the_pages)
        add(addresses.ROOT.rstrip("/"), _to_the_pages)
        add(addresses.ROOT, self._private(self._overview))
        add(addresses.DEVICES, self._private(self._devices))
        add(f"{addresses.DEVICES}.csv", self._private(partial(self._export, as_csv, "csv"), leads=False))
        add(f"{addresses.DEVICES}.json", self._private(partial(self._export, as_json, "json"), leads=False))
        add(f"{addresses.DEVICES}/{{device}}", self._private(self._device))
        app.router.add_post(f"{addresses.DEVICES}/{{device}}/confirm", self._private(self._confirm))
        add(addresses.SCHOOLS, self._private(self._schools))
        add(f"{addresses.SCHOOLS}/{{uai}}", self._private(self._school))
        add(addresses.WAITING, self._private(self._waiting))
        app.router.add_post(addresses.WAITING, self._private(self._rule))
        add(addresses.LIVE, self._private(self._watch, leads=False), allow_head=False)
        add(addresses.SIGN_IN, self._public(self._sign_in_form))
        app.router.add_post(addresses.SIGN_IN, self._public(self._sign_in))
        app.router.add_post(addresses.SECOND_STEP, self._public(self._second_step))
        app.router.add_post(addresses.SIGN_OUT, self._public(self._sign_out))
        add(addresses.PASSKEYS, self._private(self._passkeys))
        app.router.add_post(addresses.PASSKEYS, self._private(self._add_passkey))
        add(addresses.LANGUAGE, self._public(self._choose_language))
        add(f"{addresses.STATIC}/{{name}}", self._public(self._static))
        add(f"{addresses.ROOT}{{rest:.*}}", self._private(self._nothing))

    async def close(self) -> None:
        """Send everybody away."""
        await self._live.close()
        await self._survey.close()

    # --- who may see what ---------------------------------------------------------------------------------------------

    def _private(self, page: Page, *, leads: bool = True) -> Handler:
        """For who is signed in; others are led to sign in, or told so where no person reads the answer."""

        async def shown(visit: Visit) -> web.StreamResponse:
            if visit.session is not None:
                return await page(visit)
            if not leads:
                return web.Response(status=HTTPStatus.UNAUTHORIZED, text=visit.words("sign_in.ended") + "\n")
            return _leads_to(f"{addresses.SIGN_IN}?{urlencode({'next': visit.request.path_qs})}")

        return self._public(shown)

    def _public(self, page: Page) -> Handler:
        """For everybody who comes in at the door; while there is no account, for this machine only."""

        async def handle(request: web.Request) -> web.StreamResponse:
            words = self._words(request)
            visit = Visit(request, None, words, accounts=False)
            try:
                self._door.check(request)
                session = await self._session(request)
                accounts = session is not None or bool(await list_administrators(self._server))
                if not accounts and not self._door.is_local:
                    return _guarded(self._problem(visit, HTTPStatus.NOT_FOUND, "problem.missing"))
                visit = Visit(request, session, words, accounts)
                return _guarded(await page(visit))
            except Turned as turned:
                return _guarded(self._problem(visit, turned.status, turned.reason))
            except (ConnectionError, web.HTTPException):
                raise
            except RelaisError as error:
                if isinstance(error, LocalFailure):
                    self._on_failure(error)
                _log.error("%s %s: %s", request.method, request.path, error)
                return _guarded(self._problem(visit, HTTPStatus(error.http_status), "problem.failed"))

        return handle

    async def _session(self, request: web.Request) -> Session | None:
        """The session of a request, if its account is still what it was."""
        use = BACKGROUND_FIELD not in request.headers and request.path != addresses.LIVE
        token = request.cookies.get(self._door.cookie)
        session = self._sessions.find(token, use=use)
        if session is None:
            return None
        if not await self._is_current(session):
            self._sessions.end(token)
            return None
        return session

    async def _is_current(self, session: Session) -> bool:
        """Whether the account is still the one that signed in."""
        return await self._is_current_account(session.account)

    async def _is_current_account(self, account: Administrator) -> bool:
        return await administrator(self._server, account.name) == account

    def _words(self, request: web.Request) -> Words:
        chosen = request.cookies.get(_LANGUAGE_COOKIE)
        language = (
            chosen
            if chosen in CATALOGUES.languages
            else CATALOGUES.preferred(request.headers.get("Accept-Language", ""))
        )
        return Words(language, self._server.now_ms())

    # --- signing in ---------------------------------------------------------------------------------------------------

    async def _sign_in_form(self, visit: Visit) -> web.StreamResponse:
        asked = visit.request.query
        if visit.session is not None:
            return _leads_to(addresses.own_address(asked.get("next")))
        said = visit.words("sign_in.done") if "done" in asked else None
        return self._sign_in_page(visit, addresses.own_address(asked.get("next")), said=said)

    async def _sign_in(self, visit: Visit) -> web.StreamResponse:
        form = await _form(visit.request)
        onward = addresses.own_address(form.get("next"))
        name = form.get("name", "")
        account = await administrator(self._server, name)
        who = self._counted_as(visit, name, account)
        wait_s = self._throttle.wait_s(who)
        if wait_s > 0 or self._waiting_sign_ins >= MAX_WAITING_SIGN_INS:
            return self._wait_page(visit, onward, name, max(int(wait_s) + 1, 2))
        # counted before anything else happens, so that many attempts at once are not all free
        self._throttle.failed(who)
        self._waiting_sign_ins += 1
        try:
            async with self._proving:
                verifier = UNKNOWN_VERIFIER if account is None else account.verifier
                proven = await asyncio.to_thread(opens, verifier, form.get("passphrase", ""))
        finally:
            self._waiting_sign_ins -= 1
        if account is None or not proven:
            _log.warning("a sign-in to the administrators' pages failed, from %s", who[-1])
            wrong = visit.words("sign_in.wrong")
            return self._sign_in_page(visit, onward, name=name, wrong=wrong, status=HTTPStatus.FORBIDDEN)
        if await second_factor(self._server, account.name) is not None or (await self._keys_of(account)):
            return await self._code_page(visit, onward, account, self._tickets.begin(account))
        return self._let_in(visit, onward, account, who)

    async def _second_step(self, visit: Visit) -> web.StreamResponse:
        """A code or a passkey, after the passphrase. Failures count for name and address as wrong passphrases do."""
        form = await _form(visit.request)
        onward, ticket = addresses.own_address(form.get("next")), form.get("ticket", "")
        account = self._tickets.use(ticket)
        if account is None or not await self._is_current_account(account):
            gone = visit.words("second.gone")
            return self._sign_in_page(visit, onward, wrong=gone, status=HTTPStatus.FORBIDDEN)
        who = self._counted_as(visit, account.name, account)
        wait_s = self._throttle.wait_s(who)
        if wait_s > 0:
            return self._wait_page(visit, onward, account.name, max(int(wait_s) + 1, 2))
        self._throttle.failed(who)
        by_passkey = "signature" in form
        if by_passkey:
            challenge = self._tickets.take_challenge(ticket)
            assertion = assertion_in(form)
            proven = challenge is not None and await use_passkey(self._server, account.name, assertion, challenge)
        else:
            proven = await use_second_factor(self._server, account.name, form.get("code", ""))
        if not proven:
            _log.warning("a second factor at sign-in to the administrators' pages was wrong, from %s", who[-1])
            wrong = visit.words("second.wrong_passkey" if by_passkey else "second.wrong")
            return await self._code_page(visit, onward, account, ticket, wrong=wrong)
        self._tickets.end(ticket)
        return self._let_in(visit, onward, account, who)

    def _counted_as(self, visit: Visit, name: str, account: Administrator | None) -> tuple[str, ...]:
        """Under what tries are counted: the browser, where the account has signed in before; else name and address."""
        known = known_as(visit.request.cookies.get(self._door.known_cookie), account, self._server.keys.signing.seed)
        if known is not None:
            return (f"browser {known}",)
        return (f"name {folded(name)}", f"address {self._door.address_of(visit.request)}")

    def _let_in(self, visit: Visit, onward: str, account: Administrator, who: tuple[str, ...]) -> web.StreamResponse:
        self._throttle.succeeded(who)
        self._sessions.end(visit.request.cookies.get(self._door.cookie))
        response = _leads_to(onward)
        self._door.set_known(response, token_for(account, self._server.keys.signing.seed, self._entropy))
        self._door.set_cookie(response, self._sessions.begin(account))
        return response

    async def _code_page(
        self, visit: Visit, onward: str, account: Administrator, ticket: str, *, wrong: str | None = None
    ) -> web.StreamResponse:
        keys = await self._keys_of(account)
        return self._html(
            visit,
            "second_step.html",
            "second.title",
            status=HTTPStatus.OK if wrong is None else HTTPStatus.FORBIDDEN,
            onward=onward,
            ticket=ticket,
            wrong=wrong,
            codes=await second_factor(self._server, account.name) is not None,
            keys=asked_of(keys),
            challenge=as_base64url(self._tickets.challenge(ticket) or b"") if keys else "",
        )

    async def _keys_of(self, account: Administrator) -> tuple[Passkey, ...]:
        return (await keyring(self._server, account.name)).keys

    async def _passkeys(
        self, visit: Visit, wrong: str | None = None, status: HTTPStatus = HTTPStatus.OK
    ) -> web.StreamResponse:
        """The account's passkeys, and the form that adds one."""
        session = visit.signed_in
        ring = await keyring(self._server, session.account.name)
        return self._html(
            visit,
            "passkeys.html",
            "passkey.title",
            status=status,
            rows=ring.keys,
            open=bool(ring.code_hash) and self._server.now_ms() < ring.until_ms,
            keys=asked_of(ring.keys),
            challenge=as_base64url(self._sessions.challenge(session)),
            handle=as_base64url(self._entropy(HANDLE_BYTES)),
            said=visit.words("passkey.added") if "added" in visit.request.query else None,
            wrong=wrong,
        )

    async def _add_passkey(self, visit: Visit) -> web.StreamResponse:
        """A passkey that the browser has made, with the code that allows it. Wrong ones count as at sign-in."""
        form = await _form(visit.request)
        session = visit.signed_in
        who = (f"passkey {folded(session.account.name)}", f"address {self._door.address_of(visit.request)}")
        if self._throttle.wait_s(who) > 0:
            return await self._passkeys(visit, visit.words("passkey.wait"), HTTPStatus.TOO_MANY_REQUESTS)
        self._throttle.failed(who)
        challenge = self._sessions.take_challenge(session)
        made = None
        if challenge is not None:
            typed, label = form.get("code", ""), label_in(form, visit.words("passkey.unnamed"))
            made = await add_passkey(self._server, session.account, typed, label, birth_in(form), challenge)
        if made is None:
            _log.warning("a passkey was not added to an administrator's account, from %s", who[1])
            return await self._passkeys(visit, visit.words("passkey.wrong"), HTTPStatus.FORBIDDEN)
        self._throttle.succeeded(who)
        self._sessions.end_others(session)
        return _leads_to(f"{addresses.PASSKEYS}?added=1")

    async def _sign_out(self, visit: Visit) -> web.StreamResponse:
        self._sessions.end(visit.request.cookies.get(self._door.cookie))
        response = _leads_to(f"{addresses.SIGN_IN}?done=1")
        self._door.drop_cookie(response)
        return response

    def _wait_page(self, visit: Visit, onward: str, name: str, wait_s: int) -> web.StreamResponse:
        words = visit.words
        span = words("sign_in.seconds", n=wait_s) if wait_s < 60 else words.span(wait_s * 1000)  # noqa: PLR2004
        wrong = words("sign_in.wait", span=span)
        response = self._sign_in_page(visit, onward, name=name, wrong=wrong, status=HTTPStatus.TOO_MANY_REQUESTS)
        response.headers["Retry-After"] = str(wait_s)
        return response

    def _sign_in_page(
        self,
        visit: Visit,
        onward: str,
        *,
        name: str = "",
        said: str | None = None,
        wrong: str | None = None,
        status: HTTPStatus = HTTPStatus.OK,
    ) -> web.StreamResponse:
        return self._html(
            visit, "sign_in.html", "sign_in.title", status=status, onward=onward, name=name, said=said, wrong=wrong
        )

    # --- the pages ----------------------------------------------------------------------------------------------------

    async def _overview(self, visit: Visit) -> web.StreamResponse:
        found = await self._survey.snapshot()
        rows = await _apart(found, school_rows, found)
        schools = select_schools([row for row in rows if row.standing.needing], SchoolQuery())
        return self._html(
            visit,
            "overview.html",
            "overview.title",
            found,
            counts=tally(found),
            total=len(found.devices),
            needing=len(found.needing),
            first=_device_views(await _apart(found, worst, found, FIRST_DEVICES), found, visit.words),
            schools=school_views(schools.rows[:FIRST_SCHOOLS], visit.words),
            notices=[notice_of(visit.words, notice) for notice in notices(self._server)],
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
        return self._html(
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
            return self._problem(visit, HTTPStatus.NOT_FOUND, "device.gone")
        view = DeviceView(device, found, visit.words)
        stays_out = device.state is DeviceState.RETIRED and await is_listed_but_revoked(self._server, device.id)
        return self._html(
            visit,
            "device.html",
            "device.title",
            found,
            title_facts={"name": view.label},
            device=view,
            stays_out=stays_out,
        )

    async def _confirm(self, visit: Visit) -> web.StreamResponse:
        """A person says that a clone belongs here."""
        device = _device_named(await self._survey.snapshot(), visit.request.match_info["device"])
        if device is None or device.clone_of is None:
            return self._problem(visit, HTTPStatus.NOT_FOUND, "device.gone")
        await confirm_clone(self._server, device.id)
        await self._survey.snapshot(whole=True)
        return _leads_to(addresses.device_address(device.id))

    async def _waiting(self, visit: Visit, wrong: str | None = None) -> web.StreamResponse:
        """What came from devices after they were cut off, and waits for somebody to judge."""
        found = await self._survey.snapshot()
        rows = [WaitingView(each, found, visit.words) for each in await list_waiting(self._server)]
        return self._html(visit, "waiting.html", "waiting.title", rows=rows, wrong=wrong)

    async def _rule(self, visit: Visit) -> web.StreamResponse:
        """A person accepts or refuses it."""
        form = await _form(visit.request)
        try:
            await rule(self._server, [entry_id(form.get("id", ""))], accept=form.get("say") == "accept")
        except BadInput:
            return await self._waiting(visit, visit.words("waiting.gone"))
        return _leads_to(addresses.WAITING)

    async def _schools(self, visit: Visit) -> web.StreamResponse:
        found = await self._survey.snapshot()
        query = addresses.school_query_of(visit.request.query)
        selection = select_schools(await _apart(found, school_rows, found), query)
        return self._html(
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
            return self._problem(visit, HTTPStatus.NOT_FOUND, "school.gone")
        (view,) = school_views([row], visit.words)
        return self._html(
            visit,
            "school.html",
            "school.title",
            found,
            title_facts={"name": view.school.label},
            school=view,
            counts=row.standing.counts,
            total=row.standing.devices,
            classes=class_views(class_rows(found, uai), visit.words),
        )

    async def _nothing(self, visit: Visit) -> web.StreamResponse:
        return self._problem(visit, HTTPStatus.NOT_FOUND, "problem.missing")

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
        _guarded(response)
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
        _guarded(response)
        await response.prepare(visit.request)
        with self._live.watching() as watcher, contextlib.suppress(ConnectionError):
            await response.write(b"retry: 3000\n\n")
            if visit.request.query.get("mark") != _mark(await self._survey.snapshot()):
                watcher.tell()
            async for told in watcher.news(STILL_THERE_EVERY_S):
                if await self._session(visit.request) is None:
                    await response.write(b"event: ended\ndata:\n\n")
                    break
                await response.write(b"event: changed\ndata:\n\n" if told else b": still there\n\n")
            await response.write_eof()
        return response

    async def _choose_language(self, visit: Visit) -> web.StreamResponse:
        response = _leads_to(addresses.own_address(visit.request.query.get("next")))
        chosen = visit.request.query.get("to", "")
        if chosen in CATALOGUES.languages:
            response.set_cookie(_LANGUAGE_COOKIE, chosen, path="/", max_age=_YEAR_S, httponly=True, samesite="Strict")
        return response

    async def _static(self, visit: Visit) -> web.StreamResponse:
        file = self._rendering.files.get(visit.request.match_info["name"])
        if file is None:
            return self._problem(visit, HTTPStatus.NOT_FOUND, "problem.missing")
        response = web.Response(body=file.data, content_type=file.content_type, charset="utf-8")
        kept = visit.request.query_string == file.tag
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if kept else "no-cache"
        response.enable_compression()
        return response

    # --- making them --------------------------------------------------------------------------------------------------

    def _problem(self, visit: Visit, status: HTTPStatus, reason: str) -> web.StreamResponse:
        failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        title = "failed_title" if failed else "title" if status == HTTPStatus.NOT_FOUND else "refused_title"
        return self._html(visit, "problem.html", f"problem.{title}", status=status, reason=visit.words(reason))

    def _html(
        self,
        visit: Visit,
        template: str,
        title: str,
        found: Snapshot | None = None,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        title_facts: dict[str, str] | None = None,
        **facts: object,
    ) -> web.Response:
        words = visit.words
        text = self._rendering.page(
            template,
            t=words,
            title=words(title, **(title_facts or {})),
            territory=self._server.territory.name if visit.session is not None else None,
            account=None if visit.session is None else visit.session.account.name,
            accounts=visit.accounts,
            here=visit.request.path,
            here_asked=visit.request.path_qs if visit.request.method == "GET" else addresses.ROOT,
            other_languages=[(name, Words(name, 0)("name")) for name in CATALOGUES.languages if name != words.language],
            addresses=addresses,
            states=WORST_FIRST,
            page_sizes=PAGE_SIZES,
            mark=None if found is None else _mark(found),
            taken_ms=None if found is None else found.now_ms,
            whole=found is None or found.whole,
            **facts,
        )
        response = web.Response(text=text, status=status, content_type="text/html", charset="utf-8")
        response.headers["Content-Language"] = words.language
        response.enable_compression()
        return response


async def _apart(found: Snapshot, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` gives; over many devices in a thread, so that no sync waits for it."""
    if len(found.devices) <= MANY_DEVICES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


async def _to_the_pages(_request: web.Request) -> web.StreamResponse:
    return _leads_to(addresses.ROOT)


def _leads_to(address: str) -> web.Response:
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": address})


def _guarded(response: web.StreamResponse) -> web.StreamResponse:
    """With the headers that every answer carries."""
    if not response.prepared:
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
    return response


async def _form(request: web.Request) -> dict[str, str]:
    """What a form sent: of each field the first value. Raises `TooLarge`, `PeerFault`."""
    body = b"".join([piece async for piece in pieces(request, MAX_FORM_BYTES)])
    try:
        fields = parse_qs(body.decode(errors="replace"), max_num_fields=8)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


def _device_views(devices: Sequence[Device], found: Snapshot, words: Words) -> list[DeviceView]:
    return [DeviceView(device, found, words) for device in devices]


def _device_named(found: Snapshot, text: str) -> Device | None:
    try:
        return found.by_id.get(device_id(text))
    except RelaisError:
        return None


def _mark(found: Snapshot) -> str:
    return f"{found.mark & 0xFFFF_FFFF_FFFF:x}"
