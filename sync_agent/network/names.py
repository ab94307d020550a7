"""Looking the server's name up where names are not answered, or answered wrongly (R15).

Rules: the address at which the server last answered is remembered; it is used when the name is not known, and after
somebody else answered at the address that was given: until it fails, or the network is another, and no longer than
`DOUBT_S`, for the server may have moved. Whoever answers there proves to be the server by its seal.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

DOUBT_S: Final = 3600.0
"""Where names are answered wrongly for good, one call in so long a time goes to whom they lead to."""


class SteadyResolver(AbstractResolver):
    """Asks the resolver that `make` gives, and remembers."""

    def __init__(self, make: Callable[[], AbstractResolver], monotonic: Callable[[], float]) -> None:
        """`make` is called inside the loop; `monotonic` is in seconds."""
        self._make: Final = make
        self._monotonic: Final = monotonic
        self._inner: AbstractResolver | None = None
        self._asked: dict[tuple[str, int], list[ResolveResult]] = {}
        self._trusted: dict[tuple[str, int], list[ResolveResult]] = {}
        self._doubted_s: float | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses of `host`. Raises `OSError`, also for what can be no name: an answer may lead to anything."""
        known = self._trusted.get((host, port))
        if self._doubts() and known is not None:
            return known
        if self._inner is None:
            self._inner = self._make()
        try:
            found = await self._inner.resolve(host, port, family)
        except UnicodeError as reason:
            raise OSError("that can be no name") from reason
        except OSError:
            if known is None:
                raise
            return known
        self._asked[host, port] = found
        return found

    def trust(self) -> None:
        """The server has answered at the addresses that were last used."""
        self._trusted.update(self._asked)
        self._asked.clear()

    def doubt(self) -> None:
        """Somebody else answered: use what is remembered, or ask anew if it was what is remembered."""
        was_remembered = self._doubts()
        self.ask_anew()
        if self._trusted and not was_remembered:
            self._doubted_s = self._monotonic()

    def ask_anew(self) -> None:
        """Nobody answered, or the network is another: what is remembered comes first no longer."""
        self._doubted_s = None
        self._asked.clear()

    async def close(self) -> None:
        """Let go."""
        if self._inner is not None:
            await self._inner.close()
            self._inner = None

    def _doubts(self) -> bool:
        return self._doubted_s is not None and self._monotonic() - self._doubted_s < DOUBT_S
