"""`backup`: everything that a server would miss, written out while it goes on serving (R8).

Rules:
- the database is copied in one transaction, so that it says what was true at one moment; packs do not change, so they
  are read after it, at leisure;
- a pack that has gone or rotted since is left out and said; agents bring it back;
- the copy is removed when it has been sent, and at the next start where the program ended first: nothing that is erased
  is erased in it;
- what goes out is sealed to the kit, and is what it was when it was looked at; where it is not known to which kit,
  nothing goes out: all of it would lie open (docs/adr/0444);
- a backup counts once the caller has it on disk and has read it back: only then is its time noted.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from blake3 import blake3

from protocol.errors import Code, LocalFailure, disk_fault
from protocol.identity import KEY_BYTES, territory_id
from protocol.limits import GiB
from protocol.replica.console.operation import Outgoing
from protocol.replica.storage.sqlite import DATABASE
from protocol.trust.sealed_chunks import STREAM_KEY_BYTES
from sync_server.handlers.overview.figures import BACKUP_MARK, last_backup_ms
from sync_server.handlers.store import archive, sealed_archive
from sync_server.opened.app import Server
from sync_server.opened.data_folder import COPY_FILE, KEYS_FILE
from sync_server.opened.kits_key import kits_key

_NO_KEY: Final = (
    "no backup was written: nothing here says to which recovery kit it is to be sealed, and it would lie "
    "open. That row of the database was damaged, or lost: it is here again once a machine of any school has called; "
    "else `sync-server init --recover KIT` makes the server anew"
)
PART_BYTES: Final = GiB
"""A backup leaves the server as files of at most so many bytes, which the caller puts together again."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """What the copied database is: its size and hash, the packs that it knows, and how many entries."""

    size: int
    digest: bytes
    packs: list[tuple[bytes, int]]
    entries: int


async def back_up(server: Server, version: str, outgoing: Outgoing) -> archive.Head:
    """Send a whole backup to `outgoing`, in parts; what it holds. Raises `LocalFailure`."""
    async with server.backing_up:
        recovery = await kits_key(server.replica)
        if recovery is None:
            raise LocalFailure(Code.DAMAGED, _NO_KEY)
        copy = server.folder / COPY_FILE
        await asyncio.to_thread(copy.unlink, missing_ok=True)
        try:
            await _copy_database(server, copy)
            found = await asyncio.to_thread(_look_at, copy)
            readable = [(pack, size) for pack, size in found.packs if await _is_whole(server, pack, size)]
            if len(readable) < len(found.packs):
                await outgoing.progress(
                    f"{len(found.packs) - len(readable)} packs are damaged here and left out; `sync-server verify` "
                    "moves them aside, and agents bring them back"
                )
            head = _head(server, version, found, readable)
            await _send(await _written(server, head, recovery, copy, readable), outgoing)
        finally:
            await asyncio.to_thread(copy.unlink, missing_ok=True)
    return head


async def note_kept(server: Server, made_ms: int) -> None:
    """The backup of this time is on its disk, and was read back."""
    await server.store.set_marks({BACKUP_MARK: made_ms.to_bytes(8, "big")})
    await tell_devices(server)


async def tell_devices(server: Server) -> None:
    """Have answers say when the newest backup was begun: what devices received before is in it (R8)."""
    server.responder.backup_ms = await last_backup_ms(server)


def _head(server: Server, version: str, found: _Copy, packs: list[tuple[bytes, int]]) -> archive.Head:
    territory = server.territory
    return archive.Head(
        territory=territory_id(territory.root),
        root=territory.root,
        name=territory.name,
        certificate=territory.certificate,
        made_ms=server.now_ms(),
        version=version,
        entries=found.entries,
        database_bytes=found.size,
        database_hash=found.digest,
        packs=len(packs),
        pack_bytes=sum(size for _, size in packs),
    )


async def _copy_database(server: Server, copy: Path) -> None:
    """The database as it is now, beside itself. Raises `LocalFailure`, which says that DIR's disk is the full one."""
    try:
        await asyncio.to_thread(_begin_private, copy)
        await server.store.database.copy_to(copy)
    except LocalFailure as failure:
        if failure.code is not Code.DISK_FULL:
            raise
        raise LocalFailure(
            Code.DISK_FULL,
            f"the disk that holds {server.folder} is full: a backup begins with a copy of the database there",
        ) from failure


def _begin_private(copy: Path) -> None:
    """An empty file that no other account reads: the copy is written into it. Raises `LocalFailure`."""
    try:
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as reason:
        code = disk_fault(reason)
        raise LocalFailure(code, f"{copy} cannot be written: {reason.strerror}") from reason


