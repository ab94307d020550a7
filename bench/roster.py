"""A roster of 3,000 persons from nothing: a new machine enrols, and holds the whole list when the command returns.

Once as one space with 3,000 names, as a large school's own list would be; once as 100 classes of 30, fetched by the
relay of their school. The bytes are all that passed, enrolment and its certificates included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from bench.relais import UAI, School
from bench.results import Figure, Result, Setting

GOAL_BYTES: Final = 1e6
GOAL_S: Final = 5.0
PERSONS: Final = 3_000
KOLIBRI: Final[dict[str, Figure]] = {"requests": 92, "both_bytes": 7.5e6, "wall_s": 45.8}
KOLIBRI_NOTE: Final = "quoted from an earlier run: two facilities on loopback, 3,000 users from nothing"
_TABLE: Final = "roster of 3,000 persons from nothing"


def measure(setting: Setting) -> Iterator[Result]:
    """One list, a hundred lists, and what is quoted."""
    one = School.found(setting.work / "roster-one")
    yield _enrol(one, "Relais, one space", "machine", [one.add_class("École")], PERSONS)
    many = School.found(setting.work / "roster-many")
    classes = many.add_classes(100)
    yield _enrol(many, "Relais, 100 classes of 30, a school's relay", "relay", classes, PERSONS // len(classes))
    yield Result(_TABLE, "Kolibri 0.19.5", KOLIBRI, note=KOLIBRI_NOTE)


def _enrol(school: School, what: str, role: str, classes: Sequence[str], each: int) -> Result:
    school.add_people([(space, each) for space in classes])
    with school.serving():
        words = school.enrolment(role, [UAI] if role == "relay" else classes)
        measured = school.measure("machine", *words)
        held = sum(len(school.tell("machine", "people", "--space", space)) for space in classes[:1])
    if held != each:
        raise AssertionError(f"{held} persons arrived instead of {each}")
    figures: dict[str, Figure] = {
        "requests": measured.traffic.requests,
        "up_bytes": measured.traffic.up,
        "down_bytes": measured.traffic.down,
        "both_bytes": measured.traffic.both,
        "wall_s": measured.wall_s,
        "client_cpu_s": measured.client.cpu_s,
        "server_cpu_s": measured.server.cpu_s,
        "client_peak_bytes": measured.client.peak_bytes,
        "server_peak_bytes": measured.server.peak_bytes,
    }
    return Result(_TABLE, what, figures, {"both_bytes": GOAL_BYTES, "wall_s": GOAL_S})
