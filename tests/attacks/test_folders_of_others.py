"""Another account of the machine writes where root does: where archives go, in the data folder of a service."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from stat import S_IMODE

import pytest

from protocol.errors import Code, PeerFault
from protocol.replica.access.archive import ZipOutlet
from protocol.replica.console.config import CONFIG_FILE, Known, settings_for
from sync_server.keeping.backing_up import BackupFile
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


@attack(
    "whoever has the store open names the files of a family's archive",
    off={"protocol.replica.access.archive._check_inside": lambda _path: None},
)
@pytest.mark.parametrize(
    "path", ["../.bashrc", "/etc/cron.d/x", "travaux/../../x", "C:\\x", "travaux\\..\\x", "a//b", ""]
)
async def test_no_file_of_an_archive_for_a_family_leads_out_of_where_it_is_unpacked(tmp_path: Path, path: str) -> None:
    with ZipOutlet(tmp_path / TARGET) as outlet, pytest.raises(PeerFault) as refused:
        await outlet.start(path, 1)
    assert refused.value.code is Code.BAD_NAME


@pytest.mark.parametrize("write", [export, back_up])
@attack(
    "something lies already where an export or a backup is written",
    off={
        "protocol.replica.access.archive.create_private": as_it_is_usually_opened,
        "sync_server.keeping.backing_up.create_private": as_it_is_usually_opened,
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


ERASE = {"erase": Known("erase", {"dry_run": False})}
ROOT, NOBODY = 0, 65534


@attack(
    "a service's account gives options to root's commands",
    off={"protocol.replica.console.config._is_of_others": lambda *_: False},
)
async def test_root_takes_no_options_from_a_file_of_the_services_account(tmp_path: Path) -> None:
    config = tmp_path / CONFIG_FILE
    config.write_text("[erase]\ndry_run = true\n")
    if os.geteuid() == ROOT:
        os.chown(config, NOBODY, -1)
    assert settings_for(tmp_path, "erase", ERASE, account=ROOT) == {}
    assert settings_for(tmp_path, "erase", ERASE, account=NOBODY) == {"dry_run": True}  # whose file it is


@attack(
    "a service's account gives options to root's commands",
    off={"protocol.replica.console.config._is_of_others": lambda *_: False},
)
async def test_root_follows_no_link_of_the_services_account_to_options(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.toml").write_text("[erase]\ndry_run = true\n")
    config = tmp_path / CONFIG_FILE
    config.symlink_to(tmp_path / "elsewhere.toml")
    if os.geteuid() == ROOT:
        os.lchown(config, NOBODY, -1)
    assert settings_for(tmp_path, "erase", ERASE, account=ROOT) == {}
