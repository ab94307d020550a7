"""When content may travel: pure rules over the time, what was spent, what a person asked for and the connection.

Rules:
- a person's pause holds everything, until its time or until a person resumes;
- quiet hours, a metered connection and a spent daily budget hold only large content: entries, small packs and hand-ins
  always go, so that no pupil's work waits for the end of a lesson;
- a day is one of this machine's local calendar; a count that belongs to another day is no count of today, whichever way
  the clock was moved: the worst that a wrong clock does is to spend a budget twice (R6);
- a rate limit is one bucket for both directions; a bucket may go into debt, and whoever took from it waits.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from protocol.errors import BadInput, Code

MIN_RATE_BYTES_S: Final = 16_000
"""Below it a piece of content takes longer than servers wait for one."""
MAX_PAUSE_MS: Final = 366 * 24 * 3600 * 1000
BURST_S: Final = 0.5
"""How much of an unused rate is kept."""

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EVERY_DAY: Final = frozenset(range(7))
_DAY_MINUTES: Final = 24 * 60
_WINDOW: Final = re.compile(
    r"(?:(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))? )?(?P<from>\d{1,2}:\d{2})-(?P<to>\d{1,2}:\d{2})"
)
_SIZE: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) ?([kmgt]?)(?:b|o)?(/s)?", re.IGNORECASE)
_FACTORS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SPAN: Final = re.compile(r"(?:(\d{1,3})d)?(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,7})s)?")


class Hold(StrEnum):
    """Why content is held back."""

    PAUSED = "paused"
    QUIET_HOURS = "quiet-hours"
    METERED = "metered"
    DAILY_BUDGET = "daily-budget"
    DISK_FULL = "disk-full"
    """Not by this module's rules: there is no room for what would be fetched (`room`)."""


class Metered(StrEnum):
    """What is said of the connection: `auto` asks the system."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of the day in minutes after midnight, on some days (0 is Monday).

    One that ends before it begins goes on after midnight and belongs to the day on which it begins; one that ends
    where it begins lasts a day.
    """

    begin: int
    end: int
    days: frozenset[int] = _EVERY_DAY

    def ends(self, moment: dt.datetime) -> dt.datetime | None:
        """When this window ends, if `moment` lies in it."""
        minutes = (self.end - self.begin) % _DAY_MINUTES or _DAY_MINUTES
        for back in (0, 1):
            midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0) - dt.timedelta(days=back)
            begin = midnight + dt.timedelta(minutes=self.begin)
            end = begin + dt.timedelta(minutes=minutes)
            if midnight.weekday() in self.days and begin <= moment < end:
                return end
        return None

    def __str__(self) -> str:
        """As it is written on the command line."""
        times = "-".join(f"{at // 60:02}:{at % 60:02}" for at in (self.begin, self.end))
        if self.days == _EVERY_DAY:
            return times
        named = [_DAYS[day] for day in sorted(self.days)]
        return f"{named[0]}-{named[-1]} {times}" if len(named) > 1 else f"{named[0]} {times}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator set. `rate_bytes_s` is for both directions together; `yields`: content gives way."""

    daily_bytes: int | None = None
    metered: Metered = Metered.AUTO
    quiet: tuple[Window, ...] = ()
    rate_bytes_s: int | None = None
    yields: bool = True


@dataclass(frozen=True, slots=True)
class Spent:
    """Bytes of one local day, both directions; `day` is its ordinal."""

    day: int = 0
    size: int = 0

    def on(self, day: int) -> int:
        """What was spent on that day."""
        return self.size if self.day == day else 0

    def plus(self, day: int, size: int) -> Spent:
        """With `size` more bytes, spent on `day`."""
        return Spent(day, self.on(day) + size)


