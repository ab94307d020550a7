"""The file of a backup: what is no part of one is not unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from blake3 import blake3

from protocol.errors import BadInput, Code, LocalFailure
from protocol.replica.storage.sqlite import DATABASE
from sync_server.handlers.store import archive
from sync_server.opened.data_folder import KEYS_FILE

PACK = b"what a pack holds" * 100
NAME = blake3(PACK).digest()
BASE = b"a database"
HEAD = archive.Head(bytes(32), bytes(32), "Cher", bytes(32), 0, "1", 0, len(BASE), blake3(BASE).digest(), 1, len(PACK))

Member = tuple[tarfile.TarInfo, bytes]


def plain(name: str, data: bytes) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info, data


def linked(name: str, kind: bytes, to: str) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info, b""


def written(folder: Path, *members: Member, packs: int = 1) -> Path:
    file = folder / "backup.tar"
    head = replace(HEAD, packs=packs).encode()
    with tarfile.open(file, "w", format=tarfile.GNU_FORMAT) as made:
        for info, data in (plain(archive.HEAD, head), plain(KEYS_FILE, b"keys"), plain(DATABASE, BASE), *members):
            made.addfile(info, BytesIO(data))
    return file


def with_a_hole(name: str, size: int) -> bytes:
    """The header of a member of `size` zeros of which the archive holds none."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (size, 0)
    header[483:495] = b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def test_a_member_is_no_larger_than_what_the_backup_holds_of_it(tmp_path: Path) -> None:
    size = 1 << 20
    head = replace(HEAD, packs=0, pack_bytes=0, database_bytes=size, database_hash=blake3(bytes(size)).digest())
    file = tmp_path / "backup.tar"
    with tarfile.open(file, "w", format=tarfile.GNU_FORMAT) as made:
        for info, data in (plain(archive.HEAD, head.encode()), plain(KEYS_FILE, b"keys")):
            made.addfile(info, BytesIO(data))
    whole = file.read_bytes().rstrip(b"\0")
    blocks = whole.ljust(-(-len(whole) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, b"\0")
    file.write_bytes(blocks + with_a_hole(DATABASE, size) + bytes(2 * tarfile.BLOCKSIZE))
    with pytest.raises(BadInput) as refused:
        archive.read_whole(file, tmp_path / "new")
    assert refused.value.code is Code.BAD_BACKUP


def test_a_head_that_is_nested_without_end_is_no_backup() -> None:
    with pytest.raises(BadInput) as refused:
        archive.Head.parse(b"[" * 60_000)
    assert refused.value.code is Code.BAD_BACKUP


def test_what_is_whole_is_unpacked(tmp_path: Path) -> None:
    into = tmp_path / "new"
    archive.read_whole(written(tmp_path, plain(archive.pack_member(NAME), PACK)), into)
    assert (into / archive.pack_member(NAME)).read_bytes() == PACK


@pytest.mark.parametrize(
    "members",
    [
        pytest.param(lambda name: [plain(f"packs/00/{name.hex()}.pack", PACK)], id="in another pack's folder"),
        pytest.param(lambda name: [plain(archive.pack_member(name), PACK)] * 2, id="twice"),
        pytest.param(lambda name: [plain(f"packs/../{name.hex()}.pack", PACK)], id="beside the packs"),
        pytest.param(lambda name: [plain(f"/{archive.pack_member(name)}", PACK)], id="from the root of the disk"),
        pytest.param(
            lambda name: [linked(archive.pack_member(name), tarfile.SYMTYPE, "/etc/hostname")], id="as a link"
        ),
        pytest.param(
            lambda name: [linked(archive.pack_member(name), tarfile.LNKTYPE, DATABASE)], id="as another name of a file"
        ),
        pytest.param(lambda _: [linked("packs/00", tarfile.SYMTYPE, "/tmp")], id="into a linked folder"),  # noqa: S108
    ],
)
def test_a_pack_that_does_not_lie_where_packs_lie_makes_no_backup(
    tmp_path: Path, members: Callable[[bytes], list[Member]]
) -> None:
    into = tmp_path / "new"
    with pytest.raises(BadInput) as raised:
        archive.read_whole(written(tmp_path, *members(NAME)), into)
    assert raised.value.code is Code.BAD_BACKUP
    assert {path.name for path in tmp_path.iterdir()} == {"backup.tar", "new"}


def test_a_pack_under_anothers_name_is_told(tmp_path: Path) -> None:
    with pytest.raises(LocalFailure) as raised:
        archive.read_whole(written(tmp_path, plain(archive.pack_member(bytes(32)), PACK)), tmp_path / "new")
    assert raised.value.code is Code.DAMAGED
