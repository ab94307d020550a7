"""Which packs are on their way to this device, so that the server and several peers do not send the same one (R18)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator


class Fetching:
    """The packs that are being fetched, whatever their source."""

    def __init__(self) -> None:
        self._packs: set[bytes] = set()

    def __contains__(self, pack: bytes) -> bool:
        return pack in self._packs

    @contextlib.contextmanager
    def claim(self, packs: Iterable[bytes]) -> Iterator[set[bytes]]:
        """Those of `packs` that nobody else is fetching are claimed while the context lasts."""
        mine = set(packs) - self._packs
        self._packs |= mine
        try:
            yield mine
        finally:
            self._packs -= mine
