"""The file of `backup` and `restore`: a tar of a server's store, packs and keys, checked whenever it is read.

Members, in this order: `relais-backup.json` (what this is, and what must follow), `keys/server`, `replica.db`,
`packs/ab/<hash>.pack` …. A pack is checked by its own hash, the database by the one in the first member, the count of
packs by the number there; so a file that was cut short, or rotted, is told before it replaces anything. All of that
stands in the file, and is whoever's who could write it last: that it is the one of then, only its SHA-256 says, kept
elsewhere (docs/adr/0366).

The recovery kit is never in it. The server's keys are: whoever reads it all is the server. So it goes out sealed to the
kit (`sealed_archive`): a tar of two members, the first one and, sealed, all of this. What earlier versions wrote, or a
server that knows of no kit, lies open, and is read as well.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import IO, BinaryIO, Final, Self, TypeAlias, cast

from blake3 import blake3

from protocol.clock import rfc3339
from protocol.errors import NO_ROOM, BadInput, Code, LocalFailure, PeerFault
from protocol.identity import AgreementKey
from protocol.limits import MAX_BACKUP_HEAD_BYTES, MAX_DEVICE_KEYS_BYTES, MAX_PACK_BYTES, MiB
from protocol.replica.content.kept.pack_files import PACKS
from protocol.replica.storage.sqlite import DATABASE
from sync_server.handlers.store.sealed_archive import Unsealed, stream_key
from sync_server.opened.data_folder import KEYS_FILE

HEAD: Final = "relais-backup.json"
BLOCK_BYTES: Final = tarfile.BLOCKSIZE
END: Final = bytes(2 * BLOCK_BYTES)
PIECE_BYTES: Final = MiB
SEALED: Final = "sealed"
_OPEN, _SEALED = range(2)
"""Formats: all members as they are, or the first one and all of them sealed."""
_PACK: Final = re.compile(rf"{PACKS}/[0-9a-f]{{2}}/([0-9a-f]{{64}})\.pack")
_HASH_BYTES: Final = 32
_MODE: Final = 0o600


Members: TypeAlias = Iterator[tuple[tarfile.TarInfo, IO[bytes]]]
"""In order, each to be read before the next."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the first member says: whose backup, when, by which version, and what follows."""

    territory: bytes
    root: bytes
    name: str
    certificate: bytes
    made_ms: int
    version: str
    entries: int
    database_bytes: int
    database_hash: bytes
    packs: int
    pack_bytes: int
    sealed_key: bytes | None = None
    """The key of what is sealed, wrapped for the kit; None where the members lie open."""

    def encode(self) -> bytes:
        """The member's bytes."""
        document: dict[str, object] = {
            "format": _OPEN if self.sealed_key is None else _SEALED,
            "territory": self.territory.hex(),
            "root": self.root.hex(),
            "name": self.name,
            "certificate": self.certificate.hex(),
            "made_at": rfc3339(self.made_ms),
            "made_ms": self.made_ms,
            "version": self.version,
            "entries": self.entries,
            "database": {"bytes": self.database_bytes, "blake3": self.database_hash.hex()},
            "packs": {"count": self.packs, "bytes": self.pack_bytes},
        }
        if self.sealed_key is not None:
            document["sealed_key"] = self.sealed_key.hex()
        return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """What `encode` wrote. Raises `BadInput(BAD_BACKUP)`."""
        try:
            found = json.loads(data)
            if found["format"] not in (_OPEN, _SEALED):
                raise BadInput(Code.BAD_BACKUP, "this backup was made by a newer version of the program")
            head = cls(
                bytes.fromhex(found["territory"]),
                bytes.fromhex(found["root"]),
                str(found["name"]),
                bytes.fromhex(found["certificate"]),
                int(found["made_ms"]),
                str(found["version"]),
                int(found["entries"]),
                int(found["database"]["bytes"]),
                bytes.fromhex(found["database"]["blake3"]),
                int(found["packs"]["count"]),
                int(found["packs"]["bytes"]),
                bytes.fromhex(found["sealed_key"]) if found["format"] == _SEALED else None,
            )
        except (ValueError, KeyError, TypeError, RecursionError) as reason:
            raise _no_backup() from reason
        if {len(part) for part in (head.territory, head.root, head.certificate, head.database_hash)} != {_HASH_BYTES}:
            raise _no_backup()
        return head


