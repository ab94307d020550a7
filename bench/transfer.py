"""What an edit costs: HTTP bytes both ways and seconds, up from the teacher and down to the class; the peers beside it.

The whole catalogue is one item, and the folder of the peers. After each edit the teacher publishes the folder again and
syncs, then a machine that has everything up to then syncs; its copy is compared with the source in the end. rsync and
Syncthing carry the same edits. The last lines are over a thin line of 600 ms and 1 Mbit/s.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import zstandard

from bench.corpus import measure as measured
from bench.corpus import write_corpus
from bench.edits import EDITS, Edit, change_document, copy_for_editing
from bench.first_sync import PUPIL, TEACHER, compare
from bench.peers import ending, rsync_daemon, syncthing_pair, versions, wait_until
from bench.relais import School
from bench.results import Catalogue, Figure, Result, Setting
from bench.thin_line import ThinLine

ROUND_TRIP_S: Final = 0.6
BITS_PER_S: Final = 1e6
SMALL_MEGABYTES: Final = 20
PREPARED: Final = re.compile(r"prepared (\d+) bytes for first syncs")
QUIET_BYTES: Final = 1_500
"""What a sync that brings one revision costs besides content: envelope, entry, headers."""
THIN: Final = "over 600 ms and 1 Mbit/s"


def measure(setting: Setting) -> Iterator[Result]:
    """One table per catalogue."""
    for catalogue in setting.catalogues:
        work = setting.work / f"transfer-{catalogue.folder.name}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        yield from _ours(catalogue, work)
        yield from _rsync(catalogue, work)
        yield from _syncthing(catalogue, work)
        shutil.rmtree(work)
    folder = setting.work / "small-catalogue"
    write_corpus(folder, megabytes=SMALL_MEGABYTES)
    yield from _first_over_thin_line(folder, setting.work / "thin", f"a generated catalogue of {SMALL_MEGABYTES} MB")
    for catalogue in setting.catalogues:
        if measured(catalogue.folder)[1] <= 2 * SMALL_MEGABYTES * 1e6:
            yield from _first_over_thin_line(catalogue.folder, setting.work / "thin", catalogue.name)


def _first_over_thin_line(source: Path, work: Path, name: str) -> Iterator[Result]:
    """What the server prepares of a catalogue, and a machine that has nothing and a thin line."""
    table = f"first sync {THIN}: {name}"
    school = School.found(work)
    space = school.add_class("CM1")
    person = school.tell_server("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"]
    with school.serving():
        school.tell(TEACHER, *school.enrolment("teacher", [space], person))
        school.tell(PUPIL, *school.enrolment("machine", [space]))
        item = school.tell(TEACHER, "publish", str(source), "--space", space, "--title", "Cours")["item"]
        school.tell(TEACHER, "sync")
        began = time.monotonic()
        log = work / "server.log"
        wait_until(lambda: PREPARED.search(log.read_text()) is not None, "what the server prepares", patience_s=1_800)
        prepared = PREPARED.search(log.read_text())
        floor = _floor(source)
        figures: dict[str, Figure] = {
            "prepared_bytes": float(prepared[1]) if prepared else 0.0,
            "prepare_s": time.monotonic() - began,
            "floor_bytes": floor,
        }
        yield Result(table, "Relais: prepared by the server", figures, {"prepared_bytes": 0.95 * floor})
    line = ThinLine(school.ports.server, school.ports.relay, round_trip_s=ROUND_TRIP_S, bits_per_s=BITS_PER_S)
    with school.serving_alone(), line:
        began = time.monotonic()
        done = school.tell(PUPIL, "sync")
        wall_s = time.monotonic() - began
        figures = {
            "wall_s": wall_s,
            "both_bytes": done["bytes_in"] + done["bytes_out"],
            "requests": done["round_trips"],
        }
        yield Result(table, "Relais: first sync", figures, {"wall_s": floor / (BITS_PER_S / 8)})
    school.tell(PUPIL, "checkout", item, str(work / "copy"))
    compare(source, work / "copy")
    shutil.rmtree(work)


def _floor(source: Path) -> int:
    """What `tar` and `zstd -19 --long=27` make of a folder."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(source, arcname=".")
    rules = zstandard.ZstdCompressionParameters.from_level(19, window_log=27, enable_ldm=True)
    return len(zstandard.ZstdCompressor(compression_params=rules).compress(packed.getvalue()))


def _table(catalogue: Catalogue) -> str:
    return f"what an edit costs: {catalogue.name}"


# --- ours -------------------------------------------------------------------------------------------------------------


