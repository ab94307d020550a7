"""What all pages share: the visit, the page around it, commands, and errors as pages.

Rules:
- whatever a page changes, it changes by the command of the same name, with the same checks;
- a form that is sent twice (a double click, a reload) acts once: it names a number drawn when it was shown;
- who sends a form, and what there is, is asked once all of it has come: it comes for as long as somebody likes, and who
  began it may be signed in no more (docs/adr/0580);
- an error is a page with a sentence of the catalogue, a way back, and the stable code; logs carry no name.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from aiohttp import web

from protocol.errors import Code, LocalFailure, Refused, RelaisError
from protocol.limits import MAX_FILES_PER_REVISION
from protocol.replica.console import parameters as given
from protocol.replica.console.operation import JSON, NO_FILES, Incoming, Params, Table
from sync_agent.machine.called import is_called_anothers, name_called
from sync_agent.portal.door import Door, ExpiredPage, Handler, page_policy
from sync_agent.portal.each_page.sessions import IDLE_S, Sessions
from sync_agent.portal.each_page.visit import Visit, remember, session_token, visit_of
from sync_agent.portal.files.lessons import Lessons, address_in, frame_permissions, origin_of
from sync_agent.portal.files.saving import Quiet
from sync_agent.portal.files.uploads import Form, form_with_files, simple_form
from sync_agent.portal.rendering import Rendering
from sync_agent.portal.shown.shelf import Shelf
from sync_agent.portal.wording import CATALOGUES, Register
from sync_agent.scheduler import Outcome

ONCE_FIELD: Final = "once"
_WHOLE: Final = web.RequestKey("whole", bool)
"""Of a request whose form has all come."""
_REMEMBERED_FORMS: Final = 256
MAX_NAMED: Final = 8
"""Of so many spaces a page says that a stick lacks them; `courier export` names all."""
_STATUS: Final = {
    Code.UNKNOWN_ITEM: HTTPStatus.NOT_FOUND,
    Code.UNKNOWN_HAND_IN: HTTPStatus.NOT_FOUND,
    Code.UNKNOWN_PATH: HTTPStatus.NOT_FOUND,
    Code.DISK_FULL: HTTPStatus.INSUFFICIENT_STORAGE,
    Code.INCOMPLETE: HTTPStatus.NOT_FOUND,
    Code.NOT_SIGNED_IN: HTTPStatus.FORBIDDEN,
}

_log = logging.getLogger(__name__)


class Desk:
    """See the module. `outcome` is how the last sync ended."""

    def __init__(
        self,
        shelf: Shelf,
        door: Door,
        lessons: Lessons,
        rendering: Rendering,
        table: Table,
        outcome: Callable[[], Outcome | None],
        sessions: Sessions,
    ) -> None:
        self.shelf = shelf
        self.door = door
        self._lessons = lessons
        self.rendering = rendering
        self._table = table
        self._outcome = outcome
        self.sessions = sessions
        self._left_out: OrderedDict[str, Sequence[str]] = OrderedDict()
        self._once: OrderedDict[tuple[str, bytes], asyncio.Future[str]] = OrderedDict()

    # --- showing ------------------------------------------------------------------------------------------------------

    async def visit(self, request: web.Request) -> Visit:
        """Who asks; of a form once all of it has come."""
        if request.method == "POST" and _WHOLE not in request:
            raise LocalFailure(Code.INTERNAL, "it was asked who sends a form before all of it had come")
        return await self._visit(request)

    async def _visit(self, request: web.Request) -> Visit:
        return await visit_of(request, self.shelf, self.door, self.sessions, self._outcome())

    def page(
        self,
        visit: Visit,
        template: str,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        frame: str | None = None,
        **facts: object,
    ) -> web.Response:
        """The answer with a page, and the cookies that the visit sets. `frame` is the origin that it may show."""
        exchange = visit.exchange
        text = self.rendering(
            template,
            facts,
            visit=visit,
            say=visit.say,
            registers=list(Register),
            languages=[{"code": code, "name": CATALOGUES.texts(code)["name"]} for code in CATALOGUES.languages],
            strip=exchange.sentence(visit.say, visit.teacher_name(), visit.now_ms),
            freshness=exchange.freshness(visit.say, visit.now_ms),
            stick=self.stick(visit),
            stamp=self.stamp(visit),
            answers=visit.request.method == "POST",
            once=secrets.token_urlsafe(12),
            frame_permissions=frame_permissions(),
            who=self.who(visit),
            leave_s=int(IDLE_S) + 5,
        )
        headers = {"Content-Security-Policy": page_policy(frame), "Cache-Control": "no-store"}
        response = web.Response(status=status, text=text, content_type="text/html", headers=headers)
        remember(visit, response)
        return response

    def stick(self, visit: Visit) -> str:
        """What is to be said of a courier disk that is plugged in; nothing without one."""
        agent = self.shelf.agent
        if agent.stick is None:
            return ""
        more = ("…",) if len(agent.stick_without) > MAX_NAMED else ()
        spaces = ", ".join((*agent.stick_without[:MAX_NAMED], *more))
        return visit.say(f"stick.{agent.stick}", teacher=visit.teacher_name(), spaces=spaces)

    def who(self, visit: Visit) -> str:
        """Who is signed in, for the page to notice that they no longer are."""
        return visit.me.id.hex() if visit.me is not None and visit.signed_in else ""

    def stamp(self, visit: Visit) -> str:
        """Changes when what pages show has changed: sets, content, exchange, own folders, day."""
        exchange = visit.exchange
        sets = [count for room in visit.rooms for count in (room.basis.own, *room.basis.above)]
        day = visit.say.moment(visit.now_ms).date().toordinal()
        told = (exchange.waiting, exchange.missing, exchange.refused, exchange.held.hold or 0, visit.hindered.stamp)
        isolated = exchange.standing.value if visit.ordered.quarantined else 0
        ordered = (isolated, int(visit.ordered.drill is not None), visit.pulse, visit.apart or 0)
        # who is about to begin a drill reads who would hear of it
        near = (int(exchange.outcome is Outcome.DONE), exchange.neighbours) if visit.leads else ()
        return "-".join(map(str, (*told, *ordered, *near, *sets, day)))

    def lesson_origin(self, name: bytes) -> str:
        """Where an item's (or a version's) files are served."""
        return origin_of(name, self._lessons.port)

    def lesson_address(self, name: bytes, path: str) -> str:
        """The address of one of its files."""
        return address_in(self.lesson_origin(name), path)

    # --- doing --------------------------------------------------------------------------------------------------------

    async def do(self, name: str, params: Params, incoming: Incoming = NO_FILES) -> Mapping[str, JSON]:
        """Run a command that gives an object. Raises as it does."""
        done = await self._table[name](params, incoming, Quiet())
        return done if isinstance(done, Mapping) else {}

    def note_left_out(self, item: str, paths: Sequence[str]) -> None:
        """Keep what was not published with an item, for the page that follows."""
        self._left_out[item] = paths
        self._left_out.move_to_end(item)
        while len(self._left_out) > _REMEMBERED_FORMS:
            self._left_out.popitem(last=False)

    def left_out(self, item: str) -> Sequence[str]:
        """What was not published with an item the last time."""
        return self._left_out.get(item, ())

    async def fields(self, request: web.Request) -> dict[str, str]:
        """The fields of a form without files, its token checked."""
        fields = dict(await simple_form(request, self._token_check(request)))
        request[_WHOLE] = True
        return fields

    @asynccontextmanager
    async def form(
        self, request: web.Request, *, as_named: bool, most_files: int = MAX_FILES_PER_REVISION
    ) -> AsyncIterator[tuple[Visit, Form]]:
        """A form with files, as `form_with_files` takes it, and who sends it: asked at its end."""
        self.sessions.find(session_token(request), used=True)  # who sends hours of work sits here when that begins
        check = self._token_check(request)
        kept = form_with_files(request, self.shelf.agent.folder, check, as_named=as_named, most_files=most_files)
        async with kept as form:
            request[_WHOLE] = True
            yield await self.visit(request), form

    def _token_check(self, request: web.Request) -> Callable[[str | None], None]:
        """What a form's token must pass; raises `ExpiredPage`."""
        return lambda token: self.door.check_token(request, token)

    async def once(self, number: str, said: bytes, act: Callable[[], Awaitable[str]]) -> str:
        """Where `act` leads to; the same form sent again leads there without acting again.

        It is the same by its number and by what was `said` in it: a browser that goes back shows a form again, and
        another pupil chooses another name and another file.
        """
        form = (number, said)
        known = self._once.get(form) if number else None
        if known is not None:
            return await asyncio.shield(known)
        if not number:
            return await act()
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._once[form] = future
        while len(self._once) > _REMEMBERED_FORMS:
            self._once.popitem(last=False)
        try:
            place = await act()
        except BaseException as error:
            self._once.pop(form, None)
            future.set_exception(error if isinstance(error, RelaisError) else ConnectionError())
            future.exception()
            raise
        future.set_result(place)
        return place

    # --- errors -------------------------------------------------------------------------------------------------------

    @web.middleware
    async def errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn what handlers raise into pages."""
        try:
            return await handler(request)
        except ExpiredPage:
            return await self._error(request, "expired", HTTPStatus.FORBIDDEN)
        except RelaisError as error:
            status = self.status(error)
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                _log.warning("a page could not be made: %s (%s)", error, error.code)
            visit = await self._visit(request)
            return self._error_page(visit, error.code.value, status, self.sentence(visit, error))
        except web.HTTPException as refusal:
            if refusal.status < HTTPStatus.BAD_REQUEST:
                raise
            return await self._error(request, "not-found", HTTPStatus(refusal.status))
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001 — one page's surprise must not end the others
            _log.exception("a page failed in an unforeseen way")
            return await self._error(request, Code.INTERNAL.value, HTTPStatus.INTERNAL_SERVER_ERROR)

    def status(self, error: RelaisError) -> HTTPStatus:
        """With what a page answers that could not be."""
        return _STATUS.get(error.code, HTTPStatus(error.http_status))

    def sentence(self, visit: Visit, error: RelaisError) -> str:
        """What a page says of it."""
        if isinstance(error, Refused) and is_called_anothers(error):
            return visit.say("error.called", name=name_called(error) or visit.say("unknown.somebody"))
        path, most = error.facts.get("path", ""), error.facts.get("max")
        return self._sentence(visit, error.code.value, str(path), most if isinstance(most, int) else None)

    def _sentence(self, visit: Visit, code: str, detail: str, most: int | None = None) -> str:
        """With a bound of which there is a sentence that names it, that one."""
        key = f"error.{code}"
        facts = {"detail": visit.request.path if not detail else given.shown(detail), "teacher": visit.teacher_name()}
        if most is not None and visit.say.has(f"{key}-most"):
            return visit.say(f"{key}-most", **facts, most=visit.say.number(most))
        return visit.say(key if visit.say.has(key) else "error.other", **facts)

    async def _error(self, request: web.Request, code: str, status: HTTPStatus) -> web.Response:
        visit = await self._visit(request)
        return self._error_page(visit, code, status, self._sentence(visit, code, ""))

    def _error_page(self, visit: Visit, code: str, status: HTTPStatus, sentence: str) -> web.Response:
        told = None if visit.say.has(f"error.{code}") else code
        return self.page(visit, "error.html", status=status, sentence=sentence, code=told, back=_back(visit.request))


def _back(request: web.Request) -> str | None:
    """The page with the form that was sent."""
    if request.method != "POST" or request.path == "/sign-out":
        return None
    above, _, last = request.path.rpartition("/")
    return above if above and last != "publish" else request.path