@dataclass(frozen=True, slots=True)
class Pausing:
    """A person's pause: since when, and until when unless somebody resumes (ms since 1970)."""

    since_ms: int
    until_ms: int | None = None

    def holds(self, now_ms: int) -> bool:
        """Whether it still does. A clock that was set back does not make it longer than it was meant to be."""
        if self.until_ms is None:
            return True
        return self.since_ms - (self.until_ms - self.since_ms) <= now_ms < self.until_ms


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is held back now, and until when if that is known (ms since 1970). `hold` is None while all may travel."""

    hold: Hold | None = None
    until_ms: int | None = None


OPEN: Final = Verdict()


def verdict(
    now_ms: int,
    moment: dt.datetime,
    spent: Spent,
    limits: Limits,
    *,
    metered: bool | None,
    pausing: Pausing | None,
) -> Verdict:
    """What holds first. `moment` is `now_ms` as local time; `metered` what the system says, None if it does not."""
    if pausing is not None and pausing.holds(now_ms):
        return Verdict(Hold.PAUSED, pausing.until_ms)
    ends = [end for window in limits.quiet if (end := window.ends(moment)) is not None]
    if ends:
        return Verdict(Hold.QUIET_HOURS, _in_ms(max(ends)))
    if is_metered(limits, metered=metered):
        return Verdict(Hold.METERED)
    if limits.daily_bytes is not None and spent.on(moment.toordinal()) >= limits.daily_bytes:
        tomorrow = moment.replace(hour=0, minute=0, second=0, microsecond=0) + dt.timedelta(days=1)
        return Verdict(Hold.DAILY_BUDGET, _in_ms(tomorrow))
    return OPEN


def is_metered(limits: Limits, *, metered: bool | None) -> bool:
    """Whether the connection counts as metered: what is not known is not."""
    return limits.metered is Metered.YES or (limits.metered is Metered.AUTO and metered is True)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Bytes that may go at once, negative while others wait, as they stood at `at_s` of a monotonic clock."""

    level: float = 0.0
    at_s: float = 0.0

    def take(self, size: int, rate_bytes_s: float, now_s: float) -> tuple[Bucket, float]:
        """The bucket after `size` bytes, and how many seconds whoever took them waits."""
        most = rate_bytes_s * BURST_S
        level = min(most, self.level + max(0.0, now_s - self.at_s) * rate_bytes_s) - size
        return replace(self, level=level, at_s=now_s), max(0.0, -level / rate_bytes_s)


# --- what a person writes ---------------------------------------------------------------------------------------------


def windows_of(texts: Sequence[str]) -> tuple[Window, ...]:
    """`08:30-12:00`, `mon-fri 08:30-16:30`; several with commas. Raises `BadInput(USAGE)`."""
    return tuple(_window(part.strip()) for text in texts for part in text.split(",") if part.strip())


def size_of(text: str, option: str) -> int:
    """Bytes: `500000`, `200M`, `1.5 GB`. Raises `BadInput(USAGE)`."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or found[3]:
        raise BadInput(Code.USAGE, f"{option}: “{text}” is no size; one looks like 500M or 2G")
    return int(float(found[1]) * _FACTORS[found[2].lower()])


def rate_of(text: str, option: str) -> int:
    """Bytes a second: `200k`, `1.5M/s`. Raises `BadInput(USAGE)`."""
    found = _SIZE.fullmatch(text.strip())
    rate = 0 if found is None else int(float(found[1]) * _FACTORS[found[2].lower()])
    if rate < MIN_RATE_BYTES_S:
        raise BadInput(
            Code.USAGE,
            f"{option}: “{text}” is no rate; one looks like 200k or 2M (bytes a second), {MIN_RATE_BYTES_S} at least",
        )
    return rate


def span_ms_of(text: str, option: str) -> int:
    """A length of time in ms: `2h`, `45m`, `1d12h`. Raises `BadInput(USAGE)`."""
    found = _SPAN.fullmatch(text.strip())
    days, hours, minutes, seconds = (0, 0, 0, 0) if found is None else (int(part or 0) for part in found.groups())
    span_ms = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000
    if not 0 < span_ms <= MAX_PAUSE_MS:
        raise BadInput(Code.USAGE, f"{option}: “{text}” is no length of time; one looks like 2h, 45m or 1d")
    return span_ms


def _window(text: str) -> Window:
    found = _WINDOW.fullmatch(text.lower())
    begin, end = (None, None) if found is None else (_minutes(found["from"]), _minutes(found["to"]))
    days = None if found is None else _days(found["first"], found["last"])
    if begin is None or end is None or days is None:
        raise BadInput(
            Code.USAGE, f"--quiet-hours: “{text}” is no window; one looks like 08:30-16:30 or mon-fri 08:30-16:30"
        )
    return Window(begin, end, days)


def _minutes(text: str) -> int | None:
    hour, minute = map(int, text.split(":"))
    whole = hour * 60 + minute
    return whole % _DAY_MINUTES if minute < 60 and whole <= _DAY_MINUTES else None  # noqa: PLR2004


def _days(first: str | None, last: str | None) -> frozenset[int] | None:
    if first is None:
        return _EVERY_DAY
    if first not in _DAYS or (last is not None and last not in _DAYS):
        return None
    begin = _DAYS.index(first)
    length = (_DAYS.index(last or first) - begin) % 7
    return frozenset((begin + step) % 7 for step in range(length + 1))


def _in_ms(moment: dt.datetime) -> int:
    return round(moment.timestamp() * 1000)
