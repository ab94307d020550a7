"""The way to the server at this moment: which proxies to try, in which order, decided anew when it matters (R15).

Rules:
- decided at the first call, after every failure, and every `HOLDS_S` seconds: a laptop moves between school and home;
- the way that worked last is tried first; a proxy of the system's that does not answer at all is passed by;
- a script that cannot be had or fails means the direct way, and is remembered for `doctor`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from sync_agent.machine.addresses import is_loopback
from sync_agent.network.proxies import Proxy, Settings, Wish, excepted, fixed_choices

HOLDS_S: Final = 600.0
CUSTOMARY_SCRIPT: Final = "http://wpad/wpad.dat"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Way:
    """Proxies to try in order (None is the direct way), and where that comes from, in words for `status`."""

    choices: tuple[Proxy | None, ...]
    source: str


class Route:
    """The way to one server."""

    def __init__(self, url: str, wish: Wish, read: Callable[[], Settings], monotonic: Callable[[], float]) -> None:
        """`read` gives the system's settings; it may block."""
        self._url = url
        self._wish = wish
        self._read = read
        self._monotonic = monotonic
        self._way: Way | None = None
        self._told: Way | None = None
        self._told_problem: str | None = None
        self._decided_s = 0.0
        self._worked: tuple[Proxy | None, ...] = ()
        self.problem: str | None = None
        """Why the proxy script could not be used the last time, if so."""

    @property
    def is_by_hand(self) -> bool:
        """Whether a person has said which way to go."""
        return not self._wish.is_system

    async def choices(self) -> tuple[Proxy | None, ...]:
        """What to try, in order."""
        now_s = self._monotonic()
        if self._way is None or now_s - self._decided_s > HOLDS_S:
            way = await self._decided()
            if way != self._told and not self._wish.direct:
                # told once: an outage that lasts decides again every few seconds; what was ordered is no news
                _log.info("the way to %s: %s", self._url, _shown(way))
                self._told = way
            self._way, self._decided_s = way, now_s
        found = self._way.choices
        first = tuple(choice for choice in found if choice in self._worked)
        return (*first, *(choice for choice in found if choice not in first))

    def worked(self, choice: Proxy | None) -> None:
        """The server has answered this way."""
        self._worked = (choice,)

    def failed(self) -> None:
        """It did not: decide anew next time."""
        self._way = None

    async def _decided(self) -> Way:
        self.problem = None
        if self._wish.direct:
            return Way((None,), "--proxy")
        if self._wish.proxy is not None:
            return Way((self._wish.proxy,), "--proxy")
        if self._wish.script is not None:
            return Way(await self._by_script(self._wish.script), self._wish.script)
        if is_loopback(urlsplit(self._url).hostname or ""):
            return Way((None,), "this machine")
        return await self._by_system(await asyncio.to_thread(self._read))

    async def _by_system(self, settings: Settings) -> Way:
        host = urlsplit(self._url).hostname or ""
        script = settings.script or (CUSTOMARY_SCRIPT if settings.discovers else None)
        if script is not None and not excepted(host, 0, settings.exceptions):
            found = await self._by_script(script)
            if self.problem is None:
                return Way(_with_direct(found), script)
            if not settings.script:
                self.problem = None  # nobody named that script
        return Way(_with_direct(fixed_choices(settings, self._url)), settings.source)

    async def _by_script(self, script: str) -> tuple[Proxy | None, ...]:
        from sync_agent.network import pac  # noqa: PLC0415 — few networks have a script

        try:
            found = await pac.choices(script, self._url)
        except pac.ScriptFailed as reason:
            self.problem = str(reason)
            if self.problem != self._told_problem:  # an outage that lasts asks for the script every few seconds
                _log.warning("the proxy script is not used: %s", reason)
            found = (None,)
        self._told_problem = self.problem
        return found


def _with_direct(choices: tuple[Proxy | None, ...]) -> tuple[Proxy | None, ...]:
    """What the system names, then the direct way: a laptop at home keeps the school's settings."""
    return choices if None in choices else (*choices, None)


def _shown(way: Way) -> str:
    ways = ", ".join("direct" if choice is None else choice.url for choice in way.choices)
    return f"{ways} ({way.source})" if way.source else ways
