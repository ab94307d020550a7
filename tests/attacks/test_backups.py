"""Who can write where backups lie puts nothing into the server that is restored from one (docs/attacks.md)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.canonical import encode
from protocol.clock import at_from
from protocol.errors import Code, LocalFailure, Refused
from protocol.identity import AgreementKey, SigningKey, school_id, territory_id
from protocol.model.entry import Entry, Kind, compose, encode_header
from protocol.model.entry import restore as restored
from protocol.model.register import RegisterKind, compose_register
from protocol.model.structure import Erasure, Grant, Invite, RecoveryKey
from protocol.replica.at_work.keyring import recovery_keys
from protocol.replica.at_work.quarantine import Quarantine
from protocol.replica.console.operation import NO_FILES
from protocol.replica.interfaces import Held, RegisterRow
from protocol.replica.storage.sqlite import DATABASE
from protocol.roles import Role
from protocol.trust.invitation import Invitation
from protocol.trust.kit import write_kit
from sync_server.handlers.accounts.administrators import (
    ACCOUNT_MARKS,
    Administrator,
    add_administrator,
    list_administrators,
    verifier_of,
)
from sync_server.handlers.overview.figures import BACKUP_MARK
from sync_server.handlers.store.backups import note_kept
from sync_server.opened.app import opened
from sync_server.opened.contacts import CONTACT_MARKS
from sync_server.opened.kits_key import KITS_KEY_MARK, kits_key
from sync_server.operations.table import operations
from tests.harness.attack import attack
from tests.harness.backups import AS_IT_IS, Case, make_backup, rewritten
from tests.harness.commands import Received
from tests.harness.server_in_process import Office, office
from tests.harness.territory import SimClock, new_device

ANOTHER_SCHOOL = "0180002A"


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def unsigned(root: bytes, space: bytes, kind: Kind, at: int, payload: bytes) -> Entry:
    """What the root is made to say; nobody signed it."""
    signed = compose(
        author=SigningKey(os.urandom(32)), space=space, kind=kind, grant=None, at=at, payload=payload, salt=bytes(16)
    )
    header = signed.header
    data = encode([0, space, int(kind), root, None, None, at, None, [], [], header.commitment, header.size])
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


def schema_of(database: Path) -> set[tuple[str, str]]:
    """What a database is made of."""
    with closing(sqlite3.connect(database)) as connection:
        return set(connection.execute("SELECT name, sql FROM sqlite_schema"))


async def signed_all_of_it(_quarantine: Quarantine, waiting: list[Held]) -> list[tuple[Held, bool]]:
    """What waits was checked once, by whomever."""
    return [(held, True) for held in waiting]


@attack("a backup that somebody else has written", off=AS_IT_IS)
async def test_what_stands_in_a_backup_counts_only_as_far_as_somebody_who_may_has_signed_it(case: Case) -> None:
    async with office(case.folder / "server", kit=case.kit) as desk:
        space, at = bytes.fromhex(desk.space), at_from(desk.clock())
        lea = bytes.fromhex(await desk.add_person("Léa", "pupil"))
        stranger, grant = grant_by_a_stranger(space, at)
        forgotten = unsigned(case.kit.root.public, space, Kind.ERASE, at, Erasure(space).encode())
        # beside the door, as into a file
        await desk.server.store.append([forgotten, grant])
        await case.keep(desk)
    await case.restore(desk.clock)
    async with opened(case.folder / "new", now_ms=desk.clock, entropy=os.urandom) as server:
        roster = (await server.replica.view(space)).roster
        assert space not in roster.erased
        assert not server.replica.door.authorities_of(stranger)
        assert lea in roster.persons


@attack(
    "a backup that somebody else has written",
    off={
        **AS_IT_IS,
        "protocol.replica.at_work.quarantine.Quarantine._verified_again": signed_all_of_it,
    },
)
async def test_what_waits_in_a_backup_lets_nobody_in_later(case: Case) -> None:
    async with office(case.folder / "server", kit=case.kit) as desk:
        space, now = bytes.fromhex(desk.space), desk.clock()
        teacher = bytes.fromhex(await desk.add_person("Mme Petit", "teacher"))
        code = Invitation.create(territory_id(case.kit.root.public), os.urandom(10))
        invite = Invite(code.secret_hash, Role.TEACHER, (space,), teacher, 1, now + 10**12)
        forged = unsigned(case.kit.root.public, space, Kind.INVITE, at_from(now), invite.encode())
        # it waits for what an ordinary day will bring
        awaited = school_id(desk.server.replica.territory, ANOTHER_SCHOOL)
        await desk.server.store.hold([Held(b"x" * 32, forged, awaited)], max_entries=10, max_bytes=10**6)
        await case.keep(desk)
    await case.restore(desk.clock)
    async with opened(case.folder / "new", now_ms=desk.clock, entropy=os.urandom) as server:
        await Office(server, desk.clock, desk.space).do("space add", name="CM2", school=ANOTHER_SCHOOL)
        assert not await server.store.present([forged.id])


@attack(
    "a backup that somebody else has written",
    off={"protocol.replica.at_work.quarantine.Quarantine._verified_again": signed_all_of_it},
)
async def test_what_waits_in_a_store_that_somebody_else_wrote_is_checked_when_its_time_comes(case: Case) -> None:
    async with office(case.folder / "server", kit=case.kit) as desk:
        space, at = bytes.fromhex(desk.space), at_from(desk.clock())
        forged = unsigned(case.kit.root.public, space, Kind.ERASE, at, Erasure(space).encode())
        awaited = school_id(desk.server.replica.territory, ANOTHER_SCHOOL)
        await desk.server.store.hold([Held(b"x" * 32, forged, awaited)], max_entries=10, max_bytes=10**6)
        await desk.server.replica.reload()
        await desk.do("space add", name="CM2", school=ANOTHER_SCHOOL)
        assert not await desk.server.store.present([forged.id])
        assert not await desk.server.store.held(), "what nobody signed waits no longer"


@attack("a backup that somebody else has written", off=AS_IT_IS)
@pytest.mark.parametrize(
    "sql",
    [
        pytest.param(
            "CREATE TRIGGER swallow BEFORE INSERT ON entry WHEN NEW.kind IN (19, 22) BEGIN SELECT RAISE(IGNORE); END;",
            id="revocations and erasures vanish",
        ),
        pytest.param(
            "CREATE TRIGGER later AFTER INSERT ON entry WHEN NEW.kind = 20 BEGIN "
            "INSERT OR REPLACE INTO mark VALUES ('administrator/eve', x'80'); END;",
            id="an account appears later",
        ),
        pytest.param(
            "CREATE VIEW spare AS SELECT value FROM mark;",
            id="a view",
        ),
    ],
)
async def test_what_a_database_does_of_its_own_it_does_in_no_server_that_is_restored(case: Case, sql: str) -> None:
    async with office(case.folder / "server", kit=case.kit) as desk:
        await case.keep(desk)
    rewritten(case.backup, case.folder / "kit", sql)
    await case.restore(desk.clock)
    assert schema_of(case.folder / "new" / DATABASE) == schema_of(case.folder / "server" / DATABASE)


def _in_clear(*written: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    return written[3]


IN_CLEAR: dict[str, object] = {"sync_server.handlers.store.backups._sealed": _in_clear}


@attack("a backup is in other hands", off=IN_CLEAR)
async def test_a_backup_tells_whoever_finds_it_no_name_and_no_key(case: Case) -> None:
    async with office(case.folder / "server", kit=case.kit) as desk:
        await desk.add_person("Zoé Verdier-Lacombe", "pupil")
        await case.keep(desk)
        seed = desk.server.keys.signing.seed
    found = case.backup.read_bytes()
    assert "Zoé Verdier-Lacombe".encode() not in found
    assert seed not in found
    assert b"SQLite format 3" not in found


async def _a_row_is_spoilt(case: Case, clock: SimClock) -> None:
    """Where the root has named the kit's key; and somebody has had bad rows moved aside since."""
    with closing(sqlite3.connect(case.folder / "server" / DATABASE)) as rows, rows:
        kind = int(Kind.RECOVERY_KEY)
        rows.execute("UPDATE entry SET payload = zeroblob(length(payload)) WHERE kind = ?", (kind,))
    async with opened(case.folder / "server", now_ms=clock, entropy=os.urandom) as server:
        await operations(server)["verify"]({}, NO_FILES, Received())


