"""What supervisors and monitoring ask: `/livez`, `/readyz`, `/metrics`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import web

from sync_server.metrics import CONTENT_TYPE, Family, exposition

PER_DEVICE: Final = "per-device"


class Families(Protocol):
    """Everything that Prometheus is to read; series of single devices only on request."""

    async def __call__(self, *, per_device: bool) -> list[Family]:
        """The families, taken now."""
        ...


class Health:
    """Handlers of the three. `readiness` gives part → problem, `families` everything that Prometheus is to read."""

    def __init__(
        self,
        readiness: Callable[[], Awaitable[Mapping[str, str]]],
        families: Families,
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

    async def metrics(self, request: web.Request) -> web.Response:
        """What Prometheus reads; with `?per-device`, series of every device too."""
        text = exposition(await self._families(per_device=PER_DEVICE in request.query))
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})
