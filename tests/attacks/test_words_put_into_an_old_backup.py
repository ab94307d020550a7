"""Who puts words of today into a backup of before is found out by the hash that was kept (docs/attacks.md)."""

# ruff: noqa: S608  (what a forger writes)

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

from protocol.clock import DAY_MS, at_from
from protocol.errors import Code
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant
from protocol.roles import Role
from sync_server.handlers.store import archive
from sync_server.opened.app import opened
from tests.harness.attack import attack
from tests.harness.backups import make_backup, restore_backup, rewritten
from tests.harness.failures import code_of
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town
from tests.harness.server_in_process import Office
from tests.harness.territory import new_device

ROW = "words of today are put into a backup of before"


def adding(entry: Entry) -> str:
    """What puts an entry into a database as if it had come last of what is there."""
    space, author = (f"X'{each.hex()}'" for each in (entry.header.space, entry.header.author))
    cells = entry.id, entry.header_bytes, entry.signature, entry.salt or b"", entry.payload or b""
    name, header, signature, salt, payload = (f"X'{cell.hex()}'" for cell in cells)
    return f"""INSERT OR IGNORE INTO author (key) VALUES ({author});
        INSERT INTO entry SELECT (SELECT max(seq) + 1 FROM entry), {name}, number, count + 1, zeroblob(8),
            {int(entry.header.kind)}, (SELECT number FROM author WHERE key = {author}), {entry.timestamp_ms},
            {header}, {signature}, {salt}, {payload} FROM space WHERE id = {space};"""


def grant_of_a_spy(here: Town, days_ago: int) -> Entry:
    """What somebody who is in the server has it say, dated before they came."""
    spy, server = new_device(os.urandom), here.office.server
    given = Grant(spy.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.TEACHER, os.urandom(16), None)
    return compose(
        author=server.keys.signing,
        space=here.space,
        kind=Kind.GRANT,
        grant=server.grant,
        at=at_from(here.office.clock() - days_ago * DAY_MS),
        payload=given.encode(),
        salt=bytes(16),
    )


def _whatever_it_is(*_: object) -> None:
    """Nobody compares."""


@attack(ROW, off={"sync_server.keeping.backing_up._check_hash": _whatever_it_is})
async def test_a_backup_into_which_somebody_has_put_words_since_is_not_the_one_of_then(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, _):
        backup, kit = tmp_path / "backup", tmp_path / "server" / "kit"
        kept = await make_backup(here.office.server, backup)
        before = archive.read_head(backup)
        here.office.clock.advance(3 * DAY_MS)
        rewritten(backup, kit, adding(grant_of_a_spy(here, days_ago=4)))
        assert archive.read_head(backup).made_ms == before.made_ms, "it is dated as it was"
        restoring = restore_backup(tmp_path / "new", backup, kit, here.office.clock, sha256=kept)
        assert await code_of(restoring) is Code.BAD_BACKUP
        assert not (tmp_path / "new" / "keys").exists(), "nothing is left of it"


class _Share(type(Path())):  # type: ignore[misc]  # (until 3.12 a Path is of its system's class)
    """A place that gives another file to whoever reads for the first time."""

    first: Path | None = None

    def open(self, *how: object, **options: object) -> IO[bytes]:
        given, self.first = self.first, None
        return cast("IO[bytes]", (given or Path(self)).open(*how, **options))  # type: ignore[call-overload]


@attack(ROW, off={"sync_server.keeping.backing_up._check_head": _whatever_it_is})
async def test_the_date_of_a_backup_is_that_of_the_file_whose_hash_was_kept(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, _):
        clock, share, kit = here.office.clock, _Share(tmp_path / "backup"), tmp_path / "server" / "kit"
        kept = await make_backup(here.office.server, Path(share))
        head = archive.read_head(Path(share))
        older = replace(head, made_ms=head.made_ms - 3 * DAY_MS).encode()
        share.first = tmp_path / "older"
        share.first.write_bytes(
            archive.header(archive.HEAD, len(older), clock()) + older + archive.padding(len(older)) + archive.END
        )
        restoring = restore_backup(tmp_path / "new", share, kit, clock, sha256=kept)
        assert await code_of(restoring) is Code.BAD_BACKUP


async def test_where_no_hash_is_given_it_is_told_what_a_time_believes(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, _):
        clock, backup, kit = here.office.clock, tmp_path / "backup", tmp_path / "server" / "kit"
        await make_backup(here.office.server, backup)
        clock.advance(3 * DAY_MS)
        false = grant_of_a_spy(here, days_ago=4)
        rewritten(backup, kit, adding(false))
        clock.advance(DAY_MS)
        told: list[str] = []
        await restore_backup(tmp_path / "new", backup, kit, clock, told.append)
        assert any("may have put words into it" in line and "SHA-256" in line for line in told)
        async with opened(tmp_path / "new", now_ms=clock, entropy=os.urandom) as server:
            office = Office(server, clock, here.office.space)
            await office.with_kit_in("rotate server", kit, since="3d")
            roster = (await server.replica.view(here.space)).roster
            assert false.id not in roster.held_back, "as it says: a time lets stand what the file holds"
