"""Both command lines take the name of a class, a person or a device where an id is asked for, if only one has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.machines import School, school


@pytest.fixture
def town(tmp_path: Path) -> Iterator[School]:
    with school(tmp_path) as found:
        yield found


def test_a_class_a_person_and_a_device_are_named_by_their_names(town: School, tmp_path: Path) -> None:
    teacher, pc, server = town.enrol("Portable", "teacher"), town.enrol("Renard"), town.server
    (tmp_path / "consigne.txt").write_text("Raconte.", encoding="utf-8")
    task = teacher.ok(
        "publish", str(tmp_path / "consigne.txt"), "--space", "cm1", "--title", "Raconte", "--kind", "assignment"
    )["item"]
    teacher.ok("sync")
    pc.ok("sync")
    done = pc.run("hand-in", task, str(tmp_path / "consigne.txt"), "--person", "lea")
    assert (done.status, done.json["state"]) == (0, "local")
    assert f"“lea” is Léa (pupil, CM1, {town.pupil})" in done.err
    pc.ok("sync")

    assert {row["name"] for row in server.ok("person", "list", "--space", "CM1")} == {"Léa", "Mme Petit"}
    assert server.ok("invite", "--role", "teacher", "--space", "cm1", "--person", "mme petit")["code"]
    nobody = pc.run("hand-in", task, str(tmp_path / "consigne.txt"), "--person", "Zoé")
    assert (nobody.status, nobody.code) == (2, "unknown-person")
    assert f"Léa (pupil, CM1, {town.pupil})" in nobody.json["error"]["message"]
    nowhere = server.run("person", "list", "--space", "CM2")
    assert (nowhere.status, nowhere.code) == (2, "unknown-space")
    assert re.search(rf"CM1 \(0180001X, \d{{4}}-\d{{4}}, {town.space}\)", nowhere.json["error"]["message"])

    lesson = ("publish", str(tmp_path / "consigne.txt"), "--title", "Raconte", "--kind", "lesson")
    in_the_school = teacher.run(*lesson, "--space", "0180001X")
    assert (in_the_school.status, in_the_school.code) == (5, "no-right"), "there is such a school, and it is not hers"

    # two of one name: none of them is taken
    second = server.ok("person", "add", "LÉA", "--role", "pupil", "--space", "CM1")["person"]
    pc.ok("sync")
    either = pc.run("hand-in", task, str(tmp_path / "consigne.txt"), "--person", "Léa")
    assert (either.status, either.code) == (2, "unknown-person")
    for person in (town.pupil, second):
        assert person in either.json["error"]["message"]

    # the kit's word is given for an id alone, and a clone is confirmed by none but its own
    assert server.run("revoke", "Renard", "--kit", str(tmp_path / "kit")).code == "usage"
    by_name = server.run("confirm", "Renard")
    assert by_name.code == "unknown-device"
    assert "or the first eight; `devices` shows them" in by_name.json["error"]["message"]
    unknown = server.run("grant", "--person", "ffffffff", "--space", "CM1")
    assert "“ffffffff” is not the id of a person: no id here begins so" in unknown.json["error"]["message"]
    # nobody is forgotten by a name: whoever is meant has often left, and somebody else has it
    for command in (("erase", "--person", "mme petit"), ("person", "retire", "mme petit")):
        assert server.run(*command).status == 2
    assert "Mme Petit" in {row["name"] for row in server.ok("person", "list", "--space", "CM1")}
    # nor is anything let in by the name that it gives itself, nor a class closed by one that a thief may have written
    assert server.run("grant", "--device", "Renard", "--space", "CM1").code == "unknown-device"
    by_name = server.run("space", "close", "CM1")
    assert by_name.code == "unknown-space"
    assert "“CM1” is not the id of a space here" in by_name.json["error"]["message"], "there is such a class"
    looked_at = server.run("space", "close", town.space)
    assert (looked_at.status, looked_at.json["closed"]) == (0, False)
    assert "nothing was closed" in looked_at.err
    assert "--kit KIT --named “CM1, " in looked_at.err
    # nor by an id alone, which a page may show for another's: by the words that the command itself finds signed
    closing = ("space", "close", town.space, "--kit", str(tmp_path / "kit"), "--unheard-too", "--unopened-too")
    refused = server.run(*closing, "--named", "CM2 C, 2026-2027, 0180001D")
    assert (refused.status, refused.code) == (2, "not-yet")
    assert "“CM1”" in refused.json["error"]["message"]
    forgetting = ("erase", "--person", town.pupil, "--kit", str(tmp_path / "kit"))
    assert server.run(*forgetting).code == "not-yet"
    assert server.run(*forgetting, "--named", "lea").status == 0
    states = {row["name"]: row["state"] for row in server.ok("devices")}
    assert states["Renard"] != "retired"
    gone = server.run("revoke", "renard")
    assert gone.status == 0, gone.err
    assert "“renard” is Renard (" in gone.err
    states = {row["name"]: row["state"] for row in server.ok("devices")}
    assert (states["Renard"], states["Portable"] == "retired") == ("retired", False)
