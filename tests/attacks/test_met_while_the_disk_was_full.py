"""Whom a machine meets while its disk is full it notes once there is room (docs/attacks.md; docs/adr/0571)."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest

from protocol.errors import Code, LocalFailure
from protocol.replica.interfaces import EntryStore
from protocol.roles import PersonRole, Role
from sync_agent.machine.acquainted import Acquainted
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device
from tests.harness.full_disk import FullDisk
from tests.harness.spied_class import SpiedClass
from tests.harness.territory import new_device

HOUR_MS = 3_600_000


async def _once(_known: Acquainted, store: EntryStore, marks: Mapping[str, bytes | None]) -> None:
    if marks:
        await store.set_marks(dict(marks))


async def _code_of_a_sync(device: Device) -> Code | None:
    try:
        await device.session.sync()
    except LocalFailure as failure:
        return failure.code
    return None


@attack("a disk that is full hears nothing any more", off={"sync_agent.machine.acquainted.Acquainted.save": _once})
@pytest.mark.parametrize("is_started_again", [False, True], ids=["it runs on", "its program is started again"])
async def test_whom_a_machine_meets_while_its_disk_is_full_it_notes_once_there_is_room(
    room: Classroom, monkeypatch: pytest.MonkeyPatch, is_started_again: bool
) -> None:
    territory, machine = room.territory, await room.machine()
    await machine.session.sync()
    petit = await territory.person("Mme Petit", PersonRole.TEACHER, room.space)
    teacher = await room.device(Role.TEACHER, person=petit)
    await machine.session.sync()
    await teacher.session.sync()
    disk = FullDisk(machine.agent.folder, monkeypatch)
    disk.fill(left_bytes=1)  # what her word takes, and no more
    assert await _code_of_a_sync(machine) is Code.DISK_FULL
    disk.make_room()
    territory.clock.advance(HOUR_MS)
    await machine.session.sync()
    if is_started_again:
        await machine.starts_again()
    spied = SpiedClass(room, teacher, machine, b"", b"", new_device(Random(99).randbytes))
    await spied.name_the_spy(petit)
    for _ in range(3):
        await machine.session.sync()
        territory.clock.advance(HOUR_MS)
    roster = (await machine.agent.replica.view(room.space)).roster
    assert (teacher.agent.device, teacher.agent.keys.agreement.public) in roster.speaking[petit]
    assert spied.spy.agreement.public not in roster.reading_keys[petit], "whatever date it gives itself"
    noted = (await Acquainted.of(machine.agent.replica.store)).first.get(room.space, {})
    assert noted.get(petit), "and it knows her after the next start"
