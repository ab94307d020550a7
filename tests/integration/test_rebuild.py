"""A database that is damaged: what is readable anywhere comes back, and a sync brings the rest."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import pytest

from protocol.errors import Code, LocalFailure
from protocol.folds.coursework import HandInState
from protocol.model.entry import Kind
from protocol.replica.storage.salvage import salvage
from protocol.replica.upkeep.rebuild import NOTE
from sync_agent.app import Agent
from sync_agent.pacing.budget import Hold
from sync_agent.sync.session import Session
from tests.harness.classroom import LARGE, SMALL, Classroom, Device, assignment, work_of
from tests.harness.commands import Desk
from tests.harness.territory import Territory

PAGE = 4096


def without_head(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(bytes(PAGE) + data[PAGE:])


def noise(file: Path) -> None:
    file.write_bytes(Random(3).randbytes(file.stat().st_size))


def cut_in_half(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def emptied(file: Path) -> None:
    file.write_bytes(b"")
    file.write_text("this is no database", encoding="utf-8")


def holes(file: Path) -> None:
    data = bytearray(file.read_bytes())
    for page in range(1, len(data) // PAGE, 3):
        data[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    file.write_bytes(data)


async def reopened(room: Classroom, device: Device) -> None:
    """The device after a restart."""
    await device.agent.close()
    device.agent = await Agent.open(device.agent.folder, now_ms=room.territory.clock, entropy=Random(1).randbytes)
    device.session = Session(device.agent, device.way)


@pytest.mark.parametrize("spoil", [without_head, noise, cut_in_half, emptied, holes])
async def test_whatever_happened_to_its_database_a_device_agrees_again_after_one_sync(
    room: Classroom, spoil: Callable[[Path], None]
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, LARGE)).item
    await teacher.session.sync()
    await machine.session.sync()
    await machine.agent.close()
    spoil(machine.agent.folder / "replica.db")
    await reopened(room, machine)
    assert machine.agent.rebuilt is not None
    await machine.session.sync()
    assert await room.agree([machine])
    assert await machine.files(item) == LARGE
    assert (await Desk(machine.agent).ask("verify"))["ok"]
    assert list((machine.agent.folder / "damaged").glob("database-1/replica.db"))


@pytest.mark.parametrize("spoil", [without_head, noise, cut_in_half])
async def test_a_hand_in_that_only_this_device_has_survives_whatever_happened_to_its_database(
    room: Classroom, spoil: Callable[[Path], None]
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    hand_in = await room.hand_in(machine, task, LARGE)
    marks = await machine.agent.replica.store.marks("hand-in/")
    await machine.agent.close()
    spoil(machine.agent.folder / "replica.db")
    await reopened(room, machine)
    assert await machine.agent.replica.store.marks("hand-in/") == marks
    await machine.session.sync()
    assert (await work_of(machine, room, hand_in)).state is HandInState.SERVER
    await teacher.session.sync()
    assert not await teacher.agent.missing()
    assert not (machine.agent.folder / "outbox").exists()


async def test_a_pause_and_the_keys_of_hand_ins_come_back_with_the_entries(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    await room.hand_in(machine, task, SMALL)
    await machine.agent.budget.pause(None)
    marks = await machine.agent.replica.store.marks("hand-in/")
    await machine.agent.close()
    without_head(machine.agent.folder / "replica.db")
    await reopened(room, machine)
    assert machine.agent.budget.verdict.hold is Hold.PAUSED
    assert marks
    assert await machine.agent.replica.store.marks("hand-in/") == marks


async def test_a_page_that_goes_bad_while_the_store_is_open_is_settled_at_the_next_opening(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    await room.publish(teacher, LARGE)
    await teacher.session.sync()
    await machine.session.sync()
    await reopened(room, machine)
    holes(machine.agent.folder / "replica.db")
    with pytest.raises(LocalFailure) as caught:
        await Desk(machine.agent).ask("verify")
    assert caught.value.code is Code.DAMAGED
    assert "repair" in caught.value.message
    await reopened(room, machine)
    assert machine.agent.rebuilt is not None
    await machine.session.sync()
    assert await room.agree([machine])


def grants_spoilt(file: Path) -> None:
    """One bit of a grant, without which nobody knows what this device may do."""
    spoil_row(file, Kind.GRANT, "header")


def revisions_spoilt(file: Path) -> None:
    spoil_row(file, Kind.REVISION, "payload")


def spoil_row(file: Path, kind: Kind, column: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        seq, data = connection.execute(f"SELECT seq, {column} FROM entry WHERE kind = ?", (int(kind),)).fetchone()  # noqa: S608
        bad = bytes([data[0] ^ 1, *data[1:]]) if column == "payload" else bytes([*data[:-1], data[-1] ^ 1])
        connection.execute(f"UPDATE entry SET {column} = ? WHERE seq = ?", (bad, seq))  # noqa: S608


def marks_spoilt(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT INTO mark VALUES (CAST(X'636f6d706c6574652fff' AS TEXT), X'01')")


def schema_spoilt(file: Path) -> None:
    """A name that is no text any more, which SQLite puts into its message."""
    replaced(file, b"CREATE TABLE mark", b"CREATE TAB\xb1E mark")


def column_renamed(file: Path) -> None:
    """A column that SQLite finds in order, and nobody knows."""
    replaced(file, b"    salt BLOB", b"    sblt BLOB")


def replaced(file: Path, before: bytes, after: bytes) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = file.read_bytes()
    assert before in data
    file.write_bytes(data.replace(before, after))


@pytest.mark.parametrize("spoil", [grants_spoilt, revisions_spoilt, marks_spoilt, schema_spoilt, column_renamed])
async def test_a_row_that_is_not_what_was_written_stops_nobody_for_more_than_one_command(
    room: Classroom, spoil: Callable[[Path], None]
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, LARGE)).item
    await teacher.session.sync()
    await machine.session.sync()
    await machine.agent.close()
    spoil(machine.agent.folder / "replica.db")
    with suppress(LocalFailure, sqlite3.Error):
        await reopened(room, machine)
        await Desk(machine.agent).ask("status")
    await reopened(room, machine)
    await Desk(machine.agent).ask("status")
    await machine.session.sync()
    assert await room.agree([machine])
    assert await machine.files(item) == LARGE
    assert (await Desk(machine.agent).ask("verify"))["ok"]


async def test_a_crash_while_it_is_made_anew_begins_again(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    hand_in = await room.hand_in(machine, task, LARGE)
    await machine.agent.close()
    folder = machine.agent.folder
    without_head(folder / "replica.db")

    class Crash(Exception):
        pass

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr("protocol.replica.upkeep.rebuild.salvage", crash)
        with pytest.raises(Crash):
            await Agent.open(folder, now_ms=room.territory.clock, entropy=Random(1).randbytes)
    assert (folder / NOTE).is_file()
    await reopened(room, machine)
    assert not (folder / NOTE).exists()
    await machine.session.sync()
    assert (await work_of(machine, room, hand_in)).state is HandInState.SERVER


async def test_what_devices_said_of_themselves_and_marks_survive_a_lost_first_page(
    room: Classroom, tmp_path: Path
) -> None:
    machine = await room.machine()
    await machine.session.sync()
    store = room.territory.replica.store
    registers, marks = await store.registers(), await store.marks("")
    assert registers
    assert marks
    await room.territory.close()
    copy = tmp_path / "copy.db"
    copy.write_bytes((tmp_path / "server" / "replica.db").read_bytes())
    without_head(copy)
    found = salvage(copy)
    assert list(found.registers) == registers
    assert found.marks == marks
    await room.replace_server(await Territory.open(tmp_path / "server", room.territory.keys))


async def test_every_page_but_one_gives_every_entry_that_does_not_lie_on_it(room: Classroom, tmp_path: Path) -> None:
    teacher = await room.teacher()
    await room.publish(teacher, LARGE)
    await teacher.session.sync()
    await teacher.agent.close()
    whole = (teacher.agent.folder / "replica.db").read_bytes()
    copy = tmp_path / "copy.db"
    copy.write_bytes(whole)
    all_entries = salvage(copy).entries
    assert len(all_entries) >= 8
    lost = 0
    for page in range(len(whole) // PAGE):
        copy.write_bytes(whole[: page * PAGE] + bytes(PAGE) + whole[(page + 1) * PAGE :])
        found = {entry.id for entry in salvage(copy).entries}
        assert found <= {entry.id for entry in all_entries}
        lost += len(all_entries) - len(found)
    # each entry lies on one page, or on that and the ones that it overflows onto
    assert lost <= 2 * len(all_entries)
    await reopened(room, teacher)
