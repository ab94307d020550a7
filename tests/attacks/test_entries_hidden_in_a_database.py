"""A signed word that somebody has put out of sight of a database is heeded once it is restored (docs/attacks.md).

Its row has a number before the first and a space that there is not: whoever asks by space or kind never meets it, and
whoever brings it is told that it is here.
"""

# ruff: noqa: S608  (what a forger writes)

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol.clock import DAY_MS, at_from
from protocol.folds.hand_in_keys import content_key_of
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, PersonKey
from protocol.replica.upkeep.eraser import Eraser
from protocol.roles import Role
from sync_agent.upkeep.erasing import destroy_erased
from sync_server.opened.app import opened
from tests.harness.attack import attack
from tests.harness.backups import AS_IT_IS, Case, make_backup, restore_backup, rewritten
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town
from tests.harness.server_in_process import Office, office
from tests.harness.territory import new_device

ROW = "words are hidden in a database that somebody else has written"
LOWEST = -(1 << 63)


def hiding(entries: Iterable[Entry], first: int = -1) -> str:
    """What puts entries out of sight, with their true ids, from a number downwards."""
    nowhere = os.urandom(32).hex()
    columns = "seq, id, space, arrival, chain, kind, author, at_ms, header, signature, salt, payload"
    lines = [f"INSERT INTO space (number, id, count) VALUES (9999, X'{nowhere}', 1);"]
    for place, entry in enumerate(entries):
        lines += [
            f"DELETE FROM entry WHERE id = X'{entry.id.hex()}';",
            f"INSERT OR IGNORE INTO author (key) VALUES (X'{entry.header.author.hex()}');",
            f"INSERT INTO entry ({columns}) VALUES ({first - place}, {filed(entry, place)}, {parts(entry)});",
        ]
    return "\n".join(lines)


def filed(entry: Entry, place: int) -> str:
    """Under its true id and author, and whatever else one likes, in SQL."""
    author = f"(SELECT number FROM author WHERE key = X'{entry.header.author.hex()}')"
    return f"X'{entry.id.hex()}', 9999, {place}, zeroblob(8), 0, {author}, 0"


def parts(entry: Entry) -> str:
    """Its four parts, in SQL."""
    cells = entry.header_bytes, entry.signature, entry.salt or b"", entry.payload or b""
    return ", ".join(f"X'{cell.hex()}'" for cell in cells)


@asynccontextmanager
async def restored(here: Town) -> AsyncIterator[Office]:
    """The server that is made of the backup and the kit a day later, answering where the one before did."""
    clock, folder = here.office.clock, here.folder / "anew"
    clock.advance(DAY_MS)
    await restore_backup(folder, here.folder / "backup", here.folder / "server" / "kit", clock)
    async with opened(folder, now_ms=clock, entropy=os.urandom) as server:
        here.frontage.responder = server.responder
        here.office = Office(server, clock, here.office.space)
        yield here.office


async def a_week(here: Town) -> None:
    """Passes, and what is due is destroyed."""
    for _ in range(8):
        here.office.clock.advance(DAY_MS)
        for device in here.devices:
            await destroy_erased(device.agent)


@attack(ROW, off=AS_IT_IS)
async def test_whom_the_kit_had_forgotten_is_not_back_on_a_server_of_a_backup_that_hides_it(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (laptop, machine, _, pupil, item)):
        work = await here.work(machine, item, pupil)
        await here.sync(machine, laptop, machine)
        await make_backup(here.office.server, tmp_path / "backup")
        here.office.clock.advance(DAY_MS)
        await here.office.with_kit_in("erase", tmp_path / "server" / "kit", person=[pupil])
        hidden = await here.office.server.store.scan_kinds([Kind.ERASE])
        await here.sync()
        await a_week(here)
        rewritten(tmp_path / "backup", tmp_path / "server" / "kit", hiding(hidden))
        async with restored(here) as made:
            await here.sync(machine, laptop)
            assert "Léa" not in {row["name"] for row in await made.do("person list", space=made.space)}
            eraser = Eraser(made.server.replica, made.server.holdings)
            for _ in range(9):
                made.clock.advance(DAY_MS)
                await eraser.sweep(made.clock())
            (entry,) = (await made.server.store.get([work])).values()
            assert entry.payload is None


