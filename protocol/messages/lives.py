"""Whether two processes speak with one key at the same time: the sign of a cloned machine (docs/protocol.md, "Clones").

A process draws a nonce when it starts, and numbers its requests. A machine that is started again has another nonce and
never the old one any more; only where two live does the older speak again after the younger was noted. When a request
was written nobody sees: whoever carries it may keep it back, or bring it again.

Rules:
- a request shows that its process lives by a challenge that was given after the youngest process of its key was noted
  (docs/adr/0566): what was written before the younger one began shows none, whenever it comes. Nothing else counts;
- who shows it, and is not known, is noted as the youngest; of a key of which nothing is known, whoever speaks;
- who shows it, and is not the youngest, has come back: two live. Once is enough;
- a request counts once: with a higher number than the last of its process that was heard.

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
_MOST_REQUESTS: Final = 2**32


class Twin(IntEnum):
    """What the caller is told: nothing, or that another lives with its key, that came after it or before it."""

    NONE = 0
    FIRST = 1
    LATER = 2


def shows_life(given_ms: int | None, noted_ms: int) -> bool:
    """Whether who says a challenge of then has written since the youngest process of its key was noted."""
    return given_ms is not None and given_ms > noted_ms


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
    """A process as it was heard: its highest number, whether it has come back, what others who spoke since are.

    `others` is LATER if one of them is older, and this one therefore the later; FIRST if all are younger.
    """

    number: int = -1
    has_returned: bool = False
    others: Twin = Twin.NONE


@dataclass(slots=True)
class _Device:
    """The processes of one key, in the order in which they were noted, and when the last was."""

    heard: OrderedDict[bytes, _Heard] = field(default_factory=OrderedDict)
    noted_ms: int = 0


@dataclass(slots=True)
class Lives:
    """What one place has heard of the processes behind each key."""

    _devices: OrderedDict[bytes, _Device] = field(default_factory=OrderedDict)

    def hear(self, device: bytes, life: bytes | None, given_ms: int | None = None, now_ms: int = 0) -> Twin:
        """Note a request, and say what its answer tells. One that says nothing of its process tells nothing.

        `given_ms` is when the challenge was given that it says, None for none, by the same clock as `now_ms`.
        """
        if life is None:
            return Twin.NONE
        nonce, number = life[:NONCE_BYTES], int.from_bytes(life[NONCE_BYTES:], "big")
        known = self._devices.setdefault(device, _Device())
        self._devices.move_to_end(device)
        heard = known.heard.get(nonce)
        if (heard and number <= heard.number) or (known.heard and not shows_life(given_ms, known.noted_ms)):
            return Twin.NONE
        if heard is None:
            heard = known.heard[nonce] = _Heard()
            known.noted_ms = now_ms
        heard.number = number
        twin, heard.others = heard.others, Twin.NONE
        is_older = True
        for other, each in known.heard.items():
            if other == nonce:
                is_older = False
            else:
                each.others = max(each.others, Twin.FIRST if is_older else Twin.LATER)
        heard.has_returned |= nonce != next(reversed(known.heard))
        self._forget(known.heard, nonce)
        return twin if any(each.has_returned for each in known.heard.values()) else Twin.NONE

    def knows_to_live(self, device: bytes, given_ms: int | None) -> bool:
        """Whether a challenge of then shows that a process lives now: who has none that does is given another."""
        known = self._devices.get(device)
        return known is None or shows_life(given_ms, known.noted_ms)

    def _forget(self, known: OrderedDict[bytes, _Heard], nonce: bytes) -> None:
        """Keep little: the youngest processes of a device, and the devices that spoke last."""
        while len(known) > MAX_LIVES_PER_DEVICE:
            del known[next(each for each in known if each != nonce)]
        while len(self._devices) > MAX_LIVES_HEARD:
            self._devices.popitem(last=False)
