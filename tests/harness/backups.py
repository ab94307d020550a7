"""Backups of a server, and what somebody does to them who can write where they lie: every hash in them stays right."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Container, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from blake3 import blake3

from protocol.model.entry import Entry, Kind, compose
from protocol.model.work import ContentRef, HandIn
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.storage.sqlite import DATABASE, SqliteStore
from protocol.transfer.chunking import ChunkList, chunk_list, stream_id
from protocol.transfer.pack import FinishedPack
from protocol.transfer.pack_writer import PackWriter
from protocol.trust.kit import Kit, write_kit
from sync_server.handlers.accounts.administrators import Administrator
from sync_server.handlers.by_kit.territory import kit_in, new_kit
from sync_server.handlers.store import archive
from sync_server.handlers.store.backups import back_up
from sync_server.keeping.backing_up import BackupFile, restore
from sync_server.opened.app import Server
from sync_server.opened.data_folder import COPY_FILE
from tests.harness.caller import in_sealed_form
from tests.harness.server_in_process import Member, Office
from tests.harness.territory import SimClock


async def make_backup(server: Server, file: Path) -> str:
    """As `backup FILE` does; the hash that it says."""
    with BackupFile(file) as target:
        await back_up(server, "0", target)
        return target.keep().sha256


async def gone_on_from(
    folder: Path, root: bytes, _kit: Kit, _now_ms: Callable[[], int], _tell: Callable[[str], None]
) -> tuple[Replica, list[Administrator]]:
    """Instead of `foreign_backup.take_over`: the server goes on from the file as somebody has written it."""
    (folder / COPY_FILE).replace(folder / DATABASE)
    store = await SqliteStore.open(folder)
    return await Replica.open(root, store, await PackFolder.open(folder, store)), []


AS_IT_IS: Mapping[str, object] = {"sync_server.keeping.backing_up.take_over": gone_on_from}


async def restore_backup(
    folder: Path,
    file: Path,
    kit: Path,
    now_ms: Callable[[], int],
    tell: Callable[[str], None] = lambda _line: None,
    *,
    sha256: str | None = None,
) -> None:
    """As `restore FILE` does, with a kit that has no passphrase."""
    await restore(folder, file, kit, None, sha256=sha256, now_ms=now_ms, entropy=os.urandom, tell=tell)


@dataclass
class Case:
    """A territory, its kit, and a folder for its servers and backups."""

    folder: Path
    kit: Kit = field(default_factory=lambda: new_kit("Cher", os.urandom))
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "kit").write_text(write_kit(self.kit, passphrase=None, salt=os.urandom(16)), encoding="utf-8")

    @property
    def backup(self) -> Path:
        """Where the backup lies."""
        return self.folder / "backup"

    async def keep(self, desk: Office) -> None:
        """Make a backup."""
        await make_backup(desk.server, self.backup)

    async def restore(self, clock: SimClock) -> None:
        """Make a server of it, in the folder `new`."""
        await restore_backup(self.folder / "new", self.backup, self.folder / "kit", clock, self.said.append)


@dataclass(frozen=True)
class Content:
    """A stream as it lies in a pack of its own."""

    data: bytes
    chunks: ChunkList
    pack: bytes
    finished: FinishedPack

    @property
    def stream(self) -> bytes:
        """Its name."""
        return stream_id(self.chunks)


def noise(seed: int) -> Content:
    """Some of the form of sealed work."""
    pieces = in_sealed_form(Random(seed).randbytes(50_000))
    writer = PackWriter()
    for piece in pieces:
        writer.add_chunk(piece)
    writer.add_stream(chunk_list(pieces))
    finished = writer.finish()
    return Content(b"".join(pieces), chunk_list(pieces), writer.take(), finished)


def handed_in(member: Member, person: str, space: bytes, work: Content, at: int) -> Entry:
    """What a machine says when a pupil hands in; the work itself stays on it for now."""
    return compose(
        author=member.keys.signing,
        space=space,
        kind=Kind.HAND_IN,
        grant=member.grants[0].id,
        at=at,
        payload=HandIn(ContentRef(work.stream, len(work.data), 0), None).encode(),
        salt=bytes(16),
        subject=bytes.fromhex(person),
        target=bytes(32),
    )


def members_of(backup: Path, kit: Path) -> dict[str, bytes]:
    """What a backup consists of: whoever had the server has it anyhow, and need not open what is sealed."""
    with TemporaryDirectory(dir=backup.parent) as folder:
        head = archive.read_whole(backup, Path(folder), opening=kit_in(kit, None).opening).head
        files = [file for file in Path(folder).rglob("*") if file.is_file()]
        found = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
    return {archive.HEAD: replace(head, sealed_key=None).encode(), **found}


def rewritten(
    backup: Path,
    kit: Path,
    sql: str,
    *,
    without: Container[bytes] = (),
    files: Mapping[bytes, bytes] | None = None,
    made_ms: int | None = None,
) -> None:
    """Somebody has had the database for a minute, taken these packs out, put such files in, and dated it."""
    members = members_of(backup, kit)
    database = backup.with_name("somebodys.db")
    database.write_bytes(members[DATABASE])
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.executescript(sql)
    members[DATABASE] = data = database.read_bytes()
    packs = {name: pack for name, pack in members.items() if name.endswith(".pack")}
    for name in packs:
        if bytes.fromhex(Path(name).stem) in without:
            del members[name]
    members |= {archive.pack_member(name): data for name, data in (files or {}).items()}
    left = [pack for name, pack in members.items() if name.endswith(".pack")]
    told = archive.Head.parse(members[archive.HEAD])
    head = replace(
        told,
        made_ms=told.made_ms if made_ms is None else made_ms,
        database_bytes=len(data),
        database_hash=blake3(data).digest(),
        packs=len(left),
        pack_bytes=sum(map(len, left)),
    )
    members[archive.HEAD] = head.encode()
    with backup.open("wb") as file:
        for name, member in members.items():
            file.write(archive.member(name, member, head.made_ms))
        file.write(archive.END)
