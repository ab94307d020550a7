"""The school's network with real programs: no server answers, `--lan` and `--peer` are all there is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.roles import Role
from protocol.trust.invitation import SECRET_BYTES, Invitation
from tests.harness.enrolled import Class, enrolled_class
from tests.harness.machines import Machine
from tests.harness.patience import eventually
from tests.harness.ports import free_port


def port_of(machine: Machine) -> str:
    """Where a running device listens for others."""
    line = next(line for line in machine.log.read_text(encoding="utf-8").splitlines() if "reach this one at" in line)
    return line.rsplit(" ", 1)[-1]


def has(machine: Machine, item: str) -> bool:
    return any(row["item"] == item and row["complete"] for row in machine.ok("items"))


@pytest.fixture
async def school(tmp_path: Path) -> Class:
    return await enrolled_class(tmp_path, {"prof": Role.TEACHER, "renard": Role.MACHINE, "hibou": Role.MACHINE})


@pytest.fixture
def ended(school: Class) -> Iterator[None]:
    yield
    for machine in school.devices.values():
        if machine.daemon is not None:
            machine.kill()


def test_a_lesson_and_the_work_on_it_pass_while_no_server_answers(school: Class, ended: None, tmp_path: Path) -> None:
    prof, renard, hibou = school["prof"], school["renard"], school["hibou"]
    prof.start("--lan", f"127.0.0.1:{free_port()}")
    for machine in (renard, hibou):
        machine.start("--peer", port_of(prof))
    lesson = tmp_path / "lecon.html"
    lesson.write_text("<h1>La mare</h1>", encoding="utf-8")
    item = prof.ok("publish", str(lesson), "--space", school.space, "--title", "La mare", "--kind", "assignment")[
        "item"
    ]
    eventually("the lesson is everywhere", lambda: has(renard, item) and has(hibou, item))
    work = renard.ok("hand-in", item, str(lesson), "--person", school.pupil_person)["id"]
    eventually("the work is with the teacher", lambda: [row for row in prof.ok("hand-ins") if row["files"]])
    prof.ok("open-hand-in", work, str(tmp_path / "copie"))
    assert (tmp_path / "copie" / "lecon.html").read_bytes() == lesson.read_bytes()
    eventually("the pupil sees that it was opened", lambda: renard.ok("hand-ins")[0]["state"] == "teacher")
    (link,) = eventually(
        "the line stands", lambda: [row for row in renard.ok("status")["peers"] if row["state"] == "live"]
    )
    assert (link["address"], link["device"]) == (port_of(prof), prof.ok("status")["device"])
    assert link["name"] == "prof"
    eventually("both are named", lambda: {row["name"] for row in prof.ok("status")["peers"]} == {"renard", "hibou"})

    # the teacher's laptop dies and comes back at the same address
    where = port_of(prof)
    prof.kill()
    prof.start("--lan", where)
    other = prof.ok("publish", str(lesson), "--space", school.space, "--title", "Encore")["item"]
    eventually("news passes again", lambda: has(renard, other) and has(hibou, other))
    assert [machine.stop() for machine in (renard, hibou, prof)] == [0, 0, 0]


def test_who_enrols_at_a_computer_where_nothing_answers_is_sent_to_it_and_not_to_the_servers_operator(
    tmp_path: Path,
) -> None:
    code = Invitation.create(bytes(32), bytes(SECRET_BYTES)).code()
    newcomer = Machine("nouveau", tmp_path / "nouveau", "sync-agent")
    refused = newcomer.run("enroll", "--peer", "127.0.0.1:9", "--code", code)
    assert (refused.status, refused.code) == (3, "unreachable")
    assert "no Relais answers at this port" in refused.err
    assert "`sync-agent peer address`" in refused.err
    assert "server" not in refused.err


def test_sync_with_peers_asks_only_them_and_says_when_none_answers(school: Class, ended: None, tmp_path: Path) -> None:
    prof, renard = school["prof"], school["renard"]
    nobody = renard.run("sync", "--peer", "127.0.0.1:9")
    assert (nobody.status, nobody.code) == (3, "unreachable")
    assert "127.0.0.1:9" in nobody.err
    assert renard.run("sync", "--peer", "127.0.0.1").status == 2
    (tmp_path / "mot.txt").write_text("Bonjour", encoding="utf-8")
    item = prof.ok("publish", str(tmp_path / "mot.txt"), "--space", school.space, "--title", "Mot")["item"]
    prof.start("--lan", "127.0.0.1:0")
    result = renard.ok("sync", "--peer", "127.0.0.1:9", "--peer", port_of(prof))
    assert result["received"] == 1
    assert has(renard, item)
    assert prof.stop() == 0


def test_copies_of_one_disk_become_devices_of_their_own_while_no_server_answers(
    school: Class, ended: None, tmp_path: Path
) -> None:
    prof, renard = school["prof"], school["renard"]
    lesson = tmp_path / "lecon.html"
    lesson.write_text("<h1>La mare</h1>", encoding="utf-8")
    item = prof.ok("publish", str(lesson), "--space", school.space, "--title", "La mare", "--kind", "assignment")[
        "item"
    ]
    prof.start("--lan", "127.0.0.1:0")
    renard.ok("sync", "--peer", port_of(prof))
    for number in (2, 3):
        name = f"renard{number}"
        shutil.copytree(renard.folder, tmp_path / name, ignore=shutil.ignore_patterns("run"))
        school.devices[name] = Machine(name, tmp_path / name, "sync-agent")
    copies = [renard, school["renard2"], school["renard3"]]
    works = [copy.ok("hand-in", item, str(lesson), "--person", school.pupil_person)["id"] for copy in copies]
    for number, copy in enumerate(copies):
        others = [word for other in copies[:number] for word in ("--peer", port_of(other))]
        copy.start("--lan", "127.0.0.1:0", "--peer", port_of(prof), *others)
    eventually("all are devices of their own", lambda: len({copy.ok("status")["device"] for copy in copies}) == 3)
    eventually(
        "the teacher has the work of all",
        lambda: {row["id"] for row in prof.ok("hand-ins") if row["files"]} == {*works},
    )

    def all_are_known() -> bool:
        known = {row["device"] for row in prof.ok("status")["peers"]}
        return {copy.ok("status")["device"] for copy in copies} <= known

    eventually("all have the teacher's news", all_are_known)
