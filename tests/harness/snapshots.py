"""Snapshots of a few made-up devices in two schools, for what is computed from them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from protocol.model.register import Health
from protocol.roles import Role
from sync_server.handlers.overview.devices import Device, DeviceState, needs_somebody
from sync_server.handlers.overview.places import Places, School
from sync_server.handlers.overview.survey import Group, Snapshot
from sync_server.opened.contacts import Heard

NOW_MS = 1_795_000_000_000
CM1, CM2, SIXTH = (bytes([number]) * 32 for number in (1, 2, 3))
FIRST, SECOND = "0180001X", "0180002Y"
PLACES = Places(
    {
        FIRST: School(FIRST, "École des Tilleuls", b"a" * 32, (CM1, CM2)),
        SECOND: School(SECOND, SECOND, b"b" * 32, (SIXTH,)),
    },
    {CM1: "CM1", CM2: "CM2", SIXTH: "6e B"},
    {CM1: FIRST, CM2: FIRST, SIXTH: SECOND, b"a" * 32: FIRST, b"b" * 32: SECOND},
)
FINE = Health("Renard", "0.1.0", "Windows 10", None, 0, 0, 10**11)


def device(number: int, *, name: str | None = "Renard", state: DeviceState = DeviceState.UP_TO_DATE) -> Device:
    health = None if name is None else replace(FINE, name=name)
    return Device(
        bytes([number]) * 32, Role.MACHINE, state, Heard(seen_ms=NOW_MS - number), health, (CM1,), lag_ms=number
    )


def snapshot(*devices: Device) -> Snapshot:
    groups: defaultdict[tuple[bytes, ...], Group] = defaultdict(Group)
    for each in devices:
        groups[each.spaces].add(each, needing=needs_somebody(each, NOW_MS))
    return Snapshot(
        now_ms=NOW_MS,
        devices=devices,
        by_id={each.id: each for each in devices},
        needing=tuple(each for each in devices if needs_somebody(each, NOW_MS)),
        groups=groups,
        places=PLACES,
        awaited={},
        whole=True,
        mark=0,
    )
