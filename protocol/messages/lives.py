"""Whether two processes speak with one key at the same time: the sign of a cloned machine (docs/protocol.md, "Clones").

A process draws a nonce when it starts, and numbers its requests. A machine that is started again has another nonce and
never the old one any more; only where two live does the older speak again after the newer was heard. Twice is asked
for, because one request may have been under way for long; and with a higher number, because a request may be replayed
by whoever carries it.

Pure: what was heard comes in, what is to be told goes out. Kept in memory only.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from protocol.limits import MAX_LIVES_HEARD, MAX_LIVES_PER_DEVICE

NONCE_BYTES: Final = 8
LIFE_BYTES: Final = NONCE_BYTES + 4
RETURNS: Final = 2
_MOST_REQUESTS: Final = 2**32


class Twin(IntEnum):
    """What the caller is told: nothing, or that another lives with its key, that came after it or before it."""

    NONE = 0
    FIRST = 1
    LATER = 2


@dataclass(slots=True)
class Life:
    """The process that speaks: its nonce, and how many requests it has numbered."""

    nonce: bytes
    said: int = 0

    def next(self) -> bytes:
        """What the next request says of it."""
        self.said += 1
        return self.nonce + (self.said % _MOST_REQUESTS).to_bytes(LIFE_BYTES - NONCE_BYTES, "big")


@dataclass(slots=True)
class _Heard:
    """A process as it was heard: its highest number, its returns after a younger one, what others who spoke since are.

    `others` is LATER if one of them is older, and this one therefore the later; FIRST if all are younger.
    """

    number: int = -1
    returns: int = 0
    others: Twin = Twin.NONE


@dataclass(slots=True)
class Lives:
    """What one place has heard of the processes behind each key."""

    _devices: OrderedDict[bytes, OrderedDict[bytes, _Heard]] = field(default_factory=OrderedDict)

    def hear(self, device: bytes, life: bytes | None) -> Twin:
        """Note a request, and say what its answer tells. One that says nothing of its process tells nothing."""
        if life is None:
            return Twin.NONE
        nonce, number = life[:NONCE_BYTES], int.from_bytes(life[NONCE_BYTES:], "big")
        known = self._devices.setdefault(device, OrderedDict())
        self._devices.move_to_end(device)
        heard = known.setdefault(nonce, _Heard())
        if number <= heard.number:
            return Twin.NONE
        heard.number = number
        order = list(known)
        place = order.index(nonce)
        heard.returns += place < len(order) - 1
        twin, heard.others = heard.others, Twin.NONE
        for at, other in enumerate(order):
            if at != place:
                known[other].others = max(known[other].others, Twin.LATER if place < at else Twin.FIRST)
        self._forget(known, nonce)
        return twin if any(each.returns >= RETURNS for each in known.values()) else Twin.NONE

    def _forget(self, known: OrderedDict[bytes, _Heard], nonce: bytes) -> None:
        """Keep little: the youngest processes of a device, and the devices that spoke last."""
        while len(known) > MAX_LIVES_PER_DEVICE:
            del known[next(each for each in known if each != nonce)]
        while len(self._devices) > MAX_LIVES_HEARD:
            self._devices.popitem(last=False)
