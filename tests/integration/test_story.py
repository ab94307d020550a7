"""Three agents and a server, driven only by the operator's contract: they publish, die, return, and agree."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.harness.machines import Machine, School, school, space_row
from tests.harness.patience import eventually


@pytest.fixture
def here(tmp_path: Path) -> Iterator[School]:
    with school(tmp_path) as found:
        yield found


def make_lesson(folder: Path, text: str) -> dict[str, bytes]:
    files = {
        "index.html": f"<h1>{text}</h1>".encode() * 200,
        "images/carte.png": bytes(range(256)) * 3000,
        "élève/été.txt": text.encode(),
        "vide.txt": b"",
    }
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return files


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def all_complete(agent: Machine, *items: str) -> bool:
    return {found["item"] for found in agent.ok("items") if found["complete"]} >= set(items)


def shows(agent: Machine, revision: str) -> bool:
    return any(found["revision"] == revision and found["complete"] for found in agent.ok("items"))


def test_a_class_works_through_an_outage_and_ends_with_equal_sets_and_identical_bytes(
    here: School, tmp_path: Path
) -> None:
    teacher, renard, hibou = here.enrol("laptop", "teacher"), here.enrol("renard"), here.enrol("hibou")
    for agent in (teacher, renard, hibou):
        agent.start()
    lesson = make_lesson(tmp_path / "lesson", "Le cycle de l'eau")
    work = make_lesson(tmp_path / "work", "Ma réponse")
    item = teacher.ok("publish", str(tmp_path / "lesson"), "--space", here.space, "--title", "Eau")["item"]
    task = teacher.ok(
        "publish", str(tmp_path / "lesson"), "--space", here.space, "--title", "Devoir", "--kind", "assignment"
    )["item"]
    for agent in (renard, hibou):
        eventually("the lesson arrives", partial(all_complete, agent, item, task))

    here.server.kill()
    (tmp_path / "lesson" / "index.html").write_bytes(b"<h1>corrig\xc3\xa9</h1>")
    lesson["index.html"] = b"<h1>corrig\xc3\xa9</h1>"
    edit = teacher.ok("publish", str(tmp_path / "lesson"), "--space", here.space, "--title", "Eau", "--item", item)
    handed = renard.ok("hand-in", task, str(tmp_path / "work"), "--person", here.pupil)
    assert handed["state"] == "local"
    teacher.kill()
    renard.kill()
    assert renard.ok("hand-ins")[0]["state"] == "local", "kept through kill -9"
    hibou.kill()

    here.restart_server()
    for agent in (teacher, renard, hibou):
        agent.start()
    eventually("the receipt comes back", lambda: renard.ok("hand-ins")[0]["state"] == "server")
    eventually("the sealed work is at the teacher's", lambda: [f for h in teacher.ok("hand-ins") for f in h["files"]])
    opened = tmp_path / "opened"
    teacher.ok("open-hand-in", handed["id"], str(opened))
    assert tree(opened) == work
    note = tmp_path / "annotation.txt"
    note.write_text("Bravo")
    teacher.ok("feedback", handed["id"], "--text", "Très bien", str(note), "--mark", "A")
    eventually("feedback comes down", lambda: renard.ok("hand-ins")[0]["state"] == "marked")
    assert renard.ok("hand-ins")[0]["feedback"]["text"] == "Très bien"
    eventually("its file too", lambda: renard.run("cat", handed["id"], "annotation.txt", raw=True).out == b"Bravo")

    for agent in (teacher, renard, hibou):
        eventually("the edit arrives", partial(shows, agent, edit["revision"]))
        agent.ok("checkout", item, str(tmp_path / "out" / agent.name))
        assert tree(tmp_path / "out" / agent.name) == lesson

    def agree() -> bool:
        prints = {space_row(agent, here.space)["fingerprint"] for agent in (teacher, renard, hibou)}
        return prints == {here.server_row()["fingerprint"]}

    eventually("equal fingerprints", agree)
    assert all(agent.stop() == 0 for agent in (teacher, renard, hibou))
    assert here.server.stop() == 0
    for machine in (here.server, teacher, renard, hibou):
        assert machine.ok("verify") == {"ok": True, "problems": []}


def test_two_edits_made_apart_are_both_kept_shown_alike_and_settled(here: School, tmp_path: Path) -> None:
    one, two = here.enrol("portable", "teacher"), here.enrol("bureau", "teacher")
    pupil = here.enrol("renard")
    note = tmp_path / "note.txt"
    note.write_text("v1")
    item = one.ok("publish", str(note), "--space", here.space, "--title", "Note")["item"]
    one.ok("sync")
    two.ok("sync")
    for agent, text in ((one, "chez moi"), (two, "à l'école")):
        note.write_text(text)
        agent.ok("publish", str(note), "--space", here.space, "--title", "Note", "--item", item)
    for agent in (one, two, one, pupil):
        agent.ok("sync")
    shown = {agent.name: agent.ok("items")[0] for agent in (one, two, pupil)}
    assert all(found["conflict"] and len(found["heads"]) == 2 for found in shown.values())
    assert len({found["revision"] for found in shown.values()}) == 1
    texts = {one.ok("cat", item, "note.txt", raw=True), two.ok("cat", item, "note.txt", raw=True)}
    assert len(texts) == 1
    other = next(head for head in shown["bureau"]["heads"] if head != shown["bureau"]["revision"])
    two.ok("settle", item, "--keep", other)
    for agent in (two, one, pupil):
        agent.ok("sync")
        found = agent.ok("items")[0]
        assert (found["conflict"], len(found["heads"])) == (False, 1)
        assert agent.ok("cat", item, "note.txt", raw=True) not in texts


def test_a_burnt_server_is_refilled_by_its_agents_from_the_kit_alone(here: School, tmp_path: Path) -> None:
    teacher, renard = here.enrol("laptop", "teacher"), here.enrol("renard")
    lesson = make_lesson(tmp_path / "lesson", "Volcans")
    item = teacher.ok("publish", str(tmp_path / "lesson"), "--space", here.space, "--title", "Volcans")["item"]
    teacher.ok("sync")
    renard.ok("sync")
    before = here.server_row()
    here.server.kill()
    reborn = Machine("server", here.folder / "reborn", "sync-server")
    reborn.ok("init", "--name", "Cher", "--recover", str(here.folder / "kit"), "--kit", str(here.folder / "kit2"))
    here.server = reborn
    here.restart_server()
    renard.ok("sync")
    teacher.ok("sync")
    assert (
        here.server_row()["fingerprint"] == before["fingerprint"] or here.server_row()["entries"] >= before["entries"]
    )
    fresh = here.enrol("hibou")
    fresh.ok("checkout", item, str(tmp_path / "out"))
    assert tree(tmp_path / "out") == lesson
    reborn.kill()
