"""Filtering, sorting and paging of devices: pure functions over a snapshot.

A filter that is not set takes everything; what was never known sorts last, whichever way; ties go by name, then by id.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from heapq import nsmallest
from typing import Final, TypeAlias

from sync_server.handlers.overview.devices import Device, DeviceState, needs_somebody
from sync_server.handlers.overview.places import Places
from sync_server.handlers.overview.survey import Snapshot

PAGE_ROWS: Final = 50
PAGE_SIZES: Final = (25, 50, 100, 250)

WORST_FIRST: Final = (
    DeviceState.DISK_FULL,
    DeviceState.ERROR,
    DeviceState.SILENT,
    DeviceState.LATE,
    DeviceState.OFFLINE,
    DeviceState.NEVER_SEEN,
    DeviceState.SYNCING,
    DeviceState.UP_TO_DATE,
    DeviceState.PAUSED,
    DeviceState.RETIRED,
)
_RANK: Final[Mapping[DeviceState, int]] = {state: rank for rank, state in enumerate(WORST_FIRST)}


class DeviceSort(StrEnum):
    """By what devices may be sorted."""

    STATE = "state"
    NAME = "name"
    SCHOOL = "school"
    CLASS = "class"
    SEEN = "seen"
    LAG = "lag"
    BACKLOG = "backlog"
    VERSION = "version"


@dataclass(frozen=True, slots=True)
class DeviceQuery:
    """Which devices, in which order, which part. `needing` takes those that a person should look at.

    `text` is looked for in the name, the id's beginning, classes, schools, version and system, without regard to case
    and accents; `page` counts from 1.
    """

    text: str = ""
    states: frozenset[DeviceState] = frozenset()
    school: str | None = None
    version: str | None = None
    needing: bool = False
    sort: DeviceSort = DeviceSort.STATE
    descending: bool = False
    page: int = 1
    rows: int = PAGE_ROWS


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of one page; how many match; how many of each state match everything but the filter on states."""

    rows: tuple[Device, ...]
    total: int
    counts: Mapping[DeviceState, int]
    page: int
    pages: int


Key: TypeAlias = "tuple[int | str, ...] | None"