@attack("a backup is in other hands", off=IN_CLEAR)
async def test_it_tells_nothing_either_where_the_row_is_damaged_that_says_which_kit_that_is(case: Case) -> None:
    async with office(case.folder / "server", kit=case.kit) as desk:
        await case.keep(desk)
    await _a_row_is_spoilt(case, desk.clock)
    async with opened(case.folder / "server", now_ms=desk.clock, entropy=os.urandom) as server:
        assert await recovery_keys(server.replica) == []
        assert await kits_key(server.replica) == case.kit.recovery.public
        await make_backup(server, case.backup)
    assert b"SQLite format 3" not in case.backup.read_bytes()
    await case.restore(desk.clock)


def _whoever_signed(*_: object) -> bool:
    return True


@attack("a backup is in other hands", off={"sync_server.opened.kits_key.signature_holds": _whoever_signed})
async def test_it_is_sealed_to_no_key_that_somebody_wrote_into_the_servers_database(case: Case) -> None:
    async with office(case.folder / "server", kit=case.kit) as desk:
        server = desk.server
        (named,) = await server.store.scan_kinds([Kind.RECOVERY_KEY])
        said = RecoveryKey(AgreementKey(bytes(31) + b"\1").public).encode()
        root = server.replica.door.root_now
        forged = compose(
            author=SigningKey(bytes(31) + b"\2"),
            space=named.header.space,
            kind=Kind.RECOVERY_KEY,
            grant=None,
            at=named.header.at + 1,
            payload=said,
            salt=bytes(16),
        )
        header = replace(forged.header, author=root)
        written = [encode_header(header), forged.signature, forged.salt, said]
        await server.store.set_marks({KITS_KEY_MARK: encode(written)})
        assert await kits_key(server.replica) == case.kit.recovery.public


