"""What a thief who holds the server's keys reads of pupils' work (docs/threat-model.md)."""

from __future__ import annotations

from pathlib import Path

from protocol.errors import Refused
from protocol.roles import PersonRole, Role
from sync_agent.new_readers import readers, set_hand_over
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Device, assignment, classroom
from tests.harness.commands import Desk


async def opens(device: Device, work: bytes) -> bool:
    try:
        return await Desk(device.agent).files("open-hand-in", id=work.hex()) == WORK
    except Refused:
        return False


async def everybody(*_: object) -> None:
    """A teacher's device that hands on what it reads to whoever the server lets in."""


@attack(
    "a stolen server reads what was handed in",
    off={"sync_agent.reading_key.accepted": everybody, "sync_agent.wraps.accepted": everybody},
)
async def test_a_reader_whom_a_stolen_server_lets_in_gets_nothing_of_before_where_teachers_are_asked(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path) as room:
        teacher, machine = await room.teacher(), await room.machine()
        await teacher.session.sync()
        await set_hand_over(teacher.agent, ask=True)
        item = await assignment(room, teacher, machine)
        work = await room.hand_in(machine, item, WORK)
        for device in (machine, teacher):
            await device.session.sync()
        await Desk(teacher.agent).ask("confirm-opened", id=work.hex())
        for device in (teacher, machine):
            await device.session.sync()
        # the thief has the server's keys: one device more of the teacher, and a colleague who does not exist
        as_herself = await room.device(Role.TEACHER, person=room.teacher_person)
        nobody = await room.territory.person("M. Personne", PersonRole.TEACHER, room.space)
        as_colleague = await room.device(Role.TEACHER, person=nobody)
        for _ in range(3):
            for device in (as_herself, as_colleague, teacher, machine):
                await device.session.sync()
        assert not await opens(as_herself, work)
        assert not await opens(as_colleague, work)
        seen = {reader.device for reader in await readers(teacher.agent)}
        assert seen == {as_herself.agent.device, as_colleague.agent.device}, "and the teacher sees both"