def select(found: Snapshot, query: DeviceQuery) -> Selection:
    """The page that is asked for, or the last one if there are fewer."""
    others = [device for device in found.devices if _keeps(found, query)(device)]
    counts = Counter(device.state for device in others)
    matching = _of_states(others, query.states)
    pages = max(1, -(-len(matching) // query.rows))
    page = min(max(query.page, 1), pages)
    ordered = _ordered(matching, found.places, query)
    return Selection(
        tuple(ordered[(page - 1) * query.rows : page * query.rows]),
        len(matching),
        {state: counts[state] for state in DeviceState},
        page,
        pages,
    )


def matching(found: Snapshot, query: DeviceQuery) -> list[Device]:
    """All devices that match, in order, whatever the page."""
    keeps = _keeps(found, query)
    return _ordered(
        _of_states([device for device in found.devices if keeps(device)], query.states), found.places, query
    )


def tally(found: Snapshot) -> dict[DeviceState, int]:
    """How many devices are in each state; the numbers add up to all devices."""
    return {state: sum(group.counts[state] for group in found.groups.values()) for state in DeviceState}


def worst(found: Snapshot, most: int) -> list[Device]:
    """Those that a person should look at first."""
    return nsmallest(most, found.needing, key=lambda device: (_RANK[device.state], plain(device.name or ""), device.id))


def versions_of(found: Snapshot) -> list[str]:
    """The versions that devices run, the newest first as far as their numbers tell."""
    known = {device.health.version for device in found.devices if device.health is not None}
    return sorted(known, key=_version_key, reverse=True)


def _keeps(found: Snapshot, query: DeviceQuery) -> Callable[[Device], bool]:
    """The filters but the one on states, as one test."""
    tests: list[Callable[[Device], bool]] = []
    if query.school is not None:
        inside = {space for space, uai in found.places.school_of.items() if uai == query.school}
        tests.append(lambda device: not inside.isdisjoint(device.spaces))
    if query.version is not None:
        tests.append(lambda device: device.health is not None and device.health.version == query.version)
    if query.needing:
        tests.append(lambda device: needs_somebody(device, found.now_ms))
    words = plain(query.text).split()
    if words:
        haystacks = _Haystacks(found.places)
        tests.append(lambda device: haystacks.hold(device, words))
    if len(tests) == 1:
        return tests[0]
    return lambda device: all(test(device) for test in tests)


def _of_states(devices: list[Device], states: frozenset[DeviceState]) -> list[Device]:
    return [device for device in devices if device.state in states] if states else devices


@dataclass(slots=True)
class _Haystacks:
    """Where a text is looked for; what places say is put together once for all devices of the same spaces."""

    places: Places
    _of_spaces: dict[tuple[bytes, ...], str] = field(default_factory=dict)

    def hold(self, device: Device, words: list[str]) -> bool:
        """Whether every word is found."""
        where = self._of_spaces.get(device.spaces)
        if where is None:
            schools = self.places.schools_of(device.spaces)
            names = (self.places.schools[uai].name for uai in schools)
            where = plain(" ".join((*schools, *names, *self.places.classes_of(device.spaces))))
            self._of_spaces[device.spaces] = where
        health = device.health
        said = "" if health is None else plain(f"{health.version} {health.system}")
        name, identifier = plain(device.name or ""), device.id.hex()
        return all(word in name or word in where or word in said or identifier.startswith(word) for word in words)


@lru_cache(maxsize=200_000)
def plain(text: str) -> str:
    """Without accents and case, for comparing."""
    apart = unicodedata.normalize("NFKD", text)
    return "".join(char for char in apart if not unicodedata.combining(char)).casefold()


def _ordered(devices: list[Device], places: Places, query: DeviceQuery) -> list[Device]:
    key_of = _KEYS[query.sort](places)
    devices.sort(key=lambda device: (plain(device.name or ""), device.id))
    known: list[tuple[tuple[int | str, ...], int, Device]] = []
    unknown: list[Device] = []
    for number, device in enumerate(devices):
        key = key_of(device)
        if key is None:
            unknown.append(device)
        else:
            known.append((key, -number if query.descending else number, device))
    known.sort(reverse=query.descending)
    return [device for _, _, device in known] + unknown


def _version_key(version: str) -> tuple[int | str, ...]:
    """Numbers by their value: 0.10 is newer than 0.9."""
    parts: list[int | str] = []
    for part in version.split("."):
        # a number goes before a word, and the two are never compared
        parts += (0, int(part)) if part.isascii() and part.isdecimal() and len(part) < 10 else (1, part)  # noqa: PLR2004
    return tuple(parts)


def _by_spaces(names_of: Callable[[tuple[bytes, ...]], tuple[str, ...]]) -> Callable[[Device], Key]:
    """By the names that places give to a device's spaces, put together once for all devices of the same spaces."""
    known: dict[tuple[bytes, ...], Key] = {}

    def key(device: Device) -> Key:
        if device.spaces not in known:
            known[device.spaces] = tuple(plain(name) for name in names_of(device.spaces)) or None
        return known[device.spaces]

    return key


_KEYS: Final[Mapping[DeviceSort, Callable[[Places], Callable[[Device], Key]]]] = {
    DeviceSort.STATE: lambda _: lambda device: (_RANK[device.state],),
    DeviceSort.NAME: lambda _: lambda device: (plain(device.name),) if device.name else None,
    DeviceSort.SCHOOL: lambda places: _by_spaces(places.schools_of),
    DeviceSort.CLASS: lambda places: _by_spaces(places.classes_of),
    DeviceSort.SEEN: lambda _: lambda device: None if device.heard.seen_ms is None else (-device.heard.seen_ms,),
    DeviceSort.LAG: lambda _: lambda device: None if device.lag_ms is None else (device.lag_ms,),
    DeviceSort.BACKLOG: lambda _: (
        lambda device: None if device.health is None else (device.health.backlog_entries, device.health.backlog_bytes)
    ),
    DeviceSort.VERSION: lambda _: lambda device: None if device.health is None else _version_key(device.health.version),
}
