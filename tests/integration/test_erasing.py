"""Somebody is forgotten: by one command at the server, on every machine at its next contact."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from protocol.limits import ERASURE_DELAY_MS
from protocol.replica.at_work.weeks import SEEN_MARKS
from protocol.replica.storage.sqlite import DATABASE
from tests.harness.machines import Machine, School, school
from tests.harness.patience import eventually
from tests.harness.ports import free_port


@pytest.fixture
def here(tmp_path: Path) -> Iterator[School]:
    with school(tmp_path) as found:
        yield found


def test_a_pupil_who_is_erased_disappears_everywhere_and_others_stay(here: School, tmp_path: Path) -> None:
    teacher, renard = here.enrol("laptop", "teacher"), here.enrol("renard")
    (tmp_path / "work.txt").write_text("Il faisait beau.")
    item = teacher.ok(
        "publish", str(tmp_path / "work.txt"), "--space", here.space, "--title", "Devoir", "--kind", "assignment"
    )["item"]
    teacher.ok("sync")
    renard.ok("sync")
    gone = here.server.ok("person", "add", "Camille", "--role", "pupil", "--space", here.space)["person"]
    stays = here.server.ok("person", "add", "Karim", "--role", "pupil", "--space", here.space)["person"]
    renard.ok("sync")
    works = {
        person: renard.ok("hand-in", item, str(tmp_path / "work.txt"), "--person", person)["id"]
        for person in (gone, stays)
    }
    for agent in (renard, teacher):
        agent.ok("sync")
    teacher.ok("feedback", works[gone], "--text", "Bravo")
    teacher.ok("sync")

    assert here.server.run("erase", "--person", "00" * 16).status == 2
    assert here.server.ok("erase", "--person", gone) == {}
    assert here.server.ok("erase", "--person", gone) == {}

    for agent in (renard, teacher):
        agent.ok("sync")
        assert gone not in {person["person"] for person in agent.ok("people", "--space", here.space)}
        assert [work["id"] for work in agent.ok("hand-ins")] == [works[stays]]
        assert agent.ok("verify")["ok"]
    assert [work["person"] for work in here.server.ok("hand-ins", "--space", here.space)] == [stays]
    assert {person["name"] for person in here.server.ok("person", "list", "--space", here.space)} >= {"Karim"}


def test_who_lifts_a_freeze_that_nobody_has_said_is_told_that_there_was_nothing_to_do(here: School) -> None:
    untouched = here.server.run("person", "unfreeze", here.pupil, raw=True)
    assert (untouched.status, "nothing to do" in untouched.err) == (0, True), untouched.err
    here.server.ok("person", "freeze", here.pupil)
    lifted = here.server.run("person", "unfreeze", here.pupil, raw=True)
    assert (lifted.status, "no more frozen" in lifted.err) == (0, True), lifted.err


def test_a_server_says_of_how_many_works_its_archive_has_the_title_alone(here: School, tmp_path: Path) -> None:
    teacher, renard = here.enrol("laptop", "teacher"), here.enrol("renard")
    (tmp_path / "work.txt").write_text("Il faisait beau.")
    wanted = ("--space", here.space, "--title", "Devoir", "--kind", "assignment")
    item = teacher.ok("publish", str(tmp_path / "work.txt"), *wanted)["item"]
    teacher.ok("sync")
    renard.ok("sync")
    renard.ok("hand-in", item, str(tmp_path / "work.txt"), "--person", here.pupil)
    renard.ok("sync")
    alone = here.server.run("export-person", here.pupil, str(tmp_path / "sealed.zip"))
    assert "in it by title alone: 1 work, " in alone.err
    assert alone.json["opened"] == 0
    by_kit = ("--kit", str(here.folder / "kit"), "--named", "Léa")
    whole = here.server.run("export-person", here.pupil, str(tmp_path / "whole.zip"), *by_kit)
    assert "by title alone" not in whole.err
    assert whole.json["opened"] == 1


def test_who_decides_over_an_erasure_reads_whom_it_is_about_by_whose_word_and_until_when(here: School) -> None:
    server = here.server
    gone = server.ok("person", "add", "Léa", "--role", "pupil", "--space", here.space)["person"]
    server.ok("person", "rename", gone, "Léa D.")
    server.ok("person", "add", "Léa", "--role", "pupil", "--space", here.space)
    server.ok("erase", "--person", gone)
    (row,) = server.ok("erasures")
    assert (row["covers"], row["name"], row["once"], row["who"]) == (gone, "Léa D.", "Léa", "the server")
    assert datetime.fromisoformat(row["until"]) - datetime.fromisoformat(row["at"]) >= timedelta(days=7)
    shown = server.ok("erasures", raw=True).decode()
    for word in ("Léa D.", "once", "until", "the server"):
        assert word in shown


def test_a_week_later_not_a_byte_of_the_name_is_left_at_the_server(here: School) -> None:
    server = here.server
    gone = server.ok("person", "add", "Camille Anonyme", "--role", "pupil", "--space", here.space)["person"]
    server.ok("erase", "--person", gone)
    server.stop()
    assert b"Camille Anonyme" in database(server.folder)
    here.restart_server()  # looks for what is to be destroyed, and notes what it sees for the first time
    eventually("the erasure is seen", lambda: aged(server))
    here.restart_server()
    eventually("the name is gone", lambda: b"Camille Anonyme" not in database(server.folder))
    assert server.ok("verify")["ok"]


def aged(server: Machine) -> bool:
    """Let a week pass for the erasures that a server has seen; whether there were any."""
    server.stop()
    with sqlite3.connect(server.folder / DATABASE) as connection:
        week_ago = (int(time.time() * 1000) - ERASURE_DELAY_MS - 1).to_bytes(8, "big")
        seen = connection.execute("UPDATE mark SET value = ? WHERE key GLOB ?", (week_ago, f"{SEEN_MARKS}*")).rowcount
    connection.close()
    if not seen:
        server.start("--listen", f"127.0.0.1:{free_port()}")
    return bool(seen)


def database(folder: Path) -> bytes:
    """All that the database's files hold, what has not been checkpointed included."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob(f"{DATABASE}*")))
