"""Which packs are on their way to this device, so that the server and several peers do not send the same one (R18).

Rules:
- of the neighbours that offer a pack one is let send it; another one when that one stops, and nobody keeps others away
  for long by sending little;
- what a neighbour is sending is not fetched from another one meanwhile, for `LEFT_MS` at most: who sends slowly on
  purpose delays a pack by so much, once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

BEGINS_WITHIN_MS: Final = 10_000
ENDS_WITHIN_MS: Final = 60_000
LEFT_MS: Final = 30_000
_MOST_SENT: Final = 4_096


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


class Sending:
    """Which packs neighbours were let send here, each by one of them."""

    def __init__(self, part_size: Callable[[bytes, bytes], Awaitable[int]]) -> None:
        """`part_size` says how much of a pack has come from a sender."""
        self._part_size = part_size
        self._packs: dict[bytes, tuple[bytes, int, int]] = {}
        """Pack → who was let send it, since when, and how much of it was here when somebody last asked."""

    async def lets(self, pack: bytes, sender: bytes, now_ms: int) -> bool:
        """Whether a device is let send a pack now."""
        known = self._packs.get(pack)
        if known is not None and known[0] != sender:
            other, since_ms, _ = known
            if await self._goes_on(pack, known, now_ms):
                self._packs[pack] = other, since_ms, await self._part_size(pack, other)
                return False
        self._packs.pop(pack, None)
        self._packs[pack] = sender, now_ms, await self._part_size(pack, sender)
        while len(self._packs) > _MOST_SENT:
            del self._packs[next(iter(self._packs))]
        return True

    async def comes(self, pack: bytes, now_ms: int) -> bool:
        """Whether somebody was let send a pack who may still be at it."""
        known = self._packs.get(pack)
        return known is not None and await self._goes_on(pack, known, now_ms)

    async def _goes_on(self, pack: bytes, known: tuple[bytes, int, int], now_ms: int) -> bool:
        sender, since_ms, seen = known
        grows = await self._part_size(pack, sender) > seen
        return 0 <= now_ms - since_ms < (ENDS_WITHIN_MS if grows else BEGINS_WITHIN_MS)


class Left:
    """What one link leaves to neighbours that are sending it, and since when."""

    def __init__(self, sending: Sending) -> None:
        """`sending` knows what is being sent."""
        self._sending = sending
        self._since_ms: dict[bytes, int] = {}

    async def takes(self, pack: bytes, now_ms: int) -> bool:
        """Whether a pack is left to who sends it."""
        if not await self._sending.comes(pack, now_ms):
            return False
        since_ms = self._since_ms.setdefault(pack, now_ms)
        while len(self._since_ms) > _MOST_SENT:
            del self._since_ms[next(iter(self._since_ms))]
        return 0 <= now_ms - since_ms < LEFT_MS
