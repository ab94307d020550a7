"""DIR/coursework beside running agents and a server: real processes, seen as any application sees the folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness.machines import Machine, School, school
from tests.harness.patience import eventually

FIRST = {f"{number}.html": f"page {number}".encode() * 50 for number in range(40)}
SECOND = {path: data + b", revue" for path, data in FIRST.items()} | {"fin.html": b"fin"}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[School]:
    with school(tmp_path_factory.mktemp("tree")) as found:
        for name, role in (("laptop", "teacher"), ("renard", "machine")):
            found.enrol(name, role).start()
        yield found


@pytest.fixture
def laptop(here: School) -> Machine:
    return here.agents["laptop"]


@pytest.fixture
def renard(here: School) -> Machine:
    return here.agents["renard"]


def put(place: Path, files: dict[str, bytes]) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        (place / path).write_bytes(data)
    return place


def publish(laptop: Machine, here: School, files: dict[str, bytes], title: str, tmp_path: Path, *more: str) -> str:
    place = put(tmp_path / f"{title}-{len(list(tmp_path.iterdir()))}", files)
    where = more or ("--space", here.space, "--title", title)
    item: str = laptop.ok("publish", str(place), *where)["item"]
    return item


def tree(machine: Machine, title: str) -> Path:
    return machine.folder / "coursework" / "CM1" / title


def files_of(place: Path) -> dict[str, bytes] | None:
    """What a folder holds, as one moment shows it; None while it is not there."""
    while True:
        try:
            folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        try:
            found = {}
            for name in os.listdir(folder):  # noqa: PTH208  (a folder that is open)
                with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
                    found[name] = file.read()
            if os.path.samestat(os.fstat(folder), place.stat()):
                return found
        except FileNotFoundError:
            continue
        finally:
            os.close(folder)


@contextmanager
def watching(place: Path) -> Iterator[list[frozenset[tuple[str, bytes]]]]:
    """Every state in which the folder was seen meanwhile, in order."""
    seen: list[frozenset[tuple[str, bytes]]] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.001):
            found = files_of(place)
            state = frozenset((found or {}).items())
            if not seen or seen[-1] != state:
                seen.append(state)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_a_lesson_is_seen_whole_or_not_at_all(here: School, laptop: Machine, renard: Machine, tmp_path: Path) -> None:
    place = tree(renard, "Eau")
    with watching(place) as seen:
        item = publish(laptop, here, FIRST, "Eau", tmp_path)
        eventually("the first revision", lambda: files_of(place) == FIRST)
        publish(laptop, here, SECOND, "Eau", tmp_path, "--item", item)
        eventually("the second revision", lambda: files_of(place) == SECOND)
        laptop.ok("withdraw", item)
        eventually("nothing", lambda: files_of(place) is None)
        laptop.ok("restore", item)
        eventually("the lesson again", lambda: files_of(place) == SECOND)
    whole = {frozenset(state.items()) for state in ({}, FIRST, SECOND)}
    assert set(seen) == whole


def test_the_teacher_sees_what_was_published_too(here: School, laptop: Machine, tmp_path: Path) -> None:
    publish(laptop, here, FIRST, "Vent", tmp_path)
    eventually("the lesson", lambda: files_of(tree(laptop, "Vent")) == FIRST)
    put(tree(laptop, "Vent"), {"0.html": b"au mauvais endroit"})
    put(tree(laptop, "Nouvelle"), {"0.html": b"au mauvais endroit"})
    laptop.ok("sync")
    row = next(row for row in laptop.ok("items") if row["title"] == "Vent")
    assert row["revision"] == row["item"]
    assert "Nouvelle" not in {row["title"] for row in laptop.ok("items")}


def test_a_sync_by_hand_brings_the_tree_in_step(here: School, laptop: Machine, tmp_path: Path) -> None:
    hibou = here.enrol("hibou")
    item = publish(laptop, here, {"a.txt": b"un", "b.txt": b"deux"}, "Nuit", tmp_path)
    laptop.ok("sync")
    hibou.ok("sync")
    assert files_of(tree(hibou, "Nuit")) == {"a.txt": b"un", "b.txt": b"deux"}
    put(tree(hibou, "Nuit"), {"a.txt": "à moi".encode()})
    publish(laptop, here, {"a.txt": b"trois", "b.txt": b"quatre"}, "Nuit", tmp_path, "--item", item)
    laptop.ok("sync")
    hibou.ok("sync")
    found = files_of(tree(hibou, "Nuit"))
    assert found is not None
    assert {path: found.pop(path) for path in ("a.txt", "b.txt")} == {"a.txt": b"trois", "b.txt": b"quatre"}
    ((name, data),) = found.items()
    assert name.startswith("a (modifié le ")
    assert data == "à moi".encode()


def test_what_lies_in_the_publish_folder_is_seen_on_another_machine(laptop: Machine, renard: Machine) -> None:
    place = put(laptop.folder / "publish" / "CM1" / "Pluie", {"a.txt": b"un"})
    eventually("the lesson", lambda: files_of(tree(renard, "Pluie")) == {"a.txt": b"un"})
    put(place, {"a.txt": b"deux"})
    eventually("its revision", lambda: files_of(tree(renard, "Pluie")) == {"a.txt": b"deux"})
