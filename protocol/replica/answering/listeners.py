"""Who waits for news, and telling them (R14; docs/protocol.md, "Wake-up").

Rules:
- a listener is told that something moved, never what: what it may know, a sync tells it;
- news that it brought itself does not wake it;
- told twice before it looks is told once: nothing queues up.
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary


class Listener:
    """One device that waits. `moved` gathers the spaces that have grown since it was last `taken`."""

    __slots__ = ("__weakref__", "_moved", "_spaces", "device")

    def __init__(self, device: bytes) -> None:
        self.device = device
        self._spaces: set[bytes] = set()
        self._moved = asyncio.Event()

    def tell(self, spaces: frozenset[bytes]) -> None:
        """These spaces have grown."""
        self._spaces |= spaces
        self._moved.set()

    async def news(self) -> frozenset[bytes]:
        """Wait until something has grown; what it was, once."""
        await self._moved.wait()
        self._moved.clear()
        spaces, self._spaces = frozenset(self._spaces), set()
        return spaces


class Listeners:
    """All that wait at one replica; one that is given up is forgotten by itself."""

    def __init__(self) -> None:
        # in the order in which they came, which a set would not keep
        self._listening: WeakKeyDictionary[Listener, None] = WeakKeyDictionary()

    def add(self, device: bytes) -> Listener:
        """One more that waits."""
        listener = Listener(device)
        self._listening[listener] = None
        return listener

    def tell(self, spaces: frozenset[bytes], source: bytes) -> None:
        """Spaces have grown by what `source` brought."""
        for listener in list(self._listening):
            if listener.device != source:
                listener.tell(spaces)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._listening)
