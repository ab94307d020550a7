"""Backup and restore: a server goes on from an old backup, and nothing that anybody was promised is lost."""

# ruff: noqa: S608  (what a forger writes)

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import pytest

from protocol.clock import at_from, rfc3339
from protocol.errors import Code, LocalFailure
from protocol.limits import ERASURE_DELAY_MS, SEALED_CHUNK_BYTES
from protocol.messages.calls import SyncRequest
from protocol.messages.parts import InlinePack
from protocol.replica.console.frame import Notices
from protocol.replica.console.text import local_time
from protocol.replica.upkeep.eraser import Eraser
from protocol.trust.sealed_chunks import COMMITMENT_BYTES, TAG_BYTES
from sync_server.handlers.store.archive import END
from sync_server.handlers.store.backups import back_up, note_kept
from sync_server.handlers.store.restored import KIT_ALONE_MS, Restored, Source
from sync_server.opened.app import opened
from sync_server.opened.data_folder import COPY_FILE
from tests.harness.backups import Case, handed_in, members_of, noise, rewritten
from tests.harness.machines import Machine, School, environment, school
from tests.harness.patience import eventually
from tests.harness.server_in_process import office


@pytest.fixture
def here(tmp_path: Path) -> Iterator[School]:
    with school(tmp_path) as found:
        yield found


def publish(here: School, agent: Machine, title: str, *more: str, size: int = 300_000) -> str:
    folder = here.folder / f"files of {title}"
    folder.mkdir()
    (folder / "image.png").write_bytes(os.urandom(size))
    (folder / "page.html").write_text(f"<h1>{title}</h1>", encoding="utf-8")
    item: str = agent.ok("publish", str(folder), "--space", here.space, "--title", title, *more)["item"]
    return item


@pytest.mark.parametrize(("unheard", "said"), [(1, "1 has not told all since"), (2, "2 have not told all since")])
def test_how_many_have_not_told_all_since_a_restore_is_said_of_one_as_of_several(unheard: int, said: str) -> None:
    assert said in Restored(0, Source.BACKUP, 0, {bytes([number]): None for number in range(unheard)}).sentence


def test_of_a_server_of_the_kit_alone_that_all_have_told_it_is_said_until_which_day_that_is_said() -> None:
    made = Restored(0, Source.KIT, None, {})
    assert made.until_ms == KIT_ALONE_MS
    assert f"this is said until {local_time(rfc3339(KIT_ALONE_MS) or '')}" in made.sentence
    assert "0 have not" not in made.sentence


def restored(here: School, backup: Path, name: str = "restored") -> Machine:
    machine = Machine(name, here.folder / name, "sync-server")
    machine.ok("restore", str(backup), "--kit", str(here.folder / "kit"))
    return machine


def has(agent: Machine, *items: str) -> bool:
    return {row["item"] for row in agent.ok("items") if row["complete"]} >= set(items)


