"""The account of a service leads root's command to files of root's, by links in its own data folder."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from protocol.errors import BadInput, LocalFailure
from protocol.replica.console import control
from protocol.replica.console.command import run_command
from protocol.replica.console.frame import Notices
from protocol.replica.console.operation import JSON, NO_FILES, Incoming, Outgoing, Params, Table
from protocol.replica.console.stepping_down import Account, account_of, step_down
from sync_server.keeping.beginning import begin
from tests.harness.attack import attack

ROOT, NOBODY = 0, 65534
ROW = "a service's account leads root's command to other files"
SKIPPED = "nobody but root has files that another account leads to"
assert control  # loaded before rights are given up: that account need not be able to read this checkout


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder that another account can reach and, where this runs as root, owns."""
    made = Path(tempfile.mkdtemp(prefix="relais-of-another-"))
    if os.geteuid() == ROOT:
        os.chown(made, NOBODY, NOBODY)
    yield made
    shutil.rmtree(made)


def writing_to(data_dir: Path) -> Table:
    async def write(_params: Params, _incoming: Incoming, _outgoing: Outgoing) -> JSON:
        (data_dir / "outbox").write_text("whatever the account chooses")
        return {"user": os.geteuid()}

    return {"write": write}


async def written(data_dir: Path) -> JSON:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Table]:
        yield writing_to(data_dir)

    return await run_command(data_dir, "write", {}, NO_FILES, Notices(), opened)


def owner_of(path: Path) -> Account:
    user = path.stat().st_uid
    return Account(user, pwd.getpwuid(user).pw_gid)


async def test_what_root_has_done_in_the_folder_of_an_account_is_done_by_that_account(data_dir: Path) -> None:
    owner = owner_of(data_dir)
    assert await written(data_dir) == {"user": owner.user}
    assert owner_of(data_dir / "outbox").user == owner.user
    assert await written(data_dir) == {"user": owner.user}, "the lock is free again"


async def test_only_root_steps_down_and_only_for_others(data_dir: Path) -> None:
    owner = owner_of(data_dir)
    assert account_of(data_dir, user=ROOT) == (owner if owner.user != ROOT else None)
    assert account_of(data_dir, user=owner.user or NOBODY) is None


