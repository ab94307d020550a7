"""Which address means what, and what every answer has in common."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web

from protocol.errors import Code, LocalFailure, NoAnswer
from protocol.limits import MAX_REQUESTS_PER_ADDRESS
from protocol.messages.wire import ENROLL_PATH, LIVE_PATH, LIVENESS_PATH, PACKS_PATH, RECONCILE_PATH, SYNC_PATH, Call
from protocol.replica.answering.serving import Responder
from protocol.replica.http.calls import RETRY_AFTER_S, Calls
from protocol.replica.http.content import Packs
from protocol.replica.http.live import MAX_LISTENERS, Live
from protocol.replica.http.problems import Handler, Problems, problem
from sync_server.api.asker import UNKNOWN, AskerOf, asker_by_connection
from sync_server.api.health import Health
from sync_server.metrics import Counters

FOR_BROWSERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""On every answer that is not a call's, unless a page says something of its own."""
ONLY_TLS: Final[Mapping[str, str]] = {"Strict-Transport-Security": "max-age=31536000"}


class Traffic:
    """Requests under `/v1/` being answered. `closing` sends new ones away; `idle` is set while there are none.

    Those of one address are bounded, so that nobody takes all the room there is; not where nobody says whose they are,
    since one such bound would send a whole territory away.
    """

    def __init__(self, asker_of: AskerOf = asker_by_connection) -> None:
        self.closing = False
        self.asker_of = asker_of
        self.on_unknown: Callable[[], None] = _nobody_minds
        """Told of each request of which a proxy does not say whose it is."""
        self._of: Counter[str] = Counter()
        self.idle = asyncio.Event()
        self.idle.set()
        self._running = 0

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count a request, or send it away when the server is closing."""
        if not request.path.startswith("/v1/") or request.path == LIVE_PATH:
            return await handler(request)
        if self.closing:
            away = problem(NoAnswer(Code.BUSY, "the server is being stopped", retry_after_s=RETRY_AFTER_S))
            away.force_close()
            return away
        asker = self.asker_of(request)
        if asker == UNKNOWN:
            self.on_unknown()
        elif self._of[asker] >= MAX_REQUESTS_PER_ADDRESS:
            raise NoAnswer(Code.BUSY, "too many requests of this address at once", retry_after_s=RETRY_AFTER_S)
        self._running += 1
        self._of[asker] += 1
        self.idle.clear()
        try:
            return await handler(request)
        finally:
            self._running -= 1
            self._of[asker] -= 1
            if not self._of[asker]:
                del self._of[asker]
            if not self._running:
                self.idle.set()


def _nobody_minds() -> None:
    """Nobody wants to know."""


def application(
    responder: Responder,
    counters: Counters,
    health: Health,
    traffic: Traffic,
    on_failure: Callable[[LocalFailure], None],
    *,
    only_tls: bool = False,
    max_listeners: int = MAX_LISTENERS,
) -> web.Application:
    """The HTTP side of a server. Failures of this machine that are not sealed to a caller reach `on_failure`.

    `only_tls`: browsers are told never to speak to this name without TLS, nor past a certificate that is not in order.
    """
    app = web.Application(middlewares=[Problems(on_failure).middleware, traffic.middleware])
    calls = Calls(responder, counters, asker_of=traffic.asker_of)
    packs = Packs(responder, counters)
    app.router.add_post(SYNC_PATH, calls.handler(Call.SYNC))
    app.router.add_post(RECONCILE_PATH, calls.handler(Call.RECONCILE))
    app.router.add_post(ENROLL_PATH, calls.handler(Call.ENROLL))
    app.router.add_get(f"{PACKS_PATH}/{{capability}}", packs.fetch)
    app.router.add_post(PACKS_PATH, packs.receive)
    live = Live(responder, max_listeners=max_listeners)
    app.router.add_get(LIVE_PATH, live.listen, allow_head=False)
    app.on_shutdown.append(live.on_shutdown)
    app.router.add_get(LIVENESS_PATH, health.live)
    app.router.add_get("/readyz", health.ready)
    app.router.add_get("/metrics", health.metrics)
    app.on_response_prepare.append(_Headers(only_tls=only_tls))
    return app


class _Headers:
    """A quiet sync costs under a kilobyte (R13): what nobody reads is left out, what browsers read is for browsers."""

    def __init__(self, *, only_tls: bool) -> None:
        self._for_browsers = {**FOR_BROWSERS, **(ONLY_TLS if only_tls else {})}

    async def __call__(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.popall("Server", None)
        response.headers.popall("Date", None)
        if not request.path.startswith("/v1/"):
            for name, value in self._for_browsers.items():
                response.headers.setdefault(name, value)
