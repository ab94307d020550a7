"""A sync with nothing new: how many requests, how many bytes of HTTP, on the wire.

Machines of 1, 3, 8 and 20 classes and the relay of a school of 198, each with its school and the territory above, so of
3 to 200 spaces; the first one holds a catalogue of 6,000 files. Each has synced before, until nothing was left to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bench.first_sync import PUPIL, school_of
from bench.relais import UAI, School
from bench.results import Figure, Result, Setting

GOAL_BYTES: Final = 1_000.0
KOLIBRI: Final[dict[str, Figure]] = {"requests": 29, "both_bytes": 44_800, "wall_s": 8}
KOLIBRI_NOTE: Final = "quoted from an earlier run: two facilities on loopback, the same whatever the number of users"
_TABLE: Final = "nothing new"
_ABOVE: Final = 2
_ALL: Final = 198


def measure(setting: Setting) -> Iterator[Result]:
    """One line per machine."""
    catalogue = setting.catalogues[0]
    school = school_of(setting, catalogue)
    with school.serving():
        yield _line(school, PUPIL, 1, f", {catalogue.name}")
    yield from _many_classes(School.found(setting.work / "many-classes"))
    yield Result(_TABLE, "Kolibri 0.19.5", KOLIBRI, note=KOLIBRI_NOTE)


def _many_classes(school: School) -> Iterator[Result]:
    classes = school.add_classes(_ALL)
    school.add_people([(space, 25) for space in classes])
    with school.serving():
        for count in (3, 8, 20, _ALL):
            machine = f"machine-{count}"
            role, spaces = ("relay", [UAI]) if count == _ALL else ("machine", classes[:count])
            school.tell(machine, *school.enrolment(role, spaces))
            yield _line(school, machine, count, "")


def _line(school: School, machine: str, classes: int, more: str) -> Result:
    school.tell(machine, "sync")
    school.tell(machine, "sync")
    measured = school.measure(machine, "sync")
    figures: dict[str, Figure] = {
        "requests": measured.traffic.requests,
        "up_bytes": measured.traffic.up,
        "down_bytes": measured.traffic.down,
        "both_bytes": measured.traffic.both,
        "exchange_s": measured.traffic.busy_s,
        "wall_s": measured.wall_s,
        "client_cpu_s": measured.client.cpu_s,
        "server_cpu_s": measured.server.cpu_s,
    }
    goals = {"requests": 1.0, "both_bytes": GOAL_BYTES}
    named = "1 class" if classes == 1 else f"{classes} classes"
    return Result(_TABLE, f"Relais, {named}: {classes + _ABOVE} spaces{more}", figures, goals)
