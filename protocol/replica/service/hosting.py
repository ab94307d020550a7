"""How a program that runs inside another's process (Windows' service host) learns that it is to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar


class Host:
    """Who may ask for the end, from any thread; asked before anybody listens, it is said to whoever listens then."""

    def __init__(self) -> None:
        self._asked = False
        self._tell: Callable[[], object] | None = None

    def ask_to_stop(self) -> None:
        """Have the program end."""
        self._asked = True
        if self._tell is not None:
            self._tell()

    def follow(self, tell: Callable[[], object]) -> None:
        """Call `tell` when the end is asked for."""
        self._tell = tell
        if self._asked:
            tell()


HOST: ContextVar[Host | None] = ContextVar("host", default=None)


def asked_by_host() -> asyncio.Event:
    """An event of the running loop that is set when the host of this program, if it has one, asks for the end."""
    stopping = asyncio.Event()
    host = HOST.get()
    if host is not None:
        loop = asyncio.get_running_loop()
        host.follow(lambda: loop.call_soon_threadsafe(stopping.set))
    return stopping
