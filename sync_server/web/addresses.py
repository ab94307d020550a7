"""The addresses of the pages, and what stands after their `?`: read once into queries, written canonically."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

from sync_server.handlers.overview.device_query import PAGE_ROWS, PAGE_SIZES, DeviceQuery, DeviceSort
from sync_server.handlers.overview.devices import DeviceState
from sync_server.handlers.overview.schools import SchoolQuery, SchoolSort

ROOT: Final = "/admin/"
DEVICES: Final = "/admin/devices"
SCHOOLS: Final = "/admin/schools"
WAITING: Final = "/admin/waiting"
AUDIT: Final = "/admin/audit"
SIGN_IN: Final = "/admin/sign-in"
SECOND_STEP: Final = "/admin/sign-in/code"
PASSKEYS: Final = "/admin/passkeys"
SIGN_OUT: Final = "/admin/sign-out"
LANGUAGE: Final = "/admin/language"
LIVE: Final = "/admin/live"
STATIC: Final = "/admin/static"

_MAX_TEXT_CHARS: Final = 200
_MAX_PAGE: Final = 1_000_000

S = TypeVar("S", bound=StrEnum)


def device_address(device: bytes) -> str:
    """The page of a device."""
    return f"{DEVICES}/{device.hex()}"


def school_address(uai: str) -> str:
    """The page of a school."""
    return f"{SCHOOLS}/{quote(uai, safe='')}"


def devices_address(query: DeviceQuery, ending: str = "", /, **changes: object) -> str:
    """The devices of `query`, with these changes; `ending` is ".csv" or ".json" for all rows as a file."""
    if "sort" in changes:
        changes["sort"] = DeviceSort(str(changes["sort"]))
    return _address(DEVICES + ending, _device_pairs(replace(query, **changes)))  # type: ignore[arg-type]


def schools_address(query: SchoolQuery, /, **changes: object) -> str:
    """The schools of `query`, with these changes."""
    if "sort" in changes:
        changes["sort"] = SchoolSort(str(changes["sort"]))
    return _address(SCHOOLS, _school_pairs(replace(query, **changes)))  # type: ignore[arg-type]


def device_query_of(asked: Mapping[str, str], states: list[str]) -> DeviceQuery:
    """What an address asks for; what makes no sense is as if it were not there."""
    return DeviceQuery(
        text=_text(asked, "q"),
        states=frozenset(state for state in (_one_of(DeviceState, name) for name in states) if state is not None),
        school=_text(asked, "school") or None,
        version=_text(asked, "version") or None,
        needing=asked.get("needing") == "1",
        sort=_one_of(DeviceSort, asked.get("sort")) or DeviceSort.STATE,
        descending=asked.get("dir") == "desc",
        page=_number(asked, "page", 1),
        rows=rows if (rows := _number(asked, "rows", PAGE_ROWS)) in PAGE_SIZES else PAGE_ROWS,
    )


def school_query_of(asked: Mapping[str, str]) -> SchoolQuery:
    """What an address asks for; what makes no sense is as if it were not there."""
    return SchoolQuery(
        text=_text(asked, "q"),
        sort=_one_of(SchoolSort, asked.get("sort")) or SchoolSort.NEEDING,
        descending=asked.get("dir") == "desc",
        page=_number(asked, "page", 1),
    )


def own_address(text: str | None) -> str:
    """`text` if it is the address of one of our pages, else the first of them: nobody is led elsewhere."""
    if text is None or not text.startswith(ROOT) or "\\" in text or any(ord(char) < ord("!") for char in text):
        return ROOT
    return text


def _device_pairs(query: DeviceQuery) -> Iterator[tuple[str, str]]:
    if query.text:
        yield "q", query.text
    yield from (("state", state.value) for state in DeviceState if state in query.states)
    if query.school is not None:
        yield "school", query.school
    if query.version is not None:
        yield "version", query.version
    if query.needing:
        yield "needing", "1"
    if query.sort is not DeviceSort.STATE:
        yield "sort", query.sort.value
    if query.descending:
        yield "dir", "desc"
    if query.rows != PAGE_ROWS:
        yield "rows", str(query.rows)
    if query.page != 1:
        yield "page", str(query.page)


def _school_pairs(query: SchoolQuery) -> Iterator[tuple[str, str]]:
    if query.text:
        yield "q", query.text
    if query.sort is not SchoolSort.NEEDING:
        yield "sort", query.sort.value
    if query.descending:
        yield "dir", "desc"
    if query.page != 1:
        yield "page", str(query.page)


def _address(path: str, pairs: Iterator[tuple[str, str]]) -> str:
    asked = urlencode(list(pairs))
    return f"{path}?{asked}" if asked else path


def _text(asked: Mapping[str, str], key: str) -> str:
    return asked.get(key, "")[:_MAX_TEXT_CHARS].strip()


def _number(asked: Mapping[str, str], key: str, default: int) -> int:
    text = asked.get(key, "")
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_PAGE))):
        return default
    return max(1, int(text))


def _one_of(kind: type[S], name: str | None) -> S | None:
    return next((member for member in kind if member.value == name), None)
