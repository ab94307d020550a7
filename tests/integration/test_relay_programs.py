"""A relay with real programs: it holds its school while the server is gone, and is believed for what it heard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.harness.machines import Machine, School, school
from tests.harness.patience import eventually

UAI = "0180001X"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[School]:
    with school(tmp_path) as found:
        yield found


def relay_of(here: School) -> Machine:
    relay = Machine("relais", here.folder / "relais", "sync-agent")
    code = here.server.ok("invite", "--role", "relay", "--space", UAI)["code"]
    relay.ok("enroll", "--server", here.url, "--code", code, "--name", "relais")
    here.agents["relais"] = relay
    return relay


def port_of(machine: Machine) -> str:
    text = machine.log.read_text(encoding="utf-8")
    return next(line for line in text.splitlines() if "reach this one at" in line).rsplit(" ", 1)[-1]


def row_of(machine: Machine, work: str) -> dict[str, Any]:
    return next(row for row in machine.ok("hand-ins") if row["id"] == work)


def rows_at_server(here: School) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in here.server.ok("devices")}


def test_work_goes_by_the_relay_to_a_teacher_who_was_away_and_its_receipts_come_back(
    here: School, tmp_path: Path
) -> None:
    relay, prof = relay_of(here), here.enrol("prof", "teacher")
    renard, hibou = here.enrol("renard"), here.enrol("hibou")
    sheet = tmp_path / "dictee.txt"
    sheet.write_text("La mare", encoding="utf-8")
    film = tmp_path / "expose.mp4"
    film.write_bytes(Random(1).randbytes(3_000_000))
    item = prof.ok("publish", str(sheet), "--space", here.space, "--title", "Exposé", "--kind", "assignment")["item"]
    for machine in (prof, renard, hibou):
        machine.ok("sync")
    before = rows_at_server(here)
    here.server.kill()

    # the server is gone, the teacher at home: two PCs hand in, and are switched off
    relay.start("--lan", "127.0.0.1:0")
    works = {}
    for machine in (renard, hibou):
        works[machine.name] = machine.ok("hand-in", item, str(film), "--person", here.pupil)["id"]
        machine.start("--peer", port_of(relay))
        eventually("it is safe", lambda: row_of(machine, works[machine.name])["state"] == "safe")  # noqa: B023
        assert machine.stop() == 0

    # the teacher meets nobody but the relay, and opens one
    prof.ok("sync", "--peer", port_of(relay))
    assert {row["id"] for row in prof.ok("hand-ins") if row["files"]} == {*works.values()}
    prof.ok("open-hand-in", works["renard"], str(tmp_path / "copie"))
    assert (tmp_path / "copie" / "expose.mp4").read_bytes() == film.read_bytes()
    prof.ok("feedback", works["renard"], "--text", "Très clair")
    prof.ok("sync", "--peer", port_of(relay))

    # the next morning, by the relay alone
    for machine, state in ((renard, "marked"), (hibou, "safe")):
        machine.ok("sync", "--peer", port_of(relay))
        assert row_of(machine, works[machine.name])["state"] == state
    assert row_of(renard, works["renard"])["feedback"]["text"] == "Très clair"

    # the server is back, and hears of all by the relay: work, words, and how the PCs are
    here.restart_server()
    relay.ok("sync")
    assert {row["id"] for row in here.server.ok("hand-ins", "--space", here.space)} == {*works.values()}
    after = rows_at_server(here)
    carrier = relay.ok("status")["device"]
    assert {name: after[name]["via"] for name in ("relais", "renard", "hibou")} == {
        "relais": "direct",
        "renard": carrier,
        "hibou": carrier,
    }
    assert all(after[name]["last_seen"] > before[name]["last_seen"] for name in ("renard", "hibou"))
    # a server that is killed forgets the last seconds of whom it heard
    met = [rows["renard"]["last_full_sync"] or "" for rows in (before, after)]
    assert met[1] <= met[0], "it has not met the server itself"
    hibou.ok("sync")
    assert rows_at_server(here)["hibou"]["via"] == "direct"
    assert row_of(hibou, works["hibou"])["state"] == "server"
    assert relay.stop() == 0