def test_a_server_restored_from_an_old_backup_gets_back_all_that_came_after_it(here: School, tmp_path: Path) -> None:
    teacher, renard = here.enrol("laptop", "teacher"), here.enrol("renard")
    before = publish(here, teacher, "Avant")
    teacher.ok("sync")
    backup = tmp_path / "relais.tar"
    assert here.server.ok("backup", str(backup)) == {}, "while the server runs"

    # after the backup: a lesson, a device, a person, a hand-in with the server's receipt
    task = publish(here, teacher, "Après", "--kind", "assignment")
    teacher.ok("sync")
    hibou = here.enrol("hibou")
    tom = here.server.ok("person", "add", "Tom", "--role", "pupil", "--space", here.space)["person"]
    renard.ok("sync")
    work = tmp_path / "reponse.txt"
    work.write_text("ma réponse", encoding="utf-8")
    handed = renard.ok("hand-in", task, str(work), "--person", here.pupil)["id"]
    renard.ok("sync")
    assert renard.ok("hand-ins")[0]["state"] == "server"
    renard.ok("sync")
    hibou.ok("sync")
    at_the_end = here.server_row()
    here.server.kill()

    here.server = restored(here, backup)
    assert here.server_row()["entries"] < at_the_end["entries"], "the backup is older"
    # who was erased since is named until somebody calls who knows: that is said wherever persons are
    assert here.server.ok("status")["restored"]["unheard"] == 2
    listing = ("person", "list", "--space", here.space)
    assert "2 have not told all since" in here.server.run(*listing).err
    assert "2 have not told all since" in here.server.run("hand-ins", "--space", here.space).err
    here.restart_server()
    renard.ok("sync")
    assert here.server.ok("status")["restored"]["unheard"] == 2, "the laptop, and who is only now known to be there"
    for agent in (renard, hibou, teacher, renard, hibou):
        agent.ok("sync")
    rows = {agent.name: agent.ok("status")["spaces"][0]["fingerprint"] for agent in (teacher, renard, hibou)}
    assert set(rows.values()) == {here.server_row()["fingerprint"]}, "all agree"
    assert here.server_row()["entries"] >= at_the_end["entries"]
    assert here.server.ok("status")["restored"] is None
    assert "backup" not in here.server.run(*listing).err
    assert tom in {row["person"] for row in here.server.ok("person", "list", "--space", here.space)}
    assert [row["state"] for row in here.server.ok("hand-ins", "--space", here.space)] == ["server"]
    assert {row["name"] for row in here.server.ok("devices")} == {"laptop", "renard", "hibou"}
    opened = tmp_path / "opened"
    teacher.ok("open-hand-in", handed, str(opened))
    assert (opened / "reponse.txt").read_text(encoding="utf-8") == "ma réponse"
    fresh = here.enrol("nouveau")
    assert has(fresh, before, task), "content came back too, and the old server's rights still hold"
    assert here.server.ok("verify")["ok"]