@attack(ROW, off=AS_IT_IS)
async def test_a_server_key_that_the_kit_cut_off_lets_nobody_in_where_a_backup_hides_that(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (_, _, _, pupil, item)):
        await here.sync()
        stolen, under, spy = here.office.server.keys.signing, here.office.server.grant, new_device(os.urandom)
        here.office.clock.advance(DAY_MS)
        await here.office.with_kit_in("rotate server", tmp_path / "server" / "kit")
        await here.sync()
        await make_backup(here.office.server, tmp_path / "backup")
        rewritten(
            tmp_path / "backup",
            tmp_path / "server" / "kit",
            hiding(await here.office.server.store.scan_kinds([Kind.REVOKE])),
        )
        async with restored(here) as made:
            await here.sync()
            replica, whose, now = made.server.replica, os.urandom(16), at_from(made.clock())
            given = Grant(spy.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.TEACHER, whose, None)
            right = compose(
                author=stolen,
                space=here.space,
                kind=Kind.GRANT,
                grant=under,
                at=now,
                payload=given.encode(),
                salt=bytes(16),
            )
            key = compose(
                author=spy.signing,
                space=here.space,
                kind=Kind.PERSON_KEY,
                grant=right.id,
                at=now + 1,
                payload=PersonKey(spy.agreement.public).encode(),
                salt=bytes(16),
                subject=whose,
            )
            await replica.admit([right, key], source=b"a thief's PC", now_ms=made.clock())
            pc = await here.device("machine")
            await here.sync(pc, pc)
            work = await here.work(pc, item, pupil)
            sealed = (await pc.agent.replica.view(here.space)).coursework.hand_ins[work]
            assert content_key_of(sealed, {spy.agreement.public: spy.agreement}) is None


@attack(ROW, off={"protocol.replica.storage.sqlite_verify._BELOW_ALL": 0})
@pytest.mark.parametrize("first", [0, -1, LOWEST])
async def test_verify_finds_what_is_hidden_in_the_database_that_a_server_goes_on_from(
    tmp_path: Path, first: int
) -> None:
    async with office(tmp_path) as desk:
        await desk.add_person("Léa", "pupil")
        store = desk.server.store
        (said,) = [one for one in await store.scan(bytes.fromhex(desk.space)) if one.entry.header.kind == Kind.PERSON]
        forged = hiding([said.entry], first)
        await store.database.write(lambda connection: run(connection, forged))
        assert await store.present([said.entry.id])
        damages = await store.verify()
        assert said.entry.id in {damage.id for damage in damages}
        assert not await store.present([said.entry.id]), "whoever has it brings it"


async def test_a_row_that_is_no_entry_hides_none_of_those_behind_it(tmp_path: Path) -> None:
    case = Case(tmp_path)
    async with office(tmp_path / "server", kit=case.kit) as desk:
        lea = bytes.fromhex(await desk.add_person("Léa", "pupil"))
        await case.keep(desk)
        space = bytes.fromhex(desk.space)
    junk = """WITH RECURSIVE n (i) AS (SELECT -3000 UNION ALL SELECT i + 1 FROM n WHERE i < -1)
        INSERT INTO entry SELECT i, randomblob(32), 1, i, zeroblob(8), 0, 1, 0, randomblob(90), zeroblob(64), NULL, NULL
        FROM n;"""
    rewritten(case.backup, case.folder / "kit", junk)
    await case.restore(desk.clock)
    async with opened(tmp_path / "new", now_ms=desk.clock, entropy=os.urandom) as server:
        assert lea in (await server.replica.view(space)).roster.persons
        assert await server.store.verify() == []


async def test_what_was_destroyed_or_lies_in_another_order_comes_along_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.storage.foreign_file._ROWS_AT_ONCE", 1)
    case = Case(tmp_path)
    async with office(tmp_path / "server", kit=case.kit) as desk:
        space = bytes.fromhex(desk.space)
        lea = await desk.add_person("Léa", "pupil")
        await desk.add_person("Tom", "pupil")
        await desk.do("erase", person=[lea])
        eraser = Eraser(desk.server.replica, desk.server.holdings)
        for _ in range(9):
            desk.clock.advance(DAY_MS)
            await eraser.sweep(desk.clock())
        before = {one.entry.id: one.entry for one in await desk.server.store.scan(space)}
        assert any(entry.payload is None for entry in before.values()), "destroyed long before its erasure is met"
        await case.keep(desk)
    # the server's own rights as after `verify`, and a sync that brought them back: behind all that they let in
    rewritten(
        case.backup, case.folder / "kit", f"UPDATE entry SET seq = seq + 100000 WHERE kind = {int(Kind.CERTIFICATE)};"
    )
    await case.restore(desk.clock)
    async with opened(tmp_path / "new", now_ms=desk.clock, entropy=os.urandom) as server:
        after = {one.entry.id: one.entry for one in await server.store.scan(space)}
        assert before.items() <= after.items()
        assert not await server.store.held()
    assert not any("left behind" in line for line in case.said)
    assert await asyncio.to_thread(lambda: not list((tmp_path / "new").glob("backup-passing*"))), (
        "nor does its copy lie"
    )


def run(connection: sqlite3.Connection, sql: str) -> None:
    """Statements, one by one, within what is under way."""
    for statement in sql.split(";\n"):
        connection.execute(statement.rstrip(";"))
