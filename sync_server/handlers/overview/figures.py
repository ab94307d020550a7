"""The figures that monitoring wants of the store: devices by state, hand-ins on their way, conflicts, free room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from sync_server.handlers.overview.spoken_elsewhere import spoken_elsewhere
from sync_server.handlers.overview.survey import Snapshot, Survey
from sync_server.metrics import Family, Sample
from sync_server.opened.app import Server

BACKUP_MARK: Final = "last-backup"
"""→ 8 bytes of ms: when a backup was last made and read back."""


async def last_backup_ms(server: Server) -> int | None:
    """When the newest backup was begun that was read back; None if none ever was."""
    made = await server.store.mark(BACKUP_MARK)
    return None if made is None else int.from_bytes(made, "big")


async def store_families(survey: Survey, version: str, *, per_device: bool = False) -> list[Family]:
    """The gauges, taken now; series of single devices only on request, because there may be a hundred thousand."""
    server = survey.server
    found = await survey.snapshot(whole=True)
    backup_s = (await last_backup_ms(server) or 0) / 1000
    return [
        Family("relais_build_info", "gauge", "The program", [Sample({"version": version}, 1)]),
        Family("relais_devices", "gauge", "Devices by school and state", list(_devices(found))),
        *_coursework(found),
        Family(
            "relais_storage_free_bytes",
            "gauge",
            "Room left on the disk",
            [Sample({}, await server.replica.content.free_bytes())],
        ),
        Family(
            "relais_last_backup_timestamp_seconds",
            "gauge",
            "When a backup was last made; 0 if none ever was",
            [Sample({}, backup_s)],
        ),
        Family(
            "relais_key_spoken_elsewhere_words",
            "gauge",
            "Words brought under a key of this server's that it did not say, 1 for calls; 0 once new keys ended that",
            [Sample({}, sum(each.uses for each in await spoken_elsewhere(server)))],
        ),
        Family(
            "relais_unforeseen_errors_total",
            "counter",
            "Errors of the server's own work that nobody foresaw, since it began",
            [Sample({"work": work}, count) for work, count in server.unforeseen.counts().items()] or [Sample({}, 0)],
        ),
        *(_each_device(found) if per_device else ()),
    ]


def _devices(found: Snapshot) -> Iterator[Sample]:
    """A device of several schools counts in each; one of the whole territory in none, under an empty name."""
    counts: Counter[tuple[str, str]] = Counter()
    for device in found.devices:
        for school in found.places.schools_of(device.spaces) or ("",):
            counts[school, device.state.value] += 1
    for (school, state), count in sorted(counts.items()):
        yield Sample({"school": school, "state": state}, count)


def _coursework(found: Snapshot) -> Iterator[Family]:
    pending, conflicts = 0, 0
    oldest_ms: dict[str, int] = {}
    for space, awaited in found.awaited.items():
        pending += len(awaited.hand_ins)
        conflicts += awaited.conflicts
        school, at_ms = found.places.school_of.get(space, ""), awaited.oldest_ms
        if at_ms is not None:
            oldest_ms[school] = min(oldest_ms.get(school, at_ms), at_ms)
    yield Family("relais_handins_pending", "gauge", "Hand-ins whose content is not here yet", [Sample({}, pending)])
    yield Family(
        "relais_oldest_unsent_handin_seconds",
        "gauge",
        "Age of the oldest hand-in whose content is not here, by its device's clock",
        [
            Sample({"school": uai}, max(found.now_ms - oldest_ms[uai], 0) / 1000 if uai in oldest_ms else 0)
            for uai in found.places.schools
        ],
    )
    yield Family(
        "relais_conflicts_total", "gauge", "Pieces of coursework of which there are two", [Sample({}, conflicts)]
    )


def _each_device(found: Snapshot) -> Iterator[Family]:
    """By id, never by name."""
    devices = [(device, {"device": device.id.hex()}) for device in found.devices]
    yield Family(
        "relais_device_last_seen_timestamp_seconds",
        "gauge",
        "When a device was last heard of",
        [Sample(label, device.heard.seen_ms / 1000) for device, label in devices if device.heard.seen_ms is not None],
    )
    yield Family(
        "relais_device_backlog_entries",
        "gauge",
        "What a device has still to send, as it said itself",
        [Sample(label, device.health.backlog_entries) for device, label in devices if device.health is not None],
    )
