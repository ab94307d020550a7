"""Since when a question can be: what a server gives each device to say again with its next ones (docs/adr/0340).

A request carries no time that anybody has to believe, and may be brought long after it was asked, again and again, by
whoever has it. One that says a challenge was asked after that challenge was given.

Rules:
- a challenge is the time, by a clock that nobody sets, and a tag of six bytes over the device and it, by a secret that
  lies in memory alone: whoever has a copy of the disk, or another device's challenges, makes none;
- nothing is remembered of those that were given; after a start the earlier ones say nothing any more.

docs/protocol.md, "Sync".
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

from blake3 import blake3

from protocol.limits import CHALLENGE_BYTES

RENEWED_MS: Final = 60 * 60_000
"""An older one is replaced."""
_TIME_BYTES: Final = 5
_TURN_MS: Final = 1 << 8 * _TIME_BYTES
"""After 34 years it begins again."""


class Challenges:
    """Those of one process; `secret` are 32 random bytes of its own, `steady_ms` a clock that nobody sets."""

    def __init__(self, secret: bytes, steady_ms: Callable[[], int]) -> None:
        self._secret = secret
        self._steady_ms = steady_ms

    def issue(self, device: bytes) -> bytes:
        """The challenge that a device is given now."""
        return self._at(device, self.now_ms().to_bytes(_TIME_BYTES, "big"))

    def age_ms(self, device: bytes, challenge: bytes | None) -> int | None:
        """How long ago this one was given to that device; None if it never was by this process."""
        given_ms = self.given_ms(device, challenge)
        return None if given_ms is None else (self._steady_ms() - given_ms) % _TURN_MS

    def now_ms(self) -> int:
        """The time that a challenge is given now."""
        return self._steady_ms() % _TURN_MS

    def given_ms(self, device: bytes, challenge: bytes | None) -> int | None:
        """When this one was given to that device; None if it never was by this process."""
        if challenge is None:
            return None
        time = challenge[:_TIME_BYTES]
        return int.from_bytes(time, "big") if hmac.compare_digest(challenge, self._at(device, time)) else None

    def next_for(self, device: bytes, challenge: bytes | None, *, serves: bool = True) -> bytes | None:
        """What to give who has said this one; None while it serves, and is not an hour old."""
        age_ms = self.age_ms(device, challenge)
        return None if serves and age_ms is not None and age_ms < RENEWED_MS else self.issue(device)

    def _at(self, device: bytes, time: bytes) -> bytes:
        return time + blake3(device + time, key=self._secret).digest(CHALLENGE_BYTES - _TIME_BYTES)
