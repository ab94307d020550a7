"""The first sync of a catalogue over loopback: time, CPU and memory of both sides, bytes; the peers beside it.

A teacher's laptop publishes the catalogue and sends it to the server, which is counted apart; a pupil's PC that is
enrolled and holds nothing fetches it. Its copy is compared with the source, byte for byte, and so are the peers'.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Final

from bench.peers import Measured, first_sync_syncthing, run_rsync, versions
from bench.relais import School
from bench.results import Catalogue, Result, Setting

AGENT_GOAL_BYTES: Final = 120e6
SERVER_GOAL_BYTES: Final = 150e6
TEACHER, PUPIL = "teacher", "pupil"


def measure(setting: Setting) -> Iterator[Result]:
    """One table per catalogue."""
    for catalogue in setting.catalogues:
        yield from _ours(setting, catalogue)
        yield from _peers(setting, catalogue)


def school_of(setting: Setting, catalogue: Catalogue) -> School:
    """The school in which the catalogue has been published and fetched; made now if no row has done it yet."""
    school = School.reopen(_folder(setting, catalogue))
    if school is None:
        for _ in _ours(setting, catalogue):
            pass
        school = School.reopen(_folder(setting, catalogue))
    if school is None:
        raise AssertionError("the school was not made")
    return school


def _folder(setting: Setting, catalogue: Catalogue) -> Path:
    return setting.work / f"school-{catalogue.folder.name}"


def _ours(setting: Setting, catalogue: Catalogue) -> Iterator[Result]:
    table = f"first sync: {catalogue.name}"
    school = School.found(_folder(setting, catalogue))
    space = school.add_class("CM1")
    person = school.tell_server("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"]
    with school.serving():
        school.tell(TEACHER, *school.enrolment("teacher", [space], person))
        school.tell(PUPIL, *school.enrolment("machine", [space]))
    commands = f", {len(catalogue.items)} commands" if len(catalogue.items) > 1 else ""
    publishing = [["publish", str(folder), "--space", space, "--title", title] for title, folder in catalogue.items]
    yield Result(table, f"Relais: publish, offline{commands}", school.measure_all(TEACHER, publishing).alone)
    with school.serving():
        yield Result(table, "Relais: send it to the server", school.measure(TEACHER, "sync").figures)
        goals = {"client_peak_bytes": AGENT_GOAL_BYTES, "server_peak_bytes": SERVER_GOAL_BYTES}
        yield Result(table, "Relais: first sync", school.measure(PUPIL, "sync").figures, goals)
    yield Result(
        table, f"Relais: write it out as files{commands}", _check_out(school, setting.work / "copy", catalogue).alone
    )


def _check_out(school: School, copy: Path, catalogue: Catalogue) -> Measured:
    shutil.rmtree(copy, ignore_errors=True)
    listed = {item["title"]: item for item in school.tell(PUPIL, "items")}
    if not all(item["complete"] for item in listed.values()):
        raise AssertionError("an item is not complete after the sync")
    copy.mkdir(parents=True)
    commands = [["checkout", listed[title]["item"], str(copy / title)] for title, _ in catalogue.items]
    measured = school.measure_all(PUPIL, commands)
    for title, folder in catalogue.items:
        compare(folder, copy / title)
    shutil.rmtree(copy)
    return measured


def _peers(setting: Setting, catalogue: Catalogue) -> Iterator[Result]:
    table = f"first sync: {catalogue.name}"
    installed = versions()
    if "rsync" in installed:
        work = _emptied(setting.work / "rsync")
        yield Result(table, "rsync -a", run_rsync(catalogue.folder, work).figures)
        compare(catalogue.folder, work / "copy")
        shutil.rmtree(work)
    if "syncthing" in installed:
        work = _emptied(setting.work / "syncthing")
        scan, fetch = first_sync_syncthing(catalogue.folder, work)
        scanned = {
            "wall_s": scan.wall_s,
            "server_cpu_s": scan.server.cpu_s,
            "server_peak_bytes": scan.server.peak_bytes,
        }
        yield Result(table, "Syncthing: first scan", scanned)
        yield Result(table, "Syncthing: first sync", fetch.figures)
        compare(catalogue.folder, work / "copy")
        shutil.rmtree(work)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def compare(source: Path, copy: Path) -> None:
    """Raise unless both folders hold the same files."""
    if _listing(source) != _listing(copy):
        raise AssertionError(f"{copy} is not what {source} is")


def _listing(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): blake2b(file.read_bytes()).digest()
        for file in folder.rglob("*")
        if file.is_file()
    }
