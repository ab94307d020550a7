"""What a running program tells the service manager that started it (systemd's notification protocol, sd_notify(3)).

A datagram of `KEY=value` lines goes to the socket that `NOTIFY_SOCKET` names. Rules:
- where nobody asked to be told, nothing is sent, and a manager that has gone is no failure of ours;
- the sign of life is given from the event loop itself: a loop that hangs gives none, and the manager starts anew;
- a status is a sentence for whoever asks `systemctl status`; no title and no person's name stands in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, MutableMapping
from dataclasses import dataclass
from typing import Final

from protocol.replica.process.background import background

ADDRESS: Final = "NOTIFY_SOCKET"
WATCHDOG_US: Final = "WATCHDOG_USEC"
WATCHDOG_PID: Final = "WATCHDOG_PID"

IDLE_LOOK_S: Final = 10.0
"""How often the status is looked at where no sign of life is wanted."""
_SIGNS_PER_TERM: Final = 3


@dataclass(frozen=True, slots=True)
class Notifier:
    """Where to tell, if anywhere, and how long the manager waits between two signs of life, if it waits."""

    address: str | None = None
    watchdog_s: float | None = None

    @classmethod
    def taken_from(cls, environment: MutableMapping[str, str], pid: int) -> Notifier:
        """What the manager asked of process `pid`; taken out of `environment`, so that no child answers for it."""
        address = environment.pop(ADDRESS, None)
        term_us = environment.pop(WATCHDOG_US, "")
        for_whom = environment.pop(WATCHDOG_PID, str(pid))
        watched = term_us.isascii() and term_us.isdecimal() and int(term_us) > 0 and for_whom == str(pid)
        return cls(address or None, int(term_us) / 1_000_000 if watched else None)

    def ready(self, status: str) -> None:
        """The program serves."""
        self._tell(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """How it goes, in one line."""
        self._tell(f"STATUS={status}")

    def alive(self) -> None:
        """A sign of life."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """The program has begun to stop."""
        self._tell("STOPPING=1\nSTATUS=stopping")

    @contextlib.asynccontextmanager
    async def telling(self, status: Callable[[], str], stopping: Callable[[], bool]) -> AsyncIterator[None]:
        """Say "ready", then the status whenever it changes and signs of life; at the end that it is stopping, if so."""
        if self.address is None:
            yield
            return
        self.ready(status())
        try:
            async with background(self._go_on(status)):
                yield
        finally:
            if stopping():
                self.stopping()

    async def _go_on(self, status: Callable[[], str]) -> None:
        pause_s = IDLE_LOOK_S if self.watchdog_s is None else self.watchdog_s / _SIGNS_PER_TERM
        told = status()
        while True:
            if self.watchdog_s is not None:
                self.alive()
            await asyncio.sleep(pause_s)
            if (now := status()) != told:
                told = now
                self.status(now)

    def _tell(self, lines: str) -> None:
        if self.address is None or not hasattr(socket, "AF_UNIX"):
            return
        # a name that begins with @ lies in no folder (unix(7), "abstract")
        place = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messenger:
            messenger.setblocking(False)
            messenger.sendto(lines.encode(), place)
