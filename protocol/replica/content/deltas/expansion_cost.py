"""What a delta may cost who rebuilds it: one account for all of its work (docs/protocol.md, "Deltas").

A delta of a few hundred kilobytes can ask for the same frames, files and images again and again: what it weighs and
what it makes say nothing about that. So the work itself is counted, in bytes, before it is done; who writes a delta
foresees it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, ParamSpec, TypeVar

from protocol.errors import Code, TooLarge
from protocol.limits import MAX_DELTA_WORK_BYTES, KiB, MiB
from protocol.transfer.delta import Own

P = ParamSpec("P")
T = TypeVar("T")

KEPT_BYTES: Final = 16 * MiB
"""Of the frames that were opened last, so many plain bytes are kept."""

PART_BYTES: Final = 4 * KiB
"""What one part of a file costs at least, whatever its length."""

BLOCK_BYTES: Final = 32 * KiB
"""… where it is a range of an image, which is kept compressed in blocks of 256 KiB."""

READ_BYTES: Final = 512 * KiB
"""What it costs to reach a range of a base's file, beside the range."""

LISTED_BYTES: Final = 256
"""… for each chunk of the file, since its list is read."""

FOLD_FACTOR: Final = 8
"""Compressing a byte again costs about as much as opening so many."""

_THREAD: Final = ThreadPoolExecutor(1, thread_name_prefix="relais-delta")


async def apart(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do work in the one thread that there is for the deltas of others, where they take turns."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, partial(work, *args, **kwargs))


@dataclass(slots=True)
class Work:
    """How much has been done for one delta."""

    done_bytes: int = 0

    def add(self, size: int) -> None:
        """So much more. Raises `TooLarge`."""
        self.done_bytes += size
        if self.done_bytes > MAX_DELTA_WORK_BYTES:
            raise TooLarge(Code.TOO_LARGE, "a delta takes more work than allowed", max=MAX_DELTA_WORK_BYTES)


class Kept:
    """Which frames are kept open: the last that were used, while they are `KEPT_BYTES` together; one always."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[int, int] = OrderedDict()
        self._bytes = 0

    def __contains__(self, number: int) -> bool:
        return number in self._sizes

    def use(self, number: int, plain_bytes: int) -> list[int]:
        """A frame of that size is used; the numbers of those that make way for it."""
        self._bytes += plain_bytes - self._sizes.pop(number, 0)
        self._sizes[number] = plain_bytes
        gone = []
        while len(self._sizes) > 1 and self._bytes > KEPT_BYTES:
            oldest, size = self._sizes.popitem(last=False)
            self._bytes -= size
            gone.append(oldest)
        return gone


class Foreseen:
    """What a delta without bases will cost its readers, while it is written in frames of about `frame_bytes`."""

    def __init__(self, frame_bytes: int) -> None:
        self._frame_bytes = frame_bytes
        self._starts = [0]
        self._kept = Kept()

    def frame(self, plain_bytes: int) -> None:
        """A frame of that size ends."""
        self._starts.append(self._starts[-1] + plain_bytes)

    def file(self, parts: Sequence[Own | int], at: int, *, folded: bool) -> int:
        """What a file of these parts costs, whose new bytes follow `at` plain bytes."""
        size = sum(part if isinstance(part, int) else part.length for part in parts)
        cost = len(parts) * PART_BYTES + (size * FOLD_FACTOR if folded else 0)
        for part in parts:
            if isinstance(part, int):
                cost += self._opened(at, part)
                at += part
            else:
                cost += self._opened(part.start, part.length)
        return cost

    def _opened(self, start: int, length: int) -> int:
        """How much is opened for a range."""
        first, last = self._number(start), self._number(start + length - 1)
        cost = 0
        for number in range(first, last + 1):
            cost += 0 if number in self._kept else self._frame_bytes
            self._kept.use(number, self._frame_bytes)
        return cost

    def _number(self, place: int) -> int:
        if place < self._starts[-1]:
            return bisect_right(self._starts, place) - 1
        return len(self._starts) - 1 + (place - self._starts[-1]) // self._frame_bytes
