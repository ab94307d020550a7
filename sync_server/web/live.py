"""Who watches a page is told when it should fetch it again: server-sent events (HTML Standard, "Server-sent events").

The survey is taken every few seconds while somebody watches, and not at all while nobody does. An event says only that
something has changed: what a page shows depends on its filters, and is made by the same code as without scripts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from protocol.errors import RelaisError
from sync_server.handlers.overview.survey import Survey

MAX_WATCHERS: Final = 200
LOOK_EVERY_S: Final = 2.0
TELL_AT_LEAST_EVERY_S: Final = 30.0

_log = logging.getLogger(__name__)


class Watcher:
    """One open page."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._ended = False

    def tell(self) -> None:
        """There is something new."""
        self._news.set()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._news.set()

    async def news(self, patience_s: float) -> AsyncIterator[bool]:
        """True when something is new, False whenever nothing was for so long; ends with the server."""
        while not self._ended:
            told = True
            try:
                async with asyncio.timeout(patience_s):
                    await self._news.wait()
            except TimeoutError:
                told = False
            self._news.clear()
            if not self._ended:
                yield told


class Live:
    """Everybody who watches. `clock_s` is a monotonic clock."""

    def __init__(self, survey: Survey, clock_s: Callable[[], float]) -> None:
        self._survey = survey
        self._clock_s = clock_s
        self._watchers: set[Watcher] = set()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def is_full(self) -> bool:
        """Whether nobody more may watch."""
        return self._closed or len(self._watchers) >= MAX_WATCHERS

    @contextmanager
    def watching(self) -> Iterator[Watcher]:
        """Watch for as long as the context lasts."""
        watcher = Watcher()
        self._watchers.add(watcher)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    async def close(self) -> None:
        """Send everybody away."""
        self._closed = True
        for watcher in self._watchers:
            watcher.end()
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    async def _look(self) -> None:
        mark: int | None = None
        told_s = self._clock_s()
        while self._watchers:
            try:
                found = await self._survey.snapshot()
            except RelaisError as error:
                _log.warning("the devices cannot be looked at: %s", error)
            else:
                if found.mark != mark or self._clock_s() - told_s >= TELL_AT_LEAST_EVERY_S:
                    if mark is not None:
                        for watcher in self._watchers:
                            watcher.tell()
                    mark, told_s = found.mark, self._clock_s()
            await asyncio.sleep(LOOK_EVERY_S)
        self._looking = None
