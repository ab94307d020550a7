"""What a version of the format left on disks: written once, kept in `tests/vectors/stored`, opened by later ones.

    python -m tests.harness.kept_formats tests/vectors/stored/1.tar.xz

One small school: a server's DIR, a teacher's and a pupils' PC's, a courier disk, a backup, a recovery kit; and
`expected.json`, which says what they hold. An archive is never written again: a change that cannot open it any more is
the change that is wrong (docs/protocol.md, "Versions").
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import tarfile
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Final

from protocol.replica.at_work.set_records import SetRecords
from protocol.replica.storage.sqlite import SqliteStore
from sync_agent.machine.enrolled import BINDING_FILE
from tests.harness.machines import Machine, school
from tests.harness.patience import eventually

LESSON: Final = {
    "index.html": b"<h1>Le cycle de l'eau</h1>" * 400,
    "images/carte.png": bytes(range(256)) * 300,
    "élève/été.txt": "Où va la pluie ?".encode(),
}
WORK: Final = {"reponse.txt": "Elle va à la mer.".encode() * 50}
DISKS: Final = ("server", "laptop", "renard", "stick", "relais.tar", "kit", "expected.json")


def main() -> int:
    """Write the archive that the command line names; it must not exist."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("archive", type=Path)
    archive: Path = parser.parse_args().archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, tarfile.open(archive, "x:xz", format=tarfile.PAX_FORMAT) as tar:
        live_a_while(Path(folder))
        for name in DISKS:
            tar.add(Path(folder) / name, name, filter=_without_owner)
    return 0


def live_a_while(folder: Path) -> None:
    """Fill `folder` with `DISKS`: a lesson revised, work handed in, opened, marked, an erasure, a stick, a backup."""
    with school(folder) as here:
        laptop, renard = here.enrol("laptop", "teacher"), here.enrol("renard")
        _write(folder / "lesson", LESSON)
        _write(folder / "work", WORK)
        publish = ("publish", str(folder / "lesson"), "--space", here.space, "--title")
        item = laptop.ok(*publish, "Eau")["item"]
        task = laptop.ok(*publish, "Devoir", "--kind", "assignment", "--due", "2026-12-11")["item"]
        (folder / "lesson" / "index.html").write_bytes(LESSON["index.html"] + b"<p>Fin</p>")
        revision = laptop.ok(*publish, "Eau", "--item", item)["revision"]
        gone = here.server.ok("person", "add", "Tom", "--role", "pupil", "--space", here.space)["person"]
        _sync(laptop, renard, laptop)
        opened = renard.ok("hand-in", task, str(folder / "work"), "--person", here.pupil)["id"]
        _sync(renard, laptop)
        eventually("the work is at the teacher's", partial(_has_work, laptop, opened))
        laptop.ok("open-hand-in", opened, str(folder / "opened"))
        laptop.ok("feedback", opened, "--text", "Très bien", "--mark", "A")
        here.server.ok("erase", "--person", gone)
        _sync(laptop, renard)
        here.server.ok("backup", str(folder / "relais.tar"))
        waiting = renard.ok("hand-in", task, str(folder / "work"), "--person", here.pupil)["id"]
        renard.ok("courier", "export", str(folder / "stick"))
        assert here.server.stop() == 0
        expected = {
            "space": here.space,
            "pupil": here.pupil,
            "item": item,
            "task": task,
            "revision": revision,
            "opened": opened,
            "waiting": waiting,
            "lesson": hashes(folder / "lesson"),
            "work": hashes(folder / "work"),
            "fingerprint": set_held(here.server.folder, here.space),
        }
        (folder / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True), encoding="utf-8")
        for agent in (laptop, renard):  # opened on other hardware, each would be a copy
            (agent.folder / BINDING_FILE).unlink()


def unpack(archive: Path, folder: Path) -> dict[str, Any]:
    """The disks of `archive` in `folder`; what they are expected to hold."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    found: dict[str, Any] = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    return found


def set_held(folder: Path, space: str) -> str:
    """The set of a space on a disk that no program has open, by what tells ranges apart, alike in all versions.

    What people compare is reckoned in another way since docs/adr/0486.
    """
    return asyncio.run(_set_held(folder, bytes.fromhex(space)))


async def _set_held(folder: Path, space: bytes) -> str:
    store = await SqliteStore.open(folder)
    try:
        records = await SetRecords(store).of(space)
        return records.fingerprint(0, len(records)).hex()
    finally:
        await store.close()


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a folder, by its path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def _sync(*agents: Machine) -> None:
    for agent in agents:
        agent.ok("sync")


def _has_work(laptop: Machine, hand_in: str) -> bool:
    laptop.ok("sync")
    return any(found["id"] == hand_in and found["files"] for found in laptop.ok("hand-ins"))


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    sys.exit(main())