@dataclass(frozen=True, slots=True)
class Whole:
    """A backup that was read to its end; `sha256` is of the whole file, in hex, as `sha256sum` says it."""

    head: Head
    sha256: str


def header(name: str, size: int, at_ms: int) -> bytes:
    """What stands before a member's bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, at_ms // 1000, _MODE
    return info.tobuf(tarfile.GNU_FORMAT)


def member(name: str, data: bytes, at_ms: int) -> bytes:
    """A whole member."""
    return header(name, len(data), at_ms) + data + padding(len(data))


def padding(size: int) -> bytes:
    """What stands after them."""
    return bytes(-size % BLOCK_BYTES)


def pack_member(pack: bytes) -> str:
    """The member that holds a pack: its place below DIR."""
    return f"{PACKS}/{pack[:1].hex()}/{pack.hex()}.pack"


def member_bytes(size: int) -> int:
    """What a member of `size` bytes takes in all."""
    return BLOCK_BYTES + size + len(padding(size))


def read_head(path: Path) -> Head:
    """Whose backup a file is. Raises `BadInput` (MISSING_FILE, UNREADABLE_FILE, BAD_BACKUP)."""
    with _read(path) as (members, _):
        return _head(members)


def read_closed(path: Path) -> Whole:
    """The same, and the hash of the whole file, of which nothing else is looked at. Raises as `read_head`."""
    with _read(path) as (members, hash_of_all):
        return Whole(_head(members), hash_of_all())


def read_whole(
    path: Path, into: Path | None, *, database: str = DATABASE, opening: Iterable[AgreementKey] = ()
) -> Whole:
    """Read all of a backup, check it, and write its members below `into` if that is given, one under another name.

    One that is sealed opens with one of the kit's keys, `opening`. What is written is flushed, the folders of it are
    not.

    Raises `BadInput` (MISSING_FILE, UNREADABLE_FILE, BAD_BACKUP), `Refused(WRONG_TERRITORY)` where none of the keys
    opens it, `LocalFailure` (DAMAGED; DISK_FULL, STORAGE_FAILED for what is written).
    """
    with _read(path) as (members, hash_of_all):
        head = _head(members)
        try:
            behind = members if head.sealed_key is None else _opened(path, members, head, opening)
            _read_members(path, behind, head, into, database)
        except (tarfile.TarError, PeerFault) as reason:
            raise _damaged(path, "it cannot be read to its end") from reason
        return Whole(head, hash_of_all())


def _read_members(path: Path, members: Members, head: Head, into: Path | None, database: str) -> None:
    """What stands behind the first one."""
    seen: set[str] = set()
    for info, file in members:
        expected = _expected(info, head)
        if info.name in seen:
            raise _no_backup()
        name = database if info.name == DATABASE else info.name
        digest = _copy(file, info.size, None if into is None else into / name)
        if expected is not None and digest != expected:
            raise _damaged(path, f"{info.name} is not what it was")
        seen.add(info.name)
    if not {KEYS_FILE, DATABASE} <= seen or len(seen) - 2 != head.packs:
        raise _damaged(path, "it was cut short")


def _opened(path: Path, members: Members, head: Head, opening: Iterable[AgreementKey]) -> Members:
    """The members that lie sealed in the second one, behind a head that says the same."""
    info, file = next(members, (None, None))
    if info is None or file is None or info.name != SEALED:
        raise _damaged(path, "it was cut short")
    clear = Unsealed(file, info.size, stream_key(head.sealed_key or b"", head.territory, opening))
    with tarfile.open(fileobj=cast("BinaryIO", clear), mode="r|", bufsize=PIECE_BYTES) as archive:
        inside = _regular(archive)
        if _head(inside) != replace(head, sealed_key=None):
            raise _no_backup()
        yield from inside
    clear.finish()


def _expected(info: tarfile.TarInfo, head: Head) -> bytes | None:
    """The hash that a member must have. Raises `BadInput(BAD_BACKUP)` for one that no backup has."""
    pack = _PACK.fullmatch(info.name)
    if pack is not None and info.size <= MAX_PACK_BYTES and info.name == pack_member(bytes.fromhex(pack[1])):
        return bytes.fromhex(pack[1])
    if info.name == DATABASE and info.size == head.database_bytes:
        return head.database_hash
    if info.name == KEYS_FILE and info.size <= MAX_DEVICE_KEYS_BYTES:
        return None
    raise _no_backup()


@contextmanager
def _read(path: Path) -> Iterator[tuple[Members, Callable[[], str]]]:
    """The members in order, each to be read before the next; and what, after them, says the hash of the whole file."""
    try:
        with path.open("rb") as opened:
            file = _Hashed(opened)
            with tarfile.open(fileobj=cast("BinaryIO", file), mode="r|", bufsize=PIECE_BYTES) as archive:
                yield _regular(archive), file.digest
    except FileNotFoundError as reason:
        raise BadInput(Code.MISSING_FILE, f"{path} does not exist", path=str(path)) from reason
    except tarfile.TarError as reason:
        raise _no_backup() from reason
    except OSError as reason:
        raise BadInput(Code.UNREADABLE_FILE, f"{path} cannot be read: {reason.strerror}", path=str(path)) from reason


class _Hashed:
    """A file that is read once: what is checked, written and hashed are the same bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hasher = sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._hasher.update(data)
        return data

    def digest(self) -> str:
        """The SHA-256 of all of it, in hex."""
        while self.read(PIECE_BYTES):
            pass
        return self._hasher.hexdigest()


