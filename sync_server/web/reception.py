"""Who is shown a page of the administrators', and what every page carries.

A private page is shown to who is signed in; others are led to sign in, or told so where no person reads the answer.
What somebody does is done under the server's keys under which they signed in, all of it (docs/adr/0362), and stands
under their account in this server's trail before it begins (docs/adr/0418). While there is no account, pages are shown
on this machine only. Every answer leaves with the door's headers.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import parse_qs, urlencode

from aiohttp import web

from protocol.errors import Code, LocalFailure, RelaisError
from protocol.limits import KiB
from protocol.replica.http.bodies import pieces
from protocol.replica.http.problems import Handler
from sync_server.handlers.accounts.administrators import Administrator, administrator, list_administrators
from sync_server.handlers.accounts.factors import factors_of
from sync_server.handlers.overview.device_query import PAGE_SIZES, WORST_FIRST
from sync_server.handlers.overview.survey import Snapshot
from sync_server.opened.app import Server
from sync_server.web import addresses
from sync_server.web.acts_shown import by_account
from sync_server.web.door import HEADERS, Door, Turned
from sync_server.web.signing_in import Session, Sessions
from sync_server.web.wording import CATALOGUES, Words

if TYPE_CHECKING:
    from sync_server.web.rendering import Rendering

_log = logging.getLogger(__name__)

MAX_FORM_BYTES: Final = 8 * KiB
BACKGROUND_FIELD: Final = "X-Relais-Live"
LANGUAGE_COOKIE: Final = "relais-language"


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


Form: TypeAlias = Mapping[str, str]
Page: TypeAlias = Callable[[Visit], Awaitable[web.StreamResponse]]
Deed: TypeAlias = Callable[[Visit, Form], Awaitable[web.StreamResponse]]
What: TypeAlias = Callable[[web.Request, Form], tuple[str, str]]
"""What somebody is about to do, and about what, as the trail says it."""


class Reception:
    """Receives the visits of one server's pages. `on_failure` hears of failures of this machine."""

    def __init__(
        self, server: Server, door: Door, sessions: Sessions, *, on_failure: Callable[[LocalFailure], None]
    ) -> None:
        self.door = door
        self.sessions = sessions
        self._server = server
        self._on_failure = on_failure

    @cached_property
    def rendering(self) -> Rendering:
        """Templates and files, read when somebody looks for the first time: most servers are looked at seldom."""
        from sync_server.web.rendering import rendering  # noqa: PLC0415

        return rendering()

    def private(self, page: Page, *, leads: bool = True, looked_up: str | None = None) -> Handler:
        """For who is signed in; others are led to sign in, or told so where no person reads the answer.

        That somebody has `looked_up` what it shows stands in the trail.
        """

        async def shown(visit: Visit) -> web.StreamResponse:
            if visit.session is not None:
                if looked_up is not None:
                    await self._server.acts.note_lookup(looked_up, by_account(visit.session.account.name))
                return await page(visit)
            if not leads:
                return web.Response(status=HTTPStatus.UNAUTHORIZED, text=visit.words("sign_in.ended") + "\n")
            return leads_to_sign_in(visit)

        return self.public(shown)

    def deed(self, deed: Deed, what: What) -> Handler:
        """For what somebody who is signed in does here, whose form has come; the server's keys stay meanwhile.

        Who holds the end of a form back is asked once more: what they had signed in under may have ended. Nothing is
        done before it stands in the trail; what leads nowhere was not done, and stands there so.
        """

        async def done(visit: Visit) -> web.StreamResponse:
            form = await form_of(visit.request)
            async with self._server.rotating:
                session = await self.session(visit.request)
                if session is None:
                    return leads_to_sign_in(visit)
                said, about = what(visit.request, form)
                by = by_account(session.account.name)
                if self._server.acts.has_enough_of(by):
                    return self.problem(visit, HTTPStatus.TOO_MANY_REQUESTS, "problem.too_many")
                async with self._server.acts.noted(said, by, about):
                    response = await deed(replace(visit, session=session), form)
                if response.status != HTTPStatus.SEE_OTHER:
                    with suppress(LocalFailure):
                        await self._server.acts.note(said, by, about, failed=True)
                return response

        return self.private(done)

    def public(self, page: Page) -> Handler:
        """For everybody who comes in at the door; while there is no account, for this machine only."""

        async def handle(request: web.Request) -> web.StreamResponse:
            words = self._words(request)
            visit = Visit(request, None, words, accounts=False)
            try:
                self.door.check(request)
                session = await self.session(request)
                accounts = session is not None or bool(await list_administrators(self._server))
                if not accounts and not self.door.is_local:
                    return guarded(self.problem(visit, HTTPStatus.NOT_FOUND, "problem.missing"))
                visit = Visit(request, session, words, accounts)
                return guarded(await page(visit))
            except Turned as turned:
                return guarded(self.problem(visit, turned.status, turned.reason))
            except (ConnectionError, web.HTTPException):
                raise
            except RelaisError as error:
                if isinstance(error, LocalFailure):
                    self._on_failure(error)
                _log.error("%s %s: %s", request.method, request.path, error)
                return guarded(self.problem(visit, HTTPStatus(error.http_status), "problem.failed"))

        return handle

    async def session(self, request: web.Request) -> Session | None:
        """The session of a request, if its account is still what it was, and asks for no more and nothing else."""
        use = BACKGROUND_FIELD not in request.headers and request.path != addresses.LIVE
        token = request.cookies.get(self.door.cookie)
        session = self.sessions.find(token, use=use)
        if session is None:
            return None
        account = session.account
        if not (await self.is_current(account) and session.holds(await factors_of(self._server, account.name))):
            self.sessions.end(token)
            return None
        return session

    async def is_current(self, account: Administrator) -> bool:
        """Whether the account is still the one that signed in."""
        return await administrator(self._server, account.name) == account

    def _words(self, request: web.Request) -> Words:
        chosen = request.cookies.get(LANGUAGE_COOKIE)
        language = (
            chosen
            if chosen in CATALOGUES.languages
            else CATALOGUES.preferred(request.headers.get("Accept-Language", ""))
        )
        return Words(language, self._server.now_ms())

    def problem(self, visit: Visit, status: HTTPStatus, reason: str) -> web.StreamResponse:
        """The page that says why there is no other; `reason` is the catalogue's key."""
        failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        title = "failed_title" if failed else "title" if status == HTTPStatus.NOT_FOUND else "refused_title"
        return self.html(visit, "problem.html", f"problem.{title}", status=status, reason=visit.words(reason))

    def html(
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
        """A page made of `template`, with what every page shows; `title` is the catalogue's key."""
        words = visit.words
        text = self.rendering.page(
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
            mark=None if found is None else mark_of(found),
            taken_ms=None if found is None else found.now_ms,
            whole=found is None or found.whole,
            **facts,
        )
        response = web.Response(text=text, status=status, content_type="text/html", charset="utf-8")
        response.headers["Content-Language"] = words.language
        response.enable_compression()
        return response


def leads_to(address: str) -> web.Response:
    """The answer that sends a browser there, by GET."""
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": address})


def leads_to_sign_in(visit: Visit) -> web.Response:
    """The answer that sends somebody to sign in, and then to what they asked for."""
    return leads_to(f"{addresses.SIGN_IN}?{urlencode({'next': visit.request.path_qs})}")


def guarded(response: web.StreamResponse) -> web.StreamResponse:
    """With the headers that every answer carries."""
    if not response.prepared:
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
    return response


async def form_of(request: web.Request) -> dict[str, str]:
    """What a form sent: of each field the first value. Raises `TooLarge`, `PeerFault`."""
    body = b"".join([piece async for piece in pieces(request, MAX_FORM_BYTES)])
    try:
        fields = parse_qs(body.decode(errors="replace"), max_num_fields=8)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


def mark_of(found: Snapshot) -> str:
    """What tells two snapshots apart, for a page that asks whether it is still true."""
    return f"{found.mark & 0xFFFF_FFFF_FFFF:x}"
