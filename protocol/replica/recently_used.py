"""Bounded caches: what was used longest ago goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


def shorten(kept: OrderedDict[K, V], used: K, most: int) -> None:
    """Note that something was used, which is among what is kept, and let go of what is more than `most`."""
    kept.move_to_end(used)
    while len(kept) > most:
        kept.popitem(last=False)


class UntilChanged(Generic[K, V]):
    """What is found out once until something changes, for the `most` that were asked about last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: OrderedDict[K, tuple[int, V]] = OrderedDict()

    async def of(self, key: K, changes: int, find: Callable[[], Awaitable[V]]) -> V:
        """What `find` says of a key, asked again once `changes` is another number.

        What comes while it is being found out counts for the next who asks.
        """
        known = self._found.get(key)
        if known is None or known[0] != changes:
            known = changes, await find()
            self._found[key] = known
        shorten(self._found, key, self._most)
        return known[1]