def _look_at(copy: Path) -> _Copy:
    hasher = blake3()
    hasher.update_mmap(copy)
    connection = sqlite3.connect(copy)
    try:
        packs = connection.execute("SELECT hash, size FROM pack ORDER BY hash").fetchall()
        (entries,) = connection.execute("SELECT count(*) FROM entry").fetchone()
    except sqlite3.Error as reason:
        raise LocalFailure(Code.DAMAGED, "the copy of the database cannot be read") from reason
    finally:
        connection.close()
    return _Copy(copy.stat().st_size, hasher.digest(), packs, entries)


async def _is_whole(server: Server, pack: bytes, size: int) -> bool:
    return await asyncio.to_thread(_has_hash, server.folder / archive.pack_member(pack), pack, size)


def _has_hash(file: Path, pack: bytes, size: int) -> bool:
    hasher = blake3()
    try:
        if file.stat().st_size != size:
            return False
        with file.open("rb", buffering=0) as opened:
            while piece := opened.read(archive.PIECE_BYTES):
                hasher.update(piece)
    except OSError:
        return False
    return hasher.digest() == pack


@dataclass(frozen=True, slots=True)
class _Member:
    """A file that goes into a backup: its place there, where it lies, and what it has to be."""

    name: str
    file: Path
    size: int
    digest: bytes


async def _written(
    server: Server, head: archive.Head, recovery: bytes, copy: Path, packs: Iterable[tuple[bytes, int]]
) -> AsyncIterator[bytes]:
    """The bytes of the file, sealed to the kit, whose key is `recovery`."""
    keys = await asyncio.to_thread((server.folder / KEYS_FILE).read_bytes)
    small = [(archive.HEAD, head.encode()), (KEYS_FILE, keys)]
    files = [_Member(DATABASE, copy, head.database_bytes, head.database_hash)]
    places = [(archive.pack_member(pack), pack, size) for pack, size in packs]
    files += [_Member(name, server.folder / name, size, pack) for name, pack, size in places]
    clear = _archive(small, files, head.made_ms)
    size = sum(map(archive.member_bytes, [*(len(data) for _, data in small), *(each.size for each in files)]))
    return _sealed(server, head, recovery, clear, size + len(archive.END))


async def _sealed(
    server: Server, head: archive.Head, recovery: bytes, clear: AsyncIterator[bytes], size: int
) -> AsyncIterator[bytes]:
    """`clear` takes `size` bytes."""
    key = server.entropy(STREAM_KEY_BYTES)
    wrapped = sealed_archive.wrapped_key(key, recovery, head.territory, server.entropy(KEY_BYTES))
    data = replace(head, sealed_key=wrapped).encode()
    yield archive.member(archive.HEAD, data, head.made_ms)
    size = sealed_archive.sealed_bytes(size)
    yield archive.header(archive.SEALED, size, head.made_ms)
    async for piece in sealed_archive.sealed(clear, key):
        yield piece
    yield archive.padding(size) + archive.END


async def _archive(small: Iterable[tuple[str, bytes]], files: Iterable[_Member], made_ms: int) -> AsyncIterator[bytes]:
    for name, data in small:
        yield archive.member(name, data, made_ms)
    for each in files:
        yield archive.header(each.name, each.size, made_ms)
        async for piece in _pieces(each.file, each.size, each.digest):
            yield piece
        yield archive.padding(each.size)
    yield archive.END


async def _pieces(file: Path, size: int, digest: bytes) -> AsyncIterator[bytes]:
    """Exactly `size` bytes of this hash. Raises `LocalFailure(INCOMPLETE)` for what changed meanwhile."""
    hasher = blake3()
    try:
        opened = await asyncio.to_thread(file.open, "rb", buffering=0)
        with opened:
            while size > 0 and (piece := await asyncio.to_thread(opened.read, min(size, archive.PIECE_BYTES))):
                size -= len(piece)
                hasher.update(piece)
                yield piece
    except OSError as reason:
        raise LocalFailure(Code.INCOMPLETE, "a pack went away while it was copied; try again") from reason
    if size or hasher.digest() != digest:
        raise LocalFailure(Code.INCOMPLETE, "a pack changed while it was copied; try again")


async def _send(pieces: AsyncIterator[bytes], outgoing: Outgoing) -> None:
    number, sent = 0, PART_BYTES
    async for piece in pieces:
        if sent + len(piece) > PART_BYTES:
            if number:
                await outgoing.end()
            number, sent = number + 1, 0
            await outgoing.start(f"part-{number}", None)
        if piece:
            await outgoing.data(piece)
            sent += len(piece)
    await outgoing.end()
