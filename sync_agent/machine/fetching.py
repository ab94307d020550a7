"""Which packs are on their way to this device, so that the server and several peers do not send the same one (R18).

Rules:
- a pack that one source is giving is asked of no other for `HELD_S`, and after that as long as `LEAST_BYTES_PER_S` of
  it come: a classmate's PC that gives it drop by drop does not keep it from coming from the server;
- of the neighbours that offer a pack one is let send it; another one when that one stops, and nobody keeps others away
  for long by sending little;
- what a neighbour is sending is not fetched from another one meanwhile, for `LEFT_MS` at most: who sends slowly on
  purpose delays a pack by so much, once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

HELD_S: Final = 30.0
LEAST_BYTES_PER_S: Final = 32_768
BEGINS_WITHIN_MS: Final = 10_000
ENDS_WITHIN_MS: Final = 60_000
LEFT_MS: Final = 30_000
_MOST_SENT: Final = 4_096


@dataclass(slots=True)
class _Fetched:
    """From how many sources a pack is being fetched, and how much of it has come since the last look."""

    since_s: float
    sources: int = 0
    came_bytes: int = 0


class Fetching:
    """The packs that are being fetched, whatever their source. Times are those of the event loop, in seconds."""

    def __init__(self) -> None:
        self._packs: dict[bytes, _Fetched] = {}

    def comes(self, pack: bytes, now_s: float) -> bool:
        """Whether a pack is being fetched, and no other source needs to be asked for it."""
        known = self._packs.get(pack)
        if known is None:
            return False
        passed_s = now_s - known.since_s
        if passed_s < HELD_S:
            return True
        if known.came_bytes < passed_s * LEAST_BYTES_PER_S:
            return False
        known.since_s, known.came_bytes = now_s, 0
        return True

    @contextlib.contextmanager
    def claim(self, pack: bytes, now_s: float) -> Iterator[bool]:
        """Whether a pack is to be fetched here: if so, it is being fetched while the context lasts."""
        if self.comes(pack, now_s):
            yield False
            return
        known = self._packs.setdefault(pack, _Fetched(now_s))
        known.since_s, known.came_bytes, known.sources = now_s, 0, known.sources + 1
        try:
            yield True
        finally:
            known.sources -= 1
            if not known.sources:
                del self._packs[pack]

    def note(self, pack: bytes, came_bytes: int) -> None:
        """So much of it has come."""
        if (known := self._packs.get(pack)) is not None:
            known.came_bytes += came_bytes


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
