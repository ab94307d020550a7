"""The functions that a proxy script may call, as Netscape's "Navigator Proxy Auto-Config File Format" (1996) has them.

Pure, but for `resolve`, which is given: a host's first IPv4 address, or None. Times are compared in the machine's local
time, or in UTC where the script says "GMT". The functions with `Ex` take IPv6 as well, as Windows' do.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

Resolve = Callable[[str], str | None]
Answer = bool | str | int | None

_DAYS: Final = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_MAX_DAY: Final = 31


def functions(resolve: Resolve, own_address: str, now: dt.datetime) -> Mapping[str, Callable[..., Answer]]:
    """All of them by name. `now` has a zone: the machine's."""

    def is_in_net(host: str, pattern: str, mask: str) -> bool:
        address = host if _is_ipv4(host) else resolve(host)
        return address is not None and _in_net(address, pattern, mask)

    def is_in_net_ex(host: str, prefix: str) -> bool:
        address = resolve(host) if _address(host) is None else host
        return address is not None and _in_prefix(address, prefix)

    return {
        "isPlainHostName": lambda host: "." not in host,
        "dnsDomainIs": lambda host, domain: host.lower().endswith(domain.lower()),
        "localHostOrDomainIs": lambda host, full: host == full or ("." not in host and full.startswith(f"{host}.")),
        "isResolvable": lambda host: resolve(host) is not None,
        "isResolvableEx": lambda host: resolve(host) is not None,
        "isInNet": is_in_net,
        "isInNetEx": is_in_net_ex,
        "dnsResolve": resolve,
        "dnsResolveEx": lambda host: resolve(host) or "",
        "convert_addr": lambda text: int(ipaddress.IPv4Address(text)) if _is_ipv4(text) else 0,
        "myIpAddress": lambda: own_address,
        "myIpAddressEx": lambda: own_address,
        "dnsDomainLevels": lambda host: host.count("."),
        "shExpMatch": matches,
        "weekdayRange": lambda *given: in_weekdays(given, now),
        "dateRange": lambda *given: in_dates(given, now),
        "timeRange": lambda *given: in_times(given, now),
        "alert": lambda *_: None,
    }


def matches(text: str, pattern: str) -> bool:
    """Whether `text` is like `pattern`, where `*` is anything and `?` one character; all else is meant literally."""
    parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern)
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def in_weekdays(given: Sequence[object], now: dt.datetime) -> bool:
    """`weekdayRange("MON", "FRI" [, "GMT"])`; a range may go over the weekend."""
    words, now = _zoned(given, now)
    days = [_DAYS.index(word) for word in words if word in _DAYS]
    if not days:
        return False
    return _within(days[0], now.weekday(), days[-1])


def in_dates(given: Sequence[object], now: dt.datetime) -> bool:
    """`dateRange`: a day, a month, a year, or a range of such parts, which may go over a year's end."""
    words, now = _zoned(given, now)
    parts = [_date_part(word) for word in words]
    half = len(parts) // 2
    if not parts or None in parts:
        return False
    if len(parts) == 1 or (half and [kind for kind, _ in _known(parts[:half])] != [k for k, _ in _known(parts[half:])]):
        return all(value == _part_of(now, kind) for kind, value in _known(parts))
    kinds = sorted({kind for kind, _ in _known(parts)}, reverse=True)
    first, last = (tuple(dict(_known(side))[kind] for kind in kinds) for side in (parts[:half], parts[half:]))
    return _within(first, tuple(_part_of(now, kind) for kind in kinds), last)


def in_times(given: Sequence[object], now: dt.datetime) -> bool:
    """`timeRange`: an hour; from hour to hour; with minutes; with seconds. The end of a range of hours is left out."""
    words, now = _zoned(given, now)
    numbers = [int(word) for word in words if word.isdecimal()]
    moment = (now.hour, now.minute, now.second)
    match numbers:
        case [hour]:
            return now.hour == hour
        case [first, last]:
            return _within((first, 0, 0), moment, (last, 0, 0))
        case [hour, minute, last_hour, last_minute]:
            return _within((hour, minute, 0), moment, (last_hour, last_minute, 0))
        case [hour, minute, second, last_hour, last_minute, last_second]:
            return _within((hour, minute, second), moment, (last_hour, last_minute, last_second))
        case _:
            return False


def _within(first: object, at: object, last: object) -> bool:
    """Whether `at` lies in a range that may go over the end of its circle."""
    if first <= last:  # type: ignore[operator]
        return bool(first <= at <= last)  # type: ignore[operator]
    return bool(at >= first or at <= last)  # type: ignore[operator]


def _zoned(given: Sequence[object], now: dt.datetime) -> tuple[list[str], dt.datetime]:
    words = [str(int(word)) if isinstance(word, float) else str(word).upper() for word in given if word is not None]
    if words and words[-1] == "GMT":
        return words[:-1], now.astimezone(dt.UTC)
    return words, now


def _date_part(word: str) -> tuple[int, int] | None:
    """(0 day, 1 month, 2 year), value."""
    if word in _MONTHS:
        return 1, _MONTHS.index(word) + 1
    if word.isdecimal():
        return (0 if int(word) <= _MAX_DAY else 2), int(word)
    return None


def _known(parts: Sequence[tuple[int, int] | None]) -> list[tuple[int, int]]:
    return [part for part in parts if part is not None]


def _part_of(now: dt.datetime, kind: int) -> int:
    return (now.day, now.month, now.year)[kind]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_ipv4(text: str) -> bool:
    return isinstance(_address(text), ipaddress.IPv4Address)


def _in_net(address: str, pattern: str, mask: str) -> bool:
    if not all(map(_is_ipv4, (address, pattern, mask))):
        return False
    bits = int(ipaddress.IPv4Address(mask))
    return int(ipaddress.IPv4Address(address)) & bits == int(ipaddress.IPv4Address(pattern)) & bits


def _in_prefix(address: str, prefix: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(prefix, strict=False)
    except ValueError:
        return False