@pytest.mark.skipif(os.geteuid() != ROOT, reason=SKIPPED)
@attack(ROW, off={"protocol.replica.console.command.account_of": lambda *_, **__: None})
async def test_a_link_in_the_folder_of_an_account_leads_root_to_no_file_of_its_own(
    data_dir: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "authorized_keys"
    keys.write_text("root's own")
    (data_dir / "outbox").symlink_to(keys)
    with suppress(LocalFailure, PermissionError):
        await written(data_dir)
    assert keys.read_text() == "root's own"


@attack(ROW, off={"protocol.replica.console.stepping_down._way_to": lambda place: iter([place.stat()])})
async def test_a_link_in_the_place_of_the_folder_is_its_owners(data_dir: Path) -> None:
    owner = owner_of(data_dir)
    home = data_dir / "home"
    home.symlink_to("/usr")  # root's own
    if os.geteuid() == ROOT:
        os.lchown(home, owner.user, owner.group)
    for place in (home, home / "share", data_dir / "home" / ".." / "usr", data_dir / "missing"):
        assert account_of(place, user=ROOT) == owner
    assert account_of(Path("/usr/share"), user=ROOT) is None


def user_after(data_dir: Path) -> int:
    """As whom a process goes on that root started there."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with suppress(LocalFailure):  # that account need not be able to read this checkout
                step_down(data_dir)
            os.write(write, str(os.geteuid()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        user = int(said.read())
    os.waitpid(child, 0)
    return user


@pytest.mark.skipif(os.geteuid() != ROOT, reason=SKIPPED)
@attack(ROW, off={"protocol.replica.console.stepping_down._become": lambda _: None})
async def test_a_program_that_root_starts_there_runs_as_that_account(data_dir: Path, tmp_path: Path) -> None:
    assert user_after(data_dir) == NOBODY
    assert user_after(tmp_path) == ROOT, "its own"


@pytest.mark.skipif(os.geteuid() != ROOT, reason=SKIPPED)
@attack(
    ROW,
    off={
        "sync_server.keeping.beginning.refuse_for_others": lambda _: None,
        "protocol.replica.console.command.refuse_for_others": lambda _: None,
    },
)
async def test_root_makes_no_folder_of_data_in_what_an_account_may_exchange(data_dir: Path, tmp_path: Path) -> None:
    passwords = tmp_path / "passwd"
    passwords.write_text("")
    passwords.chmod(0o644)
    (data_dir / "replica.db").symlink_to(passwords)
    for place in (data_dir, data_dir / "below"):
        with suppress(BadInput, LocalFailure):
            await begin(
                place,
                "Cher",
                kit=tmp_path / "kit",
                passphrase_file=None,
                recover=None,
                now_ms=lambda: 1_800_000_000_000,
                entropy=os.urandom,
                tell=lambda _: None,
            )
    assert stat.S_IMODE(passwords.stat().st_mode) == 0o644
    assert not (data_dir / "below").exists()


def may_mount() -> bool:
    """Whether this may show a process other folders than everybody sees: on Linux, as root of a whole machine."""
    if os.geteuid() != ROOT or sys.platform != "linux":
        return False
    return subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0


@pytest.fixture
def in_private(data_dir: Path) -> Iterator[Path]:
    """The folder as systemd has it for accounts that it makes: a link to it, below one that only root enters."""
    private, seen = data_dir.with_name(f"{data_dir.name}-private"), data_dir.with_name(f"{data_dir.name}-seen")
    private.mkdir(mode=0o700)
    data_dir.rename(private / "relais")
    seen.symlink_to(private / "relais")
    yield seen
    seen.unlink()
    (private / "relais").rename(data_dir)
    private.rmdir()


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.skipif(not may_mount(), reason="accounts whose folders only root enters are systemd's, and Linux's")
async def test_a_folder_that_only_root_enters_is_opened_to_the_process_that_stands_in(in_private: Path) -> None:
    assert await written(in_private) == {"user": NOBODY}
    assert owner_of(in_private / "outbox").user == NOBODY
    assert names_in(in_private / "..") == ["relais"], "nobody else sees what the process saw"


@pytest.mark.skipif(not may_mount(), reason="folders are opened to a process that stands in by Linux alone")
@attack(ROW, off={"protocol.replica.console.stepping_down._owns": lambda *_: True})
async def test_a_link_of_an_account_opens_nothing_of_roots_that_lies_behind_a_closed_folder(
    data_dir: Path, tmp_path: Path
) -> None:
    backup = tmp_path / "closed" / "backup"
    backup.parent.mkdir(mode=0o700)
    backup.mkdir()
    backup.chmod(0o777)  # behind a closed folder its own rights say little
    link = data_dir / "home"
    link.symlink_to(backup)
    os.lchown(link, NOBODY, NOBODY)
    with suppress(LocalFailure):
        await written(link)
    assert names_in(backup) == []


def nothing_is_said(_saying: int, _error: object) -> None:
    """As if the process ended without a word."""


@pytest.mark.skipif(os.geteuid() != ROOT, reason=SKIPPED)
@attack(ROW, off={"protocol.replica.console.stepping_down._say": nothing_is_said})
async def test_what_fails_in_the_process_that_stands_in_is_said(data_dir: Path) -> None:
    @asynccontextmanager
    async def failing() -> AsyncIterator[Table]:
        raise ZeroDivisionError
        yield {}

    with pytest.raises(LocalFailure) as caught:
        await run_command(data_dir, "write", {}, NO_FILES, Notices(), failing, patience_s=10.0)
    assert "ZeroDivisionError" in caught.value.message, caught.value.message
