"""The watched folder: how long until a saved file is seen on another machine, and ten thousand files dropped at once.

A teacher's and a pupil's machine with a server on loopback, all three running; a file is saved as editors do (written
under a passing name, then renamed) and counts as seen when the readable copy on the other machine holds its bytes. Two
Syncthings, watching their folders, do the same.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Final

from bench.peers import PeerFailed, ending, syncthing_pair, versions, wait_until
from bench.relais import School
from bench.results import Figure, Result, Setting
from bench.sampling import Tree

SAVES: Final = 30
SAVED_BYTES: Final = 40_000
FILES: Final = 10_000
FILE_BYTES: Final = (500, 8_000)
CLASS: Final = "CM1"
_SEEN: Final = "watched folder: saved here, seen there"
_DROPPED: Final = "watched folder: 10,000 files at once"
_LOOK_S: Final = 0.005
_BETWEEN_S: Final = 0.5
_PATIENCE_S: Final = 120.0
_WATCHER_S: Final = 30.0
_TRIES: Final = 6


def measure(setting: Setting) -> Iterator[Result]:
    """A table of saves, and one of the ten thousand files."""
    rng = Random(1)
    school = School.found(setting.work / "watched")
    space = school.add_class(CLASS)
    person = str(school.tell_server("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"])
    with school.serving():
        school.tell("teacher", *school.enrolment("teacher", [space], person))
        school.tell("pupil", *school.enrolment("machine", [space]))
        with school.running("teacher") as teacher, school.running("pupil") as pupil:
            drop = school.folder / "teacher" / "publish" / CLASS
            wait_until(drop.is_dir, "the folder of the class")
            tree = school.folder / "pupil" / "coursework" / CLASS
            goals = {"p95_s": 2.0}
            figures = _saves(rng, lambda n: (drop / f"Fiche {n}.odt", tree / f"Fiche {n}" / f"Fiche {n}.odt"))
            yield Result(_SEEN, "Relais: a new file each time", figures, goals)
            figures = _saves(rng, lambda _: (drop / "Fiche 0.odt", tree / "Fiche 0" / "Fiche 0.odt"))
            yield Result(_SEEN, "Relais: the same file again and again", figures, goals)
            yield from _dropped(rng, school, drop, tree, Tree([teacher.pid]), Tree([pupil.pid]))
    if "syncthing" in versions():
        yield Result(_SEEN, f"Syncthing {versions()['syncthing']}, its watcher", _syncthing(rng, setting.work / "st"))


def _saves(rng: Random, places: Callable[[int], tuple[Path, Path]], saves: int = SAVES) -> dict[str, Figure]:
    """Save so many times; how long each took to be seen."""
    taken = []
    for number in range(saves):
        saved, seen = places(number)
        data = rng.randbytes(SAVED_BYTES)
        passing = saved.with_name(f"~{saved.name}.tmp")
        passing.write_bytes(data)
        began = time.monotonic()
        passing.rename(saved)
        wait_until(lambda seen=seen, data=data: seen.read_bytes() == data, "the file there", pause_s=_LOOK_S)  # type: ignore[misc]
        taken.append(time.monotonic() - began)
        time.sleep(_BETWEEN_S)
    taken.sort()
    return {"median_s": taken[len(taken) // 2], "p95_s": taken[-(-len(taken) * 95 // 100) - 1], "most_s": taken[-1]}


def _dropped(rng: Random, school: School, drop: Path, tree: Path, teacher: Tree, pupil: Tree) -> Iterator[Result]:
    source = school.folder / "source"
    for number in range(FILES):
        folder = source / f"chapitre {number // 100:02}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"page {number:04}.html").write_bytes(rng.randbytes(rng.randrange(*FILE_BYTES)))
    title = drop / "Gros cours"
    began = time.monotonic()
    shutil.copytree(source, title)
    copied_s = time.monotonic() - began

    def listed() -> bool:
        return any(row["title"] == title.name and row["item"] for row in school.tell("teacher", "watch", "list"))

    def there() -> bool:
        teacher.sample()
        pupil.sample()
        return sum(1 for _ in (tree / title.name).rglob("*.html")) == FILES

    for tree_of in (teacher, pupil):
        tree_of.forget_peaks()
        tree_of.sample()
    wait_until(listed, "the revision", patience_s=_PATIENCE_S)
    published_s = time.monotonic() - began
    wait_until(there, "the files there", patience_s=_PATIENCE_S, pause_s=0.1)
    figures: dict[str, Figure] = {
        "copied_s": copied_s,
        "published_s": published_s,
        "seen_s": time.monotonic() - began,
        "client_peak_bytes": teacher.cost().peak_bytes,
        "server_peak_bytes": pupil.cost().peak_bytes,
    }
    goals = {"published_s": 60.0, "client_peak_bytes": 120e6, "server_peak_bytes": 120e6}
    yield Result(_DROPPED, "Relais", figures, goals, note="peaks: the teacher's agent, the pupils' agent")


def _syncthing(rng: Random, work: Path) -> dict[str, Figure]:
    shutil.rmtree(work, ignore_errors=True)
    source = work / "source"
    source.mkdir(parents=True)
    (source / "marker").write_bytes(b"x")
    with syncthing_pair(source, work) as (server, client, _), contextlib.ExitStack() as stack:
        stack.enter_context(ending(server.start()))
        stack.enter_context(ending(client.start()))
        wait_until(lambda: client.agrees_with(server), "Syncthing's first sync")
        _wait_for_its_watcher(rng, source, client.folder)
        return _saves(rng, lambda n: (source / f"Fiche {n}.odt", client.folder / f"Fiche {n}.odt"), saves=10)


def _wait_for_its_watcher(rng: Random, source: Path, copy: Path) -> None:
    """What is saved before it watches is seen by its next scan only, an hour later: save until something is seen."""
    for number in range(_TRIES):
        (source / f"first {number}").write_bytes(rng.randbytes(SAVED_BYTES))
        with contextlib.suppress(PeerFailed):
            wait_until(lambda: any(copy.glob("first *")), "the first file there", patience_s=_WATCHER_S)
            return
    raise PeerFailed("Syncthing's watcher saw nothing")
