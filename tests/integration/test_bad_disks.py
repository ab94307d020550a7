"""Disks that are full or may only be read, and people who tidy up in DIR: a clear sentence, no loss, and it goes on."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import NoReturn

import pytest

from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, Refused
from protocol.folds.coursework import HandInState
from protocol.model.structure import GENERATION_BYTES
from protocol.replica import disk
from protocol.replica.console.sole_runner import own
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.interfaces import EntryStore
from protocol.replica.storage.sqlite import SqliteStore
from sync_agent.app import Agent
from sync_agent.machine.enrolled import DEVICE_KEYS_FILE, ENROLMENT_FILE, Enrolment, device_keys
from sync_agent.scheduler import Outcome, outcome_of
from sync_agent.sync.session import Session
from sync_server.opened.data_folder import KEYS_FILE, TERRITORY_FILE
from sync_server.opened.keys import ServerKeys
from sync_server.opened.keys import Territory as ServerTerritory
from sync_server.service import Service, Stop
from tests.harness.classroom import LARGE, SMALL, Classroom, Device, assignment, brought, work_of
from tests.harness.commands import Desk
from tests.harness.portal import portal
from tests.harness.server_in_process import office


async def sql(store: object, statement: str) -> None:
    assert isinstance(store, SqliteStore)
    await store.database.run(lambda connection: connection.execute(statement).fetchall())


async def fill(store: EntryStore, mark_bytes: int = 900) -> None:
    """Use up the pages that are left; small marks fill the last one too."""
    for number in range(1_000):
        try:
            await store.set_marks({f"fill/{mark_bytes}/{number}": bytes(mark_bytes)})
        except LocalFailure as failure:
            if failure.code is not Code.DISK_FULL:
                raise
            return
    pytest.fail("the disk is never full")


async def reopened(room: Classroom, device: Device) -> Desk:
    await device.agent.close()
    device.agent = await Agent.open(device.agent.folder, now_ms=room.territory.clock, entropy=Random(1).randbytes)
    device.session = Session(device.agent, device.way)
    return Desk(device.agent)


# --- the server's disk ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("break_it", "mend_it", "code"),
    [
        ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000", Code.DISK_FULL),
        ("PRAGMA query_only = ON", "PRAGMA query_only = OFF", Code.READ_ONLY),
    ],
)
async def test_while_the_servers_disk_takes_nothing_work_is_kept_and_goes_once_it_does(
    room: Classroom, break_it: str, mend_it: str, code: Code
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    store = room.territory.replica.store
    await sql(store, break_it)
    if code is Code.DISK_FULL:
        await fill(store)
    # more than what is left on the pages that there are
    hand_in = [await room.hand_in(machine, task, SMALL) for _ in range(20)][-1]
    with pytest.raises(NoAnswer, match="the work is kept") as caught:
        await machine.session.sync()
    assert caught.value.code is code
    # it is the server's trouble, and nobody is told that there is no Internet
    assert outcome_of(caught.value) is Outcome.FAILED
    (problem,) = (await Desk(machine.agent).ask("doctor"))["problems"]
    assert f"can take nothing now ({code})" in problem["message"]
    assert "who runs the server" in problem["remedy"]
    assert (await Desk(machine.agent).ask("status"))["server"]["problem"]["code"] == "server-trouble"
    async with portal(machine.agent, Outcome.FAILED) as surfer:
        assert "Le serveur ne peut rien prendre pour l&#39;instant. Ce que tu rends" in await surfer.page("/")
    await sql(store, mend_it)
    await machine.session.sync()
    assert (await Desk(machine.agent).ask("doctor"))["problems"] == []
    assert (await work_of(machine, room, hand_in)).state is HandInState.SERVER


async def test_a_server_whose_disk_takes_nothing_says_so_in_its_log_once_in_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with office(tmp_path / "office") as desk:
        with await own(desk.server.folder, asyncio.Event()) as owner:
            service = Service(desk.server, owner, Stop())
            for _ in range(3):
                service._failed(LocalFailure(Code.DISK_FULL, "the disk is full"))
                service._failed(Refused(Code.NO_RIGHT, "not this one's fault"))
    (said,) = [record.getMessage() for record in caplog.records if record.name == "sync_server.service"]
    assert "the disk is full (disk-full)" in said


# --- the machine's disk -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(errno.EROFS, Code.READ_ONLY), (errno.ENOSPC, Code.DISK_FULL)])
async def test_a_disk_that_takes_nothing_refuses_a_hand_in_in_words_and_works_again_without_a_restart(
    room: Classroom, monkeypatch: pytest.MonkeyPatch, number: int, code: Code
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)

    def refuse(*_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(disk, "_write_some", refuse)
        with pytest.raises(LocalFailure) as caught:
            await room.hand_in(machine, task, LARGE)
    assert caught.value.code is code
    assert "disk" in caught.value.message
    hand_in = await room.hand_in(machine, task, LARGE)
    await machine.session.sync()
    assert (await work_of(machine, room, hand_in)).state is HandInState.SERVER


async def test_a_database_that_may_only_be_read_answers_and_refuses_in_words(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    store = machine.agent.replica.store
    await sql(store, "PRAGMA query_only = ON")
    with pytest.raises(LocalFailure, match="may only be read") as caught:
        await room.hand_in(machine, task, SMALL)
    assert (caught.value.code, caught.value.exit_status) == (Code.READ_ONLY, 1)
    assert await Desk(machine.agent).ask("items")
    await sql(store, "PRAGMA query_only = OFF")
    assert await room.hand_in(machine, task, SMALL)


@pytest.mark.parametrize("statement", ["PRAGMA max_page_count = 1", "PRAGMA query_only = ON"])
async def test_what_nobody_has_opened_yet_is_read_where_the_disk_takes_nothing(room: Classroom, statement: str) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item, other = [(await room.publish(teacher, SMALL)).item for _ in range(2)]
    await brought(teacher, machine)
    store = machine.agent.replica.store
    async with portal(machine.agent) as surfer:
        await sql(store, statement)
        if "query_only" not in statement:
            await fill(store)
            await fill(store, 8)
        path, data = next(iter(SMALL.items()))
        assert (await surfer.lesson(item.hex(), f"/{path}")).body == data
        assert await Desk(machine.agent).files("checkout", item=other.hex(), revision=None) == SMALL


# --- people in DIR ----------------------------------------------------------------------------------------------------


async def test_a_deleted_database_comes_back_with_the_work_that_only_this_device_had(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    hand_in = await room.hand_in(machine, task, LARGE)
    await machine.agent.close()
    for file in machine.agent.folder.glob("replica.db*"):
        file.unlink()
    desk = await reopened(room, machine)
    assert machine.agent.rebuilt is not None
    await machine.session.sync()
    assert (await work_of(machine, room, hand_in)).state is HandInState.SERVER
    assert await room.agree([machine])
    assert (await desk.ask("verify"))["ok"]


async def test_deleted_and_truncated_packs_are_told_once_and_come_back(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    items = [(await room.publish(teacher, files)).item for files in (SMALL, LARGE)]
    await teacher.session.sync()
    await machine.session.sync()
    await machine.agent.close()
    packs = sorted(machine.agent.folder.glob("packs/*/*.pack"))
    packs[0].unlink()
    os.truncate(packs[1], 10)
    desk = await reopened(room, machine)
    found = await desk.ask("verify")
    assert [problem["code"] for problem in found["problems"]] == ["damaged", "damaged"]
    await machine.session.sync()
    assert (await desk.ask("verify"))["ok"]
    assert [await machine.files(item) for item in items] == [SMALL, LARGE]


@pytest.mark.parametrize("name", ["packs", "parts", "damaged", "run", "outbox", "keys/introduction", "coursework"])
async def test_what_can_be_made_again_may_be_deleted(room: Classroom, name: str) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, LARGE)).item
    await teacher.session.sync()
    await machine.session.sync()
    await machine.agent.close()
    place = machine.agent.folder / name
    remove(place)
    await reopened(room, machine)
    await machine.session.sync()
    assert await machine.files(item) == LARGE
    assert isinstance(machine.agent.replica.content, PackFolder)


async def test_a_device_without_its_keys_says_so_and_keeps_everything(room: Classroom) -> None:
    machine = await room.machine()
    await machine.session.sync()
    await machine.agent.close()
    keys = (machine.agent.folder / "keys" / "device").read_bytes()
    (machine.agent.folder / "keys" / "device").unlink()
    with pytest.raises(LocalFailure, match="keys cannot be read") as caught:
        await reopened(room, machine)
    assert caught.value.code is Code.DAMAGED
    (machine.agent.folder / "keys" / "device").write_bytes(keys)
    enrolment = (machine.agent.folder / "enrolment.json").read_bytes()
    (machine.agent.folder / "enrolment.json").unlink()
    with pytest.raises(BadInput, match="not enrolled"):
        await reopened(room, machine)
    (machine.agent.folder / "enrolment.json").write_bytes(enrolment)
    await reopened(room, machine)
    await machine.session.sync()


@contextmanager
def as_another_account(file: Path) -> Iterator[None]:
    """What runs inside may not read the file, whoever runs the tests."""
    mode, is_root = file.stat().st_mode, os.geteuid() == 0
    file.chmod(0)
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        file.chmod(mode)


@pytest.mark.skipif(sys.platform == "win32", reason="rights are given otherwise there")
async def test_files_that_another_account_owns_are_not_called_damaged(room: Classroom, tmp_path: Path) -> None:
    agent, server = (await room.machine()).agent.folder, tmp_path / "another-server"
    server.mkdir()
    ServerKeys.create(bytes(32), bytes(32), bytes(32)).write(server)
    ServerTerritory("Cher", bytes(32), bytes(32), bytes(GENERATION_BYTES)).write(server)
    readers: list[tuple[Path, Callable[[], object]]] = [
        (agent / ENROLMENT_FILE, lambda: Enrolment.read(agent)),
        (agent / DEVICE_KEYS_FILE, lambda: device_keys(agent / DEVICE_KEYS_FILE)),
        (server / TERRITORY_FILE, lambda: ServerTerritory.read(server)),
        (server / KEYS_FILE, lambda: ServerKeys.read(server)),
    ]
    for file, read in readers:
        with as_another_account(file), pytest.raises(LocalFailure) as caught:
            read()
        assert caught.value.code is Code.STORAGE_FAILED, file
        assert "Permission denied" in str(caught.value)
        assert read()


def remove(place: Path) -> None:
    if place.is_dir():
        for inner in place.iterdir():
            remove(inner)
        place.rmdir()
    else:
        place.unlink(missing_ok=True)