def _regular(archive: tarfile.TarFile) -> Members:
    for info in archive:
        # one with holes is as large as it says, whatever the backup's size
        file = archive.extractfile(info) if info.isreg() and not info.issparse() else None
        if file is None:
            raise _no_backup()
        yield info, file


def _head(members: Members) -> Head:
    info, file = next(members, (None, None))
    if info is None or file is None or info.name != HEAD or info.size > MAX_BACKUP_HEAD_BYTES:
        raise _no_backup()
    return Head.parse(file.read(MAX_BACKUP_HEAD_BYTES))


def _copy(source: IO[bytes], size: int, target: Path | None) -> bytes:
    """Read a member to its end, into `target` if that is given; its BLAKE3."""
    hasher = blake3()
    with _written(target) as file:
        while size > 0 and (piece := source.read(min(PIECE_BYTES, size))):
            size -= len(piece)
            hasher.update(piece)
            if file is not None:
                _write(file, piece)
    return hasher.digest()


@contextmanager
def _written(target: Path | None) -> Iterator[BinaryIO | None]:
    if target is None:
        yield None
        return
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # all of it is somebody's name, key or work: no other account reads it, meanwhile neither
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE))
        opened = target.open("wb", buffering=0)
    except OSError as reason:
        raise _unwritten(target, reason) from reason
    with opened as file:
        yield cast("BinaryIO", file)
        try:
            os.fsync(file.fileno())
        except OSError as reason:
            raise _unwritten(target, reason) from reason


def _write(file: BinaryIO, piece: bytes) -> None:
    rest = memoryview(piece)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as reason:
        raise _unwritten(Path(file.name), reason) from reason


def _unwritten(target: Path, reason: OSError) -> LocalFailure:
    if reason.errno in NO_ROOM:
        return LocalFailure(Code.DISK_FULL, f"the disk is full: {target} could not be written")
    return LocalFailure(Code.STORAGE_FAILED, f"{target} cannot be written: {reason.strerror}", path=str(target))


def _no_backup() -> BadInput:
    return BadInput(Code.BAD_BACKUP, "this file is no backup of a Relais server")


def _damaged(path: Path, why: str) -> LocalFailure:
    return LocalFailure(Code.DAMAGED, f"the backup {path} is damaged: {why}; use an older one", path=str(path))
