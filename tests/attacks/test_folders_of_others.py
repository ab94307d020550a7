"""An archive is written into a folder in which another account of the machine writes too."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from stat import S_IMODE

import pytest

from protocol.replica.access.archive import ZipOutlet
from sync_server.backing_up import BackupFile
from tests.harness.attack import attack

TARGET = "archive"
SECRET = b"root:$6$"

Writing = Callable[[Path], Awaitable[None]]


async def export(target: Path) -> None:
    with ZipOutlet(target) as outlet:
        await outlet.start("index.html", None)
        await outlet.data(b"all about a pupil")
        await outlet.end()
        outlet.keep()


async def back_up(target: Path) -> None:
    with BackupFile(target) as backup:
        await backup.data(b"the server's keys")
        target.with_name(f"{target.name}.passing").rename(target)


def as_it_is_usually_opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


@pytest.mark.parametrize("write", [export, back_up])
@attack(
    "something lies already where an export or a backup is written",
    off={
        "protocol.replica.access.archive.create_private": as_it_is_usually_opened,
        "sync_server.backing_up.create_private": as_it_is_usually_opened,
    },
)
async def test_what_was_laid_where_an_archive_is_written_is_neither_followed_nor_handed_over(
    tmp_path: Path, write: Writing
) -> None:
    elsewhere = tmp_path / "shadow"
    elsewhere.write_bytes(SECRET)
    laid = tmp_path / f"{TARGET}.passing"
    laid.symlink_to(elsewhere)
    await write(tmp_path / TARGET)
    assert elsewhere.read_bytes() == SECRET

    (tmp_path / TARGET).unlink()
    laid.touch()
    laid.chmod(0o666)
    with laid.open("rb") as kept_open:  # whose file it is may read on
        await write(tmp_path / TARGET)
        assert kept_open.read() == b""
    assert S_IMODE((tmp_path / TARGET).stat().st_mode) == 0o600
