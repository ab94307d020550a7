"""A film of 2 GB that does not compress: sent, fetched, changed by 20 bytes in its middle; the memory of both sides."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.first_sync import AGENT_GOAL_BYTES, PUPIL, TEACHER, compare
from bench.peers import Measured
from bench.relais import School
from bench.results import Result, Setting

FILM_BYTES: Final = 2 * 1024**3
SERVER_GOAL_BYTES: Final = 200e6
TABLE: Final = "a film of 2 GB that does not compress, and 20 bytes changed in its middle"
_PIECE_BYTES: Final = 1024**2


def measure(setting: Setting) -> Iterator[Result]:
    """One table; 9 GB of disk meanwhile."""
    work = setting.work / "film"
    school = School.found(work / "school")
    source = work / "source"
    source.mkdir()
    film = source / "film.mp4"
    _shoot(film)
    space = school.add_class("CM1")
    person = school.tell_server("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"]
    with school.serving():
        school.tell(TEACHER, *school.enrolment("teacher", [space], person))
        school.tell(PUPIL, *school.enrolment("machine", [space]))
    words = ["publish", str(source), "--space", space]
    yield _alone("publish it, offline", school.measure(TEACHER, *words, "--title", "Film"))
    item = school.tell(TEACHER, "items")[0]["item"]
    yield from _carried(school, "it")
    with film.open("r+b") as file:
        file.seek(FILM_BYTES // 2)
        file.write(b"twenty bytes changed")
    yield _alone("publish the change, offline", school.measure(TEACHER, *words, "--item", item))
    yield from _carried(school, "the change")
    school.tell(PUPIL, "checkout", item, str(work / "copy"))
    compare(source, work / "copy")
    shutil.rmtree(work)


def _shoot(film: Path) -> None:
    noise = random.Random(11)
    with film.open("wb") as file:
        for _ in range(FILM_BYTES // _PIECE_BYTES):
            file.write(noise.randbytes(_PIECE_BYTES))


def _carried(school: School, what: str) -> Iterator[Result]:
    with school.serving():
        for verb, agent in (("send", TEACHER), ("fetch", PUPIL)):
            measured = school.measure(agent, "sync")
            goals = {"client_peak_bytes": AGENT_GOAL_BYTES, "server_peak_bytes": SERVER_GOAL_BYTES}
            yield Result(TABLE, f"Relais: {verb} {what}", measured.figures, goals)


def _alone(what: str, measured: Measured) -> Result:
    return Result(TABLE, f"Relais: {what}", measured.alone)
