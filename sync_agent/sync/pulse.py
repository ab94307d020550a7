"""Who fetches for others goes on, or does not: what it says of that itself, and what others make of it (R18).

Rules:
- who is in the middle of fetching says so again each second; who waits for it and hears nothing for a moment asks it,
  the next one first: silence alone takes nothing from anybody, since words to a group get lost;
- who sends much that others had left to it says so as well;
- what counts is that content comes, not how fast: a thin line is no line that stands still, and neither is one on which
  the first byte is late, since boxes on the way hold content until they have looked through it;
- whose line stands still says so, and another one is named; while others' stand still as well, which is the school's
  own line, it takes twice as long for each;
- who has stood still, or was itself asleep, leaves it to whoever gets it meanwhile, and who has gone on in the place of
  such a one leaves it to that one if it gets it first.

docs/protocol.md, "One download".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol

from sync_agent.transport.interface import Traffic

PULSE_S: Final = 1.0
BEGUN_BYTES: Final = 16_384
STALLS_S: Final = 4.0
"""After so long without a byte, where so many have come, a line stands still: a box that looks through content before
it lets it pass sends few bytes, if any, to keep who waits from giving up.
"""
SENT_STALLS_S: Final = 40.0
"""The same of what is sent: buffers here hold half a minute of a thin line, and nobody sees how they empty."""
MOST_DOUBLINGS: Final = 4
DOUBTS: Final = 3
"""For so many pulses after its line stood still a device looks whether another one goes on."""
SLEPT_S: Final = 3.0
"""A program that was kept from running for so long may have been taken for dead, ..."""
SLEPT_LONG_S: Final = 10.0
"""... and for so long it was: others may have all by now."""
LOOKS_S: Final = 0.5
LOOKS_SELDOM_S: Final = 3.0
"""How often those are looked after that are waited for, and say again and again that they fetch, or do not."""
SILENT_S: Final = (2.0, 3.0)
NEXT_S: Final = 3.0
"""So long nothing is heard until the one is asked that fetches, and so much longer for each place in the ranking."""


class Line(Protocol):
    """The way to the server (`Transport`)."""

    @property
    def traffic(self) -> Traffic:
        """What has come so far, and how many requests wait."""
        ...

    async def renew(self) -> None:
        """Let go of connections that stand; what was being read is gone on with."""
        ...


class Course(Enum):
    """How a fetch goes on: nothing has come yet, something comes, no more, or this program did not run."""

    BEGINS = auto()
    COMES = auto()
    STALLS = auto()
    SLEPT = auto()
    SLEPT_LONG = auto()


@dataclass(slots=True)
class Flow:
    """How content comes, looked at every `PULSE_S`: bytes are counted, `begun` when it began; times are monotonic."""

    begun: int
    at_s: float
    since_s: float
    """Since when nothing has come."""
    doubts: int = 0
    _moved: int = 0

    def look(self, now_s: float, moved: int, *, waits: bool, halted: int) -> Course:
        """What has become of it; `waits` says whether something is waited for: what has come is also checked and kept.

        `halted` others' lines stand still, or they have fallen silent.
        """
        slept_s, self.at_s = now_s - self.at_s - PULSE_S, now_s
        has_begun = moved - self.begun >= BEGUN_BYTES
        if moved != self._moved or not waits or slept_s >= SLEPT_S:
            self._moved, self.since_s = moved, now_s
        stalls = has_begun and now_s - self.since_s >= STALLS_S * 2.0 ** min(halted, MOST_DOUBLINGS)
        slept = slept_s >= SLEPT_S
        self.doubts = DOUBTS if stalls or slept else max(0, self.doubts - 1)
        if slept:
            return Course.SLEPT_LONG if slept_s >= SLEPT_LONG_S else Course.SLEPT
        if stalls:
            return Course.STALLS
        return Course.COMES if has_begun else Course.BEGINS


@dataclass(slots=True)
class Watch:
    """Somebody that is waited for, looked after every `LOOKS_S`: a clock runs on while this program does not."""

    patience_s: float
    word: int | None = None
    silent_s: float = 0.0

    def falls_silent(self, word: int | None) -> bool:
        """Whether it is asked now; `word` is the number of its last one, None while it need not say anything."""
        if word is None or word != self.word:
            self.word, self.silent_s = word, 0.0
            return False
        self.silent_s += LOOKS_S
        if self.silent_s < self.patience_s:
            return False
        self.silent_s, self.patience_s = 0.0, 2 * self.patience_s
        return True
