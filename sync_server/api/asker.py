"""Who asks, as far as it can be known: for bounds and waits, never for rights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from aiohttp import web

from protocol.replica.http.connections import whose

UNKNOWN: Final = ""
AskerOf: TypeAlias = Callable[[web.Request], str]


def asker_by_connection(request: web.Request) -> str:
    """The other end of the connection: whatever its headers say, which anybody can write."""
    return whose(request.remote or "")


def asker_by_proxy(request: web.Request) -> str:
    """Whom the proxy nearest to us saw, once it was declared; what others wrote before it does not count.

    A proxy that says nothing makes everybody one: then it is `UNKNOWN` who asks, and no bound of one address holds.
    """
    forwarded = request.headers.getall("X-Forwarded-For", [""])[-1].rpartition(",")[2].strip()
    return whose(forwarded) if forwarded else UNKNOWN
