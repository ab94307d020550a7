"""Connections to one server, opened anew now and then (R15; docs/adr/0229, 0318).

Rules:
- no request begins on a connection that may be `LASTS_S` old: who answered once, and goes on answering, would keep the
  machine from hearing that the server's name leads elsewhere;
- nor on one whose certificate was judged by what this machine does not know so any more;
- what began before goes on: lines for news, and content that is on its way, end as they would have.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from protocol.replica.http.library import aiohttp
from sync_agent.transport.server_chain import KnownServers

LASTS_S: Final = 3600.0


@dataclass(slots=True, eq=False)
class _Opened:
    """Connections that were opened at `since_s` or later, judged by what is `known`; how many requests are on them."""

    session: aiohttp.ClientSession
    since_s: float
    known: KnownServers | None
    requests: int = 0


class Connections:
    """What requests go over. To be used inside one event loop."""

    def __init__(
        self,
        open_session: Callable[[KnownServers | None], Awaitable[aiohttp.ClientSession]],
        monotonic: Callable[[], float],
        knows: Callable[[], Awaitable[KnownServers | None]],
    ) -> None:
        """`open_session` makes them, without asking anybody anything yet; `monotonic` is in seconds.

        `knows` says what is known of servers now: by that certificates are judged.
        """
        self._open_session: Final = open_session
        self._monotonic: Final = monotonic
        self._knows: Final = knows
        self._opened: _Opened | None = None
        self._outlived: Final[set[_Opened]] = set()
        """Not fit for another request, and still with one."""

    @asynccontextmanager
    async def for_one_request(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Those for a request that begins now."""
        opened = await self._fit()
        opened.requests += 1
        try:
            yield opened.session
        finally:
            opened.requests -= 1
            if opened in self._outlived and not opened.requests:
                self._outlived.discard(opened)
                await opened.session.close()

    async def close(self) -> None:
        """Let them go, whatever is on them."""
        opened, self._opened = self._opened, None
        for each in [*self._outlived, *([] if opened is None else [opened])]:
            await each.session.close()

    async def _fit(self) -> _Opened:
        known = await self._knows()
        now_s, before = self._monotonic(), self._opened
        if before is not None and (now_s - before.since_s >= LASTS_S or before.known != known):
            self._opened = None
            if before.requests:
                self._outlived.add(before)
            else:
                await before.session.close()
        if (opened := self._opened) is not None:
            return opened
        session = await self._open_session(known)
        if (opened := self._opened) is None:
            opened = self._opened = _Opened(session, now_s, known)
        else:
            # somebody else has opened some meanwhile
            await session.close()
        return opened