async def test_where_nothing_says_which_kit_that_is_none_is_written(case: Case) -> None:
    async with office(case.folder / "server", kit=case.kit) as desk:
        await desk.server.store.set_marks({KITS_KEY_MARK: None})
    await _a_row_is_spoilt(case, desk.clock)
    async with opened(case.folder / "server", now_ms=desk.clock, entropy=os.urandom) as server:
        with pytest.raises(LocalFailure, match="lie open"):
            await make_backup(server, case.backup)


async def test_a_backup_opens_with_no_other_kit(case: Case) -> None:
    async with office(case.folder / "server", kit=case.kit) as desk:
        await case.keep(desk)
    other = replace(case.kit, recovery=AgreementKey(bytes(31) + b"\1"))
    (case.folder / "kit").write_text(write_kit(other, passphrase=None, salt=bytes(16)), encoding="utf-8")
    with pytest.raises(Refused) as refused:
        await case.restore(desk.clock)
    assert refused.value.code is Code.WRONG_TERRITORY
    assert not (case.folder / "new" / DATABASE).exists()


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param("ALTER TABLE entry RENAME TO e; CREATE VIEW entry AS SELECT * FROM e;", id="a view for a table"),
        pytest.param("DROP TABLE mark;", id="none of ours"),
    ],
)
async def test_a_database_whose_rows_are_no_tables_is_not_read(case: Case, sql: str) -> None:
    async with office(case.folder / "server", kit=case.kit) as desk:
        await case.keep(desk)
    rewritten(case.backup, case.folder / "kit", sql)
    with pytest.raises(LocalFailure) as raised:
        await case.restore(desk.clock)
    assert raised.value.code is Code.DAMAGED
    assert [path.name for path in (case.folder / "new").rglob("*") if path.is_file()] == ["lock"]


async def test_what_a_backup_notes_of_no_device_keeps_no_server_from_starting(case: Case) -> None:
    async with office(case.folder / "server", kit=case.kit) as desk:
        await desk.server.store.set_marks({f"{CONTACT_MARKS}nobody": b"\x80"})
        await case.keep(desk)
    await case.restore(desk.clock)
    async with opened(case.folder / "new", now_ms=desk.clock, entropy=os.urandom) as server:
        assert server.contacts.devices() == []


@attack(
    "a backup that somebody else has written",
    off={"sync_server.keeping.foreign_backup._STAY": ("",)},
)
async def test_nobody_signs_in_by_a_backup_and_nothing_counts_as_backed_up(case: Case) -> None:
    async with office(case.folder / "server", kit=case.kit) as desk:
        verifier = verifier_of("a passphrase of a thief", os.urandom(16))
        await add_administrator(desk.server, "Anne", verifier)
        # an account of an earlier version names no key under which it was made
        await desk.server.store.set_marks(
            {f"{ACCOUNT_MARKS}eve": Administrator("Eve", verifier, desk.clock()).encode()}
        )
        await note_kept(desk.server, desk.clock() + 10**12)
        await case.keep(desk)
    await case.restore(desk.clock)
    async with opened(case.folder / "new", now_ms=desk.clock, entropy=os.urandom) as server:
        assert not await list_administrators(server)
        assert await server.store.mark(BACKUP_MARK) is None, "on its word machines let go of work"
    assert all(any(name in line for line in case.said) for name in ("Anne", "Eve")), (
        "who runs the server is told whom to let in again"
    )


@attack(
    "a backup that somebody else has written",
    off=AS_IT_IS,
)
async def test_a_report_that_its_device_did_not_sign_is_left_behind(case: Case) -> None:
    async with office(case.folder / "server", kit=case.kit) as desk:
        keys = [new_device(os.urandom).signing for _ in range(2)]
        own, others = (compose_register(key, RegisterKind.HEALTH, key.public, desk.clock(), b"\x80") for key in keys)
        rows = [
            RegisterRow(own.kind, own.subject, own.device, own.at_ms, own.data),
            # signed by one device, put under the other's name
            RegisterRow(own.kind, others.subject, others.device, own.at_ms, own.data),
        ]
        await desk.server.store.put_registers(rows)
        await case.keep(desk)
    await case.restore(desk.clock)
    async with opened(case.folder / "new", now_ms=desk.clock, entropy=os.urandom) as server:
        assert await server.store.registers() == rows[:1]


@attack("a backup that somebody else has written", off={"sync_server.keeping.foreign_backup._STAY": ("",)})
async def test_what_a_backup_remembers_of_itself_is_forgotten(case: Case) -> None:
    names = ("complete/" + "0" * 64 + "/", "erased/", "erasure-seen/", "erasure-read/", "unnamed-chunks", "brought/")
    forged = [name + "0" * 64 for name in (*names, "what a later version remembers/")]
    async with office(case.folder / "server", kit=case.kit) as desk:
        await desk.server.store.set_marks(dict.fromkeys(forged, b"\x02"))
        await case.keep(desk)
    await case.restore(desk.clock)
    async with opened(case.folder / "new", now_ms=desk.clock, entropy=os.urandom) as server:
        left = [mark for mark in forged if await server.store.marks(mark)]
    assert left == []
