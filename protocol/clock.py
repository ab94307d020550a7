"""Hybrid logical time: 48 bits of milliseconds, 16 bits of counter (docs/protocol.md, "Time").

Rules (R6):
- a time is an aid to ordering and to people, never a proof: causality comes from references;
- a time more than `MAX_CLOCK_LEAD_MS` ahead of what is proven never moves a clock;
- no time is ever a reason to refuse.

Source: Kulkarni et al., "Logical Physical Clocks" (2014). Pure: the wall clock comes in as `now_ms`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from protocol.limits import MAX_CLOCK_LEAD_MS

COUNTER_BITS = 16
MAX_AT = 2**64 - 1
MAX_TIME_MS = MAX_AT >> COUNTER_BITS
"""The latest time that an entry can say; nobody's clock is beyond it."""
DAY_MS = 24 * 3600 * 1000


def at_from(milliseconds: int, counter: int = 0) -> int:
    """The 64-bit hybrid time of a wall-clock time; times before 1970 count as 1970."""
    return min(max(milliseconds, 0) << COUNTER_BITS | counter, MAX_AT)


def milliseconds_of(at: int) -> int:
    """The wall-clock part of a hybrid time, in milliseconds since 1970."""
    return at >> COUNTER_BITS


def tick(last: int, now_ms: int) -> int:
    """The time of a new entry: after `last`, and not before the wall clock."""
    return min(max(at_from(now_ms), last + 1), MAX_AT)


def observe(last: int, seen: int, reference_ms: int) -> int:
    """`last` moved by a time `seen` in somebody's entry, unless that time leads `reference_ms` by too much.

    `reference_ms` is the newest time that a server proved, else this machine's wall clock.
    """
    if milliseconds_of(seen) > reference_ms + MAX_CLOCK_LEAD_MS:
        return last
    return max(last, seen)


def believable(last: int, now_ms: int, proven_ms: int) -> int:
    """`last`, unless it leads both this machine's wall clock and the time that a server proved (0: none) by too much.

    Then that proven time: what a wrong clock once said binds nobody for ever, and the next wrong one does not make what
    comes after a proof older than it.
    """
    return at_from(proven_ms) if milliseconds_of(last) > max(now_ms, proven_ms) + MAX_CLOCK_LEAD_MS else last


def rfc3339(milliseconds: int | None) -> str | None:
    """The time as people and scripts read it, in UTC with milliseconds; None stays None."""
    if milliseconds is None:
        return None
    bounded = min(max(milliseconds, 0), _LAST_MS)
    text = datetime.fromtimestamp(bounded / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


_LAST_MS = 253_402_300_799_000  # 9999-12-31, the end of what a calendar date can say
