"""The account of a service leads root's command to files of root's, by links in its own data folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from protocol.errors import LocalFailure
from protocol.replica import control
from protocol.replica.command import run_command
from protocol.replica.console import Notices
from protocol.replica.operation import JSON, NO_FILES, Incoming, Outgoing, Params, Table
from protocol.replica.stepping_down import Account, account_of
from tests.harness.attack import attack

ROOT, NOBODY = 0, 65534
ROW = "a service's account leads root's command to other files"
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
    facts = path.stat()
    return Account(facts.st_uid, facts.st_gid)


async def test_what_root_has_done_in_the_folder_of_an_account_is_done_by_that_account(data_dir: Path) -> None:
    owner = owner_of(data_dir)
    assert await written(data_dir) == {"user": owner.user}
    assert owner_of(data_dir / "outbox").user == owner.user
    assert await written(data_dir) == {"user": owner.user}, "the lock is free again"


async def test_only_root_steps_down_and_only_for_others(data_dir: Path) -> None:
    owner = owner_of(data_dir)
    assert account_of(data_dir, user=ROOT) == (owner if owner.user != ROOT else None)
    assert account_of(data_dir, user=owner.user or NOBODY) is None
    assert account_of(data_dir / "missing", user=ROOT) is None


@pytest.mark.skipif(os.geteuid() != ROOT, reason="nobody but root has files that another account leads to")
@attack(ROW, off={"protocol.replica.command.account_of": lambda *_, **__: None})
async def test_a_link_in_the_folder_of_an_account_leads_root_to_no_file_of_its_own(
    data_dir: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "authorized_keys"
    keys.write_text("root's own")
    (data_dir / "outbox").symlink_to(keys)
    with suppress(LocalFailure, PermissionError):
        await written(data_dir)
    assert keys.read_text() == "root's own"