def test_a_backup_is_one_private_file_without_the_kit_and_says_whose_it_is(here: School, tmp_path: Path) -> None:
    here.server.kill()
    backup = tmp_path / "relais.tar"
    here.server.ok("backup", str(backup))
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert (tmp_path / "kit").read_bytes() not in backup.read_bytes()
    with tarfile.open(backup) as archive:
        head = archive.extractfile("relais-backup.json")
        assert head is not None
        assert json.loads(head.read())["name"] == "Cher"
        assert archive.getnames() == ["relais-backup.json", "sealed"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kit", "relais.tar", "server", "server.log"]


def test_a_backup_says_its_hash_and_a_restore_takes_it_and_asks_for_none(
    here: School, backup: Path, tmp_path: Path
) -> None:
    made = here.server.run("backup", str(backup))
    digest = sha256(backup.read_bytes()).hexdigest()
    assert f"SHA-256 {digest}" in made.err, "as `sha256sum` says it"
    kit, again = ("--kit", str(tmp_path / "kit")), Machine("again", tmp_path / "again", "sync-server")
    assert again.run("restore", str(backup), *kit, "--sha256", "monday").code == "usage"
    assert again.run("restore", str(backup), *kit, "--sha256", "0" * 64).code == "bad-backup"
    assert not (again.folder / "territory.json").exists()
    kept = f"{digest[:16].upper()} {digest[16:40]}"
    done = again.run("restore", str(backup), *kit, "--sha256", kept)
    assert done.status == 0, "copied from a paper, as far as somebody had the patience"
    assert digest not in done.err
    other = Machine("other", tmp_path / "other", "sync-server").run("restore", str(backup), *kit)
    assert other.status == 0
    assert digest in other.err, "and where nobody gave it, it is told"


def test_monitoring_learns_when_the_last_backup_was_made(here: School, tmp_path: Path) -> None:
    def last_backup_s() -> float:
        with urllib.request.urlopen(f"{here.url}/metrics") as answer:  # noqa: S310  (our own server)
            lines = answer.read().decode().splitlines()
        name = "relais_last_backup_timestamp_seconds "
        return next(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    assert last_backup_s() == 0
    backup = tmp_path / "relais.tar"
    here.server.ok("backup", str(backup))
    first = last_backup_s()
    assert abs(first - backup.stat().st_mtime) < 60
    here.server.ok("backup", str(backup))
    assert last_backup_s() > first


def test_a_backup_never_replaces_what_is_no_backup(here: School, tmp_path: Path) -> None:
    here.server.kill()
    other = tmp_path / "these.tar"
    other.write_bytes(b"x" * 2000)
    assert here.server.run("backup", str(other)).status == 2
    assert here.server.run("backup", str(tmp_path / "missing" / "x.tar")).status == 2
    assert here.server.run("backup", str(tmp_path)).status == 2
    assert other.read_bytes() == b"x" * 2000


@pytest.fixture
def backup(here: School, tmp_path: Path) -> Path:
    teacher = here.enrol("laptop", "teacher")
    publish(here, teacher, "Leçon")
    teacher.ok("sync")
    here.server.kill()
    file = tmp_path / "relais.tar"
    here.server.ok("backup", str(file))
    return file


def test_restoring_refuses_a_used_folder_and_a_foreign_kit(here: School, backup: Path, tmp_path: Path) -> None:
    kit = str(tmp_path / "kit")
    assert here.server.run("restore", str(backup), "--kit", kit).code == "already-initialised"
    assert here.server.run("restore", str(backup), "--kit", kit).status == 2
    other = Machine("other", tmp_path / "other", "sync-server")
    other.ok("init", "--name", "Indre", "--kit", str(tmp_path / "other-kit"))
    empty = Machine("empty", tmp_path / "empty", "sync-server")
    refused = empty.run("restore", str(backup), "--kit", str(tmp_path / "other-kit"))
    assert (refused.status, refused.code) == (5, "wrong-territory")
    assert empty.run("restore", str(tmp_path / "none.tar"), "--kit", kit).code == "missing-file"
    assert empty.run("restore", kit, "--kit", kit).code == "bad-backup"
    assert not empty.folder.exists(), "nothing was begun"


async def test_a_backup_that_finds_no_room_beside_the_database_says_whose_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with office(tmp_path) as made:

        def full(*_: object) -> NoReturn:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("sync_server.handlers.store.backups.os.open", full)
        with pytest.raises(LocalFailure, match=f"the disk that holds {made.server.folder} is full") as failed:
            await back_up(made.server, "1", Notices())
        assert failed.value.code is Code.DISK_FULL


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def flipped(data: bytes) -> bytes:
    at = len(data) * 2 // 3
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def without_its_end(data: bytes) -> bytes:
    """As a copy that stopped between two chunks."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        sealed = archive.getmembers()[-1]
    kept = COMMITMENT_BYTES + 2 * (SEALED_CHUNK_BYTES + TAG_BYTES)
    assert kept < sealed.size
    sealed.size = kept
    whole = sealed.tobuf(tarfile.GNU_FORMAT) + data[sealed.offset_data : sealed.offset_data + kept]
    return data[: sealed.offset] + whole.ljust(-(-len(whole) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, b"\0") + END


def test_a_damaged_backup_is_told_and_the_next_restore_begins_anew(here: School, backup: Path, tmp_path: Path) -> None:
    kit = str(tmp_path / "kit")
    machine = Machine("again", tmp_path / "again", "sync-server")
    for harm in (cut, flipped, without_its_end):
        bad = tmp_path / "bad.tar"
        bad.write_bytes(harm(backup.read_bytes()))
        failed = machine.run("restore", str(bad), "--kit", kit)
        assert (failed.status, failed.code) == (1, "damaged"), harm
        assert not machine.folder.exists(), "half a server is none, and nothing of it stays"
    machine.ok("restore", str(backup), "--kit", kit)
    assert machine.ok("status")["entries"] > here.server.ok("status")["entries"], "all of it, and a generation"


def test_a_pack_that_has_rotted_is_left_out_of_the_backup_and_said(here: School, tmp_path: Path) -> None:
    teacher = here.enrol("laptop", "teacher")
    item = publish(here, teacher, "Leçon")
    teacher.ok("sync")
    (pack, *_) = sorted(here.server.folder.glob("packs/*/*.pack"), key=lambda path: -path.stat().st_size)
    pack.write_bytes(flipped(pack.read_bytes()))
    file = tmp_path / "relais.tar"
    done = here.server.run("backup", str(file))
    assert done.status == 0
    assert "left out" in done.err
    here.server.kill()
    here.server = restored(here, file)
    here.restart_server()
    teacher.ok("sync")
    renard = here.enrol("renard")
    eventually("the pack came back from the teacher's", partial(has, renard, item))


async def test_devices_are_told_when_the_newest_backup_that_was_read_back_was_begun(tmp_path: Path) -> None:
    async with office(tmp_path) as desk:
        renard = await desk.enrol(await desk.invite("machine"))
        assert (await renard.sync()).backup_ms is None
        await note_kept(desk.server, 1_795_000_000_000)
        assert (await renard.sync()).backup_ms == 1_795_000_000_000


class Looks(Notices):
    """Takes a backup, and looks at the copy of the database meanwhile."""

    def __init__(self, copy: Path) -> None:
        self.copy = copy
        self.modes: list[int] = []

    async def start(self, path: str, size: int | None) -> None:
        del path, size
        self.modes.append(stat.S_IMODE(self.copy.stat().st_mode))


async def test_what_a_backup_is_made_of_is_nobody_elses_to_read_and_does_not_outlive_the_next_start(
    tmp_path: Path,
) -> None:
    umask = os.umask(0o022)
    try:
        async with office(tmp_path / "server") as desk:
            folder, clock = desk.server.folder, desk.clock
            looks = Looks(folder / COPY_FILE)
            await back_up(desk.server, "0", looks)
            assert set(looks.modes) == {0o600}
    finally:
        os.umask(umask)
    # a backup that was cut off, by `kill -9` say, has left what nobody erases anything in
    (folder / COPY_FILE).write_bytes(b"Camille")
    async with opened(folder, now_ms=clock, entropy=os.urandom):
        assert not (folder / COPY_FILE).exists()


def rows_of(agent: Machine, table: str, pack: str) -> list[str]:
    """What an agent knows of the pack of its newest hand-in, as somebody would write it into another's database."""
    with closing(sqlite3.connect(agent.folder / "replica.db")) as connection:
        (number,) = connection.execute("SELECT max(number) FROM pack").fetchone()
        found = connection.execute(f"SELECT * FROM {table} WHERE pack = ?", (number,)).fetchall()
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    rows = []
    for row in found:
        cells = [f"X'{cell.hex()}'" if isinstance(cell, bytes) else str(cell) for cell in row]
        cells[names.index("pack")] = pack
        rows.append(f"INSERT INTO {table} VALUES ({', '.join(cells)});")
    return rows


def forget_unsent_packs(agent: Machine) -> None:
    """As if a server, the one that burnt say, had taken them."""
    with closing(sqlite3.connect(agent.folder / "replica.db")) as connection, connection:
        connection.execute("UPDATE pack_space SET unsent = 0")


def test_a_restored_server_asks_for_what_only_the_index_of_its_backup_has(here: School, tmp_path: Path) -> None:
    teacher, renard = here.enrol("laptop", "teacher"), here.enrol("renard")
    lesson = publish(here, teacher, "Leçon")
    task = publish(here, teacher, "Devoir", "--kind", "assignment")
    teacher.ok("sync")
    renard.ok("sync")
    here.server.kill()
    backup = tmp_path / "relais.tar"
    here.server.ok("backup", str(backup))
    work = tmp_path / "rédaction.txt"
    work.write_bytes(os.urandom(700_000))
    handed = renard.ok("hand-in", task, str(work), "--person", here.pupil)["id"]
    # somebody takes a pack of lessons out of the backup, and says that what remains holds all of that, and the work
    (lost, kept) = sorted(name for name in members_of(backup, tmp_path / "kit") if name.endswith(".pack"))
    number = f"(SELECT number FROM pack WHERE hash = X'{Path(kept).stem}')"
    forged = [f"UPDATE OR IGNORE {table} SET pack = {number};" for table in ("stream", "chunk", "pack_space")]
    forged += [*rows_of(renard, "stream", number), *rows_of(renard, "chunk", number)]
    forged.append(f"DELETE FROM pack WHERE number != {number};")
    rewritten(backup, tmp_path / "kit", "\n".join(forged), without={bytes.fromhex(Path(lost).stem)})
    forget_unsent_packs(renard)

    here.server = restored(here, backup)
    here.restart_server()
    renard.ok("sync")
    assert [row["state"] for row in renard.ok("hand-ins")] == ["server"]
    teacher.ok("sync")
    opened = tmp_path / "opened"
    teacher.ok("open-hand-in", handed, str(opened))
    assert (opened / work.name).read_bytes() == work.read_bytes(), "the receipt says what is true"
    fresh = here.enrol("nouveau")
    assert has(fresh, lesson, task), "what was taken out came back from who had it"
    assert here.server.ok("verify")["ok"]


KILLED_AT = """
import os, signal, sys
from protocol.replica.content.kept.sqlite_rebuild import RebuiltRows

async def killed(*_args, **_options):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(RebuiltRows, sys.argv.pop(1), killed)
from sync_server.cli import main
main()
"""


@pytest.mark.parametrize("moment", ["put", "bear_out", "take_homes", "end"])
def test_a_restore_that_is_killed_while_it_reads_the_packs_is_none_and_the_next_begins_anew(
    here: School, backup: Path, tmp_path: Path, moment: str
) -> None:
    machine = Machine("again", tmp_path / "again", "sync-server")
    words = ["restore", str(backup), "--kit", str(tmp_path / "kit"), "--data", str(machine.folder)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT, moment, *words], check=False, capture_output=True, env=environment()
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert machine.run("status").status == 2, "half a server is none"
    machine.ok("restore", str(backup), "--kit", str(tmp_path / "kit"))
    assert machine.ok("verify")["ok"]
    packs = [sorted(path.name for path in each.glob("packs/*/*.pack")) for each in (machine.folder, here.server.folder)]
    assert packs[0] == packs[1]
    assert not list(machine.folder.glob("parts/*"))


async def test_what_an_erasure_hides_is_destroyed_in_its_time_after_a_restore(tmp_path: Path) -> None:
    case, work = Case(tmp_path), noise(1)
    async with office(tmp_path / "server", kit=case.kit) as desk:
        space = bytes.fromhex(desk.space)
        lea = await desk.add_person("Léa", "pupil")
        renard = await desk.enrol(await desk.invite("machine"))
        said = handed_in(renard, lea, space, work, at_from(desk.clock()))
        await renard.sync(SyncRequest(push=(said,), packs=(InlinePack(space, work.pack),)))
        await desk.do("erase", person=[lea])
        await case.keep(desk)
    await case.restore(desk.clock)
    folder = tmp_path / "new"
    async with opened(folder, now_ms=desk.clock, entropy=os.urandom) as server:
        eraser = Eraser(server.replica, server.holdings)
        await eraser.sweep(desk.clock())
        assert await server.replica.content.read_pack(work.finished.hash, 0, len(work.pack)) == work.pack, "for a week"
        desk.clock.advance(ERASURE_DELAY_MS + 1_000)
        await eraser.sweep(desk.clock())
        left = [path for path in folder.rglob("*") if path.is_file() and work.data[:500] in path.read_bytes()]
        assert left == []


def test_a_backup_that_says_it_was_made_later_than_now_is_taken_to_be_of_now(here: School, tmp_path: Path) -> None:
    here.enrol("renard")
    backup = tmp_path / "relais.tar"
    here.server.ok("backup", str(backup))
    here.server.kill()
    rewritten(backup, tmp_path / "kit", "", made_ms=4_102_444_800_000)
    here.server = restored(here, backup)
    told = here.server.ok("status")["restored"]
    assert told["backup"] <= told["at"] < "2100"
