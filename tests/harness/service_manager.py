"""The end of `NOTIFY_SOCKET` that a service manager listens on: programs tell it when they serve, and how it goes."""

from __future__ import annotations

import itertools
import os
import select
import socket
from collections.abc import Callable
from typing import Final, Self

from protocol.replica.service.notify import ADDRESS
from tests.harness.patience import PATIENCE_S

_MAX_MESSAGE_BYTES: Final = 4096
_NUMBERS: Final = itertools.count()


class ServiceManager:
    """Who starts programs, and is told. To be closed."""

    def __init__(self) -> None:
        # a name that lies in no folder: a test's own may be longer than such an address may be
        self.address = f"@relais-test-{os.getpid()}-{next(_NUMBERS)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{self.address[1:]}")
        self._socket.settimeout(PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def asks(self) -> dict[str, str]:
        """What it adds to the environment of whatever it starts."""
        return {ADDRESS: self.address}

    def told(self, patience_s: float = PATIENCE_S) -> dict[str, str]:
        """The next message. Raises `TimeoutError` if none comes for that long."""
        self._socket.settimeout(patience_s)
        return dict(line.split("=", 1) for line in self._socket.recv(_MAX_MESSAGE_BYTES).decode().splitlines())

    def waits_for(self, key: str, holds: Callable[[str], bool] = bool, patience_s: float = PATIENCE_S) -> str:
        """What the first message says of this that will do; no message may be longer in coming than the patience."""
        while not holds(value := self.told(patience_s).get(key, "")):
            pass
        return value

    def waits_until_ready(self, process: int) -> bool:
        """Whether the process of this number has said that it serves, and has not ended instead."""
        try:
            end = os.pidfd_open(process)
        except ProcessLookupError:
            return False
        try:
            said, _, _ = select.select([self._socket.fileno(), end], [], [], PATIENCE_S)
        finally:
            os.close(end)
        if not said:
            raise TimeoutError
        return end not in said and self.told().get("READY") == "1"
