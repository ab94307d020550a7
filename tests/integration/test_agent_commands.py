"""The agent's command line as people and scripts use it: real processes, exit codes, JSON, files of the caller."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import BinaryIO

import pytest

from protocol.limits import MAX_CHUNK_BYTES
from protocol.roles import Role
from protocol.trust.invitation import FINGERPRINT_BYTES, SECRET_BYTES, Invitation
from sync_agent.cli import PROGRAM
from sync_agent.console import intake
from tests.harness.enrolled import Class, enrolled_class, meet
from tests.harness.machines import COMMAND_PATIENCE_S, Done, Machine, environment

LESSON = {
    "index.html": b"<h1>Le cycle de l'eau</h1>" * 200,
    "images/carte du Cher.png": Random(7).randbytes(3 * MAX_CHUNK_BYTES),
    "sons/ruisseau.wav": Random(8).randbytes(5_000_000),
    "vide.txt": b"",
    "élève/été/«notes».txt": "été".encode(),
}


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Class]:
    made = asyncio.run(enrolled_class(tmp_path / "class", {"laptop": Role.TEACHER, "renard": Role.MACHINE}))
    yield made
    for machine in made.devices.values():
        if machine.daemon is not None:
            machine.kill()


def lay(folder: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def publish(machine: Machine, room: Class, *paths: Path, kind: str = "lesson") -> str:
    named = [str(path) for path in paths]
    return str(machine.ok("publish", *named, "--space", room.space, "--title", "Eau", "--kind", kind)["item"])


# --- files of the caller ----------------------------------------------------------------------------------------------


def test_a_folder_and_files_are_published_and_come_out_byte_for_byte(room: Class, tmp_path: Path) -> None:
    laptop = room["laptop"]
    lay(tmp_path / "cours", LESSON)
    lay(tmp_path, {"à part.txt": b"seul"})
    item = publish(laptop, room, tmp_path / "cours", tmp_path / "à part.txt")
    whole = {**LESSON, "à part.txt": b"seul"}
    (row,) = laptop.ok("items")
    assert {file["path"]: file["size"] for file in row["files"]} == {path: len(data) for path, data in whole.items()}
    for path, data in whole.items():
        assert laptop.ok("cat", item, path, raw=True) == data
    assert laptop.ok("checkout", item, str(tmp_path / "sortie" / "là")) == {}
    again = laptop.run("checkout", item, str(tmp_path / "sortie" / "là"), raw=True)
    assert str(tmp_path / "sortie" / "là") in again.out.decode(), "for people: where that is"
    assert tree(tmp_path / "sortie" / "là") == whole


def test_paths_are_those_of_the_callers_folder_and_dir_may_be_moved(room: Class, tmp_path: Path) -> None:
    laptop = room["laptop"]
    lay(tmp_path / "cours", LESSON)
    published = laptop.ok("publish", ".", "--space", room.space, "--title", "Eau", cwd=tmp_path / "cours")
    moved = Machine("moved", laptop.folder.rename(tmp_path / "ailleurs"), "sync-agent")
    moved.ok("checkout", published["item"], "sortie", cwd=tmp_path)
    assert tree(tmp_path / "sortie") == LESSON


def test_what_a_person_changed_in_a_folder_is_kept_there_and_told_when_the_lesson_comes_into_it_again(
    room: Class, tmp_path: Path
) -> None:
    laptop, there = room["laptop"], tmp_path / "sortie"
    lesson = {"carte.txt": b"la carte", "fiches/exercice.txt": b"un", "mot.txt": b"bonjour"}
    item = publish(laptop, room, lay(tmp_path / "cours", lesson))
    assert laptop.ok("checkout", item, str(there)) == {}
    lay(there, {"fiches/exercice.txt": "un, et ma réponse".encode()})
    lay(tmp_path / "cours", {"carte.txt": b"la nouvelle carte", "fiches/exercice.txt": b"deux"})
    laptop.ok("publish", str(tmp_path / "cours"), "--item", item)

    done = laptop.run("checkout", item, str(there))
    assert (done.status, done.json) == (0, {}), done.err
    (kept,) = tree(there).keys() - lesson.keys()
    assert kept.startswith("fiches/exercice (modifié le ")
    assert f"fiches/exercice.txt was not as it is published; what was there is kept as “{kept}”" in done.err
    assert tree(there) == {
        "carte.txt": b"la nouvelle carte",
        "fiches/exercice.txt": b"deux",
        kept: "un, et ma réponse".encode(),
        "mot.txt": b"bonjour",
    }
    assert laptop.ok("checkout", item, str(there)) == {}, "what is published makes way unseen"


def test_what_one_device_published_another_reads_after_they_met(room: Class, tmp_path: Path) -> None:
    laptop, renard = room["laptop"], room["renard"]
    item = publish(laptop, room, lay(tmp_path / "cours", LESSON))
    asyncio.run(meet(laptop, renard))
    assert laptop.ok("items") == renard.ok("items")
    renard.ok("checkout", item, str(tmp_path / "sortie"))
    assert tree(tmp_path / "sortie") == LESSON
    assert renard.ok("people", "--space", room.space) == laptop.ok("people", "--space", room.space)


def test_work_goes_to_the_teacher_and_feedback_comes_back(room: Class, tmp_path: Path) -> None:
    laptop, renard = room["laptop"], room["renard"]
    task = publish(laptop, room, lay(tmp_path / "consigne", {"consigne.txt": b"Racontez."}), kind="assignment")
    asyncio.run(meet(laptop, renard))
    handed = renard.ok("hand-in", task, str(lay(tmp_path / "travail", LESSON)), "--person", room.pupil_person)
    assert handed["state"] == "local"
    asyncio.run(meet(laptop, renard))
    assert laptop.ok("open-hand-in", handed["id"], str(tmp_path / "ouvert")) == {}
    assert tree(tmp_path / "ouvert") == LESSON
    lay(tmp_path, {"corrigé.txt": b"Bien"})
    corrected = str(tmp_path / "corrigé.txt")
    check(laptop.run("feedback", handed["id"], "--text", " "), 2, "nothing-to-send")  # it would mark the work
    assert laptop.ok("feedback", handed["id"], corrected, "--text", "À reprendre", "--mark", "B", "--redo") == {}
    asyncio.run(meet(laptop, renard))
    (row,) = renard.ok("hand-ins", "--item", task)
    assert (row["state"], row["feedback"]["mark"]) == ("redo", "B")
    assert renard.ok("cat", handed["id"], "corrigé.txt", raw=True) == b"Bien"
    check(laptop.run("feedback", handed["id"], "--text", ""), 2, "nothing-to-send")
    taken_back = laptop.run("feedback", handed["id"], "--text", "", "--take-back")  # it was meant for somebody else
    assert (taken_back.status, taken_back.json) == (0, {})
    assert (
        "this takes the place of what Mme Petit had said: “À reprendre” (mark B, another try, 1 file)" in taken_back.err
    )
    asyncio.run(meet(laptop, renard))
    (row,) = renard.ok("hand-ins", "--item", task)
    assert row["feedback"]["mark"] is None


def test_who_hands_in_an_empty_file_is_told_that_nothing_is_in_it(room: Class, tmp_path: Path) -> None:
    laptop = room["laptop"]
    task = publish(laptop, room, lay(tmp_path / "consigne", {"consigne.txt": b"Racontez."}), kind="assignment")
    lay(tmp_path, {"vide.odt": b"", "plein.odt": b"a"})
    words = ["hand-in", task, "plein.odt", "--person", room.pupil_person]
    assert "empty" not in laptop.run(*words, cwd=tmp_path).err
    told = laptop.run(*words, "vide.odt", cwd=tmp_path)
    assert told.status == 0
    assert "empty (0 bytes): vide.odt;" in told.err


def test_a_proof_to_print_takes_the_place_of_no_other_file(room: Class, tmp_path: Path) -> None:
    laptop = room["laptop"]
    task = publish(laptop, room, lay(tmp_path / "consigne", {"consigne.txt": b"Racontez."}), kind="assignment")
    work = laptop.ok("hand-in", task, str(lay(tmp_path / "travail", LESSON)), "--person", room.pupil_person)["id"]
    page = tmp_path / "preuve.html"
    proof = laptop.ok("receipt", work, "--print", str(page))
    assert proof["code"] in page.read_text(encoding="utf-8")
    page.write_bytes(b"mon travail")
    again = laptop.run("receipt", work, "--print", str(page))
    check(again, 2, "usage")
    assert "exists already" in again.err
    assert page.read_bytes() == b"mon travail"


def test_two_laptops_that_changed_one_item_keep_both_versions_until_one_is_settled(tmp_path: Path) -> None:
    room = asyncio.run(enrolled_class(tmp_path / "class", {"one": Role.TEACHER, "two": Role.TEACHER}))
    one, two = room["one"], room["two"]
    item = publish(one, room, lay(tmp_path / "cours", {"a.txt": b"0"}))
    asyncio.run(meet(one, two))
    for machine in (one, two):
        lay(tmp_path / "cours", {"a.txt": machine.name.encode()})
        machine.ok("publish", str(tmp_path / "cours"), "--item", item)
    asyncio.run(meet(one, two))
    (row,) = one.ok("items")
    assert two.ok("items") == [row]
    assert (row["conflict"], len(row["heads"])) == (True, 2)
    assert one.ok("checkout", item, str(tmp_path / "autre"), "--revision", row["heads"][1]) == {}
    assert len(tree(tmp_path / "autre")) == 1
    assert two.ok("settle", item, "--keep", row["heads"][1]) == {}
    asyncio.run(meet(one, two))
    for machine in (one, two):
        assert machine.ok("items")[0]["conflict"] is False
        assert machine.ok("cat", item, "a.txt", raw=True) == (tmp_path / "autre" / "a.txt").read_bytes()


# --- with a running agent ---------------------------------------------------------------------------------------------


def test_commands_say_the_same_with_a_running_agent_and_without(room: Class, tmp_path: Path) -> None:
    laptop = room["laptop"]
    item = publish(laptop, room, lay(tmp_path / "cours", LESSON))
    asked = (["items"], ["people", "--space", room.space], ["hand-ins"], ["verify"])
    before = [laptop.ok(*words) for words in asked]
    status = laptop.ok("status")
    laptop.start()
    assert [laptop.ok(*words) for words in asked] == before
    assert {**laptop.ok("status"), "server": None, "disk": None} == {**status, "server": None, "disk": None}
    assert laptop.ok("cat", item, "élève/été/«notes».txt", raw=True) == "été".encode()
    assert laptop.ok("checkout", item, "sortie", cwd=tmp_path) == {}
    assert tree(tmp_path / "sortie") == LESSON

    lay(tmp_path / "cours", {"index.html": b"nouveau"})
    revised = laptop.ok("publish", "cours", "--item", item, "--title", "L'eau", cwd=tmp_path)
    laptop.ok("withdraw", item)
    laptop.stop()
    (row,) = laptop.ok("items")
    assert (row["revision"], row["title"], row["withdrawn"]) == (revised["revision"], "L'eau", True)
    assert laptop.ok("cat", item, "index.html", raw=True) == b"nouveau"


def test_refusals_are_the_same_through_a_running_agent(room: Class, tmp_path: Path) -> None:
    renard = room["renard"]
    lay(tmp_path, {"a.txt": b"1"})
    words = ["publish", str(tmp_path / "a.txt"), "--space", room.space, "--title", "Eau"]
    before = renard.run(*words)
    renard.start()
    after = renard.run(*words)
    assert (before.status, before.out) == (after.status, after.out)
    assert (after.status, after.code) == (5, "no-right")
    assert renard.run("cat", "ab" * 32, "x").status == 2


# --- ends that nobody wished ------------------------------------------------------------------------------------------


def test_a_publication_that_is_killed_leaves_nothing_to_see_and_can_be_repeated(room: Class, tmp_path: Path) -> None:
    laptop = room["laptop"]
    big = lay(tmp_path / "gros", {"film.bin": Random(1).randbytes(120_000_000)})
    words = laptop.command("publish", str(big), "--space", room.space, "--title", "Film")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    while process.poll() is None and not any(laptop.folder.glob("parts/*.passing")):
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -9
    assert laptop.ok("items") == []
    assert laptop.ok("status")["backlog"]["bytes"] < 10_000
    assert not any(laptop.folder.glob("parts/*"))
    item = publish(laptop, room, big)
    assert laptop.ok("verify") == {"ok": True, "problems": []}
    laptop.ok("checkout", item, str(tmp_path / "sortie"))
    assert tree(tmp_path / "sortie") == tree(big)


def test_a_file_that_is_saved_once_more_while_it_is_handed_in_is_handed_in_as_it_became(
    room: Class, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    laptop, renard = room["laptop"], room["renard"]
    task = publish(laptop, room, lay(tmp_path / "consigne", {"a.txt": b"1"}), kind="assignment")
    asyncio.run(meet(laptop, renard))
    work = tmp_path / "récit.odt"
    work.write_bytes(b"Il etait")
    read = intake._piece
    saved: list[int] = []

    def while_it_is_saved(file: BinaryIO, place: str) -> bytes:
        if not saved:
            saved.append(work.write_bytes(b"Il etait une fois"))
        return read(file, place)

    monkeypatch.setattr(intake, "_piece", while_it_is_saved)
    words = ["hand-in", task, str(work), "--person", room.pupil_person, "--data", str(renard.folder), "--json"]
    assert PROGRAM.main(words) == 0
    handed = json.loads(capfdbinary.readouterr().out)["id"]
    asyncio.run(meet(laptop, renard))
    laptop.ok("open-hand-in", handed, str(tmp_path / "ouvert"))
    assert tree(tmp_path / "ouvert") == {"récit.odt": b"Il etait une fois"}


def test_a_file_that_never_stops_changing_is_named_and_nothing_is_handed_in(
    room: Class, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    laptop, renard = room["laptop"], room["renard"]
    task = publish(laptop, room, lay(tmp_path / "consigne", {"a.txt": b"1"}), kind="assignment")
    asyncio.run(meet(laptop, renard))
    work = tmp_path / "récit.odt"
    work.write_bytes(b"x")
    read = intake._piece

    def while_it_is_saved(file: BinaryIO, place: str) -> bytes:
        work.write_bytes(work.read_bytes() + b"x")
        return read(file, place)

    monkeypatch.setattr(intake, "_piece", while_it_is_saved)
    words = ["hand-in", task, str(work), "--person", room.pupil_person, "--data", str(renard.folder), "--json"]
    assert PROGRAM.main(words) == 1
    assert json.loads(capfdbinary.readouterr().out)["error"]["code"] == "changing-file"
    assert renard.ok("hand-ins") == []


# --- bad input --------------------------------------------------------------------------------------------------------


def check(done: Done, status: int, code: str) -> None:
    """A refusal: exit status, one JSON document with a stable code, a sentence on stderr."""
    assert (done.status, done.code) == (status, code), (done.out, done.err)
    assert done.json["error"]["message"] in done.err


def test_a_folder_that_is_not_enrolled_is_said_to_be_so_and_left_as_it_is(tmp_path: Path) -> None:
    for folder in (tmp_path / "empty", tmp_path / "missing"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        machine = Machine("pc", folder, "sync-agent")
        for words in (["items"], ["sync"], ["run"], ["doctor"], ["publish", "x", "--space", "a", "--title", "b"]):
            check(machine.run(*words, cwd=tmp_path), 2, "missing-file" if "x" in words else "not-enrolled")
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]
    assert not list((tmp_path / "empty").iterdir())


def test_a_device_is_not_enrolled_in_the_folder_of_a_server_which_stays_as_it_is(tmp_path: Path) -> None:
    server = Machine("server", tmp_path / "data", "sync-server")
    server.ok("init", "--name", "Cher", "--kit", str(tmp_path / "kit"))
    before = tree(server.folder)
    machine = Machine("pc", server.folder, "sync-agent")
    code = Invitation(bytes(FINGERPRINT_BYTES), bytes(SECRET_BYTES)).code()
    for words in (["enroll", "--server", "http://127.0.0.1:9", "--code", code], ["items"], ["run"]):
        done = machine.run(*words)
        check(done, 2, "usage")
        assert "a server's data folder" in done.err
    assert tree(server.folder) == before


def test_an_enrolment_that_is_mistyped_makes_no_folder(tmp_path: Path) -> None:
    machine = Machine("pc", tmp_path / "data", "sync-agent")
    code = Invitation(bytes(FINGERPRINT_BYTES), bytes(SECRET_BYTES)).code()
    for name, server, given, status, why in (
        ("", "http://127.0.0.1:9", code, 2, "bad-name"),
        ("PC", "ftp://127.0.0.1", code, 2, "usage"),
        ("PC", "http://127.0.0.1:9", "bonjour", 5, "code-wrong"),
    ):
        check(machine.run("enroll", "--name", name, "--server", server, "--code", given), status, why)
        assert not machine.folder.exists()


def test_what_cannot_be_is_refused_with_its_code_and_changes_nothing(room: Class, tmp_path: Path) -> None:
    laptop = room["laptop"]
    lay(tmp_path, {"a.txt": b"1", "con.txt": b"2", "dossier/rien.txt": b""})
    (tmp_path / "vide").mkdir()
    (tmp_path / "paquet").mkdir()
    (tmp_path / "paquet" / "image.png").symlink_to("../a.txt")
    task = publish(laptop, room, tmp_path / "a.txt", kind="assignment")
    lesson = publish(laptop, room, tmp_path / "a.txt")
    nobody, nothing = "ab" * 16, "ab" * 32
    there = ["--space", room.space, "--title", "Eau"]
    before = laptop.ok("status")["spaces"]
    for words, status, code in (
        (["publish", "a.txt", "--space", room.space, "--title", ""], 2, "bad-name"),
        (["publish", "a.txt", "--space", room.space, "--title", "x" * 201], 2, "bad-name"),
        (["publish", "a.txt", "--space", room.space], 2, "usage"),
        (["publish", "a.txt", "--title", "Eau"], 2, "usage"),
        (["publish", "a.txt", *there, "--kind", "poem"], 2, "usage"),
        (["publish", "a.txt", *there, "--due", "demain"], 2, "bad-date"),
        (["publish", "a.txt", *there, "--due", ""], 2, "bad-date"),
        (["publish", "a.txt", "--space", nothing, "--title", "Eau"], 2, "unknown-space"),
        (["publish", "a.txt", "--space", room.other_space, "--title", "Eau"], 2, "unknown-space"),
        (["publish", "a.txt", "--item", nothing], 2, "unknown-item"),
        (["publish", "con.txt", *there], 2, "bad-name"),
        (["publish", "absent.txt", *there], 2, "missing-file"),
        (["publish", "/dev/null", *there], 2, "unreadable-file"),
        (["publish", "paquet", *there], 2, "unreadable-file"),
        (["publish", "vide", *there], 2, "nothing-to-send"),
        (["publish", *there], 2, "nothing-to-send"),
        (["withdraw", nothing], 2, "unknown-item"),
        (["settle", lesson, "--keep", nothing], 2, "unknown-revision"),
        (["cat", lesson, "b.txt"], 2, "unknown-path"),
        (["cat", nothing, "a.txt"], 2, "unknown-item"),
        (["checkout", lesson, "sortie", "--revision", nothing], 2, "unknown-revision"),
        (["checkout", nothing, "sortie"], 2, "unknown-item"),
        (["checkout", lesson, "a.txt"], 2, "bad-name"),
        (["checkout", lesson, ""], 2, "usage"),
        (["checkout", lesson, str(laptop.folder)], 2, "usage"),
        (["checkout", lesson, str(laptop.folder / "keys" / "new")], 2, "usage"),
        (["checkout", lesson, str(laptop.folder / "Packs")], 2, "usage"),
        (["open-hand-in", nothing, str(laptop.folder)], 2, "usage"),
        (["people", "--space", room.other_space], 2, "unknown-space"),
        (["hand-in", lesson, "a.txt", "--person", room.pupil_person], 2, "not-an-assignment"),
        (["hand-in", task, "a.txt", "--person", nobody], 2, "unknown-person"),
        (["hand-in", task, "--person", room.pupil_person], 2, "nothing-to-send"),
        (["hand-in", task, "paquet", "--person", room.pupil_person], 2, "unreadable-file"),
        (["open-hand-in", nothing, "sortie"], 2, "unknown-hand-in"),
        (["open-hand-in", nothing, ""], 2, "usage"),
        (["feedback", nothing, "--text", "Bien"], 2, "unknown-hand-in"),
        (["feedback", nothing, "paquet", "--text", "Bien"], 2, "unreadable-file"),
        (["courier", "import", "sortie"], 2, "missing-file"),
        (["courier", "import", ""], 2, "usage"),
        (["courier", "export", ""], 2, "usage"),
        (["sync", "--peer", "127.0.0.1:9"], 3, "unreachable"),
        (["sync"], 3, "unreachable"),
        (["nonsense"], 2, "usage"),
    ):
        check(laptop.run(*words, cwd=tmp_path), status, code)
    assert laptop.ok("status")["spaces"] == before
    assert not (tmp_path / "sortie").exists()


def test_a_command_in_a_folder_that_is_gone_goes_on_with_what_lies_elsewhere(room: Class, tmp_path: Path) -> None:
    gone, laptop = tmp_path / "gone", room["laptop"]
    publish(laptop, room, lay(tmp_path / "leçon", LESSON))
    for words, status in ((("items",), 0), (("checkout", "0" * 64, "x"), 2), (("publish", "x", "--title", "Eau"), 2)):
        gone.mkdir()
        called = ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *laptop.command(*words)]
        done = subprocess.run(
            called, cwd=gone, env=environment(), capture_output=True, check=False, timeout=COMMAND_PATIENCE_S
        )
        assert done.returncode == status, done.stderr
        assert b"unforeseen" not in done.stderr


def test_a_pupils_machine_has_the_rights_of_a_machine(room: Class, tmp_path: Path) -> None:
    laptop, renard = room["laptop"], room["renard"]
    lay(tmp_path, {"a.txt": b"1"})
    task = publish(laptop, room, tmp_path / "a.txt", kind="assignment")
    asyncio.run(meet(laptop, renard))
    work = renard.ok("hand-in", task, str(tmp_path / "a.txt"), "--person", room.pupil_person)["id"]
    for words, code in (
        (["publish", "a.txt", "--space", room.space, "--title", "Eau"], "no-right"),
        (["publish", "a.txt", "--item", task], "no-right"),
        (["withdraw", task], "no-right"),
        (["settle", task, "--keep", task], "no-right"),
        (["feedback", work, "--text", "Bien"], "no-right"),
        (["open-hand-in", work, "sortie"], "cannot-read"),
    ):
        check(renard.run(*words, cwd=tmp_path), 5, code)
    assert not (tmp_path / "sortie").exists()


def test_a_store_that_cannot_be_opened_ends_the_command_with_a_sentence(room: Class) -> None:
    renard = room["renard"]
    (renard.folder / "packs").rename(renard.folder / "elsewhere")
    (renard.folder / "packs").write_bytes(b"in the way")
    check(renard.run("items"), 1, "storage-failed")
    (renard.folder / "keys" / "device").unlink()
    check(renard.run("items"), 1, "damaged")
