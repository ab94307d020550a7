"""The figures that monitoring wants of the store: devices by state, hand-ins on their way, conflicts, free room."""

from __future__ import annotations

from collections import Counter

from sync_server.app import Server
from sync_server.handlers.devices import list_devices
from sync_server.handlers.spaces import schools_of_spaces
from sync_server.metrics import Family, Sample


async def store_families(server: Server, version: str) -> list[Family]:
    """The gauges, taken now. A space that has grown since it was last looked at is folded anew."""
    schools = await schools_of_spaces(server)
    return [
        Family("relais_build_info", "gauge", "The program", [Sample({"version": version}, 1)]),
        Family("relais_devices", "gauge", "Devices by school and state", await _devices(server, schools)),
        *await _coursework(server, schools),
        Family(
            "relais_storage_free_bytes",
            "gauge",
            "Room left on the disk",
            [Sample({}, await server.replica.content.free_bytes())],
        ),
    ]


async def _devices(server: Server, schools: dict[bytes, str]) -> list[Sample]:
    """A device of several schools counts in each; one of the whole territory in none, under an empty name."""
    counts: Counter[tuple[str, str]] = Counter()
    for device in await list_devices(server):
        for school in {schools.get(space, "") for space in device.spaces}:
            counts[school, device.state.value] += 1
    return [Sample({"school": school, "state": state}, count) for (school, state), count in sorted(counts.items())]


async def _coursework(server: Server, schools: dict[bytes, str]) -> list[Family]:
    pending, conflicts = 0, 0
    oldest_ms: dict[str, int] = {}
    for space, school in schools.items():
        coursework = (await server.replica.view(space)).coursework
        conflicts += sum(item.conflict for item in coursework.items.values())
        for work in coursework.hand_ins.values():
            if not work.at_server:
                pending += 1
                oldest_ms[school] = min(oldest_ms.get(school, work.at_ms), work.at_ms)
    now_ms = server.now_ms()
    ages = [
        Sample({"school": school}, max(now_ms - oldest_ms[school], 0) / 1000 if school in oldest_ms else 0)
        for school in sorted(set(schools.values()))
    ]
    return [
        Family("relais_handins_pending", "gauge", "Hand-ins whose content is not here yet", [Sample({}, pending)]),
        Family(
            "relais_oldest_unsent_handin_seconds",
            "gauge",
            "Age of the oldest hand-in whose content is not here, by its device's clock",
            ages,
        ),
        Family(
            "relais_conflicts_total", "gauge", "Pieces of coursework of which there are two", [Sample({}, conflicts)]
        ),
    ]
