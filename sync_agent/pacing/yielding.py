"""How fast content may move so that people who use the same line do not notice: a scavenger's rules (R14).

The signal is delay, as LEDBAT has it (RFC 6817): a line that is full makes packets queue, and a small question over it
takes longer than it did when the line was free. Whoever is first to feel that and steps back leaves the line to others;
whoever is alone on it fills it all the same, with a queue of `TARGET_S` at most. What differs from the RFC: time is
measured there and back, by small questions beside the content, because neither end of a proxy tells one-way delays; and
a pace is set in bytes a second, because a program has no congestion window.

Rules:
- the delay of a free line is the least of the last ten minutes, a minute at a time, so that a new way is learnt (RFC
  6817, section 3.4.2); the delay of now is the least of the last few answers, so that one slow answer is nothing;
- nothing is held back until the delay has gone beyond the target for a while: a short transfer, or a fast line, is not
  paced at all;
- then the pace falls to what went through lately, less what the queue has too much, and again only when that has shown;
  it halves while no answer comes, and grows again in proportion to how much room there is, slowly where it fell before;
- it never falls below `FLOOR_BYTES_S`; when twice what goes through would be allowed, nothing is held back any more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from protocol.limits import KiB
from sync_agent.pacing.budget import MIN_RATE_BYTES_S

PROBE_S: Final = 0.5
"""How often the delay is asked for while content moves."""
LOST_S: Final = 3.0
"""An answer that takes longer is none."""
TARGET_S: Final = 0.1
"""The queue that we may make (RFC 6817: 100 ms at most)."""
LEAST_PART_BYTES: Final = 16 * KiB
FLOOR_BYTES_S: Final = MIN_RATE_BYTES_S
GROWTH: Final = 0.15
"""By how much the pace grows between two looks while the line is free."""
CAREFUL: Final = 0.03
"""By how much near the pace at which the line was full."""
STEEPEST: Final = 0.5
"""The most that it falls between two looks."""
LATEST: Final = 3
SHOWS_AFTER: Final = 3
"""How many looks it takes until a smaller pace shows in the delay."""
BASE_MINUTES: Final = 10
_MINUTE_S: Final = 60.0
_FREE: Final = 2.0
_NEAR: Final = 0.8
_SMOOTHING: Final = 0.5


@dataclass(frozen=True, slots=True)
class Line:
    """What is known of the line; times are monotonic seconds.

    `pace_bytes_s` is None while nothing is held back; `knee_bytes_s` is what went through when the line was full;
    `settling` counts looks until a pace that fell shows.
    """

    pace_bytes_s: float | None = None
    through_bytes_s: float = 0.0
    knee_bytes_s: float = 0.0
    settling: int = 0
    latest_s: tuple[float, ...] = ()
    bases_s: tuple[tuple[int, float], ...] = ()

    @property
    def queue_s(self) -> float:
        """For how long packets queue now, as far as is known."""
        if not self.latest_s or not self.bases_s:
            return 0.0
        return max(0.0, min(self.latest_s) - min(least for _, least in self.bases_s))

    @property
    def part_bytes(self) -> int | None:
        """How much to ask for at once, so that it queues no longer than we may make it: all that there is, if None."""
        if self.pace_bytes_s is None:
            return None
        free_s = min((least for _, least in self.bases_s), default=TARGET_S)
        return max(LEAST_PART_BYTES, int(self.pace_bytes_s * max(TARGET_S, free_s)))

    @property
    def yields(self) -> bool:
        """Whether content is held back for others."""
        return self.pace_bytes_s is not None

    def after(self, delay_s: float | None, moved_bytes: int, took_s: float, now_s: float) -> Line:
        """A look later: a question took `delay_s` there and back (None: no answer), and so much content moved."""
        rate = moved_bytes / took_s if took_s > 0 else 0.0
        through = (
            rate if not self.through_bytes_s else self.through_bytes_s + _SMOOTHING * (rate - self.through_bytes_s)
        )
        line = replace(self, through_bytes_s=through)
        if delay_s is None:
            return replace(line, pace_bytes_s=max(FLOOR_BYTES_S, (1 - STEEPEST) * _paced_from(line)))
        line = replace(
            line,
            latest_s=(*self.latest_s, delay_s)[-LATEST:],
            bases_s=_with(self.bases_s, int(now_s // _MINUTE_S), delay_s),
        )
        return _judged(line)

    def rest(self) -> Line:
        """Content has stopped moving: what was learnt of the free line stays, what is held back does not."""
        return Line(bases_s=self.bases_s)


def _paced_from(line: Line) -> float:
    return line.through_bytes_s if line.pace_bytes_s is None else min(line.pace_bytes_s, line.through_bytes_s)


def _judged(line: Line) -> Line:
    room = 1.0 - line.queue_s / TARGET_S
    if line.settling:
        return replace(line, settling=line.settling - 1)
    if room < 0 and len(line.latest_s) == LATEST:
        from_bytes_s = _paced_from(line)
        fallen = max(FLOOR_BYTES_S, from_bytes_s * max(1 - STEEPEST, 1 + room * STEEPEST))
        return replace(line, pace_bytes_s=fallen, knee_bytes_s=from_bytes_s, settling=SHOWS_AFTER)
    if line.pace_bytes_s is None or room < 0:
        return line
    near = _NEAR * line.knee_bytes_s <= line.pace_bytes_s <= line.knee_bytes_s / _NEAR
    grown = line.pace_bytes_s * (1 + (CAREFUL if near else GROWTH) * room)
    # where twice as much would be allowed, it is not we who hold anything back: this machine is as slow as that
    free = grown > _FREE * max(line.through_bytes_s, FLOOR_BYTES_S)
    return replace(line, pace_bytes_s=None if free else grown)


def _with(bases: tuple[tuple[int, float], ...], minute: int, delay_s: float) -> tuple[tuple[int, float], ...]:
    """The least delay of each of the last minutes, with one more."""
    kept = {at: least for at, least in bases if minute - BASE_MINUTES < at <= minute}
    kept[minute] = min(delay_s, kept.get(minute, delay_s))
    return tuple(sorted(kept.items()))
