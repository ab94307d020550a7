"""What supervisors and monitoring ask: `/livez`, `/readyz`, `/metrics`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from aiohttp import web

from sync_server.metrics import CONTENT_TYPE, Family, exposition


class Health:
    """Handlers of the three. `readiness` gives part → problem, `families` everything that Prometheus is to read."""

    def __init__(
        self,
        readiness: Callable[[], Awaitable[Mapping[str, str]]],
        families: Callable[[], Awaitable[list[Family]]],
    ) -> None:
        self._readiness = readiness
        self._families = families

    async def live(self, _request: web.Request) -> web.Response:
        """The process runs: 200. Nothing is looked at."""
        return web.Response(text="alive\n")

    async def ready(self, _request: web.Request) -> web.Response:
        """200 if calls can be served, else 503 with what is wrong, by part."""
        problems = await self._readiness()
        status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
        document = {"ready": not problems, "problems": dict(problems)}
        return web.Response(body=json.dumps(document).encode(), status=status, content_type="application/json")

    async def metrics(self, _request: web.Request) -> web.Response:
        """What Prometheus reads."""
        text = exposition(await self._families())
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})
