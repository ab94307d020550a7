"""Looking the server's name up where names are not answered, or answered wrongly (R15).

Rules: the address at which the server last answered is remembered; it is used when the name is not known, and once
after somebody else answered at the address that was given. Whoever answers there proves to be the server by its seal.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult


class SteadyResolver(AbstractResolver):
    """Asks the resolver that `make` gives, and remembers."""

    def __init__(self, make: Callable[[], AbstractResolver]) -> None:
        """`make` is called inside the loop."""
        self._make: Final = make
        self._inner: AbstractResolver | None = None
        self._asked: dict[tuple[str, int], list[ResolveResult]] = {}
        self._trusted: dict[tuple[str, int], list[ResolveResult]] = {}
        self._doubts = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses of `host`. Raises `OSError`."""
        known = self._trusted.get((host, port))
        if self._doubts and known is not None:
            return known
        if self._inner is None:
            self._inner = self._make()
        try:
            found = await self._inner.resolve(host, port, family)
        except OSError:
            if known is None:
                raise
            return known
        self._asked[host, port] = found
        return found

    def trust(self) -> None:
        """The server has answered at the addresses that were last used."""
        if not self._doubts:
            self._trusted.update(self._asked)
        self._asked.clear()

    def doubt(self) -> None:
        """Somebody else answered: use what is remembered, or ask anew if it was what is remembered."""
        self._doubts = not self._doubts and bool(self._trusted)

    async def close(self) -> None:
        """Let go."""
        if self._inner is not None:
            await self._inner.close()
            self._inner = None
