"""What an edit costs: HTTP bytes both ways and seconds, up from the teacher and down to the class; the peers beside it.

The whole catalogue is one item, and the folder of the peers. After each edit the teacher publishes the folder again and
syncs, then a machine that has everything up to then syncs, and another one through TLS; its copy is compared with the
source in the end. rsync, Syncthing and casync over HTTP carry the same edits. The last lines are over a thin line of
600 ms and 1 Mbit/s. Then what the server prepares of the catalogue for first syncs, beside `tar` and `zstd -19
--long=27`; a catalogue of 40 MB at most is fetched over the thin line (`thin_first`) instead. Files that nobody chose
for us are edited one by one (`own_files`).
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import zstandard

from bench import own_files, thin_first
from bench.corpus import measure as measured
from bench.corpus import write_corpus
from bench.edits import EDITS, Edit, change_document, copy_for_editing, patched_bytes
from bench.first_sync import PUPIL, TEACHER, compare
from bench.peers import Casync, ending, free_port, rsync_daemon, syncthing_pair, versions, wait_until
from bench.relais import School
from bench.relay import Relay
from bench.results import Catalogue, Figure, Result, Setting
from bench.thin_first import BITS_PER_S, ROUND_TRIP_S, THIN
from bench.thin_line import ThinLine
from bench.tls_front import TlsFront
from tests.harness.certificates import Authority

SMALL_BYTES: Final = 40e6
SMALL_MEGABYTES: Final = 20
QUIET_BYTES: Final = 1_500
"""What a sync that brings one revision costs besides content: envelope, entry, headers."""
OFFICE_GOAL_BYTES: Final = 3_000
"""What a paragraph in a document that an office program writes anew may cost, both ways."""
TLS_PUPIL: Final = "pupil-tls"


def measure(setting: Setting) -> Iterator[Result]:
    """One table per catalogue, and one for files of many kinds."""
    given = setting.catalogues[1:]
    small = [catalogue for catalogue in given if measured(catalogue.folder)[1] <= SMALL_BYTES]
    large = [catalogue for catalogue in given if catalogue not in small] or list(setting.catalogues[:1])
    for catalogue in large:
        work = _emptied(setting.work / f"transfer-{catalogue.folder.name}")
        yield from _ours(catalogue, work, prepares=bool(given))
        yield from _rsync(catalogue, work)
        yield from _syncthing(catalogue, work)
        yield from _casync(catalogue, work)
        shutil.rmtree(work)
    yield from _own_files(_emptied(setting.work / "transfer-own-files"))
    for catalogue in small or [_generated(setting.work / "small-catalogue")]:
        yield from thin_first.measure(catalogue, setting.work / "thin", _floor(catalogue.folder))


def _generated(folder: Path) -> Catalogue:
    write_corpus(folder, megabytes=SMALL_MEGABYTES)
    return Catalogue(f"a generated catalogue of {SMALL_MEGABYTES} MB", folder, ((folder.name, folder),))


def _emptied(work: Path) -> Path:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return work


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


def _ours(catalogue: Catalogue, work: Path, *, prepares: bool) -> Iterator[Result]:
    """The edits; before them, if `prepares`, what the server makes of the catalogue for first syncs."""
    source = work / "source"
    copy_for_editing(catalogue.folder, source)
    school = School.found(work / "school")
    space = school.add_class("CM1")
    person = school.tell_server("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"]
    authority = Authority("Bench", work)
    with school.serving(), ExitStack() as stack:
        front = stack.enter_context(
            TlsFront(school.ports.server, free_port(), authority.context(["localhost", "127.0.0.1"]))
        )
        tls = stack.enter_context(Relay(("127.0.0.1", front.port)))
        school.tell(TEACHER, *school.enrolment("teacher", [space], person))
        school.tell(PUPIL, *school.enrolment("machine", [space]))
        by_tls = school.enrolment("machine", [space], url=f"https://127.0.0.1:{tls.port}")
        school.tell(TLS_PUPIL, *by_tls, "--ca", str(authority.file))
        item = school.tell(TEACHER, "publish", str(source), "--space", space, "--title", "Cours")["item"]
        for agent in (TEACHER, PUPIL, TLS_PUPIL):
            school.tell(agent, "sync")
        if prepares:
            # it also would be in the way of what follows
            yield thin_first.prepared(school, catalogue.name, partial(_floor, catalogue.folder))
        for edit in EDITS:
            yield _edited(school, catalogue, edit, source, [space, item], tls)
        school.tell(PUPIL, "checkout", item, str(work / "copy"))
        compare(source, work / "copy")
    yield from _thin(school, catalogue, source, [space, item])


def _edited(school: School, catalogue: Catalogue, edit: Edit, source: Path, names: list[str], tls: Relay) -> Result:
    floor = edit.make(source)
    space, item = names
    publishing = school.measure(TEACHER, "publish", str(source), "--space", space, "--item", item)
    sending = school.measure(TEACHER, "sync")
    fetching = school.measure(PUPIL, "sync")
    tls.reset()
    school.tell(TLS_PUPIL, "sync")
    figures: dict[str, Figure] = {
        "both_bytes": fetching.traffic.both,
        "requests": fetching.traffic.requests,
        "wall_s": fetching.wall_s,
        "client_cpu_s": fetching.client.cpu_s,
        "client_peak_bytes": fetching.client.peak_bytes,
        "server_peak_bytes": max(sending.server.peak_bytes, fetching.server.peak_bytes),
        "tls_bytes": tls.traffic().both,
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


def _casync(catalogue: Catalogue, work: Path) -> Iterator[Result]:
    if "casync" not in versions():
        return
    source = work / "casync-source"
    copy_for_editing(catalogue.folder, source)
    casync = Casync(source, work / "casync")
    with casync.serving() as relay:
        casync.make()
        casync.extract(relay.port)
        for edit in EDITS:
            edit.make(source)
            casync.make()
            relay.reset()
            began = time.monotonic()
            casync.extract(relay.port)
            figures: dict[str, Figure] = {"both_bytes": relay.traffic().both, "wall_s": time.monotonic() - began}
            yield Result(_table(catalogue), f"casync over HTTP: {edit.name}", figures)
        compare(source, casync.copy)


# --- files of many kinds ----------------------------------------------------------------------------------------------


def _own_files(work: Path) -> Iterator[Result]:
    """One file changed after the other, in a folder of them."""
    changes = list(own_files.pairs())
    source, copy = work / "source", work / "rsync-copy"
    source.mkdir()
    for name, before, _ in changes:
        (source / name).write_bytes(before)
    shutil.copytree(source, copy, copy_function=shutil.copy2)
    school = School.found(work / "school")
    space = school.add_class("CM1")
    person = school.tell_server("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"]
    with school.serving(), ExitStack() as stack:
        school.tell(TEACHER, *school.enrolment("teacher", [space], person))
        school.tell(PUPIL, *school.enrolment("machine", [space]))
        item = school.tell(TEACHER, "publish", str(source), "--space", space, "--title", "Cours")["item"]
        for agent in (TEACHER, PUPIL):
            school.tell(agent, "sync")
        relay = None
        if "rsync" in versions():
            _, relay = stack.enter_context(rsync_daemon(source, work / "rsync"))
        for name, before, after in changes:
            (source / name).write_bytes(after)
            school.tell(TEACHER, "publish", str(source), "--space", space, "--item", item)
            school.tell(TEACHER, "sync")
            figures: dict[str, Figure] = {
                "both_bytes": school.measure(PUPIL, "sync").traffic.both,
                "floor_bytes": patched_bytes(before, after),
            }
            best = float(figures["floor_bytes"])
            if relay is not None:
                relay.reset()
                address = f"rsync://127.0.0.1:{relay.port}/catalogue/"
                subprocess.run(["rsync", "-az", "--compress-choice=zstd", address, str(copy)], check=True)
                figures["rsync_bytes"] = relay.traffic().both
                best = min(best, relay.traffic().both)
            goal = OFFICE_GOAL_BYTES if name in own_files.BY_LIBREOFFICE else 1.1 * best + QUIET_BYTES
            yield Result("files of many kinds", name, figures, {"both_bytes": goal})
        school.tell(PUPIL, "checkout", item, str(work / "copy"))
        compare(source, work / "copy")
    shutil.rmtree(work)
