"""What supervisors and monitoring ask: `/livez`, `/readyz`, `/metrics`.

On loopback the last two answer to addresses and to `localhost` only: a page that has its own name lead to this machine
reads no figures.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import web

from sync_server.config import is_loopback, name_in
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
        *,
        inside_only: bool = False,
        by_address: bool = False,
    ) -> None:
        """`inside_only`: readiness and figures are for this machine, because others reach the listener itself.

        `by_address`: they are for who asks the address and no name, because nobody else reaches it.
        """
        self._readiness = readiness
        self._families = families
        self._inside_only = inside_only
        self._by_address = by_address

    async def live(self, _request: web.Request) -> web.Response:
        """The process runs: 200. Nothing is looked at."""
        return web.Response(text="alive\n")

    async def ready(self, request: web.Request) -> web.Response:
        """200 if calls can be served, else 503 with what is wrong, by part."""
        self._check_inside(request)
        problems = await self._readiness()
        status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
        document = {"ready": not problems, "problems": dict(problems)}
        return web.Response(body=json.dumps(document).encode(), status=status, content_type="application/json")

    async def metrics(self, request: web.Request) -> web.Response:
        """What Prometheus reads; with `?per-device`, series of every device too."""
        self._check_inside(request)
        text = exposition(await self._families(per_device=PER_DEVICE in request.query))
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    def _check_inside(self, request: web.Request) -> None:
        if self._inside_only and not _is_from_here(request):
            raise web.HTTPNotFound
        if self._by_address and not _names_an_address(request.headers.get("Host", "")):
            raise web.HTTPMisdirectedRequest


def _names_an_address(host: str) -> bool:
    """Whether who asks was led here by no name: browsers say theirs, whatever address it leads to."""
    if not host:
        return True
    name = name_in(host) or ""
    try:
        return is_loopback(name) or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _is_from_here(request: web.Request) -> bool:
    """Whether this machine asks: over loopback, or by the address that the listener has."""
    transport = request.transport
    if transport is None:
        return False
    peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    return bool(peer and own) and (peer[0] == own[0] or is_loopback(str(peer[0])))
