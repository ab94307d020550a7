"""Bounded caches: what was used longest ago goes first."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def shorten(kept: OrderedDict[K, V], used: K, most: int) -> None:
    """Note that something was used, which is among what is kept, and let go of what is more than `most`."""
    kept.move_to_end(used)
    while len(kept) > most:
        kept.popitem(last=False)
