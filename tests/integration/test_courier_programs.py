"""Couriers with the real programs: running agents, a stick that is noticed, an export that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.harness.machines import School, environment, school, space_row
from tests.harness.patience import PATIENCE_S, eventually


@pytest.fixture
def here(tmp_path: Path) -> Iterator[School]:
    with school(tmp_path) as found:
        yield found


def test_running_agents_without_a_network_learn_by_a_stick_and_the_server_hears_of_all(
    here: School, tmp_path: Path
) -> None:
    teacher, renard = here.enrol("laptop", "teacher"), here.enrol("renard")
    note = tmp_path / "lecon.txt"
    note.write_text("Les volcans")
    task = teacher.ok("publish", str(note), "--space", here.space, "--title", "Volcans", "--kind", "assignment")["item"]
    here.server.kill()
    teacher.start()
    media = tmp_path / "media"
    renard.start("--courier", str(media))
    # written elsewhere, and plugged in whole: one that is seen half written is looked at again half a minute later
    (tmp_path / "usb").mkdir()
    assert teacher.ok("courier", "export", str(tmp_path / "usb" / "Relais"))["entries"] > 0
    media.mkdir()
    stick = (tmp_path / "usb").rename(media / "usb") / "Relais"
    eventually("the lesson is there", lambda: [found for found in renard.ok("items") if found["complete"]])
    eventually("and as files", lambda: list((renard.folder / "coursework").rglob("lecon.txt")))
    work = renard.ok("hand-in", task, str(note), "--person", here.pupil)["id"]
    # by hand too, whatever its own watch has just done
    renard.ok("courier", "export", str(stick))
    assert renard.ok("hand-ins")[0]["state"] == "carried"
    assert teacher.ok("courier", "import", str(stick))["entries"] > 0
    teacher.ok("open-hand-in", work, str(tmp_path / "copie"))
    assert (tmp_path / "copie" / "lecon.txt").read_text() == "Les volcans"
    teacher.ok("feedback", work, "--text", "Très bien")
    assert teacher.ok("courier", "export", str(stick))["entries"] == 2
    renard.ok("courier", "import", str(stick))
    assert renard.ok("hand-ins")[0]["feedback"]["text"] == "Très bien"
    renard.stop()
    here.restart_server()
    teacher.ok("sync")
    assert here.server_row()["fingerprint"] == space_row(teacher, here.space)["fingerprint"]
    seen = {row["name"]: row["via"] for row in here.server.ok("devices")}
    assert seen["renard"] == teacher.ok("status")["device"], "heard of by the teacher's laptop"
    assert teacher.stop() == 0


def test_an_export_killed_at_any_moment_leaves_a_disk_that_holds_no_lie(here: School, tmp_path: Path) -> None:
    teacher, renard = here.enrol("laptop", "teacher"), here.enrol("renard")
    film = tmp_path / "film.bin"
    film.write_bytes(Random(1).randbytes(30_000_000))
    item = teacher.ok("publish", str(film), "--space", here.space, "--title", "Film")["item"]
    stick = tmp_path / "stick"
    for sign in ("*/*.tmp", "*/*.rls"):
        going = subprocess.Popen(
            teacher.command("courier", "export", str(stick)), stderr=subprocess.DEVNULL, env=environment()
        )
        eventually("the export has begun", lambda: list(stick.glob(sign)) or going.poll() is not None)  # noqa: B023
        going.send_signal(signal.SIGKILL)
        going.wait()
        assert renard.run("courier", "import", str(stick)).status == 0
    done = teacher.run("courier", "export", str(stick))
    assert "the disk of this computer's own data" in done.err, "a stick that is not plugged in is a folder of the PC's"
    assert "you may remove it" not in done.err
    absent = teacher.run("courier", "export", str(tmp_path / "nowhere" / "Relais"))
    assert absent.err.index("the disk of this computer's own data") < absent.err.index("everything is there")
    renard.ok("courier", "import", str(stick))
    assert [found["complete"] for found in renard.ok("items")] == [True]
    renard.ok("checkout", item, str(tmp_path / "out"))
    assert (tmp_path / "out" / "film.bin").read_bytes() == film.read_bytes()
    assert not list(stick.rglob("*.tmp"))
    for agent in (teacher, renard):
        assert agent.ok("verify") == {"ok": True, "problems": []}


LOCKED = "mount --bind '{0}' '{0}' && mount -o remount,bind,ro '{0}' && exec unshare --user --map-user={1} \"$@\""
"""Runs a command where a folder may only be read: as the account that this is, which it takes root's place to lock."""


def run_locked(folder: Path, command: list[str]) -> tuple[int, Any]:
    """A command's exit status and its JSON, while `folder` is on a disk with its switch at "lock"."""
    locked = LOCKED.format(folder, os.geteuid())
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", locked, "sh", *command]
    done = subprocess.run(inside, capture_output=True, check=False, env=environment(), timeout=PATIENCE_S)
    return done.returncode, json.loads(done.stdout or b"null")


def may_mount() -> bool:
    """Whether this account may do so in a namespace of its own."""
    if sys.platform != "linux":
        return False
    words = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="needs a namespace of its own for mounts")
def test_a_write_protected_stick_is_read_and_what_it_cannot_take_is_said(here: School, tmp_path: Path) -> None:
    teacher, renard = here.enrol("laptop", "teacher"), here.enrol("renard")
    note = tmp_path / "lecon.txt"
    note.write_text("Les volcans")
    teacher.ok("publish", str(note), "--space", here.space, "--title", "Volcans")
    stick = tmp_path / "stick"
    teacher.ok("courier", "export", str(stick))
    status, result = run_locked(stick, [*renard.command("courier", "import", str(stick)), "--json"])
    assert (status, result["entries"] > 0) == (0, True)
    assert [found["complete"] for found in renard.ok("items")] == [True]
    teacher.ok("publish", str(note), "--space", here.space, "--title", "Encore")
    status, result = run_locked(stick, [*teacher.command("courier", "export", str(stick)), "--json"])
    assert (status, result["error"]["code"]) == (1, "read-only")
