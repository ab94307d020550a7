"""Schools and classes as an administrator sees them: how their devices are, how fresh, what is awaited.

Pure functions over a snapshot. A device of several classes counts in each, and once in their school.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sync_server.handlers.overview.awaited import Awaited
from sync_server.handlers.overview.device_query import PAGE_ROWS, Key, plain
from sync_server.handlers.overview.devices import DeviceState
from sync_server.handlers.overview.survey import Group, Snapshot, later


@dataclass(frozen=True, slots=True)
class Standing:
    """How a school or a class stands.

    `freshest_ms`: when a device of it last held all that we hold. `pending` hand-ins are awaited, the oldest written at
    `oldest_ms` by its device's clock; both are None until every class in it has been looked at.
    """

    devices: int
    counts: Mapping[DeviceState, int]
    needing: int
    freshest_ms: int | None
    pending: int | None
    oldest_ms: int | None
    conflicts: int


@dataclass(frozen=True, slots=True)
class SchoolRow:
    """A school in the list."""

    uai: str
    name: str
    classes: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A class of a school."""

    space: bytes
    name: str
    standing: Standing


class SchoolSort(StrEnum):
    """By what schools may be sorted."""

    NEEDING = "needing"
    NAME = "name"
    DEVICES = "devices"
    FRESH = "fresh"
    OLDEST = "oldest"


@dataclass(frozen=True, slots=True)
class SchoolQuery:
    """Which schools, in which order, which part; `page` counts from 1."""

    text: str = ""
    sort: SchoolSort = SchoolSort.NEEDING
    descending: bool = False
    page: int = 1
    rows: int = PAGE_ROWS


@dataclass(frozen=True, slots=True)
class SchoolSelection:
    """The rows of one page, how many match, which page it is of how many."""

    rows: tuple[SchoolRow, ...]
    total: int
    page: int
    pages: int


def school_rows(found: Snapshot) -> list[SchoolRow]:
    """Every school, by UAI."""
    groups: defaultdict[str, list[Group]] = defaultdict(list)
    for spaces, group in found.groups.items():
        for uai in found.places.schools_of(spaces):
            groups[uai].append(group)
    return [
        SchoolRow(
            uai,
            school.name,
            len(school.classes),
            _standing(groups[uai], [found.awaited.get(space) for space in school.classes]),
        )
        for uai, school in found.places.schools.items()
    ]


def class_rows(found: Snapshot, uai: str) -> list[ClassRow]:
    """The classes of a school, by name."""
    school = found.places.schools[uai]
    inside = frozenset(school.classes)
    groups: defaultdict[bytes, list[Group]] = defaultdict(list)
    for spaces, group in found.groups.items():
        for space in inside.intersection(spaces):
            groups[space].append(group)
    return [
        ClassRow(space, found.places.class_names[space], _standing(groups[space], [found.awaited.get(space)]))
        for space in school.classes
    ]


def select_schools(rows: Iterable[SchoolRow], query: SchoolQuery) -> SchoolSelection:
    """The page that is asked for, or the last one if there are fewer; what is not known sorts last."""
    words = plain(query.text).split()
    kept = [row for row in rows if all(word in plain(f"{row.uai} {row.name}") for word in words)]
    kept.sort(key=lambda row: (plain(row.name), row.uai))
    keyed = [(_KEYS[query.sort](row), row) for row in kept]
    known = sorted((pair for pair in keyed if pair[0] is not None), key=_first, reverse=query.descending)
    ordered = [row for _, row in known] + [row for key, row in keyed if key is None]
    pages = max(1, -(-len(ordered) // query.rows))
    page = min(max(query.page, 1), pages)
    shown = ordered[(page - 1) * query.rows : page * query.rows]
    return SchoolSelection(tuple(shown), len(ordered), page, pages)


def _standing(groups: Iterable[Group], awaited: Iterable[Awaited | None]) -> Standing:
    counts: Counter[DeviceState] = Counter()
    needing, freshest_ms = 0, None
    for group in groups:
        counts.update(group.counts)
        needing += group.needing
        freshest_ms = later(freshest_ms, group.freshest_ms)
    looked_at = list(awaited)
    known = [each for each in looked_at if each is not None]
    whole = len(known) == len(looked_at)
    return Standing(
        devices=counts.total(),
        counts={state: counts[state] for state in DeviceState},
        needing=needing,
        freshest_ms=freshest_ms,
        pending=sum(len(each.hand_ins) for each in known) if whole else None,
        oldest_ms=min(_times(known), default=None) if whole else None,
        conflicts=sum(each.conflicts for each in known),
    )


def _times(awaited: Iterable[Awaited]) -> Iterator[int]:
    return (at_ms for each in awaited for _, at_ms in each.hand_ins)


def _first(pair: tuple[Key, SchoolRow]) -> tuple[int | str, ...]:
    return pair[0] or ()


_KEYS: Final[Mapping[SchoolSort, Callable[[SchoolRow], Key]]] = {
    SchoolSort.NEEDING: lambda row: (-row.standing.needing,),
    SchoolSort.NAME: lambda row: (plain(row.name), row.uai),
    SchoolSort.DEVICES: lambda row: (-row.standing.devices,),
    SchoolSort.FRESH: lambda row: None if row.standing.freshest_ms is None else (-row.standing.freshest_ms,),
    SchoolSort.OLDEST: lambda row: None if row.standing.oldest_ms is None else (row.standing.oldest_ms,),
}