def _ours(catalogue: Catalogue, work: Path) -> Iterator[Result]:
    source = work / "source"
    copy_for_editing(catalogue.folder, source)
    school = School.found(work / "school")
    space = school.add_class("CM1")
    person = school.tell_server("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"]
    with school.serving():
        school.tell(TEACHER, *school.enrolment("teacher", [space], person))
        school.tell(PUPIL, *school.enrolment("machine", [space]))
        item = school.tell(TEACHER, "publish", str(source), "--space", space, "--title", "Cours")["item"]
        for agent in (TEACHER, PUPIL):
            school.tell(agent, "sync")
        for edit in EDITS:
            yield _edited(school, catalogue, edit, source, [space, item])
        school.tell(PUPIL, "checkout", item, str(work / "copy"))
        compare(source, work / "copy")
    yield from _thin(school, catalogue, source, [space, item])


def _edited(school: School, catalogue: Catalogue, edit: Edit, source: Path, names: list[str]) -> Result:
    floor = edit.make(source)
    space, item = names
    publishing = school.measure(TEACHER, "publish", str(source), "--space", space, "--item", item)
    sending = school.measure(TEACHER, "sync")
    fetching = school.measure(PUPIL, "sync")
    figures: dict[str, Figure] = {
        "both_bytes": fetching.traffic.both,
        "requests": fetching.traffic.requests,
        "wall_s": fetching.wall_s,
        "client_cpu_s": fetching.client.cpu_s,
        "client_peak_bytes": fetching.client.peak_bytes,
        "server_peak_bytes": max(sending.server.peak_bytes, fetching.server.peak_bytes),
        "sent_bytes": sending.traffic.both,
        "publish_s": publishing.wall_s,
        "publish_cpu_s": publishing.client.cpu_s,
        "publish_peak_bytes": publishing.client.peak_bytes,
    }
    goal = edit.goal_bytes
    if edit.goal_times is not None and floor is not None:
        goal = edit.goal_times * floor + QUIET_BYTES
    if floor is not None:
        figures["floor_bytes"] = floor
    return Result(_table(catalogue), f"Relais: {edit.name}", figures, {} if goal is None else {"both_bytes": goal})


def _thin(school: School, catalogue: Catalogue, source: Path, names: list[str]) -> Iterator[Result]:
    """A machine that was away while a document was edited comes back over a thin line."""
    space, item = names
    with school.serving():
        change_document(source)
        school.tell(TEACHER, "publish", str(source), "--space", space, "--item", item)
        school.tell(TEACHER, "sync")
    line = ThinLine(school.ports.server, school.ports.relay, round_trip_s=ROUND_TRIP_S, bits_per_s=BITS_PER_S)
    with school.serving_alone(), line:
        for what, goals in ((EDITS[1].name, {"wall_s": 2.5, "requests": 3.0}), ("nothing", {"wall_s": 2.5})):
            began = time.monotonic()
            done = school.tell(PUPIL, "sync")
            figures: dict[str, Figure] = {
                "wall_s": time.monotonic() - began,
                "both_bytes": done["bytes_in"] + done["bytes_out"],
                "requests": done["round_trips"],
            }
            yield Result(_table(catalogue), f"Relais: {what}, {THIN}", figures, goals)


# --- peers ------------------------------------------------------------------------------------------------------------


def _rsync(catalogue: Catalogue, work: Path) -> Iterator[Result]:
    if "rsync" not in versions():
        return
    source, copy = work / "rsync-source", work / "rsync-copy"
    copy_for_editing(catalogue.folder, source)
    shutil.copytree(source, copy, copy_function=shutil.copy2)
    with rsync_daemon(source, work / "rsync") as (_, relay):
        address = f"rsync://127.0.0.1:{relay.port}/catalogue/"
        command = ["rsync", "-az", "--delete", "--compress-choice=zstd", address, str(copy)]
        subprocess.run(command, check=True)
        for edit in EDITS:
            edit.make(source)
            relay.reset()
            began = time.monotonic()
            subprocess.run(command, check=True)
            figures: dict[str, Figure] = {"both_bytes": relay.traffic().both, "wall_s": time.monotonic() - began}
            yield Result(_table(catalogue), f"rsync -az, zstd: {edit.name}", figures)
        compare(source, copy)
    for folder in (source, copy):
        shutil.rmtree(folder)


def _syncthing(catalogue: Catalogue, work: Path) -> Iterator[Result]:
    if "syncthing" not in versions():
        return
    source = work / "syncthing-source"
    copy_for_editing(catalogue.folder, source)
    with syncthing_pair(source, work / "syncthing") as (server, client, relay), ExitStack() as stack:
        for one in (server, client):
            stack.enter_context(ending(one.start()))
        wait_until(lambda: client.agrees_with(server), "Syncthing's first sync")
        for edit in EDITS[1:]:
            time.sleep(1)
            relay.reset()
            edit.make(source)
            began = time.monotonic()
            server.scan()
            wait_until(lambda: client.agrees_with(server), "Syncthing's sync of an edit", pause_s=0.05)
            figures: dict[str, Figure] = {"both_bytes": relay.traffic().both, "wall_s": time.monotonic() - began}
            yield Result(_table(catalogue), f"Syncthing, connected: {edit.name}", figures)
