"""Who can write where backups lie puts nothing into the server that is restored from one (docs/threat-model.md)."""

from __future__ import annotations

import os
from pathlib import Path

from protocol.canonical import encode
from protocol.clock import at_from
from protocol.entry import Entry, Kind, compose
from protocol.entry import restore as restored
from protocol.identity import SigningKey
from protocol.kit import write_kit
from protocol.roles import Role
from protocol.structure import Erasure, Grant
from sync_server.app import opened
from sync_server.backing_up import BackupFile, restore
from sync_server.handlers.administrators import add_administrator, verifier_of
from sync_server.handlers.backups import back_up
from sync_server.handlers.territory import new_kit
from tests.harness.attack import attack
from tests.harness.server_in_process import Office, office
from tests.harness.territory import new_device


def erasure_by(root: bytes, space: bytes, at: int) -> Entry:
    """A class is forgotten, says the root; nobody signed it."""
    signed = compose(
        author=SigningKey(os.urandom(32)),
        space=space,
        kind=Kind.ERASE,
        grant=None,
        at=at,
        payload=Erasure(space).encode(),
        salt=bytes(16),
    )
    header = signed.header
    data = encode([0, space, int(Kind.ERASE), root, None, None, at, None, [], [], header.commitment, header.size])
    return restored(data, bytes(64), signed.salt, signed.payload)


def grant_by_a_stranger(space: bytes, at: int) -> tuple[bytes, Entry]:
    """Somebody lets a device in as a teacher, under the server's grant but with a key of his own."""
    device = new_device(os.urandom)
    keys = device.signing.public, device.agreement.public
    entry = compose(
        author=SigningKey(os.urandom(32)),
        space=space,
        kind=Kind.GRANT,
        grant=None,
        at=at,
        payload=Grant(keys[0], keys[1], bytes(32), Role.TEACHER, None, None).encode(),
        salt=bytes(16),
    )
    return keys[0], entry


async def keep_backup(desk: Office, file: Path) -> None:
    with BackupFile(file) as target:
        await back_up(desk.server, "0", target)
        target.keep()


async def believed(*_: object) -> None:
    """The database of a backup is taken as it is."""


@attack("a backup that somebody else has written", off={"sync_server.backing_up._keep_what_the_door_lets_in": believed})
async def test_what_stands_in_a_backup_counts_only_as_far_as_somebody_who_may_has_signed_it(tmp_path: Path) -> None:
    kit = new_kit("Cher", os.urandom)
    (tmp_path / "kit").write_text(write_kit(kit, passphrase=None, salt=os.urandom(16)), encoding="utf-8")
    async with office(tmp_path / "server", kit=kit) as desk:
        space, at = bytes.fromhex(desk.space), at_from(desk.clock())
        lea = bytes.fromhex(await desk.add_person("Léa", "pupil"))
        await add_administrator(desk.server, "Mallory", verifier_of("a passphrase of a thief", os.urandom(16)))
        stranger, grant = grant_by_a_stranger(space, at)
        # beside the door, as into a file
        await desk.server.store.append([erasure_by(kit.root.public, space, at), grant])
        await keep_backup(desk, tmp_path / "backup")
        clock = desk.clock
    said: list[str] = []
    await restore(
        tmp_path / "new",
        tmp_path / "backup",
        tmp_path / "kit",
        None,
        now_ms=clock,
        entropy=os.urandom,
        tell=said.append,
    )
    async with opened(tmp_path / "new", now_ms=clock, entropy=os.urandom) as server:
        roster = (await server.replica.view(space)).roster
        assert space not in roster.erased
        assert not server.replica.door.authorities_of(stranger)
        assert lea in roster.persons
    assert any("Mallory" in line for line in said)
