"""Devices as rows of CSV (RFC 4180, with a byte order mark, which spreadsheets need) and JSON: the same facts in both.

A name is whatever a device calls itself. In CSV, one that a spreadsheet would take for a formula gets an apostrophe,
and none holds what parts cells: a French spreadsheet opens this file with semicolons between them.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from protocol.clock import rfc3339
from protocol.model.register import Health
from protocol.replica.console.operation import JSON
from sync_server.handlers.overview.devices import Device, remarks_on
from sync_server.handlers.overview.survey import Snapshot

ROWS_AT_ONCE: Final = 500
_FORMULA: Final = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001  (some read wide signs as the narrow ones)
_PARTS_CELLS: Final = str.maketrans({";": ",", "\t": " ", "\r": " ", "\n": " "})
_MARK: Final = "\N{ZERO WIDTH NO-BREAK SPACE}"

Fact: TypeAlias = Callable[[Device, Snapshot], JSON]


def _said(fact: Callable[[Health], JSON]) -> Fact:
    """What a device says of itself, if it ever did."""
    return lambda device, _: None if device.health is None else fact(device.health)


FACTS: Final[Mapping[str, Fact]] = {
    "device": lambda device, _: device.id.hex(),
    "name": lambda device, _: device.name,
    "role": lambda device, _: device.role.value,
    "state": lambda device, _: device.state.value,
    "remarks": lambda device, found: [remark.value for remark in remarks_on(device, found.now_ms)],
    "trouble": lambda device, _: device.trouble,
    "schools": lambda device, found: list(found.places.schools_of(device.spaces)),
    "classes": lambda device, found: list(found.places.classes_of(device.spaces)),
    "last_seen": lambda device, _: rfc3339(device.heard.seen_ms),
    "via": lambda device, _: device.heard.via,
    "last_full_sync": lambda device, _: rfc3339(device.heard.current_ms),
    "lag_s": lambda device, _: None if device.lag_ms is None else device.lag_ms // 1000,
    "backlog_entries": _said(lambda health: health.backlog_entries),
    "backlog_bytes": _said(lambda health: health.backlog_bytes),
    "oldest_unsent_hand_in": lambda device, _: rfc3339(device.oldest_ms),
    "version": _said(lambda health: health.version),
    "system": _said(lambda health: health.system),
    "free_bytes": _said(lambda health: health.free_bytes),
    "clone_of": lambda device, _: None if device.clone_of is None else device.clone_of.hex(),
    "confirmed": lambda device, _: device.confirmed,
    "clock_skew_s": _said(lambda health: (health.skew_ms or 0) // 1000),
}


def record_of(device: Device, found: Snapshot) -> dict[str, JSON]:
    """What is known of a device; the keys that `sync-server devices` has too mean the same."""
    return {key: fact(device, found) for key, fact in FACTS.items()}


def as_csv(devices: Sequence[Device], found: Snapshot) -> Iterator[str]:
    """The rows as CSV, in parts; several schools or classes stand in one field, between semicolons."""
    yield _MARK
    for start in range(0, max(len(devices), 1), ROWS_AT_ONCE):
        text = io.StringIO()
        writer = csv.writer(text)
        if start == 0:
            writer.writerow(FACTS)
        writer.writerows(
            [_cell(value) for value in record_of(device, found).values()]
            for device in devices[start : start + ROWS_AT_ONCE]
        )
        yield text.getvalue()


def as_json(devices: Sequence[Device], found: Snapshot) -> Iterator[str]:
    """The rows as one JSON array, in parts."""
    for start in range(0, len(devices), ROWS_AT_ONCE):
        part = [
            json.dumps(record_of(device, found), ensure_ascii=False) for device in devices[start : start + ROWS_AT_ONCE]
        ]
        yield (",\n" if start else "[") + ",\n".join(part)
    yield "]\n" if devices else "[]\n"


def _cell(value: JSON) -> str | int | float:
    match value:
        case None:
            return ""
        case bool() | int() | float():
            return value
        case str():
            text = value.translate(_PARTS_CELLS).strip()
            return f"'{text}" if text.startswith(_FORMULA) else text
        case _:
            return ";".join(str(_cell(str(part))) for part in value)
