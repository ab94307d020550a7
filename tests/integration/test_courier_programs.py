"""Couriers with the real programs: running agents, a stick that is noticed, an export that is killed."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.harness.machines import School, environment, eventually, school, space_row


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
    (media / "usb").mkdir(parents=True)
    stick = media / "usb" / "Relais"
    assert teacher.ok("courier", "export", str(stick))["entries"] > 0
    # a stick that is seen half written is looked at again half a minute later
    eventually(
        "the lesson is there",
        lambda: [found for found in renard.ok("items") if found["complete"]],
        patience_s=180.0,
    )
    eventually("and as files", lambda: list((renard.folder / "coursework").rglob("lecon.txt")))
    work = renard.ok("hand-in", task, str(note), "--person", here.pupil)["id"]
    assert renard.ok("courier", "export", str(stick))["bytes"] > 0
    assert renard.ok("hand-ins")[0]["state"] == "carried"
    assert teacher.ok("courier", "import", str(stick))["entries"] > 0
    teacher.ok("open-hand-in", work, str(tmp_path / "copie"))
    assert (tmp_path / "copie" / "lecon.txt").read_text() == "Les volcans"
    teacher.ok("feedback", work, "--text", "Très bien")
    assert teacher.ok("courier", "export", str(stick))["entries"] == 2
    assert renard.ok("courier", "import", str(stick))["entries"] == 2
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
    teacher.ok("courier", "export", str(stick))
    renard.ok("courier", "import", str(stick))
    assert [found["complete"] for found in renard.ok("items")] == [True]
    renard.ok("checkout", item, str(tmp_path / "out"))
    assert (tmp_path / "out" / "film.bin").read_bytes() == film.read_bytes()
    assert not list(stick.rglob("*.tmp"))
    for agent in (teacher, renard):
        assert agent.ok("verify") == {"ok": True, "problems": []}
