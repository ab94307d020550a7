"""A classroom whose server answers over real HTTP on loopback, by the server's own routes, in the test's own loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from protocol.errors import LocalFailure
from protocol.messages.wire import Capability, Purpose
from protocol.replica.answering.serving import Responder
from protocol.replica.http.connections import Bounds
from protocol.replica.http.connections import listening as serving
from sync_agent.transport.over_http import HttpTransport
from sync_server.api.health import Health
from sync_server.api.routes import Traffic, application
from sync_server.metrics import Counters, Family
from tests.harness.classroom import Classroom, classroom


@dataclass
class HttpRoom:
    """The class, and the address of its server. `failures` are those of the server's machine."""

    room: Classroom
    url: str
    responder: Responder
    failures: list[LocalFailure] = field(default_factory=list)

    def way(self, _frontage: object = None) -> HttpTransport:
        """A device's way to the server."""
        return HttpTransport(self.url)

    def listening(self, device: bytes, second: int = 0) -> dict[str, str]:
        """With what a device listens: of a sync `second` seconds later than another."""
        return listening(self.responder, device, self.room.territory.clock(), second)


def listening(responder: Responder, device: bytes, now_ms: int, second: int = 0) -> dict[str, str]:
    """With what a device listens at a responder."""
    expires_s = now_ms // 1000 + 600 + second
    shown = Capability(Purpose.LISTEN, responder.replica.territory, device, 0, expires_s)
    return {"Authorization": f"Bearer {shown.issue(responder.station.capability_key)}"}


@asynccontextmanager
async def http_room(
    folder: Path, change: Callable[[web.Application], object] = lambda _app: None, bounds: Bounds | None = None
) -> AsyncIterator[HttpRoom]:
    """See `HttpRoom`; `change` may add to the server's routes. Devices of the room go over HTTP."""
    failures: list[LocalFailure] = []
    async with classroom(folder) as room:
        responder = room.territory.responder()
        app = application(responder, Counters(), Health(_no_problems, _no_families), Traffic(), failures.append)
        change(app)
        async with serving(app, "127.0.0.1", 0, grace_s=1, bounds=bounds) as url:
            found = HttpRoom(room, url, responder, failures)
            room.way = found.way
            yield found


async def _no_problems() -> Mapping[str, str]:
    return {}


async def _no_families(*, per_device: bool) -> list[Family]:
    del per_device
    return []
