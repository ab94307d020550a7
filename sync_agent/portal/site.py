"""The portal as it runs: two listeners on this machine, and which address means what.

The pages' port is the operator's; that of the lessons is chosen by the system, and kept while it can be. Both live as
long as the agent does.

A browser takes `localhost` to both loopback addresses, and may try either first: whoever listens at the other one, from
whatever account, answers in our place. So lessons are served at a port that is ours at both (docs/adr/0584).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Final

from aiohttp import web

from protocol.errors import Code, LocalFailure
from protocol.replica.console.operation import Table
from protocol.replica.http.connections import nameless, speaking
from sync_agent.app import Agent
from sync_agent.machine.addresses import Address
from sync_agent.machine.answerable import Answerable
from sync_agent.portal.door import HEADERS, Door
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.sessions import Sessions
from sync_agent.portal.everybody.item_pages import ItemPages
from sync_agent.portal.everybody.nearby import ADDRESS as NEARBY
from sync_agent.portal.everybody.nearby import Nearby
from sync_agent.portal.everybody.notices import ADDRESS as NOTICE
from sync_agent.portal.everybody.notices import Notices
from sync_agent.portal.everybody.signing_in import SigningIn
from sync_agent.portal.everybody.work_pages import WorkPages
from sync_agent.portal.files.lessons import ORIGIN_DIGITS, Lessons
from sync_agent.portal.files.spool import tidy_uploads
from sync_agent.portal.pages import Pages
from sync_agent.portal.rendering import Rendering, rendering
from sync_agent.portal.shown.shelf import Shelf
from sync_agent.portal.teachers_pages import TeachersPages
from sync_agent.scheduler import Outcome

KEY_MARK: Final = "portal-key"
"""→ 32 random bytes: what ties forms to visits; kept, so that a page outlives a restart of the agent."""
LESSONS_PORT_MARK: Final = "portal-lessons-port"
"""→ 2 bytes: where the lessons were served last."""
_KEY_BYTES: Final = 32
_KEEP_ALIVE_S: Final = 15.0
_LOOPBACKS: Final = ("127.0.0.1", "::1")
_PORTS_TRIED: Final = 8
_TAKEN: Final = frozenset({errno.EADDRINUSE, errno.EACCES})
_FOR_EVER: Final = "public, max-age=31536000, immutable"

_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def serve_portal(
    agent: Agent,
    table: Table,
    address: Address,
    outcome: Callable[[], Outcome | None],
    *,
    grace_s: float,
    clock_s: Callable[[], float] | None = None,
    answerable: Answerable | None = None,
) -> AsyncIterator[str]:
    """Serve the pages of `agent` at `address` while the context lasts; yields their URL.

    `table` are the commands behind the forms, `outcome` tells how the last sync ended,
    `answerable` is who answers for what is kept here. Raises `LocalFailure(ADDRESS_IN_USE)`.
    """
    await asyncio.to_thread(tidy_uploads, agent.folder)
    door = Door(address, await _key(agent))
    shelf, render = Shelf(agent), rendering()
    lessons = Lessons(shelf, render)
    desk = Desk(shelf, door, lessons, render, table, outcome, Sessions(clock_s or time.monotonic))
    async with (
        _listening(_pages_app(desk, table, answerable or Answerable()), grace_s) as pages,
        _listening(_lessons_app(lessons), grace_s) as files,
    ):
        door.port = await _open(pages, address)
        if not await _open_other(pages, replace(address, port=door.port)):
            _log.warning("“localhost:%d” may lead to another program: the portal is at %s", door.port, door.origin)
        lessons.port = await _lessons_port(agent, files)
        lessons.portal_origin = door.origin
        yield f"{door.origin}/"


def _pages_app(desk: Desk, table: Table, answerable: Answerable) -> web.Application:
    pages, items, signing_in = Pages(desk), ItemPages(desk), SigningIn(desk)
    works = WorkPages(desk, items)
    app = web.Application(middlewares=[desk.door.check, desk.errors])
    get, post = app.router.add_get, app.router.add_post
    get("/", pages.home)
    get("/who", pages.who)
    post("/who", pages.choose)
    get("/sign-in/{person}", signing_in.show)
    post("/sign-in/{person}", signing_in.answer)
    post("/sign-out", signing_in.sign_out)
    get("/item/{item}", items.show)
    get("/item/{item}/file/{path:.+}", items.save)
    get(f"/large/{{digits:[0-9a-f]{{{ORIGIN_DIGITS}}}}}/{{path:.*}}", items.large)
    get(f"/print/{{digits:[0-9a-f]{{{ORIGIN_DIGITS}}}}}/{{path:.*}}", items.printing)
    post("/item/{item}/hand-in", works.hand_in)
    post("/item/{item}/fetch", items.fetch)
    get("/work", works.listed)
    get("/work/{work}", works.show)
    get("/work/{work}/receipt", works.receipt)
    get("/work/{work}/note/{path:.+}", works.save_note_file)
    get("/state", pages.state)
    get("/live", pages.live)
    nearby = Nearby(desk)
    get(NEARBY, nearby.show)
    post(NEARBY, nearby.add)
    get(NOTICE, Notices(desk, answerable).show)
    get("/static/{name}", _Statics(desk.rendering).answer)
    TeachersPages(desk, items, table).add_to(app)
    app.on_response_prepare.append(_common_headers)
    return app


def _lessons_app(lessons: Lessons) -> web.Application:
    app = web.Application(middlewares=[lessons.check])
    app.router.add_route("*", "/{path:.*}", lessons.answer)
    app.on_response_prepare.append(nameless)
    return app


class _Statics:
    """The style sheet and the script; nothing is looked up on the disk."""

    def __init__(self, rendering: Rendering) -> None:
        self._statics = rendering.statics

    async def answer(self, request: web.Request) -> web.Response:
        file = self._statics.get(request.match_info["name"])
        if file is None:
            return web.Response(status=HTTPStatus.NOT_FOUND)
        return web.Response(body=file.data, headers={"Content-Type": file.type, "Cache-Control": _FOR_EVER})


async def _common_headers(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    await nameless(request, response)


@contextlib.asynccontextmanager
async def _listening(app: web.Application, grace_s: float) -> AsyncIterator[_Site]:
    """A server without any address yet, which ends with the context."""
    runner = web.AppRunner(app, shutdown_timeout=grace_s)
    await runner.setup()
    site = _Site(speaking(runner, access_log=None, keepalive_timeout=_KEEP_ALIVE_S))
    try:
        yield site
    finally:
        for listener in site.listeners:
            listener.close()
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class _Site:
    """What speaks on each connection, and where it listens."""

    speak: Callable[[], asyncio.Protocol]
    listeners: list[asyncio.Server] = field(default_factory=list)


async def _open(site: _Site, address: Address) -> int:
    """Listen at `address` too; the port. Raises `LocalFailure(ADDRESS_IN_USE)`."""
    try:
        listener = await asyncio.get_running_loop().create_server(site.speak, address.host, address.port)
    except OSError as reason:
        # asyncio's own words for it quote Python
        why = os.strerror(reason.errno) if reason.errno and reason.errno > 0 else reason.strerror
        raise LocalFailure(
            Code.ADDRESS_IN_USE, f"--portal: {address.authority} cannot be had; another program may be using it: {why}"
        ) from reason
    site.listeners.append(listener)
    port: int = listener.sockets[0].getsockname()[1]
    return port


async def _open_other(site: _Site, address: Address) -> bool:
    """Listen at the other loopback address as well, where this machine has one; False if somebody else does."""
    others = [other for other in _LOOPBACKS if address.host in _LOOPBACKS and other != address.host]
    for other in others:
        try:
            listener = await asyncio.get_running_loop().create_server(site.speak, other, address.port)
        except OSError as reason:
            return reason.errno not in _TAKEN
        site.listeners.append(listener)
    return True


async def _lessons_port(agent: Agent, site: _Site) -> int:
    """A port for the lessons: that of the last time if it is free, for what they keep in a browser is tied to it.

    Raises `LocalFailure(ADDRESS_IN_USE)` where somebody else listens at one of its addresses, whichever port it is.
    """
    before = int.from_bytes(await agent.replica.store.mark(LESSONS_PORT_MARK) or b"", "big")
    for port in (before, *(0 for _ in range(_PORTS_TRIED))):
        try:
            opened = await _open(site, Address(_LOOPBACKS[0], port))
        except LocalFailure:
            continue
        if await _open_other(site, Address(_LOOPBACKS[0], opened)):
            if opened != before:
                await agent.replica.store.set_marks({LESSONS_PORT_MARK: opened.to_bytes(2, "big")})
            return opened
        site.listeners.pop().close()
    raise LocalFailure(Code.ADDRESS_IN_USE, "no port is free for lessons at both loopback addresses of this machine")


async def _key(agent: Agent) -> bytes:
    """The key of this agent's portal, drawn once."""
    key = await agent.replica.store.mark(KEY_MARK)
    if key is None or len(key) != _KEY_BYTES:
        key = agent.entropy(_KEY_BYTES)
        await agent.replica.store.set_marks({KEY_MARK: key})
    return key
