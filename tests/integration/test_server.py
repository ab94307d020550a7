"""The server as an operator meets it: its command line and its process, through kills, conflicts and wrong words."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from protocol.errors import Code
from protocol.limits import SALT_BYTES
from protocol.messages.calls import SyncRequest
from protocol.messages.parts import Offer
from protocol.messages.wire import PACKS_PATH, SYNC_PATH, Call
from protocol.replica.content.deltas.levels import LEVELS_MARK, levels_in
from protocol.replica.storage.sqlite import DATABASE
from protocol.transfer.deflate_parameters import ALL_LEVELS
from protocol.trust.kit import parse_kit, write_kit
from sync_server.cli import PROGRAM
from sync_server.handlers.by_kit.territory import leave_nothing, new_kit, note_unfinished
from tests.harness.machines import Done, Machine, environment, program
from tests.harness.patience import PATIENCE_S, eventually
from tests.harness.ports import free_port
from tests.harness.raw_device import RawDevice, http_call

UAI = "0180001D"
EVERYWHERE = "0.0.0.0"  # noqa: S104  (this is what is tried)


def server_in(folder: Path) -> Machine:
    return Machine("server", folder, "sync-server")


def url_in(line: str) -> str:
    return line.rpartition(" ")[2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Machine]:
    """An initialised server, not running; its kit lies elsewhere."""
    made = server_in(tmp_path / "server")
    made.ok("init", "--name", "Cher", "--kit", str(tmp_path / "kit"))
    yield made
    if made.daemon is not None:
        made.kill()


def refused(done: Done, status: int, code: Code) -> None:
    assert (done.status, done.code) == (status, code), (done.out, done.err)
    assert set(done.json) == {"error"}
    assert done.json["error"]["message"] in done.err


# --- init -------------------------------------------------------------------------------------------------------------


def test_an_init_whose_kit_lies_where_nothing_may_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kit, unlink = tmp_path / "server", tmp_path / "kit", Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == kit:
            raise OSError(errno.EROFS, "Read-only file system")  # also of what is not there
        unlink(path, missing_ok)

    folder.mkdir()
    note_unfinished(folder, b"a kit")
    monkeypatch.setattr(Path, "unlink", refuse)
    leave_nothing(folder, kit)
    assert not list(folder.iterdir())


def test_a_territory_begins_with_a_kit_and_keys_that_only_their_owner_reads(tmp_path: Path) -> None:
    server = server_in(tmp_path / "new" / "server")
    made = server.ok("init", "--name", "Cher")
    assert set(made) == {"territory", "fingerprint", "kit"}
    assert made["kit"] == str(server.folder / "recovery-kit")
    kit = Path(made["kit"]).read_text(encoding="utf-8")
    assert "Cher" in kit
    assert made["fingerprint"] in kit, "what people compare stands on the kit"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in server.folder.rglob("*")}
    assert (modes["keys"], modes["server"], modes["recovery-kit"]) == (0o700, 0o600, 0o600)
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    status = server.ok("status")
    assert (status["territory"], status["entries"], status["spaces"]) == (made["territory"], 3, [])


def test_who_begins_again_with_a_kit_need_not_say_the_name_that_stands_on_it(server: Machine, tmp_path: Path) -> None:
    again, another = server_in(tmp_path / "again"), server_in(tmp_path / "another")
    made = again.ok("init", "--recover", str(tmp_path / "kit"))
    assert made["territory"] == server.ok("status")["territory"]
    refused(another.run("init"), 2, Code.USAGE)
    assert not another.folder.exists()


def test_whose_kit_it_is_that_a_territory_is_begun_again_with_is_told(server: Machine, tmp_path: Path) -> None:
    other, again = server_in(tmp_path / "other"), server_in(tmp_path / "again")
    wrong = other.run("init", "--name", "Écoles de la Nièvre", "--recover", str(tmp_path / "kit"))
    assert wrong.status == 0
    assert "the territory “Cher”" in wrong.err
    assert "it is called “Écoles de la Nièvre” from now on" in wrong.err
    made = again.run("init", "--name", " cher", "--recover", str(tmp_path / "kit"))
    assert made.json["territory"] == server.ok("status")["territory"]
    assert "begun again: the territory “Cher”" in made.err
    assert "from now on" not in made.err


def test_a_folder_that_is_initialised_or_holds_something_else_is_left_alone(server: Machine, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in server.folder.rglob("*") if path.is_file()}
    refused(server.run("init", "--name", "Nièvre"), 2, Code.ALREADY_INITIALISED)
    refused(server.run("init", "--name", "Cher", "--recover", str(tmp_path / "kit")), 2, Code.ALREADY_INITIALISED)
    assert {path: path.read_bytes() for path in server.folder.rglob("*") if path.is_file()} == before
    other = server_in(tmp_path / "other")
    other.folder.mkdir()
    (other.folder / "replica.db").write_bytes(b"somebody's")
    refused(other.run("init", "--name", "Cher"), 2, Code.ALREADY_INITIALISED)
    assert (other.folder / "replica.db").read_bytes() == b"somebody's"


def test_a_kit_is_never_written_over_another_file(server: Machine, tmp_path: Path) -> None:
    kit = (tmp_path / "kit").read_bytes()
    other = server_in(tmp_path / "other")
    refused(other.run("init", "--name", "Nièvre", "--kit", str(tmp_path / "kit")), 2, Code.USAGE)
    assert (tmp_path / "kit").read_bytes() == kit
    refused(other.run("init", "--name", "Nièvre", "--kit", str(tmp_path / "missing" / "kit")), 2, Code.USAGE)
    assert other.ok("init", "--name", "Nièvre", "--kit", str(tmp_path / "kit2"))


def test_an_init_whose_kit_has_no_place_makes_no_folder(server: Machine, tmp_path: Path) -> None:
    other = server_in(tmp_path / "data" / "other")
    missing, taken = tmp_path / "missing" / "kit", tmp_path / "kit"
    for place, why in ((missing, "missing does not exist"), (taken, "exists already"), (tmp_path, "is a folder")):
        done = other.run("init", "--name", "Nièvre", "--kit", str(place))
        refused(done, 2, Code.USAGE)
        assert why in done.err
        assert not other.folder.parent.exists()
    assert other.ok("init", "--name", "Nièvre", "--kit", str(other.folder / "a-kit"))


def test_a_kit_without_a_passphrase_is_said_to_be_one(server: Machine, tmp_path: Path) -> None:
    secret, kit, newer = tmp_path / "secret", tmp_path / "kit-2", tmp_path / "kit-3"
    secret.write_text("une phrase que personne ne devine\n")
    begun = ("rotate", "root", "--kit", str(tmp_path / "kit"), "--new-kit", str(kit))
    assert "no passphrase" not in server.run(*begun, "--new-passphrase-file", str(secret)).err
    again = ("rotate", "root", "--kit", str(kit), "--passphrase-file", str(secret), "--new-kit", str(newer))
    refused(server.run(*again), 2, Code.USAGE)
    assert not newer.exists(), "a kit behind a passphrase is followed by none that lies open, unless that is said"
    refused(server.run(*again[:-1], str(kit)), 2, Code.USAGE)
    told = server.run(
        "rotate", "root", "--kit", str(kit), "--new-kit", str(newer), "--new-passphrase-file", str(secret)
    )
    assert (told.status, "--passphrase-file" in told.err) == (2, True)
    done = server.run(*again, "--new-kit-open")
    assert done.status == 0
    assert f"{newer} can rebuild this territory, and erase it. It has no passphrase" in done.err


def test_a_kit_whose_passphrase_is_soon_found_by_trying_is_said_to_be_one(tmp_path: Path) -> None:
    weak, good, kit, newer = tmp_path / "weak", tmp_path / "good", tmp_path / "kit", tmp_path / "newer"
    weak.write_text("toto\n")
    good.write_text("une phrase que personne ne devine\n")
    made = server_in(tmp_path / "server")
    begun = made.run("init", "--name", "Cher", "--kit", str(kit), "--passphrase-file", str(weak))
    assert begun.status == 0
    assert "fewer than 12 characters" in begun.err
    assert "begin again with it while nobody has enrolled" in begun.err
    rotate = ("rotate", "root", "--kit", str(kit), "--passphrase-file", str(weak), "--new-kit", str(newer))
    mended = made.run(*rotate, "--new-passphrase-file", str(good))
    assert (mended.status, "fewer than" in mended.err) == (0, False)
    rotate = (
        "rotate",
        "root",
        "--kit",
        str(newer),
        "--passphrase-file",
        str(good),
        "--new-kit",
        str(tmp_path / "weak-one"),
    )
    again = made.run(*rotate, "--new-passphrase-file", str(weak))
    assert (again.status, "fewer than 12 characters" in again.err, "begin again" in again.err) == (0, True, False)


def test_an_init_that_was_killed_can_be_repeated(tmp_path: Path) -> None:
    for number, pause_s in enumerate((0.05, 0.15, 0.2, 0.25, 0.3, 0.35)):
        server = server_in(tmp_path / str(number))
        process = subprocess.Popen(
            server.command("init", "--name", "Cher"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        try:
            process.wait(pause_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        done = server.run("init", "--name", "Cher")
        assert done.status == 0 or done.code == Code.ALREADY_INITIALISED
        assert server.ok("status")["entries"] == 3


def test_the_folder_of_an_agent_is_called_no_servers_and_is_offered_no_init(tmp_path: Path) -> None:
    other = server_in(tmp_path / "agent")
    (other.folder / "keys").mkdir(parents=True)
    (other.folder / "keys" / "device").write_bytes(b"k")
    asked = other.run("status")
    refused(asked, 2, Code.NOT_INITIALISED)
    assert "init" not in asked.json["error"]["message"]
    refused(other.run("init", "--name", "Cher"), 2, Code.ALREADY_INITIALISED)


def test_the_kit_brings_the_territory_back_on_an_empty_machine(server: Machine, tmp_path: Path) -> None:
    before = server.ok("status")
    reborn = server_in(tmp_path / "reborn")
    made = reborn.ok("init", "--name", "Cher", "--recover", str(tmp_path / "kit"))
    assert (made["territory"], made["kit"]) == (before["territory"], str(tmp_path / "kit"))
    after = reborn.ok("status")
    assert after["territory"] == before["territory"]
    assert after["generation"] != before["generation"]
    assert after["entries"] == 3
    assert not (reborn.folder / "recovery-kit").exists()


def test_a_kit_under_a_passphrase_opens_with_it_and_with_no_other(tmp_path: Path) -> None:
    server = server_in(tmp_path / "server")
    secret, wrong, kit = tmp_path / "secret", tmp_path / "wrong", tmp_path / "kit"
    secret.write_text("l'été à la mer\n", encoding="utf-8")
    wrong.write_text("l'hiver\n", encoding="utf-8")
    made = server.ok("init", "--name", "Cher", "--kit", str(kit), "--passphrase-file", str(secret))
    reborn = server_in(tmp_path / "reborn")
    again = ("init", "--name", "Cher", "--recover", str(kit))
    refused(reborn.run(*again), 2, Code.BAD_KIT)
    refused(reborn.run(*again, "--passphrase-file", str(wrong)), 2, Code.BAD_KIT)
    refused(reborn.run(*again, "--passphrase-file", str(tmp_path / "missing")), 2, Code.MISSING_FILE)
    assert not reborn.folder.exists()
    assert reborn.ok(*again, "--passphrase-file", str(secret))["territory"] == made["territory"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_kit_opens_by_what_is_typed_whatever_windows_put_before_the_passphrase(tmp_path: Path, encoding: str) -> None:
    secret, typed, marked, kit = (tmp_path / name for name in ("secret", "typed", "marked", "kit"))
    secret.write_text("une phrase de Noël\n", encoding=encoding)
    typed.write_text("une phrase de Noël\n", encoding="utf-8")
    marked.write_text("une phrase de Noël\r\n", encoding="utf-8-sig")
    server = server_in(tmp_path / "server")
    made = server.ok("init", "--name", "Cher", "--kit", str(kit), "--passphrase-file", str(secret))
    for file in (typed, marked):
        tried = server.ok("kit", "check", str(kit), "--passphrase-file", str(file))
        assert tried["territory"] == made["territory"], file


def test_a_kit_of_a_program_from_before_opens_by_the_very_file_that_it_was_made_with(tmp_path: Path) -> None:
    kit, marked = tmp_path / "kit", tmp_path / "marked"
    made = new_kit("Cher", os.urandom)
    kit.write_text(write_kit(made, passphrase="\ufeffune phrase de Noël", salt=bytes(SALT_BYTES)), encoding="utf-8")
    marked.write_text("une phrase de Noël\n", encoding="utf-8-sig")
    tried = server_in(tmp_path / "server").ok("kit", "check", str(kit), "--passphrase-file", str(marked))
    assert tried["territory"] == made.territory.hex()


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_passphrase_that_nobody_could_type_again_protects_nothing(tmp_path: Path, encoding: str) -> None:
    secret, kit, server = tmp_path / "secret", tmp_path / "kit", server_in(tmp_path / "server")
    secret.write_text("une phrase de Noël\n", encoding=encoding)
    begun = server.run("init", "--name", "Cher", "--kit", str(kit), "--passphrase-file", str(secret))
    refused(begun, 2, Code.USAGE)
    assert not kit.exists()
    assert not server.folder.exists()


def test_a_kit_is_tried_without_a_folder_and_nothing_comes_of_it(
    server: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = tmp_path / "kit"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.delenv("SYNC_SERVER_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert PROGRAM.main(["kit", "check", str(kit), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    status = server.ok("status")
    assert found == {"name": "Cher", "territory": status["territory"], "fingerprint": status["fingerprint"]}


def test_a_kit_that_is_tried_opens_with_its_passphrase_and_with_no_other(tmp_path: Path) -> None:
    server = server_in(tmp_path / "server")
    secret, wrong, kit = tmp_path / "secret", tmp_path / "wrong", tmp_path / "kit"
    secret.write_text("l'été à la mer\n", encoding="utf-8")
    wrong.write_text("l'hiver\n", encoding="utf-8")
    made = server.ok("init", "--name", "Cher", "--kit", str(kit), "--passphrase-file", str(secret))
    refused(server.run("kit", "check", str(kit)), 2, Code.BAD_KIT)
    refused(server.run("kit", "check", str(kit), "--passphrase-file", str(wrong)), 2, Code.BAD_KIT)
    found = server.ok("kit", "check", str(kit), "--passphrase-file", str(secret))
    assert found["fingerprint"] == made["fingerprint"]


def test_a_kit_of_which_nothing_proves_that_its_root_took_over_is_no_good_one(server: Machine, tmp_path: Path) -> None:
    first, newer = parse_kit((tmp_path / "kit").read_text(encoding="utf-8")), new_kit("Cher", os.urandom)
    begun = replace(newer, first_root=first.root.public)
    (tmp_path / "newer").write_text(write_kit(begun, passphrase=None, salt=bytes(16)), encoding="utf-8")
    refused(server.run("kit", "check", str(tmp_path / "newer")), 2, Code.BAD_KIT)
    made = ("rotate", "root", "--kit", str(tmp_path / "kit"), "--new-kit", str(tmp_path / "newer"))
    refused(server.run(*made), 2, Code.USAGE)  # anybody writes one that says that it follows
    shown = server.ok(*made, "--take-up")["fingerprint"]
    assert server.ok("kit", "check", str(tmp_path / "newer"))["fingerprint"] == shown


@pytest.mark.parametrize("damage", ["not a kit at all", "", "mistyped"])
def test_a_damaged_kit_brings_nothing_back(server: Machine, tmp_path: Path, damage: str) -> None:
    assert server
    kit = tmp_path / "kit"
    lines = kit.read_text(encoding="utf-8").splitlines()
    begin = next(number for number, line in enumerate(lines) if "---" in line)
    lines[begin + 1] = lines[begin + 1][::-1]
    kit.write_text("\n".join(lines) if damage == "mistyped" else damage, encoding="utf-8")
    reborn = server_in(tmp_path / "reborn")
    refused(reborn.run("init", "--name", "Cher", "--recover", str(kit)), 2, Code.BAD_KIT)
    assert not reborn.folder.exists()


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("run", "--listen", "127.0.0.1:0"),
        ("space", "add", "CM2", "--school", UAI),
        ("devices",),
        ("verify",),
    ],
)
def test_a_folder_that_is_not_initialised_stays_as_it_is(tmp_path: Path, words: tuple[str, ...]) -> None:
    server = server_in(tmp_path / "server")
    refused(server.run(*words), 2, Code.NOT_INITIALISED)
    assert not server.folder.exists()
    server.folder.mkdir()
    refused(server.run(*words), 2, Code.NOT_INITIALISED)
    assert list(server.folder.iterdir()) == []


WRONG_WORDS: list[tuple[tuple[str, ...], Code]] = [
    (("run", "--listen", "127.0.0.1:0", "--tls", "--behind-proxy"), Code.USAGE),
    (("run", "--listen", "127.0.0.1:0", "--tls-cert", "/nowhere/a", "--tls-key", "/nowhere/b"), Code.MISSING_FILE),
    (("run", "--listen", "nonsense"), Code.USAGE),
    (("run", "--database", "postgresql+asyncpg://x/y"), Code.NOT_YET),
    (("run", "--blobs", "s3://x"), Code.NOT_YET),
    (("import", "cours.zip", "--space", UAI, "--dry-run"), Code.NOT_YET),
    (("import", "cours.zip", "--space", UAI, "--kind", "tar"), Code.USAGE),
    (("export", "cours.zip", "--space", UAI, "--kind", "folder"), Code.NOT_YET),
    (("export", "cours.zip", "--space", UAI), Code.USAGE),
    (("space", "add", "CM2"), Code.USAGE),
    (("space", "add", "", "--school", UAI), Code.BAD_NAME),
    (("person", "add", "Léa", "--role", "teacher", "--space", UAI), Code.UNKNOWN_SPACE),
    (("invite", "--role", "teacher", "--space", UAI), Code.UNKNOWN_SPACE),
    (("invite", "--role", "machine", "--space", UAI, "--uses", "many"), Code.USAGE),
    (("revoke", "ab" * 32), Code.UNKNOWN_DEVICE),
    (("hand-ins", "--space", "ab" * 32), Code.UNKNOWN_SPACE),
    (("dance",), Code.USAGE),
]


def test_wrong_words_exit_2_with_a_code_and_a_sentence(server: Machine) -> None:
    for words, code in WRONG_WORDS:
        refused(server.run(*words), 2, code)
    assert server.ok("status")["entries"] == 3


def test_a_role_that_there_is_not_exits_2(server: Machine) -> None:
    space = server.ok("space", "add", "CM2 B", "--school", "0180001A")["space"]
    refused(server.run("person", "add", "Léa", "--role", "elf", "--space", space), 2, Code.UNKNOWN_ROLE)


def test_a_server_that_starts_again_knows_what_its_zlib_reproduces(server: Machine) -> None:
    server.start("--listen", "127.0.0.1:0")
    server.kill()
    with closing(sqlite3.connect(server.folder / DATABASE)) as database:
        (noted,) = database.execute("SELECT value FROM mark WHERE key = ?", (LEVELS_MARK,)).fetchone()
    assert levels_in(noted) == ALL_LEVELS


def test_the_same_commands_give_the_same_results_with_and_without_a_running_server(server: Machine) -> None:
    def story() -> tuple[str, str]:
        space = server.ok("space", "add", "CM2 B", "--school", "0180001A", "--year", "2026-2027")["space"]
        done = server.run("space", "add", "CM1", "--school", "0180001A")
        assert "mistyped" in done.err
        person = server.ok("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"]
        assert server.ok("person", "list", "--space", space) == [
            {"person": person, "name": "Mme Petit", "role": "teacher", "called": "Mme Petit", "also_in": ""}
        ]
        invited = server.ok("invite", "--role", "teacher", "--person", person, "--space", space, "--ttl", "7d")
        assert {key: invited[key] for key in ("role", "uses", "opens", "whose")} == {
            "role": "teacher",
            "uses": 1,
            "opens": f"CM2 B ({space})",
            "whose": f"Mme Petit ({person})",
        }
        refused(server.run("person", "add", "Léa", "--role", "pupil", "--space", "ab" * 32), 2, Code.UNKNOWN_SPACE)
        refused(server.run("invite", "--role", "machine", "--space", space, "--ttl", "x"), 2, Code.BAD_DATE)
        assert server.ok("devices") == []
        assert server.ok("hand-ins", "--space", space) == []
        assert server.ok("verify") == {"ok": True, "problems": []}
        assert server.ok("repair") == {}
        return space, person

    stopped = story()
    server.start("--listen", "127.0.0.1:0")
    assert story() != stopped
    rows = server.ok("space", "list")
    assert server.stop() == 0
    assert server.ok("space", "list") == rows
    assert [row["name"] for row in rows] == ["CM1", "CM1", "CM2 B", "CM2 B"]


def test_many_commands_at_once_all_take_effect(server: Machine) -> None:
    space = server.ok("space", "add", "CM2", "--school", UAI)["space"]
    server.start("--listen", "127.0.0.1:0")

    def add(number: int) -> str:
        return str(server.ok("person", "add", f"Élève {number}", "--role", "pupil", "--space", space)["person"])

    with ThreadPoolExecutor(4) as pool:
        persons = set(pool.map(add, range(12)))
    assert {row["person"] for row in server.ok("person", "list", "--space", space)} == persons


# --- run --------------------------------------------------------------------------------------------------------------


def test_a_server_says_where_it_listens_serves_and_stops_in_good_order(server: Machine) -> None:
    for host, number in (("127.0.0.1", signal.SIGTERM), ("localhost", signal.SIGINT)):
        url = url_in(server.start("--listen", f"{host}:{free_port()}", from_nothing=True))
        assert http_call(url, "GET", "/readyz").status == 200
        assert server.daemon is not None
        server.daemon.send_signal(number)
        assert server.daemon.wait(PATIENCE_S) == 0
        server.daemon = None
        assert not (server.folder / "run" / "control.json").exists()
        with pytest.raises(OSError, match="refused"):
            http_call(url, "GET", "/livez")
    assert server.log.read_text(encoding="utf-8").count("\n") == 1, "one line, and no complaint"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_an_address_of_ipv6_is_fine(server: Machine) -> None:
    line = server.start("--listen", "[::1]:0")
    assert "http://[::1]:" in line
    assert http_call(url_in(line), "GET", "/livez").status == 200


def test_an_address_that_is_taken_ends_with_1_and_leaves_nothing_locked(server: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused(server.run("run", "--listen", f"127.0.0.1:{taken.getsockname()[1]}"), 1, Code.ADDRESS_IN_USE)
    refused(server.run("run", "--listen", "127.9.9.9.9:1", "--behind-proxy"), 2, Code.USAGE)
    server.start("--listen", "127.0.0.1:0")


def test_a_second_server_on_the_same_folder_is_told_at_once(server: Machine) -> None:
    server.start("--listen", "127.0.0.1:0")
    refused(server.run("run", "--listen", "127.0.0.1:0"), 1, Code.STORE_LOCKED)
    refused(server.run("init", "--name", "Cher"), 2, Code.ALREADY_INITIALISED)
    assert server.ok("status")


def test_a_bare_kit_in_the_folder_keeps_the_server_from_the_network(tmp_path: Path) -> None:
    server = server_in(tmp_path / "server")
    server.ok("init", "--name", "Cher")
    for more in ((), ("--behind-proxy",)):
        refused(server.run("run", "--listen", "0.0.0.0:0", *more), 2, Code.KIT_EXPOSED)
    (server.folder / "recovery-kit").rename(tmp_path / "kit")
    url = url_in(server.start("--listen", "0.0.0.0:0"))
    try:
        assert url.startswith("https://"), "where others reach it, TLS is spoken"
        assert http_call(url.replace(EVERYWHERE, "127.0.0.1"), "GET", "/livez").status == 200
    finally:
        server.kill()


def test_options_come_from_the_environment_and_from_the_folders_file_too(server: Machine) -> None:
    refused(server.run("run", SYNC_SERVER_TLS_CERT="/nowhere"), 2, Code.USAGE)
    (server.folder / "config.toml").write_text('[run]\nlisten = "nowhere"\n', encoding="utf-8")
    refused(server.run("run"), 2, Code.USAGE)
    server.start("--listen", "127.0.0.1:0")


def test_what_was_said_before_a_kill_is_there_after_it(server: Machine) -> None:
    url = url_in(server.start("--listen", "127.0.0.1:0"))
    space = server.ok("space", "add", "CM2", "--school", UAI)["space"]
    device = RawDevice(url)
    device.enroll(server.ok("invite", "--role", "machine", "--space", space)["code"])
    before = server.ok("space", "list")
    server.kill()
    assert server.ok("space", "list") == before, "a command finds the folder free again"
    url = url_in(server.start("--listen", "127.0.0.1:0"))
    device.url = url
    assert device.sync().pages
    assert [row["device"] for row in server.ok("devices")] == [device.id.hex()]
    assert server.ok("verify")["ok"]


def test_codes_are_refused_with_their_reason_over_the_wire(server: Machine) -> None:
    url = url_in(server.start("--listen", "127.0.0.1:0"))
    space = server.ok("space", "add", "CM2", "--school", UAI)["space"]

    def reason(code: str) -> str:
        try:
            RawDevice(url).enroll(code)
        except Exception as error:  # noqa: BLE001 — whichever it is, its code is what is asked for
            return str(getattr(error, "code", error))
        return "let in"

    code = server.ok("invite", "--role", "machine", "--space", space)["code"]
    assert [reason(code), reason(code)] == ["let in", Code.CODE_USED]
    short = server.ok("invite", "--role", "machine", "--space", space, "--ttl", "1s")["code"]
    eventually("the code ends", lambda: reason(short) == Code.CODE_EXPIRED)
    assert len(server.ok("devices")) <= 2


def test_a_revoked_device_is_refused_and_shown_as_retired(server: Machine) -> None:
    url = url_in(server.start("--listen", "127.0.0.1:0"))
    space = server.ok("space", "add", "CM2", "--school", UAI)["space"]
    device = RawDevice(url)
    device.enroll(server.ok("invite", "--role", "machine", "--space", space)["code"])
    assert device.sync().pages
    assert server.ok("revoke", device.id.hex()) == {}
    assert device.refusal().code is Code.REVOKED
    (row,) = server.ok("devices")
    assert (row["device"], row["state"]) == (device.id.hex(), "retired")
    assert server.ok("grant", "--device", device.id.hex(), "--space", space) == {}
    assert device.sync().pages


def test_at_the_end_readiness_fails_first_and_calls_under_way_are_finished(server: Machine) -> None:
    url = url_in(server.start("--listen", "127.0.0.1:0"))
    space = server.ok("space", "add", "CM2", "--school", UAI)["space"]
    device = RawDevice(url)
    device.enroll(server.ok("invite", "--role", "machine", "--space", space)["code"])
    request, _ = device.sealed(Call.SYNC, SyncRequest().encode())
    head = f"POST {SYNC_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request)}\r\n\r\n".encode()
    host, port = urlsplit(url).hostname or "", urlsplit(url).port
    with socket.create_connection((host, port), timeout=PATIENCE_S) as slow:
        slow.sendall(head + request[:10])
        eventually("the call is under way", lambda: http_call(url, "GET", "/livez").status == 200)
        assert server.daemon is not None
        server.daemon.send_signal(signal.SIGTERM)
        eventually("readiness fails", lambda: http_call(url, "GET", "/readyz").status == 503)
        answer = http_call(url, "GET", f"{PACKS_PATH}/x")
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (503, Code.BUSY)
        assert int(answer.headers["retry-after"]) > 0
        slow.sendall(request[10:])
        assert slow.recv(13) == b"HTTP/1.1 200 "
    assert server.daemon.wait(PATIENCE_S) == 0
    server.daemon = None
    assert [row["last_seen"] is not None for row in server.ok("devices")] == [True]


def test_asked_twice_a_server_does_not_wait_for_slow_calls(server: Machine) -> None:
    url = url_in(server.start("--listen", "127.0.0.1:0"))
    host, port = urlsplit(url).hostname or "", urlsplit(url).port
    with socket.create_connection((host, port), timeout=PATIENCE_S) as slow:
        slow.sendall(f"POST {SYNC_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n".encode())
        assert server.daemon is not None
        server.daemon.send_signal(signal.SIGTERM)
        eventually("readiness fails", lambda: http_call(url, "GET", "/readyz").status == 503)
        begun = time.monotonic()
        server.daemon.send_signal(signal.SIGTERM)
        assert server.daemon.wait(PATIENCE_S) == 0
        assert time.monotonic() - begun < 30
    server.daemon = None


@pytest.mark.skipif(sys.platform != "linux", reason="needs to set another process's limits")
def test_a_disk_that_is_full_is_said_and_loses_nothing(server: Machine) -> None:
    url = url_in(server.start("--listen", "127.0.0.1:0"))
    space = server.ok("space", "add", "CM2", "--school", UAI)["space"]
    device = RawDevice(url)
    device.enroll(server.ok("invite", "--role", "machine", "--space", space)["code"])
    offer = SyncRequest(offers=(Offer(bytes.fromhex(space), bytes(32), 300_000),))
    (upload,) = device.sync(offer).uploads
    before = server.ok("space", "list")
    assert server.daemon is not None
    free = resource.prlimit(server.daemon.pid, resource.RLIMIT_FSIZE)
    # the system refuses to let any file grow beyond this, as it does when there is no room
    resource.prlimit(server.daemon.pid, resource.RLIMIT_FSIZE, (150_000, free[1]))
    answer = device.send(upload.capability, bytes(300_000), 0)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (507, Code.DISK_FULL)
    resource.prlimit(server.daemon.pid, resource.RLIMIT_FSIZE, free)
    assert server.ok("space", "list") == before
    here = device.sync(offer).uploads[0].offset
    assert device.send(upload.capability, bytes(10), here).status == 204, "it goes on once there is room"


@pytest.mark.skipif(sys.platform != "linux", reason="needs to set another process's limits")
def test_a_disk_that_fails_ends_the_server_which_then_starts_as_if_nothing_had_happened(server: Machine) -> None:
    server.start("--listen", "127.0.0.1:0")
    server.ok("space", "add", "CM2", "--school", UAI)
    before = server.ok("space", "list")
    assert server.daemon is not None
    free = resource.prlimit(server.daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.daemon.pid, resource.RLIMIT_FSIZE, (0, free[1]))
    done = server.run("space", "add", "CM1", "--school", UAI)
    assert done.status == 1
    assert done.code == Code.STORAGE_FAILED
    assert server.daemon.wait(PATIENCE_S) == 1
    server.daemon = None
    server.start("--listen", "127.0.0.1:0")
    assert server.ok("space", "list") == before
    server.ok("space", "add", "CM1", "--school", UAI)


def test_help_needs_no_folder() -> None:
    done = subprocess.run(
        [*program("sync-server"), "--help"], capture_output=True, text=True, check=False, env=environment()
    )
    assert done.returncode == 0
    for command in ("init", "run", "space", "person", "grant", "ungrant", "invite", "status", "devices", "revoke"):
        assert command in done.stdout
