"""A courier disk: 300 MB of coursework onto it and from it, beside `dd` with the same bytes onto the same disk.

A teacher's machine writes, a pupil's reads, each by one command, with no server. Writing counts until all is flushed
and read back. Rates leave out what the same command takes with nothing new: that is the start of Python, not the disk.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

from bench.peers import Measured
from bench.relais import School
from bench.results import Figure, Result, Setting

FILES: Final = 30
FILE_BYTES: Final = 10_000_000
MEMORY_GOAL_BYTES: Final = 120e6
HALF: Final = 0.5
_TABLE: Final = "courier disk: 300 MB"


def measure(setting: Setting) -> Iterator[Result]:
    """One table: dd, onto the disk, once more, from the disk, once more."""
    rng = Random(1)
    school = School.found(setting.work / "courier")
    space = school.add_class("CM1")
    person = str(school.tell_server("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"])
    source = school.folder / "source"
    source.mkdir()
    for number in range(FILES):
        (source / f"film {number:02}.mp4").write_bytes(rng.randbytes(FILE_BYTES))
    with school.serving():
        school.tell("teacher", *school.enrolment("teacher", [space], person))
        school.tell("pupil", *school.enrolment("machine", [space]))
    school.tell("teacher", "publish", str(source), "--space", space, "--title", "Films")
    disk = school.folder / "disk"
    plain_s = _dd(source, school.folder / "dd")
    rate = FILES * FILE_BYTES / 1e6 / plain_s
    yield Result(_TABLE, "dd bs=1M conv=fsync, the same bytes", {"wall_s": plain_s, "megabytes_per_s": rate})
    goals = {"client_peak_bytes": MEMORY_GOAL_BYTES}
    written, nothing = (school.measure("teacher", "courier", "export", str(disk)) for _ in range(2))
    both = {**goals, "megabytes_per_s": HALF * rate}
    yield Result(_TABLE, "Relais: export, sealed, flushed, read back", _figures(written, nothing), both)
    yield Result(_TABLE, "Relais: export with nothing new", _figures(nothing))
    read, nothing = (school.measure("pupil", "courier", "import", str(disk)) for _ in range(2))
    yield Result(_TABLE, "Relais: import, verified, flushed, with the readable copy", _figures(read, nothing), goals)
    yield Result(_TABLE, "Relais: import with nothing new", _figures(nothing))
    shutil.rmtree(school.folder)


def _dd(source: Path, target: Path) -> float:
    began = time.monotonic()
    command = f"cat {source}/* | dd of={target} bs=1M iflag=fullblock conv=fsync status=none"
    subprocess.run(command, shell=True, check=True)  # noqa: S602  (our own folder)
    taken_s = time.monotonic() - began
    target.unlink()
    return taken_s


def _figures(measured: Measured, nothing: Measured | None = None) -> dict[str, Figure]:
    figures = measured.alone
    if nothing is not None:
        figures["megabytes_per_s"] = FILES * FILE_BYTES / 1e6 / max(0.001, measured.wall_s - nothing.wall_s)
    return figures
