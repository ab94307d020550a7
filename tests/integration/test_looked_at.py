"""What is still to be opened at a teacher's computer, whoever else has opened it (docs/protocol.md, "Coursework")."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.limits import ACQUAINTANCE_MS
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import own_device
from tests.harness.classroom import WORK, Classroom, Device, assignment, classroom
from tests.harness.commands import Desk
from tests.harness.portal import portal


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as made:
        yield made


async def handed_in(room: Classroom, machine: Device, *readers: Device) -> bytes:
    """A pupil's work that has come to these teachers' computers."""
    item = await assignment(room, readers[0], machine)
    work = await room.hand_in(machine, item, WORK)
    await sync(machine, *readers)
    return work


async def sync(*devices: Device) -> None:
    for device in devices:
        await device.session.sync()


async def shown(device: Device) -> str:
    """A teacher's list of what was handed in."""
    async with portal(device.agent) as surfer:
        return (await surfer.page("/work")).partition("<table")[2].partition("</table>")[0]


async def confirm(device: Device, other: Device, shown_as: str) -> None:
    reader = device_id(own_device(other.agent)).hex()
    await Desk(device.agent).ask("key-confirm", reader=reader, shown_as=shown_as)


async def test_what_a_teacher_opened_on_one_of_her_computers_is_opened_on_the_other_and_when_the_first_is_gone(
    room: Classroom,
) -> None:
    old, machine = await room.teacher(), await room.machine()
    await sync(old)
    new = await room.teacher()
    await sync(new, old)
    await confirm(old, new, "own")
    await confirm(new, old, "own")
    work = await handed_in(room, machine, old, new)
    await Desk(old.agent).ask("confirm-opened", id=work.hex())
    await sync(old, new)
    assert "Ouvert" in await shown(new)
    said = tuple(await room.territory.replica.tips(room.space, old.agent.device))
    await room.territory.say(room.space, Kind.REVOKE, Revocation(old.agent.device, said).encode())
    await sync(new)
    assert "Ouvert" in await shown(new)
    assert not [row for row in await Desk(new.agent).ask("hand-ins") if row["to_open"]]


async def test_what_a_colleague_opened_is_opened_once_a_teacher_has_confirmed_them(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    durand = await room.territory.person("M. Durand", PersonRole.TEACHER, room.space)
    colleague = await room.device(Role.TEACHER, person=durand)
    await sync(teacher, colleague, teacher)
    work = await handed_in(room, machine, teacher, colleague)
    await Desk(colleague.agent).ask("confirm-opened", id=work.hex())
    await sync(colleague, teacher)
    assert "Vu par M. Durand, à ouvrir" in await shown(teacher)
    await confirm(teacher, colleague, "other")
    assert "Ouvert" in await shown(teacher)
    assert "Vu par" not in await shown(teacher)


async def test_a_head_teacher_is_not_asked_to_open_what_the_teachers_of_a_class_have_opened(room: Classroom) -> None:
    person = await room.territory.person("Mme Roy", PersonRole.TEACHER, room.space)
    head, teacher, machine = await room.head(person), await room.teacher(), await room.machine()
    await sync(teacher, head)
    work = await handed_in(room, machine, teacher, head)
    assert "à ouvrir" in await shown(head)
    await Desk(teacher.agent).ask("confirm-opened", id=work.hex())
    await sync(teacher, head)
    for _ in range(4):  # of a time in which nobody looked three days count
        room.territory.clock.advance(ACQUAINTANCE_MS // 3)
        await sync(teacher, head)
    found = await shown(head)
    assert "Vu par Mme Petit" in found
    assert "à ouvrir" not in found
